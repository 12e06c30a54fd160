"""FrameBatch: a sequence of payloads in the memory they came in, whole and the same however the stream was cut."""

from __future__ import annotations

import array
import copy
import ctypes
import gc
import mmap
import pickle
import tracemalloc
import weakref

import numpy as np
import pytest
from batches import check, feed_batch, receive_batch, store_then_batch
from hypothesis import given
from hypothesis import strategies as st
from strategies import cut, formats, good_streams, limits_in_reach
from vectors import BAD_VECTORS, SKIP_VECTORS, VECTORS, drive, each, frame, ways_to_cut

from fastframe import FrameError, FrameFormat, MisuseError

WIRE = b"\3abc\0\5hello\1x"
PAYLOADS = [b"abc", b"", b"hello", b"x"]
FRAMES = list(zip(PAYLOADS, [b"\3abc", b"\0", b"\5hello", b"\1x"], strict=True))
DOORS = {"feed": feed_batch, "buffer": receive_batch, "stored": store_then_batch}


@pytest.fixture(params=DOORS.values(), ids=DOORS)
def door(request):
    return request.param


def batch_of(codec, wire=WIRE, format="u8", **options):
    return codec.Decoder(FrameFormat.parse(format), **options).feed_batch(wire)


def u32(*payloads):
    return [(payload, len(payload).to_bytes(4, "big") + payload) for payload in payloads]


def wire_of(frames):
    return b"".join(wire for _, wire in frames)


def address(buffer):
    return np.frombuffer(buffer, np.uint8).ctypes.data


# A sequence.


def test_b10_a_batch_is_a_sequence_of_bytes(codec):
    batch = batch_of(codec)
    check(batch, FRAMES)
    assert [type(payload) for payload in batch] == [bytes] * 4
    assert b"hello" in batch
    assert list(reversed(batch)) == PAYLOADS[::-1]
    assert bool(batch)
    assert not batch_of(codec, b"")


@pytest.mark.parametrize("index", [0, 3, -1, -4, True, np.int64(2)])
def test_b10_an_index_counts_from_either_end(codec, index):
    assert batch_of(codec)[index] == PAYLOADS[index]
    assert batch_of(codec).view(index) == PAYLOADS[index]


@pytest.mark.parametrize("index", [4, -5, 1 << 70, -(1 << 70)])
def test_b10_an_index_outside_is_an_index_error(codec, index):
    for ask in (batch_of(codec).__getitem__, batch_of(codec).view):
        with pytest.raises(IndexError, match=r"^the batch has no such frame$"):
            ask(index)


@pytest.mark.parametrize("index", [0, -1])
def test_b10_an_empty_batch_has_no_frame(codec, index):
    for ask in (batch_of(codec, b"").__getitem__, batch_of(codec, b"").view):
        with pytest.raises(IndexError, match=r"^the batch has no such frame$"):
            ask(index)


@pytest.mark.parametrize("index", [1.0, "0", None, (0, 1)])
def test_b10_an_index_is_an_integer_or_a_slice(codec, index):
    for ask in (batch_of(codec).__getitem__, batch_of(codec).view):
        with pytest.raises(TypeError):
            ask(index)


@pytest.mark.parametrize("wire", [b"", b"\3ab", b"\5"])
def test_b10_without_a_whole_frame_the_batch_is_empty(codec, wire):
    batch = batch_of(codec, wire)
    check(batch, [])
    assert (batch.data, bytes(batch.wire), len(batch.offsets), len(batch.lengths)) == (b"", b"", 0, 0)
    check(batch[:], [])


def test_b10_an_empty_batch_keeps_no_chunk_alive(codec):
    chunk = bytearray(b"\5hell")
    view = memoryview(chunk)
    assert batch_of(codec, view).data == b""
    view.release()
    chunk.clear()  # a BufferError, were it kept


# Slices.


@pytest.mark.parametrize("straddling", [0, 1, 2])
def test_b10_every_slice_is_a_batch(codec, straddling):
    decoder = codec.Decoder(FrameFormat("u8"))
    decoder.feed_batch(WIRE[:straddling])
    batch = decoder.feed_batch(WIRE[straddling:])
    bounds = [None, *range(-6, 7)]
    for start in bounds:
        for stop in bounds:
            check(batch[start:stop], FRAMES[start:stop])
            assert type(batch[start:stop]) is codec.FrameBatch
    check(batch[1:][1:][:-1], FRAMES[2:3])
    assert batch[2:].data == batch.data


