"""SendQueue: what leaves is what encode_many gives, however little the kernel takes at a time, and nothing large is copied.

Most tests have 8 bytes count as large, so that every cut of every shape can be tried.
"""

from __future__ import annotations

import array
import copy
import ctypes
import itertools
import mmap
import os
import pickle
import socket
import sys
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import formats, good_streams, limits_in_reach

from fastframe import CorruptFrameError, FrameFormat, FrameTooLargeError, SendQueue, _send_queue
from fastframe._parts import GATHER_SIZE
from fastframe._send_queue import MAX_PARTS

U32 = FrameFormat("u32be", max_payload_length=1 << 30)
LARGE = bytes(range(256)) * (GATHER_SIZE // 256)
SMALL = [b"", b"a", b"seven b"]
PAYLOADS = [b"", b"a", b"exactly8", b"b", b"", b"nine byte", b"and ten by", b"c"]


@pytest.fixture
def tiny(monkeypatch):
    """Have 8 bytes count as large."""
    monkeypatch.setattr(_send_queue, "GATHER_SIZE", 8)


def carried(payload: bytes) -> bytes:
    """A payload that brings its own header, as `u32le,adjust=-4,strip=0` has it."""
    return (len(payload) + 4).to_bytes(4, "little") + payload


def carried_varint(payload: bytes) -> bytes:
    return bytes([len(payload)]) + payload


SHAPES = {
    "u32be": lambda payload: payload,
    "u16le,offset=2,leading=cafe": lambda payload: payload,
    "varint": lambda payload: payload,
    "netstring": lambda payload: payload,
    "u32le,adjust=-4,strip=0": carried,
    "u32le,adjust=-4,strip=2": lambda payload: carried(payload)[2:],
    "varint,strip=0": carried_varint,
}


@pytest.fixture(params=SHAPES)
def shaped(request, codec):
    """An encoder, and the payloads in the shape that it takes."""
    return codec.Encoder(FrameFormat.parse(request.param)), [SHAPES[request.param](payload) for payload in PAYLOADS]


def take(queue, nbytes) -> bytes:
    """Do what a kernel does that takes so many bytes, and not more than there are."""
    parts = queue.buffers()
    assert all(parts), "an empty part"
    assert len(parts) <= _send_queue.MAX_PARTS
    sent = b"".join(parts)[:nbytes]
    queue.advance(len(sent))
    return sent


def drain(queue, amounts) -> bytes:
    """Take what waits, in the given amounts, over and over."""
    sent = bytearray()
    amounts = itertools.cycle(amounts)
    while queue:
        sent += take(queue, next(amounts))
    assert queue.pending == 0
    assert queue.buffers() == []
    return bytes(sent)


# What leaves


@pytest.mark.parametrize("amount", [1, 3, 1 << 20])
def test_batches_leave_as_they_came(tiny, codec, amount):
    fmt = FrameFormat("u32be", length_field_offset=2)  # two bytes in front that no payload has
    wire = b"".join(bytes([number] * 2) + len(p).to_bytes(4, "big") + p for number, p in enumerate(PAYLOADS))
    queue = SendQueue(codec.Encoder(fmt))
    for cut in range(len(wire) + 1):
        decoder = codec.Decoder(fmt)
        queue.put_batch(decoder.feed_batch(wire[:cut]))
        queue.put_batch(decoder.feed_batch(wire[cut:]))
        assert queue.pending == len(wire)
        assert drain(queue, [amount]) == wire


def test_a_large_batch_is_not_copied_and_stands_among_others(codec):
    chunk = codec.Encoder(U32).encode(LARGE)
    queue = SendQueue(codec.Encoder(U32))
    queue.put(b"before")
    queue.put_batch(codec.Decoder(U32).feed_batch(chunk))
    queue.put(b"after")
    assert [part.obj is chunk for part in queue.buffers()] == [False, True, False]
    queue.clear()
    queue.put_batch(codec.Decoder(U32).feed_batch(b""))
    assert queue.pending == 0
    assert not queue.buffers()


@pytest.mark.parametrize("amount", [1, 2, 3, 7, 1 << 20])
def test_each_amount_at_a_time_gives_the_same_bytes(tiny, shaped, amount):
    encoder, payloads = shaped
    queue = SendQueue(encoder)
    for payload in payloads:
        queue.put(payload)
    assert queue.pending == len(encoder.encode_many(payloads))
    assert drain(queue, [amount]) == encoder.encode_many(payloads)


def test_every_cut_gives_the_same_bytes(tiny, shaped):
    encoder, payloads = shaped
    wire = encoder.encode_many(payloads)
    for first, second in itertools.combinations_with_replacement(range(len(wire) + 1), 2):
        queue = SendQueue(encoder)
        queue.put_many(payloads)
        sent = take(queue, first) + take(queue, second - first) + drain(queue, [len(wire)])
        assert sent == wire


@given(st.data())
def test_any_format_any_order_and_any_amounts(codec, data):
    fmt = data.draw(formats().filter(limits_in_reach), "format")
    encoder = codec.Encoder(fmt)
    queue, sent, wire = SendQueue(encoder, copy_mutable=data.draw(st.booleans())), b"", b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_send_queue, "GATHER_SIZE", data.draw(st.integers(1, 30), "large from"))
        patch.setattr(_send_queue, "MAX_PARTS", data.draw(st.integers(1, 5), "parts"))
        for _ in range(data.draw(st.integers(0, 6))):
            payloads = [payload for payload, _ in data.draw(good_streams(fmt))]
            wire += encoder.encode_many(payloads)
            kind = data.draw(st.sampled_from([bytes, bytearray, memoryview]))
            if data.draw(st.booleans()):
                queue.put_many(map(kind, payloads))
            else:
                for payload in payloads:
                    queue.put(kind(payload))
            sent += take(queue, data.draw(st.integers(0, 60)))
            assert queue.pending == len(wire) - len(sent)
        sent += drain(queue, data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5)))
    assert sent == wire


