"""The exceptions: what is a kind of what, what each carries, and that each writes its own sentence."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest
from vectors import BAD_VECTORS, describe

import fastframe
from fastframe import (
    CorruptFrameError,
    FrameError,
    FrameTooLargeError,
    IncompleteFrameError,
    MisuseError,
    ShortFileError,
    _arrow,
    _batch_py,
    _codec_py,
    _encoder_py,
    _errors,
    _format,
    _hints,
    _memory,
    _wire_py,
)

TREE = {
    "FrameError": ValueError,
    "FrameTooLargeError": FrameError,
    "CorruptFrameError": FrameError,
    "IncompleteFrameError": FrameError,
    "EndOfStreamError": EOFError,
    "MisuseError": RuntimeError,
    "ShortFileError": OSError,
}

ERRORS = [
    (FrameError(), "the stream cannot be decoded", {}),
    (FrameError(frames=[b"a"], offset=0), "the stream cannot be decoded (frame at offset 0)", {"frames": [b"a"], "offset": 0}),
    (FrameTooLargeError(9, 8), "a frame of 9 bytes is over the limit of 8", {"length": 9, "limit": 8}),
    (
        FrameTooLargeError(9, 8, offset=7, frames=(b"a",)),
        "a frame of 9 bytes is over the limit of 8 (frame at offset 7)",
        {"length": 9, "limit": 8, "offset": 7, "frames": [b"a"]},
    ),
    (
        FrameTooLargeError(9, 8, offset=0, hint="it looks like a duck"),
        "a frame of 9 bytes is over the limit of 8 (frame at offset 0); it looks like a duck",
        {"length": 9, "limit": 8, "offset": 0, "hint": "it looks like a duck"},
    ),
    (
        CorruptFrameError("negative", -1),
        "the length field says -1, which is less than zero",
        {"reason": "negative", "value": -1},
    ),
    (CorruptFrameError("overflow"), "the length does not fit 64 bits", {"reason": "overflow", "value": None}),
    (
        IncompleteFrameError(3, 9, offset=5),
        "the stream ended after 3 of at least 9 bytes of a frame (frame at offset 5)",
        {"pending": 3, "expected": 9, "offset": 5},
    ),
]


def test_the_tree_is_as_drawn():
    assert {name: getattr(fastframe, name).__base__ for name in TREE} == TREE
    assert issubclass(IncompleteFrameError, EOFError)
    assert set(TREE) == {name for name in fastframe.__all__ if name.endswith("Error")}


@pytest.mark.parametrize(("error", "text", "attributes"), ERRORS)
def test_an_error_carries_data_and_says_it(error, text, attributes):
    assert str(error) == text
    assert vars(error) == {"frames": [], "offset": None, "hint": None, **attributes}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(("error", "text", "attributes"), ERRORS)
def test_a12_errors_are_copied_with_their_data(duplicate, error, text, attributes):
    double = duplicate(error)
    assert (type(double), str(double), vars(double)) == (type(error), text, vars(error))


def test_a12_an_error_with_a_note_or_an_attribute_of_the_callers_is_copied_too():
    """contextlib, loggers and test tools add some."""
    error = FrameTooLargeError(9, 8)
    error.add_note("peer 10.0.0.1")
    error.peer = "10.0.0.1"
    double = pickle.loads(pickle.dumps(error))
    assert (double.length, double.limit) == (9, 8)


@pytest.mark.parametrize(("error", "text", "attributes"), ERRORS)
def test_b2_an_error_said_again_has_no_payloads(error, text, attributes):
    again = error.again()
    assert again is not error
    assert (describe(again), again.frames) == (describe(error), [])


def test_what_a_file_gave_is_copied_too():
    error = ShortFileError(3, 9)
    for duplicate in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (duplicate.sent, duplicate.count) == (3, 9)
        assert str(duplicate) == "the file gave 3 of 9 bytes, and zeros were sent for the rest"


@pytest.mark.parametrize("reason", _errors.CORRUPTIONS)
def test_every_reason_makes_a_sentence(reason):
    sentence = str(CorruptFrameError(reason, 44))
    assert "{" not in sentence
    assert sentence.islower() or any(character.isdigit() for character in sentence)


def test_every_reason_has_a_vector():
    """All but what only an encoder gives, or a datagram: `test_encoder.py` and `test_datagram_codec.py` show them."""
    assert {vector.attributes.get("reason") for vector in BAD_VECTORS} - {None} == set(_errors.CORRUPTIONS) - {
        "mismatch",
        "not-alone",
    }


def test_a13_no_error_shows_a_payload():
    for error in [copy.copy(error) for error, _, _ in ERRORS]:
        error.frames = [b"secret"]
        assert "secret" not in str(error) + repr(error)


MAKERS = [
    (_errors.busy, (), MisuseError),
    (_errors.closed, ("finish",), MisuseError),
    (_errors.undecoded, (9,), MisuseError),
    (_errors.nothing_lent, (), MisuseError),
    (_errors.skipped_bytes_gone, (), MisuseError),
    (_errors.not_a_format, (3,), TypeError),
    (_errors.bad_count, (1, 2), ValueError),
    (_errors.bad_max_frames, (-1,), ValueError),
    (_errors.bad_on_oversize, ("x",), ValueError),
    (_errors.bad_length, (-1,), ValueError),
    (_errors.no_room, (1, 2), ValueError),
    (_errors.bad_offset, (1, 2), ValueError),
    (_errors.not_copyable, ("Decoder",), TypeError),
    (_errors.not_constructible, ("FrameBatch", "feed_batch"), TypeError),
    (_errors.no_such_frame, (), IndexError),
    (_errors.bad_step, (2,), ValueError),
    (_errors.too_long_for_arrow, (1 << 31,), OverflowError),
    (_errors.no_arrow, (), ImportError),
    (_errors.loan_ended, (), BufferError),
    (_errors.not_a_buffer, (3,), TypeError),
    (_errors.not_a_buffer, (memoryview(b"abcd")[::2],), BufferError),
]


@pytest.mark.parametrize(("make", "details", "type_"), MAKERS)
def test_misuse_has_a_type_and_a_sentence(make, details, type_):
    error = make(*details)
    assert type(error) is type_
    assert str(error)
    assert not isinstance(error, FrameError)


@pytest.mark.parametrize("module", [_arrow, _batch_py, _codec_py, _encoder_py, _format, _hints, _memory, _wire_py])
def test_no_other_file_of_the_codec_has_error_text(module):
    """`raise ValueError("...")` outside `_errors.py` is where two implementations begin to differ."""
    assert not re.search(r"\b(Value|Type|Index|Buffer|Import|Overflow|Misuse|Runtime)Error\(", inspect.getsource(module))
