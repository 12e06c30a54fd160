"""Direct lending: a large payload is received in its own memory, and no view outlives its moment with any power."""

from __future__ import annotations

import ctypes
import functools
import gc
import random
import struct
import tracemalloc

import numpy as np
import pytest
from batches import check
from strategies import frame

from fastframe import CorruptFrameError, FrameFormat, FrameTooLargeError, IncompleteFrameError, MisuseError
from fastframe._memory import LEND_SIZE, RECEIVE_BLOCK_SIZE

KIB = 1 << 10
MIB = 1 << 20
U32 = FrameFormat("u32be", max_payload_length=1 << 30)
NETSTRING = FrameFormat("netstring", max_payload_length=1 << 30)


def noise(length):
    return random.Random(length).randbytes(length)


def u32(length):
    return length.to_bytes(4, "big")


def begun(codec, length, held=1000, format=U32):
    """Return a decoder that has the header and `held` bytes of a payload, that payload, and the bytes that are to come."""
    payload, wire = frame(format, b"", noise(length))
    decoder = codec.Decoder(format)
    taken = wire.index(payload[:32]) + held
    assert decoder.feed(wire[:taken]) == []
    return decoder, payload, wire[taken:]


def address(buffer):
    return np.frombuffer(buffer, np.uint8).ctypes.data


def receive(decoder, data, most=1 << 30, during=lambda view: None):
    """Receive `data` in reads of `most` bytes; keep `during(view)` while buffer_updated() runs, as uvloop keeps an export."""
    frames = []
    data = memoryview(data)
    while data:
        view = decoder.get_buffer()
        count = min(len(view), len(data), most)
        view[:count] = data[:count]
        held = during(view)
        frames += decoder.buffer_updated(count)
        del held
        data = data[count:]
    return frames


# What is lent.


@pytest.mark.parametrize("held", [1, 1000, 255 * KIB, 256 * KIB, 300 * KIB, 3 * MIB])
def test_b8_a_block_is_lent_however_much_was_announced(codec, held):
    decoder, _, _ = begun(codec, 16 * MIB, held)
    assert len(decoder.get_buffer()) == RECEIVE_BLOCK_SIZE


@pytest.mark.parametrize("held", [1, 500 * KIB, 3 * MIB])
def test_b8_memory_grows_with_what_comes_not_with_what_is_announced(codec, held):
    part = noise(held)
    tracemalloc.start()
    try:
        decoder = codec.Decoder(U32)
        decoder.feed(u32(1 << 30) + part)
        view = decoder.get_buffer()
        assert tracemalloc.get_traced_memory()[1] < 3 * held + 2 * MIB
    finally:
        tracemalloc.stop()
    del view


@pytest.mark.parametrize("format", [U32, NETSTRING, FrameFormat("varint")], ids=str)
@pytest.mark.parametrize(("missing", "lent"), [(LEND_SIZE, LEND_SIZE), (LEND_SIZE - 1, RECEIVE_BLOCK_SIZE)])
def test_b8_what_is_nearly_there_comes_by_the_block(codec, format, missing, lent):
    decoder, payload, rest = begun(codec, 100 * KIB, 100 * KIB - missing, format)
    assert len(decoder.get_buffer()) == lent
    assert receive(decoder, rest) == [payload]


@pytest.mark.parametrize(
    ("format", "fed", "max_frames"),
    [
        ("u32be", b"", None),
        ("u32be", u32(MIB)[:3], None),
        ("u32be", u32(MIB), None),
        ("u32be,strip=9", u32(MIB) + b"12345", None),
        ("u32be,max=1KiB", u32(MIB) + b"12345", None),
        ("u32be", u32(MIB) + b"12345", 0),
    ],
    ids=["idle", "header", "no-payload", "only-stripped", "skipped", "unread"],
)
def test_b8_otherwise_a_block_is_lent(codec, format, fed, max_frames):
    decoder = codec.Decoder(FrameFormat.parse(format), on_oversize="skip")
    decoder.feed(fed, max_frames)
    view = decoder.get_buffer()
    assert (len(view), type(view.obj)) == (RECEIVE_BLOCK_SIZE, bytearray)


