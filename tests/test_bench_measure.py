"""The measuring core: turns, units, ratios against a base, and what is said of the machine. Nothing here is timed."""

import gc
import itertools
import json

import pytest

from fastframe.bench import measure


def steps(*durations):
    """Return a clock that says each duration in turn has passed."""
    ticks = itertools.accumulate(itertools.chain.from_iterable((0, duration) for duration in itertools.cycle(durations)))
    return lambda: next(ticks)


def test_contenders_take_turns_after_one_untimed_call_each():
    calls = []
    measure.measure({name: lambda name=name: calls.append(name) for name in "abc"}, 3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"


def test_times_are_a_unit_and_ratios_are_taken_turn_by_turn():
    # turns: a b, b a, a b, b a; the machine is 10 times slower from the third on, which no ratio shows
    results = measure.measure({"a": int, "b": int}, 4, units=10, clock=steps(100, 300, 300, 100, 1000, 3000, 3000, 1000))
    assert results.turns == {"a": [10, 10, 100, 100], "b": [30, 30, 300, 300]}
    assert results.ns("a") == (10, 55, 100)
    assert results.ratio("b", "a") == (3, 3, 3)
    assert results.ratio("a", "a") == (1, 1, 1)


def test_units_may_differ_from_one_to_the_other():
    results = measure.measure({"a": int, "b": int}, 1, units={"a": 1, "b": 10}, clock=steps(100, 100))
    assert results.turns == {"a": [100], "b": [10]}


def test_one_repetition_is_its_own_spread():
    assert measure.measure({"a": int}, 1, clock=steps(7)).ns("a") == (7, 7, 7)


def test_no_garbage_is_collected_meanwhile_and_it_is_as_before_afterwards():
    seen = []
    measure.measure({"a": lambda: seen.append(gc.isenabled())}, 2)
    assert seen == [False] * 3
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        measure.measure({"a": lambda: 1 // 0}, 1)
    assert gc.isenabled()


def test_machine_says_everything_and_fits_in_json():
    machine = measure.machine()
    assert json.loads(json.dumps(machine)) == machine
    assert all(machine[key] for key in ("cpu", "cores", "kernel", "python", "compiler", "fastframe", "implementation", "date"))
    assert machine["memcpy_stumble"] > 0