@each(VECTORS)
def test_b10_every_slice_has_its_frames_and_all_of_their_bytes(codec, vector):
    batch = batch_of(codec, vector.wire, vector.format)
    for start in range(len(batch) + 1):
        for stop in range(start, len(batch) + 1):
            check(batch[start:stop], vector.frames[start:stop])


@pytest.mark.parametrize("step", [2, -1, 3, -(1 << 70)])
def test_b10_a_step_other_than_1_is_refused(codec, step):
    text = f"a batch can be sliced with a step of 1 only, since its frames lie in a row, not of {step}"
    for batch in (batch_of(codec), batch_of(codec, b"")):
        with pytest.raises(ValueError, match=text):
            batch[::step]
    check(batch_of(codec)[::1], FRAMES)


@pytest.mark.parametrize("index", [slice("a", None), slice(None, 1.0), slice(None, None, 0)])
def test_b10_a_slice_takes_integers(codec, index):
    with pytest.raises((TypeError, ValueError)):
        batch_of(codec)[index]


# Memory.


def test_b10_bytes_are_shared_not_copied(codec):
    chunk = bytes(WIRE)
    batch = batch_of(codec, chunk)
    assert batch.data is chunk
    assert batch[1:3].data is chunk
    assert np.shares_memory(np.frombuffer(batch.view(2), np.uint8), np.frombuffer(chunk, np.uint8))
    assert address(batch.wire) == address(chunk)


def memory_map():
    memory = mmap.mmap(-1, len(WIRE))
    memory[:] = WIRE
    return memory


MUTABLE = {
    "bytearray": lambda: bytearray(WIRE),
    "memoryview": lambda: memoryview(bytearray(WIRE)),
    "array": lambda: array.array("B", WIRE),
    "mmap": memory_map,
    "ctypes": lambda: (ctypes.c_char * len(WIRE)).from_buffer_copy(WIRE),
    "numpy": lambda: np.frombuffer(WIRE, np.uint8).copy(),
}


@pytest.mark.parametrize("make", MUTABLE.values(), ids=MUTABLE)
def test_b10_what_can_change_is_copied_once(codec, make):
    chunk = make()
    batch = batch_of(codec, chunk)
    assert batch.data is batch.data
    memoryview(chunk).cast("B")[:] = b"\xff" * len(WIRE)
    check(batch, FRAMES)


@pytest.mark.parametrize("chunk", ["\0", None, 4, [0]])
def test_a10_a_batch_needs_a_buffer(codec, chunk):
    with pytest.raises(TypeError, match=f"a bytes-like object is required, not '{type(chunk).__name__}'"):
        batch_of(codec, chunk)


def test_a10_a_batch_needs_a_contiguous_buffer(codec):
    with pytest.raises(BufferError, match="a contiguous buffer is required"):
        batch_of(codec, memoryview(WIRE)[::2])


def test_b10_offsets_and_lengths_are_numpy_arrays_without_a_copy(codec):
    batch = batch_of(codec)
    for buffer, numbers in ((batch.offsets, [1, 5, 6, 12]), (batch.lengths, [3, 0, 5, 1])):
        assert (buffer.format, buffer.itemsize, buffer.readonly, buffer.contiguous) == ("q", 8, True, True)
        view = np.asarray(buffer)
        assert (view.dtype, view.flags.writeable, view.tolist()) == (np.int64, False, numbers)
        assert np.frombuffer(buffer, np.int64).ctypes.data == view.ctypes.data
    assert np.shares_memory(np.asarray(batch.offsets), np.asarray(batch.offsets))
    assert np.shares_memory(np.asarray(batch.lengths), np.asarray(batch.lengths))


def test_b10_numbers_of_many_frames_are_right(codec):
    lengths = [at % 7 for at in range(10_000)]
    batch = batch_of(codec, b"".join(bytes([length]) + b"x" * length for length in lengths))
    ends = np.cumsum(np.array(lengths) + 1)
    assert np.array_equal(np.asarray(batch.lengths), lengths)
    assert np.array_equal(np.asarray(batch.offsets), ends - lengths)
    assert np.asarray(batch[5_000:]).shape == (5_000,)


VIEWS = {
    "view": lambda batch: batch.view(2),
    "straddling": lambda batch: batch.view(0),
    "offsets": lambda batch: batch.offsets,
    "lengths": lambda batch: batch.lengths,
    "wire": lambda batch: batch.wire,
    "data": lambda batch: memoryview(batch.data),
}