def test_small_frames_leave_in_one_part(codec):
    encoder = codec.Encoder(U32)
    queue = SendQueue(encoder)
    for payload in SMALL:
        queue.put(payload)
    queue.put_many(SMALL)
    assert queue.buffers() == [encoder.encode_many([*SMALL, *SMALL])]


def test_the_bytes_around_large_payloads_are_joined(codec):
    encoder = codec.Encoder(FrameFormat("netstring"))
    queue = SendQueue(encoder)
    queue.put_many([b"a", LARGE, b"b", b"", LARGE])
    header = b"%d:" % len(LARGE)
    assert [bytes(part) for part in queue.buffers()] == [b"1:a," + header, LARGE, b",1:b,0:," + header, LARGE, b","]


def test_many_small_frames_are_joined_without_a_large_copy(codec):
    queue = SendQueue(codec.Encoder(U32))
    for _ in range(1_000):
        queue.put(b"x" * 1_000)
    lengths = [len(part) for part in queue.buffers()]
    assert sum(lengths) == queue.pending == 1_000 * 1_004
    assert GATHER_SIZE <= max(lengths) < 2 * GATHER_SIZE


def test_a_part_that_was_handed_out_only_gets_shorter(codec):
    """OpenSSL refuses to go on with other bytes than those it said `not now` to."""
    queue = SendQueue(codec.Encoder(U32))
    queue.put(b"first")
    (before,) = queue.buffers(1)
    queue.put(b"second")
    (after,) = queue.buffers(1)
    assert before is after
    queue.advance(2)
    assert queue.buffers(1) == [b"\0\5first"]


def test_a_queue_that_is_blocked_goes_on_joining(codec):
    queue = SendQueue(codec.Encoder(U32))
    for _ in range(3 * MAX_PARTS):
        queue.put(b"x")
        queue.buffers()
    assert len(queue._parts) == MAX_PARTS
    assert drain(queue, [1 << 20]) == b"\0\0\0\1x" * 3 * MAX_PARTS


# What is lent


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: array.array("Q", data)], ids=["bytes", "bytearray", "array"])
@pytest.mark.parametrize("many", [False, True])
def test_a_large_payload_is_handed_out_as_it_is(codec, kind, many):
    payload = kind(LARGE)
    queue = SendQueue(codec.Encoder(U32))
    if many:
        queue.put_many(iter([b"small", payload]))
    else:
        queue.put(payload)
    part = queue.buffers()[1]
    assert part.obj is payload
    assert (part.format, part.nbytes) == ("B", GATHER_SIZE)
    queue.advance(queue.pending - 1)
    assert queue.buffers()[0].obj is payload