def test_b8_the_memory_lent_is_the_memory_handed_out(compiled):
    decoder, payload, rest = begun(compiled, MIB, 600 * KIB)
    place = address(decoder.get_buffer())
    (got,) = receive(decoder, rest)
    assert got == payload
    assert address(got) == place - 600 * KIB


@pytest.mark.parametrize("door", ["buffer_updated", "buffer_updated_batch"])
def test_b8_a_large_frame_takes_its_own_memory_and_no_more(compiled, door):
    length = 64 * MIB
    tracemalloc.start()
    try:
        decoder = compiled.Decoder(U32)
        decoder.feed(u32(length) + b"\x07")
        missing, frames = length - 1, []
        while missing:
            view = decoder.get_buffer()
            count = min(len(view), missing)
            np.frombuffer(view, np.uint8)[:count] = 7
            frames = getattr(decoder, door)(count)
            missing -= count
        assert tracemalloc.get_traced_memory()[1] < length + MIB
    finally:
        tracemalloc.stop()
    assert np.array_equal(np.unique(np.frombuffer(frames[0], np.uint8)), [7])
    assert len(frames[0]) == length


STREAMS = {
    "u32be": "u32be,max=1MiB",
    "netstring": "netstring,max=1MiB",
    "varint": "varint,max=1MiB",
    "strip-nothing": "u24le,max=1MiB,strip=0",
    "strip-less": "u32be,offset=4,max=1MiB,strip=6",
    "strip-more": "u32be,max=1MiB,strip=10",
    "includes-header": "u32be,max=1MiB,adjust=-4",
}


@pytest.mark.parametrize("most", [1 << 30, 100_000, 65_536, 4_000])
@pytest.mark.parametrize("during", [lambda view: None, memoryview, lambda view: view.obj], ids=["free", "held", "object"])
@pytest.mark.parametrize("text", STREAMS.values(), ids=STREAMS)
def test_b8_every_payload_is_what_was_sent(codec, text, during, most):
    fmt = FrameFormat.parse(text)
    lengths = [100_000, 10, 65_536, 700_000, 300_000, 11, 65_540, 262_144, 524_289]
    frames = [frame(fmt, b"\1" * fmt.length_field_offset, noise(length)) for length in lengths]
    decoder = codec.Decoder(fmt)
    assert receive(decoder, b"".join(wire for _, wire in frames), most, during) == [payload for payload, _ in frames]
    decoder.finish()


def test_b8_a_frame_behind_a_large_one_is_not_received_into_it(codec):
    decoder, payload, rest = begun(codec, MIB)
    assert receive(decoder, rest + u32(3) + b"abc" + u32(0)) == [payload, b"abc", b""]


# What is kept.