@pytest.mark.parametrize("ask", VIEWS.values(), ids=VIEWS)
def test_b10_a_view_is_read_only_and_keeps_its_memory(codec, ask):
    decoder = codec.Decoder(FrameFormat("u32be"))
    frames = u32(b"first" * 99, b"second" * 99, b"third" * 99)
    decoder.feed_batch(wire_of(frames)[:9])
    batch = decoder.feed_batch(bytearray(wire_of(frames)[9:]))
    kept = ask(batch)
    seen = bytes(kept)
    assert kept.readonly
    with pytest.raises(TypeError):
        kept[0] = 1
    del batch, decoder
    gc.collect()
    noise = [bytes(len(seen)) for _ in range(100)]
    assert bytes(kept) == seen
    del noise


def test_b10_a_batch_outlives_what_the_decoder_and_the_caller_do_next(codec, door):
    decoder = codec.Decoder(FrameFormat("u8"))
    batch = door(decoder, WIRE + b"\3a")
    door(decoder, b"bc" + b"\x09zzzzzzzzz" * 9)
    check(batch, FRAMES)
    decoder.finish()
    check(batch, FRAMES)
    del decoder
    gc.collect()
    check(batch, FRAMES)


def test_b10_a_batch_outlives_the_failure_of_its_decoder(codec, door):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=9))
    batch = door(decoder, WIRE + b"\3a")
    with pytest.raises(FrameError):
        decoder.feed(b"bc\xff")
    decoder.detach()
    check(batch, FRAMES)


def test_b10_a_batch_is_freed_with_its_last_user(codec):
    class Chunk(bytearray):
        pass

    chunk = Chunk(WIRE)
    batch = batch_of(codec, chunk)
    gone = weakref.ref(chunk)
    del chunk
    assert gone() is None  # it was copied, and not kept
    check(batch, FRAMES)


# However the stream was cut.


@each(VECTORS)
def test_b10_a_stream_in_two_chunks_is_whole_in_its_batches(codec, door, vector):
    fmt = FrameFormat.parse(vector.format)
    for at in range(len(vector.wire) + 1):
        decoder = codec.Decoder(fmt)
        batches = [door(decoder, vector.wire[:at]), door(decoder, vector.wire[at:])]
        middle = len(batches[0])
        check(batches[0], vector.frames[:middle])
        check(batches[1], vector.frames[middle:])
        assert middle + len(batches[1]) == len(vector.frames)
        decoder.finish()


@each(VECTORS)
def test_b10_a_payload_in_many_chunks_is_whole_in_its_batch(codec, door, vector):
    for size in (1, 2, 3):
        decoder = codec.Decoder(FrameFormat.parse(vector.format))
        frames = list(vector.frames)
        for start in range(0, len(vector.wire), size):
            batch = door(decoder, vector.wire[start : start + size])
            check(batch, frames[: len(batch)])
            del frames[: len(batch)]
        assert not frames
        decoder.finish()


@given(st.data())
def test_b10_the_wire_of_batches_decodes_to_the_same_again(codec, data):
    fmt = data.draw(formats().filter(limits_in_reach), "format")
    frames = data.draw(good_streams(fmt), "frames")
    door = data.draw(st.sampled_from(list(DOORS.values())))
    decoder, again = codec.Decoder(fmt), codec.Decoder(fmt)
    done = 0
    for piece in data.draw(cut(wire_of(frames)), "pieces"):
        batch = door(decoder, piece)
        check(batch, frames[done : done + len(batch)])
        for start in range(len(batch) + 1):
            for stop in range(start, len(batch) + 1):
                check(batch[start:stop], frames[done + start : done + stop])
        check(again.feed_batch(batch.wire), frames[done : done + len(batch)])
        done += len(batch)
    assert done == len(frames)
    assert again.pending == decoder.pending == 0


def test_b10_data_of_a_straddling_batch_is_made_once_and_not_for_nothing(codec):
    decoder = codec.Decoder(FrameFormat("u32be"))
    frames = u32(b"a" * 1000, b"b" * 1000)
    wire = wire_of(frames)
    decoder.feed_batch(wire[:500])
    batch = decoder.feed_batch(chunk := wire[500:])
    assert np.shares_memory(np.frombuffer(batch.view(1), np.uint8), np.frombuffer(chunk, np.uint8))
    assert batch.data is batch.data
    assert batch.data == wire


def test_b10_the_first_payload_of_a_straddling_batch_is_one_object(codec):
    decoder = codec.Decoder(FrameFormat("u8"))
    decoder.feed_batch(b"\5he")
    batch = decoder.feed_batch(b"llo\1x")
    assert batch[0] is batch[-2]
    assert address(batch.view(0)) == address(batch[0])


