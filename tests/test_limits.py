"""Which limits are possible. What they do is shown where they are kept: test_server.py, test_protocol.py, test_accept.py."""

import dataclasses
import math

import pytest

from fastframe.aio import Limits

NAMES = [field.name for field in dataclasses.fields(Limits)]
REQUIRED = {"handshake_timeout", "linger_timeout", "high_water", "low_water", "frames_per_turn"}


def test_the_defaults_are_what_the_docstring_speaks_of():
    limits = Limits()
    assert (limits.frame_timeout, limits.write_timeout, limits.idle_timeout) == (30.0, 30.0, None)
    assert (limits.handshake_timeout, limits.linger_timeout, limits.keepalive) == (5.0, 2.0, 60)
    assert (limits.high_water, limits.low_water, limits.unsent) == (64 << 10, 16 << 10, 1 << 20)
    assert (limits.frames_per_turn, limits.max_connections, limits.max_connections_per_source) == (1024, 10_000, None)
    assert limits.frames_per_turn * 256 == 256 << 10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, -0.5, 0, math.nan])
def test_a_number_must_be_above_0(name, value):
    if name == "low_water" and value == 0:
        assert Limits(low_water=0).low_water == 0
        return
    with pytest.raises(ValueError, match=f"{name} must be a number above 0"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", NAMES)
def test_none_is_no_limit_where_there_can_be_none(name):
    if name in REQUIRED:
        with pytest.raises(ValueError, match=f"{name} must be a number above 0, not None"):
            Limits(**{name: None})
    else:
        assert getattr(Limits(**{name: None}), name) is None


def test_the_marks_are_in_order():
    assert Limits(high_water=5, low_water=5).low_water == 5
    with pytest.raises(ValueError, match=r"low_water \(6\) must not be above high_water \(5\)"):
        Limits(high_water=5, low_water=6)


def test_limits_stay_as_they_are_and_are_given_by_name():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().high_water = 1
    with pytest.raises(TypeError):
        Limits(5.0)
