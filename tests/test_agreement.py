"""The implementations agree: in what they do, step by step, and in what they show. Running one suite twice proves neither."""

from __future__ import annotations

import ctypes
import inspect
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import LARGE_FORMATS, formats, frames, large_operations, limits_in_reach, operations
from vectors import describe

from fastframe import FrameFormat

CLASSES = ["Decoder", "Encoder", "FrameBatch"]
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
    if type(result).__name__ == "FrameBatch":
        return "returned", *shown(result)
    return "returned", repr(result) if type(result).__name__ in CLASSES else result


def shown(batch):
    """Return all that can be seen of a batch, and of some slices."""
    parts = [batch, batch[1:], batch[:-1], batch[1:3]]
    return [
        (repr(part), list(part), [*part.offsets], [*part.lengths], part.data, bytes(part.wire), [*map(bytes, part.wire_parts)])
        for part in parts
    ]


KEEP = {
    "nothing": lambda view: None,
    "view": lambda view: view,
    "second view": memoryview,
    "slice": lambda view: view[1:9],
    "export": lambda view: (ctypes.c_char * len(view)).from_buffer(view),
    "object": lambda view: [view.obj],  # kept alive, not written to: what it is differs
    "view of object": lambda view: memoryview(view.obj),
}


def receive(decoder, chunk, updated, keep, kept):
    """Receive `chunk`, in as many reads as the memory that is lent takes, and keep a view of each."""
    done = []
    while chunk or not done:
        lent = outcome(decoder.get_buffer)
        done.append(lent)
        if lent[0] == "raised":
            return done
        view = decoder.get_buffer()
        count = min(len(view), len(chunk))
        view[:count] = chunk[:count]
        kept.append(KEEP[keep](view))
        done.append(outcome(updated, count))
        if done[-1][0] == "raised":
            return done
        chunk = chunk[count:]
    return done


def perform(decoder, operation, kept=()):
    """Do one operation and return all that can be seen of it."""
    name, *arguments = operation
    if name == "receive":
        chunk, max_frames, keep = arguments
        done = receive(decoder, chunk, lambda count: decoder.buffer_updated(count, max_frames), keep, kept)
    elif name == "receive_batch":
        chunk, keep = arguments
        done = receive(decoder, chunk, decoder.buffer_updated_batch, keep, kept)
    elif name == "scribble":  # between two loans nothing that anybody still sees is a decoder's
        done = outcome(decoder.get_buffer)
        for view in kept:
            scribble(view)
    else:
        done = outcome(getattr(decoder, name), *arguments)
    return operation, done, decoder.pending, decoder.needed, decoder.skipped, repr(decoder)


def scribble(kept):
    try:
        view = memoryview(kept).cast("B")
    except (TypeError, ValueError, BufferError):  # nothing, or what was released, or a loan that is over
        return
    view[:] = b"\xee" * len(view)


@settings(max_examples=6 * settings.default.max_examples)  # the one test that planted faults in rare paths depend on
@given(st.data())
def test_decoders_do_the_same(twins, data):
    fmt = data.draw(formats(), "format")
    on_oversize = data.draw(st.sampled_from(["raise", "skip"]))
    calls = data.draw(operations(fmt), "calls")
    first, second = (run(twin.Decoder(fmt, on_oversize), calls) for twin in twins)
    assert first == second


@given(st.data())
def test_decoders_do_the_same_with_large_frames(twins, data):
    fmt = data.draw(st.sampled_from(LARGE_FORMATS), "format")
    on_oversize = data.draw(st.sampled_from(["raise", "skip"]))
    calls = data.draw(large_operations(fmt), "calls")
    first, second = (run(twin.Decoder(fmt, on_oversize), calls) for twin in twins)
    assert first == second


def run(decoder, calls):
    kept = []
    done = [perform(decoder, call, kept) for call in calls]
    for view in kept:
        scribble(view)
    return done


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
                outcome(encoder.encode_small, many, 5),
                *(outcome(encoder.encode, payload) for payload in many),
                *(outcome(encoder.encode_around, payload) for payload in many),
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
                outcome(decoder.feed_batch, value),
                outcome(decoder.buffer_updated_batch, value),
                outcome(decoder.get_buffer, value),
                outcome(decoder.buffer_updated, value),
                outcome(decoder.buffer_updated, 0, value),
                outcome(encoder.encode, value),
                outcome(encoder.encode_many, value),
                outcome(encoder.encode_around, value),
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
    """Return what the module offers."""
    return {name: getattr(twin, name) for name in twin.__all__}


def instance(twin, name):
    return twin.Decoder(FrameFormat()).feed_batch(b"") if name == "FrameBatch" else getattr(twin, name)(FrameFormat())


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
    assert parameters(getattr(twins[0], name)) == parameters(getattr(twins[1], name))
    one, two = (instance(twin, name) for twin in twins)
    for member in public(one):
        if callable(getattr(one, member)):
            assert parameters(getattr(one, member)) == parameters(getattr(two, member))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("member", ["format", "pending", "data", "offsets", "added"])
def test_nothing_can_be_set(twins, name, member):
    for twin in twins:
        with pytest.raises(AttributeError):
            setattr(instance(twin, name), member, 1)