def test_b10_a_comma_in_the_next_chunk_is_waited_for(codec, door):
    decoder = codec.Decoder(FrameFormat("netstring"))
    check(door(decoder, b"3:abc,5:hello"), [(b"abc", b"3:abc,")])
    check(door(decoder, b",1:x,2:y"), [(b"hello", b"5:hello,"), (b"x", b"1:x,")])


def test_b10_many_chunks_into_one_payload_then_many_payloads(codec, door):
    frames = u32(bytes(range(256)) * 40, b"", b"tail", b"x" * 600)
    decoder, wire = codec.Decoder(FrameFormat("u32be")), wire_of(frames)
    for start in range(0, 10_000, 333):
        check(door(decoder, wire[start : min(start + 333, 10_000)]), [])
    check(door(decoder, wire[10_000:]), frames)


# Skipped frames leave gaps.

LONG, GOOD = b"\x06LONGER", (b"abc", b"\3abc")


@pytest.mark.parametrize(
    ("chunks", "counts"),
    [
        ([LONG + b"\3abc\3abc"], [2]),
        ([b"\3abc" + LONG + b"\3abc"], [2]),
        ([b"\3abc\3abc" + LONG], [2]),
        ([LONG + b"\3abc" + LONG + LONG + LONG + b"\3abc" + LONG + b"\3abc" + LONG], [3]),
        ([LONG], [0]),
        ([LONG[:3], LONG[3:] + b"\3abc\3abc"], [0, 2]),
        ([b"\3abc" + LONG[:3], LONG[3:]], [1, 0]),
        ([b"\3abc" + LONG[:1], LONG[1:4], LONG[4:] + LONG + b"\3abc"], [1, 0, 1]),
        ([b"\3a", b"bc" + LONG + b"\3abc" + LONG + b"\3a", b"bc" + LONG + LONG[:2]], [0, 2, 1]),
    ],
    ids=["front", "middle", "end", "rows", "alone", "straddling", "cut-behind", "three-chunks", "around-straddling"],
)
def test_b10_skipped_frames_are_left_out(codec, door, chunks, counts):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=5), on_oversize="skip")
    for chunk, count in zip(chunks, counts, strict=True):
        batch = door(decoder, chunk)
        check(batch, [GOOD] * count)
        for start in range(count):
            for stop in range(start, count + 1):
                check(batch[start:stop], [GOOD] * (stop - start))
    assert decoder.skipped == b"".join(chunks).count(b"\x06")


@each(SKIP_VECTORS)
def test_a8_batches_without_the_oversize_frames_however_cut(codec, door, vector):
    fmt = FrameFormat.parse(vector.format)
    for at in range(len(vector.wire) + 1):
        decoder = codec.Decoder(fmt, on_oversize="skip")
        whole = codec.Decoder(fmt, on_oversize="skip").feed(vector.wire)
        batches = [door(decoder, vector.wire[:at]), door(decoder, vector.wire[at:])]
        assert [payload for batch in batches for payload in batch] == whole
        assert codec.Decoder(fmt).feed(b"".join(bytes(batch.wire) for batch in batches)) == whole


@pytest.mark.parametrize("count", [31, 32, 33])
def test_b10_memory_follows_the_bytes_that_came_however_the_frames_lie(codec, count):
    """The room for places is estimated from the frames so far. If it is full just where a skipped frame ends, an estimate from
    the tiny frame that follows, as if all had been in that one, asks for gigabytes.
    """
    wire = bytes(4 * count) + b"\0\0\1\0" + bytes(256) + bytes(1 << 16)
    decoder = codec.Decoder(FrameFormat("u32be", max_payload_length=255), on_oversize="skip")
    tracemalloc.start()
    batch = decoder.feed_batch(wire)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(batch) == count + (1 << 14)
    assert peak < 16 * len(wire)


# Errors, leftovers, and both doors.


@pytest.mark.parametrize("straddling", [0, 2])
def test_b2_an_error_has_the_payloads_before_it_as_bytes(codec, door, straddling):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=9))
    door(decoder, WIRE[:straddling])
    with pytest.raises(FrameError) as caught:
        door(decoder, WIRE[straddling:] + b"\xffrest")
    assert caught.value.frames == PAYLOADS
    assert {type(payload) for payload in caught.value.frames} == {bytes}
    assert caught.value.offset == len(WIRE)
    with pytest.raises(FrameError) as again:
        decoder.feed_batch(b"")
    assert again.value.frames == []
    assert decoder.detach() == b"\xffrest"