KEPT = {
    "view": lambda view: view,
    "slice": lambda view: view[10:5000],
    "second-view": memoryview,
    "cast": lambda view: view[: len(view) // 4 * 4].cast("I"),
    "view-of-object": lambda view: memoryview(view.obj),
    "ctypes": lambda view: (ctypes.c_char * len(view)).from_buffer(view),
    "ctypes-slice": lambda view: (ctypes.c_char * 100).from_buffer(view, 7),
    "numpy": lambda view: np.frombuffer(view, np.uint8),
    "numpy-of-object": lambda view: np.frombuffer(view.obj, np.uint8),
}


def scribble(kept):
    """Write to all that can still be written to."""
    for each in kept:
        try:
            view = memoryview(each).cast("B")
        except (ValueError, BufferError):  # released, or the loan is over
            continue
        view[:] = b"\xee" * len(view)


def seen(kept):
    try:
        return bytes(memoryview(kept).cast("B"))
    except ValueError:
        return b""


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("format", [U32, NETSTRING], ids=str)
def test_b9_a_kept_view_changes_nothing_and_sees_nothing(codec, keep, format):
    decoder, payload, rest = begun(codec, MIB, 1000, format)
    secret, wire = frame(format, b"", b"\xaa" * MIB)
    kept, got = [], []
    data = rest + wire
    while data:
        view = decoder.get_buffer()
        scribble(kept)
        assert not any(b"\xaa\xaa" in seen(each) for each in kept)
        count = min(len(view), len(data), len(rest) or MIB)  # no read has bytes of both frames
        view[:count] = data[:count]
        mine = keep(view)
        got += decoder.buffer_updated(count)
        if rest:
            kept.append(mine)
        del mine
        data, rest = data[count:], rest[count:]
        if got:
            scribble(kept)
    scribble(kept)
    assert got == [payload, secret]
    del decoder
    gc.collect()
    scribble(kept)
    assert got == [payload, secret]


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("end", ["buffer_updated", "feed", "finish", "detach", "delete"])
def test_b9_a_kept_view_outlives_its_loan_without_harm(codec, keep, end):
    decoder, payload, rest = begun(codec, 200 * KIB)
    view = decoder.get_buffer()
    kept = [keep(view), view, view.obj]
    if end == "buffer_updated":
        view[: len(rest)] = rest
        assert decoder.buffer_updated(len(rest)) == [payload]
    elif end == "feed":
        assert decoder.feed(rest) == [payload]
    elif end == "finish":
        with pytest.raises(IncompleteFrameError):
            decoder.finish()
    elif end == "detach":
        assert decoder.detach() == u32(200 * KIB) + payload[:1000]
    del decoder, view
    gc.collect()
    scribble(kept[:2])
    others = [bytes(200 * KIB) for _ in range(9)]
    scribble(kept[:2])
    assert others == [bytes(200 * KIB)] * 9


def test_b9_an_export_held_through_every_read_costs_no_copy_from_the_second_frame_on(compiled):
    decoder = compiled.Decoder(U32)
    for turn in range(4):
        payload = noise(700 * KIB + turn)
        assert decoder.feed(u32(len(payload)) + payload[: 500 * KIB]) == []
        first = address(decoder.get_buffer())
        (got,) = receive(decoder, payload[500 * KIB :], during=lambda view: struct.iter_unpack("B", view))
        assert got == payload
        assert (address(got) == first - 500 * KIB) == (turn > 0)


@pytest.mark.parametrize("format", [U32, NETSTRING], ids=["u32be", "netstring"])
def test_b9_once_a_payload_was_complete_while_exported_the_last_byte_of_each_comes_by_the_block(codec, format):
    """So that it is free when it is complete. A slice or another view that is kept is no reason: that is not uvloop."""
    decoder = codec.Decoder(format)
    payload, wire = frame(format, b"", noise(100 * KIB))
    lent = []
    export = functools.partial(struct.iter_unpack, "B")
    for during in (lambda view: None, lambda view: view[:9], memoryview, export, lambda view: None):
        assert decoder.feed(wire[:1000]) == []
        lent.append(len(decoder.get_buffer()))
        assert receive(decoder, wire[1000:], during=during) == [payload]
    rest = len(wire) - 1000 - format.trailer_length
    expected = [rest] * 4 + [rest - 1]
    if format.trailer_length:
        expected[-1] = rest  # the comma comes behind, by the block: the payload is never complete in its own memory
    assert lent == expected


def test_b9_a_loan_cannot_be_used_after_its_end(compiled):
    decoder, payload, rest = begun(compiled, 200 * KIB)
    view = decoder.get_buffer()
    loan = view.obj
    view[: len(rest)] = rest
    assert decoder.buffer_updated(len(rest)) == [payload]
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    with pytest.raises(BufferError, match=r"^this memory was lent until buffer_updated\(\), which is over$"):
        memoryview(loan)
    with pytest.raises(BufferError):
        memoryview(type(loan)())


def test_b9_a_view_of_a_second_decoder_is_another_memory(codec):
    one, first, rest = begun(codec, 200 * KIB)
    two, second, other = begun(codec, 199 * KIB)
    views = one.get_buffer(), two.get_buffer()
    views[0][: len(rest)] = rest
    views[1][: len(other)] = other
    assert (two.buffer_updated(len(other)), one.buffer_updated(len(rest))) == ([second], [first])


@pytest.mark.parametrize("when", ["lent", "filled"])
def test_b7_memory_is_back_when_a_decoder_goes_in_the_middle_of_a_large_frame(codec, when):
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        decoder, _, rest = begun(codec, 8 * MIB, MIB)
        view = decoder.get_buffer()
        if when == "filled":
            view[:] = rest[: len(view)]
            decoder.buffer_updated(len(view))
        del view, rest, _
        del decoder
        assert tracemalloc.get_traced_memory()[0] < MIB // 2
    finally:
        gc.enable()
        tracemalloc.stop()


def test_b9_memory_that_stands_for_a_payload_cannot_be_resized(codec):
    decoder, payload, rest = begun(codec, 200 * KIB)
    view = decoder.get_buffer()
    memory = view.obj
    view[:5000] = rest[:5000]
    view.release()
    with pytest.raises((AttributeError, BufferError)):
        memory.clear()
    assert decoder.buffer_updated(5000) == []
    assert receive(decoder, rest[5000:]) == [payload]


@pytest.mark.parametrize("keep", [KEPT["view"], KEPT["slice"], memoryview], ids=["view", "slice", "second"])
@pytest.mark.parametrize("end", ["feed", "feed_batch", "get_buffer"])
def test_b9_a_loan_that_was_never_told_of_ends_before_the_payload_is_handed_out(codec, keep, end):
    decoder, payload, rest = begun(codec, 200 * KIB)
    kept = keep(decoder.get_buffer())
    got = receive(decoder, rest) if end == "get_buffer" else list(getattr(decoder, end)(rest))
    scribble([kept])
    assert got == [payload]
    assert decoder.feed(u32(1) + b"a") == [b"a"]


def test_b9_a_payload_grows_past_a_loan_that_is_still_seen(codec):
    decoder, payload, rest = begun(codec, 4 * MIB, MIB - 10)
    kept = memoryview(decoder.get_buffer())
    assert decoder.feed(rest[: 100 * KIB]) == []
    scribble([kept])
    assert decoder.feed(rest[100 * KIB :]) == [payload]


# Other calls while memory is lent.


def test_b8_feed_while_lent_discards_what_was_not_told(codec):
    decoder, payload, rest = begun(codec, 200 * KIB)
    decoder.get_buffer()[:9] = b"discarded"
    assert decoder.feed(rest) == [payload]
    with pytest.raises(MisuseError, match="without get_buffer"):
        decoder.buffer_updated(9)


@pytest.mark.parametrize("length", [0, 1, 600, 5000])
def test_b8_a_chunk_from_the_middle_ends_a_loan(codec, length):
    decoder, payload, rest = begun(codec, 200 * KIB)
    view = decoder.get_buffer()
    view[:10] = b"?" * 10
    assert decoder.feed(rest[:length]) == []
    with pytest.raises(MisuseError, match="without get_buffer"):
        decoder.buffer_updated(10)
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    assert receive(decoder, rest[length:]) == [payload]


@pytest.mark.parametrize("length", [1, 600, 5000])
def test_b9_a_chunk_from_the_middle_while_the_loan_is_exported_is_out_of_reach(codec, length):
    decoder, payload, rest = begun(codec, 200 * KIB)
    view = decoder.get_buffer()
    kept = view[:]
    assert decoder.feed(rest[:length]) == []
    kept[:] = b"?" * len(kept)
    assert receive(decoder, rest[length:]) == [payload]


def test_b8_feed_between_two_loans(codec):
    decoder, payload, rest = begun(codec, 900 * KIB)
    assert receive(decoder, rest[:9999]) == []
    assert decoder.feed(rest[9999:20_000]) == []
    assert receive(decoder, rest[20_000:300_000]) == []
    assert decoder.feed(b"") == []
    assert decoder.feed(rest[300_000:]) == [payload]


def test_b8_a_second_get_buffer_discards_the_first(codec):
    decoder, payload, rest = begun(codec, 200 * KIB)
    first = decoder.get_buffer()
    first[:9] = b"discarded"
    assert len(decoder.get_buffer()) == len(rest)
    with pytest.raises(ValueError, match="released"):
        first[0] = 1
    assert receive(decoder, rest) == [payload]


def test_b8_nothing_received_is_no_end(codec):
    decoder, payload, rest = begun(codec, 200 * KIB)
    decoder.get_buffer()
    assert decoder.buffer_updated(0) == []
    assert decoder.pending == 1004
    assert receive(decoder, rest) == [payload]


@pytest.mark.parametrize("count", [0, 100, 199 * KIB])
def test_b11_a_loan_is_told_once(codec, count):
    decoder, _, rest = begun(codec, 200 * KIB)
    view = decoder.get_buffer()
    view[:count] = rest[:count]
    decoder.buffer_updated(count)
    for again in (decoder.buffer_updated, decoder.buffer_updated_batch):
        with pytest.raises(MisuseError, match="without get_buffer"):
            again(count)
    assert decoder.pending == 1004 + count


@pytest.mark.parametrize("nbytes", [-1, 1 << 80, None])
def test_b11_a_count_outside_the_loan_is_refused_and_changes_nothing(codec, nbytes):
    decoder, payload, rest = begun(codec, 200 * KIB)
    view = decoder.get_buffer()
    count = len(view) + 1 if nbytes is None else nbytes
    for updated in (decoder.buffer_updated, decoder.buffer_updated_batch):
        with pytest.raises(ValueError, match=f"from 0 to the {len(rest)} bytes lent, not {count}"):
            updated(count)
    view[:] = rest
    assert decoder.buffer_updated(len(rest)) == [payload]


@pytest.mark.parametrize("count", [0, 5000])
def test_b3_the_end_while_lent_counts_what_was_told(codec, count):
    decoder, _, _ = begun(codec, 200 * KIB)
    decoder.get_buffer()
    decoder.buffer_updated(count)
    decoder.get_buffer()[:9] = b"discarded"
    with pytest.raises(IncompleteFrameError) as caught:
        decoder.finish()
    assert (caught.value.pending, caught.value.expected, caught.value.offset) == (1004 + count, 200 * KIB + 4, 0)


@pytest.mark.parametrize("format", [U32, NETSTRING], ids=str)
def test_b2_detach_while_lent_hands_over_what_was_told(codec, format):
    decoder, payload, rest = begun(codec, 200 * KIB, 1000, format)
    assert receive(decoder, rest[:5000]) == []
    decoder.get_buffer()[:9] = b"discarded"
    assert decoder.detach() == frame(format, b"", payload)[1][: -len(rest) + 5000]


def test_b2_a_failure_behind_a_loan_loses_nothing(codec):
    decoder, payload, rest = begun(codec, 200 * KIB, 1000, NETSTRING)
    assert receive(decoder, rest[:-1]) == []
    with pytest.raises(CorruptFrameError) as caught:
        receive(decoder, b";rest")
    assert (caught.value.reason, caught.value.offset, caught.value.frames) == ("netstring-comma", 0, [])
    assert decoder.detach() == b"204800:" + payload + b";rest"


def test_b2_a_bad_frame_behind_a_large_one(codec):
    decoder, payload, rest = begun(codec, 200 * KIB)
    assert receive(decoder, rest) == [payload]
    decoder.get_buffer()[:5] = b"\xff" * 5
    with pytest.raises(FrameTooLargeError) as caught:
        decoder.buffer_updated(5)
    assert (caught.value.offset, decoder.detach()) == (200 * KIB + 4, b"\xff" * 5)


@pytest.mark.parametrize("most", [0, 1, None])
@pytest.mark.parametrize("count", [5000, 200 * KIB - 1000])
def test_b2_max_frames_while_lent(codec, most, count):
    decoder, payload, rest = begun(codec, 200 * KIB)
    decoder.get_buffer()[:count] = rest[:count]
    got = decoder.buffer_updated(count, most)
    assert got == ([payload] if count == len(rest) and most != 0 else [])
    assert decoder.pending == (0 if got else 1004 + count)
    if most == 0:
        with pytest.raises(MisuseError, match="that were not decoded yet"):
            decoder.finish()
    assert got + decoder.feed(rest[count:] + u32(0), None) == [payload, b""]


def test_b10_a_batch_by_direct_lending(codec):
    decoder, payload, rest = begun(codec, 300 * KIB)
    for part in (rest[: 200 * KIB], rest[200 * KIB :]):
        view = decoder.get_buffer()
        view[: len(part)] = part
        batch = decoder.buffer_updated_batch(len(part))
    check(batch, [(payload, u32(300 * KIB) + payload)])
    check(batch[:1], [(payload, u32(300 * KIB) + payload)])
    check(decoder.feed_batch(u32(1) + b"x"), [(b"x", u32(1) + b"x")])


def test_b10_a_batch_behind_a_loan(codec):
    decoder, payload, rest = begun(codec, 300 * KIB)
    assert receive(decoder, rest[:200_000]) == []
    check(decoder.feed_batch(rest[200_000:] + u32(1) + b"x"), [(payload, u32(300 * KIB) + payload), (b"x", u32(1) + b"x")])
