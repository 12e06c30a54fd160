"""The implementations agree: in what they do, step by step, and in what they show. Running one suite twice proves neither."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import formats, frames, limits_in_reach, operations
from vectors import describe

from fastframe import FrameFormat

CLASSES = ["Decoder", "Encoder"]
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


def outcome(call, *arguments):
    """Return what a call returned or raised, in words that compare across implementations."""
    try:
        result = call(*arguments)
    except Exception as error:  # whatever it is, both have to raise it
        name, attributes, text = describe(error)
        return "raised", name, attributes, getattr(error, "frames", None), _ADDRESS.sub("", text)
    if isinstance(result, memoryview):
        return "returned", len(result), result.readonly, result.format
    return "returned", repr(result) if type(result).__name__ in CLASSES else result


def perform(decoder, operation):
    """Do one operation and return all that can be seen of it."""
    name, *arguments = operation
    if name == "receive":
        chunk, max_frames = arguments
        done = outcome(decoder.get_buffer)
        if done[0] == "returned":
            decoder.get_buffer()[: len(chunk)] = chunk
            done = outcome(decoder.buffer_updated, len(chunk), max_frames)
    else:
        done = outcome(getattr(decoder, name), *arguments)
    return operation, done, decoder.pending, decoder.needed, decoder.skipped, repr(decoder)


@settings(max_examples=4 * settings.default.max_examples)  # the one test that planted faults in rare paths depend on
@given(st.data())
def test_decoders_do_the_same(twins, data):
    fmt = data.draw(formats(), "format")
    on_oversize = data.draw(st.sampled_from(["raise", "skip"]))
    calls = data.draw(operations(fmt), "calls")
    first, second = ([perform(decoder, call) for call in calls] for decoder in [t.Decoder(fmt, on_oversize) for t in twins])
    assert first == second


@given(st.data())
def test_encoders_do_the_same(twins, data):
    fmt = data.draw(formats(), "format")
    payloads = st.binary(max_size=48)
    if limits_in_reach(fmt):
        payloads |= frames(fmt).map(lambda both: both[0])
    many = data.draw(st.lists(payloads, max_size=4), "payloads")
    length = data.draw(st.integers(-2, 400) | st.sampled_from([1 << 14, 1 << 31, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 80]))
    offset = data.draw(st.integers(-1, 9))
    seen = []
    for twin in twins:
        encoder, room = twin.Encoder(fmt), bytearray(64)
        seen.append(
            [
                repr(encoder),
                outcome(encoder.header, length),
                outcome(encoder.encode_many, many),
                *(outcome(encoder.encode, payload) for payload in many),
                *(outcome(encoder.encode_into, room, offset, payload) for payload in many),
                room,
            ]
        )
    assert seen[0] == seen[1]


WRONG = [None, 1.5, "text", b"bytes", object(), 1 << 80, -1, [], memoryview(b"abcd")[::2], True]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: type(value).__name__)
def test_wrong_arguments_are_refused_alike(twins, value):
    fmt = FrameFormat("u8")
    seen = []
    for twin in twins:
        encoder, decoder = twin.Encoder(fmt), twin.Decoder(fmt)
        decoder.get_buffer()[:2] = b"\1a"
        seen.append(
            [
                outcome(twin.Decoder, value),
                outcome(twin.Decoder, fmt, value),
                outcome(twin.Encoder, value),
                outcome(decoder.feed, value),
                outcome(decoder.feed, b"", value),
                outcome(decoder.get_buffer, value),
                outcome(decoder.buffer_updated, value),
                outcome(decoder.buffer_updated, 0, value),
                outcome(encoder.encode, value),
                outcome(encoder.encode_many, value),
                outcome(encoder.encode_into, value, 0, b""),
                outcome(encoder.encode_into, bytearray(9), value, b""),
                outcome(encoder.encode_into, bytearray(9), 0, value),
                outcome(encoder.header, value),
            ]
        )
    assert seen[0] == seen[1]


def public(of):
    return sorted(name for name in dir(of) if not name.startswith("_"))


def own(twin):
    """Return the public names that the module itself defines."""
    return {name: value for name, value in vars(twin).items() if getattr(value, "__module__", None) == twin.__name__}


def parameters(callable_):
    return [(each.name, each.kind, each.default) for each in inspect.signature(callable_).parameters.values()]


def test_names_are_the_same(twins):
    classes = [sorted(name for name, value in own(twin).items() if inspect.isclass(value)) for twin in twins]
    assert classes[0] == classes[1] == CLASSES
    assert [twin.IMPLEMENTATION for twin in twins] == ["cython", "python"]
    for name in CLASSES:
        first, second = (getattr(twin, name) for twin in twins)
        assert public(first) == public(second)
        assert (first.__name__, first.__qualname__) == (second.__name__, second.__qualname__) == (name, name)
    assert twins[0].STATE_NAMES == twins[1].STATE_NAMES
    assert twins[0].STATE_CLOSERS == twins[1].STATE_CLOSERS


@pytest.mark.parametrize("name", CLASSES)
def test_docstrings_are_the_same(twins, name):
    first, second = (getattr(twin, name) for twin in twins)
    assert inspect.getdoc(first) == inspect.getdoc(second)
    for member in public(first):
        assert inspect.getdoc(getattr(first, member)) == inspect.getdoc(getattr(second, member))
        assert inspect.getdoc(getattr(first, member))


@pytest.mark.parametrize("name", CLASSES)
def test_signatures_are_the_same(twins, name):
    first, second = (getattr(twin, name) for twin in twins)
    assert parameters(first) == parameters(second)
    one, two = first(FrameFormat()), second(FrameFormat())
    for member in public(first):
        if callable(getattr(one, member)):
            assert parameters(getattr(one, member)) == parameters(getattr(two, member))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("member", ["format", "pending", "added"])
def test_nothing_can_be_set(twins, name, member):
    for twin in twins:
        with pytest.raises(AttributeError):
            setattr(getattr(twin, name)(FrameFormat()), member, 1)