@each(BAD_VECTORS)
def test_b1_a_bad_stream_fails_alike_in_batches(codec, door, vector):
    fmt = FrameFormat.parse(vector.format)
    for pieces in ways_to_cut(vector.wire):
        seen = drive(codec.Decoder(fmt), pieces, lambda decoder, chunk: list(door(decoder, chunk)))
        assert seen == (vector.payloads, (vector.error, vector.attributes, vector.text))


@pytest.mark.parametrize("most", range(5))
@pytest.mark.parametrize("behind", [b"", b"\3a"])
def test_b2_a_batch_takes_what_max_frames_left(codec, most, behind):
    decoder = codec.Decoder(FrameFormat("u8"))
    assert decoder.feed(WIRE[:3], most) == []
    first = decoder.feed(WIRE[3:-1], most)
    batch = decoder.feed_batch(WIRE[-1:] + behind)
    check(batch, FRAMES[len(first) :])
    assert decoder.pending == len(behind)


def test_b10_batches_and_lists_take_turns(codec, door):
    decoder = codec.Decoder(FrameFormat("u8"))
    for at in range(len(WIRE)):
        got = [*door(decoder, WIRE[:at]), *decoder.feed(WIRE[at:] + WIRE[:at]), *door(decoder, WIRE[at:])]
        assert got == PAYLOADS * 2


def test_b11_a_batch_from_a_closed_or_unused_door_is_misuse(codec):
    decoder = codec.Decoder(FrameFormat("u8"))
    with pytest.raises(MisuseError, match="without get_buffer"):
        decoder.buffer_updated_batch(0)
    room = len(decoder.get_buffer())
    for nbytes in (-1, room + 1):
        with pytest.raises(ValueError, match=f"nbytes must be from 0 to the {room} bytes lent, not {nbytes}"):
            decoder.buffer_updated_batch(nbytes)
    with pytest.raises(TypeError):
        decoder.buffer_updated_batch(None)
    check(decoder.buffer_updated_batch(0), [])
    decoder.finish()
    with pytest.raises(MisuseError, match=r"finish\(\) was called"):
        decoder.feed_batch(WIRE)
    with pytest.raises(MisuseError, match=r"finish\(\) was called"):
        decoder.buffer_updated_batch(0)


# What cannot be done to a batch.


def test_b11_a_batch_is_made_by_a_decoder_alone(codec):
    for arguments in ((), (b"",)):
        with pytest.raises(TypeError):
            codec.FrameBatch(*arguments)
    with pytest.raises(TypeError, match=r"^a FrameBatch is made by Decoder.feed_batch\(\) alone$"):
        codec.FrameBatch()


@pytest.mark.parametrize("name", ["data", "wire", "offsets", "lengths", "added"])
def test_b10_nothing_of_a_batch_can_be_set(codec, name):
    batch = batch_of(codec)
    with pytest.raises(AttributeError):
        setattr(batch, name, b"")
    with pytest.raises(TypeError):
        batch[0] = b""
    with pytest.raises(TypeError):
        del batch[0]
    check(batch, FRAMES)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a12_a_batch_is_not_copied(codec, duplicate):
    with pytest.raises(TypeError, match=r"^a FrameBatch cannot be copied or pickled"):
        duplicate(batch_of(codec))


def test_a13_the_repr_of_a_batch_says_numbers(codec):
    batch = batch_of(codec, b"\6secret\6secret\6se")
    assert repr(batch) == "<FrameBatch: 2 frames in 14 bytes>"
    assert repr(batch[1:]) == "<FrameBatch: 1 frames in 7 bytes>"
    assert repr(batch[:0]) == "<FrameBatch: 0 frames in 0 bytes>"


def test_b10_what_a_batch_takes_has_to_do_with_its_frames_not_with_a_guess(codec):
    """Many short frames in front of a long one are no sign of many more."""
    stream = bytes(4 * 40) + (1 << 20).to_bytes(4, "big") + bytes(1 << 20)
    codec.Decoder(FrameFormat()).feed_batch(stream)
    tracemalloc.start()
    try:
        batch = codec.Decoder(FrameFormat()).feed_batch(stream)
        assert tracemalloc.get_traced_memory()[0] < 16 << 10
    finally:
        tracemalloc.stop()
    assert len(batch) == 41


def test_a_large_first_payload_is_sent_on_without_a_copy(codec):
    decoder = codec.Decoder(FrameFormat("u32be"))
    payload = bytes(range(256)) * 1000
    assert not decoder.feed_batch(frame(payload)[:200_000])
    batch = decoder.feed_batch(frame(payload)[200_000:] + frame(b"next") + b"\0")
    header, first, rest = batch.wire_parts
    assert (header, bytes(rest)) == (frame(payload)[:4], frame(b"next"))
    assert first is batch[0]