def test_any_flat_memory_is_lent(codec, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(LARGE)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        for payload in (
            mapped,
            memoryview(LARGE),
            memoryview(mapped)[:],
            memoryview(LARGE).cast("B", (256, GATHER_SIZE // 256)),
        ):
            queue = SendQueue(codec.Encoder(U32))
            queue.put(payload)
            assert queue.buffers()[1].obj is (payload.obj if isinstance(payload, memoryview) else payload)
            assert drain(queue, [1 << 20]) == codec.Encoder(U32).encode(LARGE)
            if isinstance(payload, memoryview):
                payload.release()


@pytest.mark.parametrize("kind", [ctypes.c_char, ctypes.c_int32, ctypes.c_uint16.__ctype_be__], ids=lambda kind: kind.__name__)
def test_memory_of_any_format_leaves_as_bytes(codec, kind):
    payload = (kind * (GATHER_SIZE // ctypes.sizeof(kind))).from_buffer_copy(LARGE)
    queue = SendQueue(codec.Encoder(U32))
    queue.put(payload)
    queue.put_many([payload])
    assert drain(queue, [1 << 20]) == 2 * codec.Encoder(U32).encode(LARGE)


def test_parts_of_a_payload_are_lent_if_they_are_large(codec):
    queue = SendQueue(codec.Encoder(FrameFormat("netstring")))
    large = bytearray(b"L" * GATHER_SIZE)
    queue.put_parts([b"a", large, b"b", b""])
    queue.encoder = codec.Encoder(FrameFormat("u8"))
    queue.put_parts((b"c", memoryview(b"d")))
    assert [bytes(part) for part in queue.buffers()] == [b"65538:a", large, b"b,\2cd"]
    assert queue.buffers()[1].obj is large
    with pytest.raises(FrameTooLargeError):
        queue.put_parts([large])
    with pytest.raises(TypeError):
        queue.put_parts([large, 3])
    assert queue.pending == GATHER_SIZE + 12


def test_a_large_payload_costs_no_memory(codec):
    queue = SendQueue(codec.Encoder(U32))
    for payload in (bytes(64 << 20), bytearray(64 << 20)):
        tracemalloc.start()
        queue.put(payload)
        queue.put_many(iter([payload, payload]))
        assert queue.pending == 3 * (4 + (64 << 20))
        while queue:
            queue.buffers()
            queue.advance(min(queue.pending, 1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 << 10


def test_memory_is_given_back_as_soon_as_it_is_sent(codec):
    first, second = bytearray(LARGE), bytearray(LARGE)
    queue = SendQueue(codec.Encoder(U32))
    queue.put_many([first, second])
    parts = queue.buffers()  # even while the caller has these
    for payload in (first, second):
        with pytest.raises(BufferError):
            payload.append(0)
    queue.advance(4 + GATHER_SIZE - 1)
    with pytest.raises(BufferError):
        first.append(0)
    queue.buffers()
    queue.advance(1)
    first.append(0)
    with pytest.raises(BufferError):
        second.append(0)
    queue.buffers()
    queue.advance(queue.pending)
    second.append(0)
    with pytest.raises(ValueError, match="released"):
        bytes(parts[1])


def test_clear_forgets_and_gives_back(codec):
    payload = bytearray(LARGE)
    queue = SendQueue(codec.Encoder(U32))
    queue.put_many([b"a", payload, b"b"])
    parts = queue.buffers()
    queue.put(b"c")
    queue.clear()
    payload.append(0)
    with pytest.raises(ValueError, match="released"):
        bytes(parts[1])
    with pytest.raises(ValueError, match="from 0 to the 0 bytes lent"):
        queue.advance(1)
    assert (queue.pending, bool(queue), queue.buffers()) == (0, False, [])
    queue.put(b"d")
    assert drain(queue, [1]) == b"\0\0\0\1d"


def test_a_view_that_the_caller_took_stays_the_callers(codec):
    queue = SendQueue(codec.Encoder(U32))
    queue.put(LARGE)
    part = queue.buffers()[1]
    exported = pickle.PickleBuffer(part)  # as numpy.frombuffer: holds the view itself, which cannot be released then
    with memoryview(part) as mine:
        queue.advance(queue.pending)
        assert mine == exported.raw() == LARGE
    assert not queue


def test_a_small_payload_may_change_at_once(codec):
    payload = bytearray(b"before")
    queue = SendQueue(codec.Encoder(U32))
    queue.put(payload)
    queue.put_many(iter([payload]))
    payload[:] = b"after it"
    assert drain(queue, [1]) == codec.Encoder(U32).encode_many([b"before", b"before"])


@pytest.mark.parametrize("size", [3, GATHER_SIZE])
def test_with_copy_mutable_any_payload_may_change_at_once(codec, size):
    def refilled():
        buffer = bytearray(size)
        for number in range(3):
            buffer[:] = bytes([number]) * size
            yield buffer

    queue = SendQueue(codec.Encoder(U32), copy_mutable=True)
    queue.put_many(refilled())
    payload = bytearray(b"x" * size)
    queue.put(memoryview(payload))
    payload.clear()
    expected = [bytes([number]) * size for number in range(3)] + [b"x" * size]
    assert drain(queue, [1 << 20]) == codec.Encoder(U32).encode_many(expected)
    queue.put(LARGE)
    assert queue.buffers()[-1].obj is LARGE


# What the kernel takes


def test_one_call_takes_no_more_parts_than_the_kernel(tiny, codec):
    encoder = codec.Encoder(U32)
    payloads = [bytes([number % 256]) * 100 for number in range(2_500)]
    wire, received, counts = encoder.encode_many(payloads), bytearray(), []
    queue = SendQueue(encoder)
    queue.put_many(payloads)
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        near.setblocking(False)
        while queue:
            parts = queue.buffers()
            counts.append(len(parts))
            try:
                queue.advance(near.sendmsg(parts))
            except BlockingIOError:
                received += far.recv(1 << 16)
        near.close()
        while more := far.recv(1 << 16):
            received += more
    assert received == wire
    assert len(counts) > 10  # the kernel took them piecemeal
    assert max(counts) == MAX_PARTS <= os.sysconf("SC_IOV_MAX")


@pytest.mark.parametrize(
    ("answer", "most"), [(1 << 20, 1024), (60, 60), (-1, 16), (ValueError, 16), (OSError, 16), (AttributeError, 16)]
)
def test_the_most_parts_of_any_system(monkeypatch, answer, most):
    def sysconf(name):
        if isinstance(answer, int):
            return answer
        raise answer

    monkeypatch.setattr(os, "sysconf", sysconf)
    assert _send_queue._max_parts() == most


def test_fewer_parts_on_demand(codec):
    queue = SendQueue(codec.Encoder(U32))
    queue.put_many([LARGE, LARGE])
    assert [len(queue.buffers(most)) for most in (1, 3, 4, 5, 1 << 40)] == [1, 3, 4, 4, 4]
    for most in (0, -1):
        with pytest.raises(ValueError, match="max_parts"):
            queue.buffers(most)


def steps(function) -> int:
    """Return how many lines of Python and calls of C a function takes."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(trace)
    try:
        function()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return count


@pytest.mark.parametrize("amount", [5, 100, 1 << 30])
def test_twice_the_payloads_take_twice_the_steps(tiny, codec, amount):
    def work(count):
        queue = SendQueue(codec.Encoder(U32))

        def run():
            for _ in range(count):
                queue.put(b"x" * 100)
            while queue:
                queue.buffers(2)
                queue.advance(min(amount, queue._lent))

        return run

    assert steps(work(600)) < 2.1 * steps(work(300))


def test_one_long_queue_takes_no_more_work_than_16_short_ones(tiny, codec):
    """What `del parts[:1]` does shows in nothing but time, here 10 times as much; linear work makes the ratio 1."""

    def work(count):
        queue = SendQueue(codec.Encoder(U32))
        queue.put_many([b"x" * 100] * count)
        start = time.process_time()
        while queue:
            queue.buffers(2)
            queue.advance(52)
        return time.process_time() - start

    assert any(work(32_000) / sum(work(2_000) for _ in range(16)) < 4 for _ in range(3))


# What is refused


@pytest.mark.parametrize("nbytes", [-1, 1 << 80])
def test_a_number_that_was_not_there_is_refused(codec, nbytes):
    queue = SendQueue(codec.Encoder(U32))
    queue.put(b"abc")
    for _ in range(2):
        with pytest.raises(ValueError, match="from 0 to"):
            queue.advance(nbytes)
        with pytest.raises(TypeError):
            queue.advance("1")
        queue.buffers()
    with pytest.raises(ValueError, match="from 0 to the 7 bytes lent, not 8"):
        queue.advance(8)
    assert drain(queue, [3]) == b"\0\0\0\3abc"


def test_what_was_not_handed_out_cannot_be_sent(codec):
    queue = SendQueue(codec.Encoder(U32))
    queue.put_many([LARGE, b"small"])
    with pytest.raises(ValueError, match="from 0 to the 0 bytes lent"):
        queue.advance(1)
    queue.buffers(1)
    queue.put(b"more")
    with pytest.raises(ValueError, match="from 0 to the 4 bytes lent, not 5"):
        queue.advance(5)
    queue.advance(1)
    queue.advance(3)
    queue.advance(0)
    with pytest.raises(ValueError, match="from 0 to the 0 bytes lent"):
        queue.advance(1)
    queue.buffers(1)
    with pytest.raises(ValueError, match=f"from 0 to the {GATHER_SIZE} bytes lent"):
        queue.advance(GATHER_SIZE + 1)


STRIDED = memoryview(bytes(4 * GATHER_SIZE))[::2]


@pytest.mark.parametrize(
    ("bad", "error"),
    [("text", TypeError), (None, TypeError), (7, TypeError), (STRIDED, BufferError), (bytes(1 << 17), FrameTooLargeError)],
    ids=["text", "none", "number", "gaps", "too large"],
)
@pytest.mark.parametrize("copy_mutable", [False, True])
def test_a_bad_payload_queues_nothing_nor_does_its_batch(codec, bad, error, copy_mutable):
    encoder = codec.Encoder(FrameFormat(max_payload_length=1 << 16))
    queue = SendQueue(encoder, copy_mutable=copy_mutable)
    queue.put(b"before")
    for operation in (lambda: queue.put(bad), lambda: queue.put_many([b"a", LARGE, bad]), lambda: queue.put_many(iter([bad]))):
        with pytest.raises(error) as caught:
            operation()
        with pytest.raises(error) as expected:
            encoder.encode(bad)
        assert str(caught.value) == str(expected.value)
    assert drain(queue, [1 << 20]) == encoder.encode(b"before")


def test_a_generator_that_fails_queues_nothing(codec):
    def payloads():
        yield b"a"
        yield LARGE
        raise ZeroDivisionError

    queue = SendQueue(codec.Encoder(U32))
    with pytest.raises(ZeroDivisionError):
        queue.put_many(payloads())
    assert not queue
    assert queue.buffers() == []


@pytest.mark.parametrize("text", ["u32be,strip=0", "u32be,strip=2", "u32be,offset=3,strip=3", "varint,strip=0"])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_the_length_field_in_a_large_payload_has_to_be_right(codec, text, kind):
    fmt = FrameFormat.parse(text)
    encoder, plain = codec.Encoder(fmt), codec.Encoder(FrameFormat(fmt.length_field))
    strip = max(0, fmt.initial_bytes_to_strip - fmt.length_field_offset)
    good = kind(plain.encode(LARGE)[strip:])
    queue = SendQueue(encoder)
    queue.put(good)
    assert queue.buffers()[-1].obj is good
    assert drain(queue, [1 << 20]) == encoder.encode(good)
    for bad in (kind(good[:-1]), kind(good + b"x"), kind(b"\xff" * len(good))):
        with pytest.raises((CorruptFrameError, FrameTooLargeError)) as caught:
            queue.put(bad)
        with pytest.raises(type(caught.value)) as expected:
            encoder.encode(bad)
        assert str(caught.value) == str(expected.value)
    assert not queue


def test_its_repr_says_numbers_only(codec):
    queue = SendQueue(codec.Encoder(FrameFormat("u16be")))
    queue.put(b"secret")
    assert repr(queue) == "<SendQueue u16be,max=65535: pending=8>"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_cannot_be_copied(codec, duplicate):
    with pytest.raises(TypeError, match="SendQueue cannot be copied"):
        duplicate(SendQueue(codec.Encoder(U32)))
