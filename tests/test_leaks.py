"""Nothing stays behind: references, blocks and resident memory, over many frames and every way to end.

Each work below does some frames' worth of one thing and says how many. It is done in rounds; when the first ones have filled
caches and free lists, a round that keeps so much as one object, of whatever size, shows. With `-m soak -o
faulthandler_timeout=600`, pytest does a million frames of each, and looks at resident memory too.
"""

from __future__ import annotations

import array
import contextlib
import gc
import itertools
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from fastframe import FrameError, FrameFormat, MisuseError

U8, U32 = FrameFormat("u8", max_payload_length=200), FrameFormat("u32be")
COUNT = 60
SMALL = [bytes([at % 251]) * (at % 90) for at in range(COUNT)]
LARGE = bytes(range(256)) * 1200  # 300 KiB: lent in two parts
KNOWN, ROUNDS = 4, 8
MILLION = 1_000_000

LAYOUTS = [FrameFormat.parse(text) for text in ("u32be", "u16le,offset=2,strip=1", "varint", "netstring")]


def payloads_for(fmt):
    """Return payloads that the format carries as they are."""
    if fmt.header_length in (None, fmt.initial_bytes_to_strip):
        return SMALL
    return [b"\0" + len(payload).to_bytes(2, "little") + payload for payload in SMALL]


def pieces(wire, size):
    return [wire[at : at + size] for at in range(0, len(wire), size)]


def receive(decoder, data, update="buffer_updated"):
    """Receive as a transport does; return the payloads."""
    got = []
    while data:
        view = decoder.get_buffer()
        nbytes = min(len(data), len(view))
        view[:nbytes] = data[:nbytes]
        got += getattr(decoder, update)(nbytes)
        data = data[nbytes:]
    return got


# Decoders.


def feed_whole(codec):
    for fmt in LAYOUTS:
        wire = codec.Encoder(fmt).encode_many(payloads_for(fmt))
        for chunk in (wire, bytearray(wire), memoryview(wire)):
            assert len(codec.Decoder(fmt).feed(chunk)) == COUNT
    return 12 * COUNT


def feed_pieces(codec):
    for fmt, size in itertools.product(LAYOUTS, (1, 7, 1000)):
        wire = codec.Encoder(fmt).encode_many(payloads_for(fmt))
        decoder = codec.Decoder(fmt)
        assert sum(len(decoder.feed(piece)) for piece in pieces(wire, size)) == COUNT
    return 12 * COUNT


def feed_large(codec):
    wire = codec.Encoder(U32).encode(LARGE)
    decoder = codec.Decoder(U32)
    for size in (1000, 4096, 1 << 16):
        assert [payload for piece in pieces(wire, size) for payload in decoder.feed(piece)] == [LARGE]
    return 3


def receive_blocks(codec):
    for fmt in LAYOUTS:
        wire = codec.Encoder(fmt).encode_many(payloads_for(fmt))
        decoder = codec.Decoder(fmt)
        assert len(receive(decoder, wire)) == COUNT
        assert sum(len(receive(decoder, piece)) for piece in pieces(wire, 999)) == COUNT
    return 8 * COUNT


def receive_lent(codec):
    for fmt in (U32, FrameFormat("netstring")):
        wire = codec.Encoder(fmt).encode(LARGE)
        for update in ("buffer_updated", "buffer_updated_batch"):
            decoder = codec.Decoder(fmt)
            assert receive(decoder, wire[:1000]) == []
            assert receive(decoder, wire[1000:], update) == [LARGE]
    return 4


def receive_lent_and_kept(codec):
    """Views that outlive their moment, as uvloop's do, and longer."""
    wire = codec.Encoder(U32).encode(LARGE)
    decoder, kept, got = codec.Decoder(U32), [], []
    for _ in range(2):
        got += decoder.feed(wire[:1000])
        rest = wire[1000:]
        while rest:
            view = decoder.get_buffer()
            kept += [view[:9], memoryview(view)]
            nbytes = min(len(rest), len(view))
            view[:nbytes] = rest[:nbytes]
            got += decoder.buffer_updated(nbytes)
            rest = rest[nbytes:]
    assert got == [LARGE] * 2
    return 2


def batches(codec):
    for fmt in LAYOUTS:
        wire = codec.Encoder(fmt).encode_many(payloads_for(fmt))
        decoder = codec.Decoder(fmt)
        assert len(decoder.feed_batch(wire)) == COUNT
        assert len(decoder.feed_batch(bytearray(wire))) == COUNT
        assert sum(len(decoder.feed_batch(piece)) for piece in pieces(wire, 777)) == COUNT
        assert sum(len(receive(decoder, piece, "buffer_updated_batch")) for piece in pieces(wire, 777)) == COUNT
    return 16 * COUNT


def asked_batches(codec):
    wire = codec.Encoder(U32).encode_many(SMALL)
    decoder = codec.Decoder(U32)
    decoder.feed(wire[:15])
    for batch in (decoder.feed_batch(wire[15:]), decoder.feed_batch(wire)):
        kept = [batch[3:9], batch[:1], batch[1:][1:], batch.view(0), batch.view(5), batch.offsets, batch.lengths, batch.wire]
        assert len(kept) == 8
        assert len([batch[at] for at in range(len(batch))]) == len(list(batch)) == len(batch)
        assert batch.data is batch.data
        for wrong in (COUNT, "a", slice(None, None, 2)):
            with contextlib.suppress(IndexError, TypeError, ValueError):
                batch[wrong]
        half = iter(batch)
        next(half)
    return 2 * COUNT


def exported_batches(codec):
    wire = codec.Encoder(U32).encode_many(SMALL)
    batch = codec.Decoder(U32).feed_batch(wire)
    batch.__arrow_c_array__()  # which nobody consumes
    assert pa.array(batch).to_pylist() == SMALL
    batch[5:9].__arrow_c_array__()
    schema, array = batch.__arrow_c_array__()
    del schema
    del array
    return 3 * COUNT


def failing_decoders(codec):
    bad = (b"\1a\xff\xff\xff", b"\1a\2bc\xc9")
    for _, door in itertools.product(range(5), ("feed", "feed_batch", "buffer")):
        for wire in bad:
            decoder = codec.Decoder(U8)
            with contextlib.suppress(FrameError):
                receive(decoder, wire) if door == "buffer" else getattr(decoder, door)(wire)
            for _ in range(2):
                with contextlib.suppress(FrameError):
                    decoder.feed(b"more")
            assert decoder.detach()
    for text, wire in (("netstring", b"1:a,3:abc;"), ("varint", b"\1a" + b"\x80" * 11), ("i8", b"\1a\xff"), ("u8", b"\1a\5b")):
        decoder = codec.Decoder(FrameFormat.parse(text))
        with contextlib.suppress(FrameError):
            decoder.feed(wire)
            decoder.finish()
    return 30


def wrong_arguments(codec):
    decoder, encoder = codec.Decoder(U8), codec.Encoder(U8)
    decoder.feed(b"\5a")
    calls = [
        (decoder.feed, ("text",)),
        (decoder.feed, (memoryview(b"abcd")[::2],)),
        (decoder.feed, (b"", -1)),
        (decoder.feed_batch, (None,)),
        (decoder.buffer_updated, (1,)),
        (encoder.encode, (b"x" * 201,)),
        (encoder.encode, ("x",)),
        (encoder.encode_around, (b"x" * 201,)),
        (encoder.encode_many, ([b"a", b"x" * 201],)),
        (encoder.encode_many, ((bytearray(b"a"), 3),)),
        (encoder.encode_into, (bytearray(3), 0, b"abc")),
        (encoder.encode_into, (bytearray(3), -1, b"abc")),
        (encoder.encode_into, (b"abc", 0, b"")),
        (encoder.header, (201,)),
        (encoder.header, (-1,)),
        (codec.Decoder, (U8, "drop")),
        (codec.Decoder, (None,)),
        (codec.Encoder, (None,)),
        (decoder.__init__, (U8,)),
        (encoder.__init__, (U8,)),
        (decoder.__reduce__, ()),
    ]
    for call, arguments in calls:
        try:
            call(*arguments)
        except (TypeError, ValueError, BufferError, MisuseError):
            continue
        raise AssertionError(call)
    decoder.get_buffer()
    for nbytes in (-1, 1 << 40, None):
        with contextlib.suppress(TypeError, ValueError):
            decoder.buffer_updated(nbytes)
    return len(calls)


def skipped_frames(codec):
    wire = b"\1a\xffx" + bytes(254) + b"\2bc"
    for size in (1, 50, 1000):
        one, two = codec.Decoder(U8, "skip"), codec.Decoder(U8, "skip")
        for piece in pieces(wire * 3, size):
            one.feed(piece)
            two.feed_batch(piece)
        assert one.skipped == two.skipped == 3
    return 2 * 3 * 9


def leftovers(codec):
    wire = codec.Encoder(U32).encode_many(SMALL)
    for size in (10, 100, 100_000):
        decoder = codec.Decoder(U32)
        got = [payload for piece in pieces(wire, size) for payload in decoder.feed(piece, 1)]
        while len(got) < COUNT // 2:
            got += decoder.feed(b"", 3)
        got += decoder.feed_batch(b"") if size == 10 else []
        assert (wire + b"?").endswith(decoder.detach() + b"?")
    return 3 * COUNT


def dropped_in_every_state(codec):
    """Some of them with views of their memory still held, and some without a word of farewell."""
    start = codec.Encoder(U32).header(len(LARGE)) + LARGE[:1000]
    for wire in (b"", b"\0", b"\0\0\0\3", b"\0\0\0\3a", start):
        for end in ("drop", "unread", "lend", "hold", "twice", "use", "finish", "detach"):
            decoder = codec.Decoder(U32)
            decoder.feed(wire, 0 if end == "unread" else None)
            if end in ("lend", "hold", "twice", "use", "finish", "detach"):
                view = decoder.get_buffer()
                held = view[3:7] if end == "hold" else None
            if end == "twice":
                decoder.get_buffer()
            elif end == "use":
                decoder.buffer_updated(0)
            elif end in ("finish", "detach"):
                with contextlib.suppress(FrameError):
                    getattr(decoder, end)()
            del decoder
            view = held = None
    assert (view, held) == (None, None)
    for wire in (b"\xff", b"\xffabc"):
        codec.Decoder(U8, "skip").feed(wire)
        codec.Decoder(U8, "skip").feed_batch(wire)
    return 44


# Encoders.


def encoders(codec):
    for fmt in LAYOUTS:
        encoder, room = codec.Encoder(fmt), bytearray(256)
        payloads = payloads_for(fmt)
        for payload in payloads:
            frame = encoder.encode(payload)
            assert encoder.encode_into(room, 3, payload) == len(frame)
            assert encoder.encode(bytearray(payload)) == encoder.encode(memoryview(payload)) == frame
            encoder.header(len(payload) + 3)
            encoder.encode_around(payload)
        wire = encoder.encode_many(payloads)
        assert wire == encoder.encode_many(iter(payloads)) == encoder.encode_many([memoryview(each) for each in payloads])
        assert encoder.encode_many([]) == b""
        copy = type(encoder)(encoder.format)
        assert repr(copy) == repr(encoder)
    return 4 * 7 * COUNT


WORKS = [
    feed_whole,
    feed_pieces,
    feed_large,
    receive_blocks,
    receive_lent,
    receive_lent_and_kept,
    batches,
    asked_batches,
    exported_batches,
    failing_decoders,
    wrong_arguments,
    skipped_frames,
    leftovers,
    dropped_in_every_state,
    encoders,
]


@pytest.fixture(params=WORKS, ids=lambda work: work.__name__)
def work(request):
    return request.param


def do(work, codec, frames):
    """Do at least so many frames' worth of `work`."""
    done = 0
    while done < frames:
        done += work(codec)


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def rounds(codec, work):
    """Return what there is after each round: Python's own small blocks, and the bytes that it asked for."""
    blocks, traced = array.array("q", bytes(8 * ROUNDS)), array.array("q", bytes(8 * ROUNDS))
    tracemalloc.start()
    try:
        for at in range(-KNOWN, ROUNDS):
            work(codec)
            gc.collect()
            if at >= 0:
                traced[at] = tracemalloc.get_traced_memory()[0]
                blocks[at] = sys.getallocatedblocks()
    finally:
        tracemalloc.stop()
    return blocks.tolist(), traced.tolist()


def test_blocks_and_bytes_stay_what_they_are(codec, work):
    """Less than one object more in a round, and none is smaller than 24 bytes. A leak shows every time; what another thread
    keeps meanwhile, pytest's own that waits for orders, once.
    """
    for _ in range(3):
        blocks, traced = rounds(codec, work)
        if blocks[-1] - blocks[0] < ROUNDS - 1 and traced[-1] - traced[0] < 24 * (ROUNDS - 1):
            return
    raise AssertionError((blocks, traced))


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_soak_a_million_frames_leave_nothing(codec, work, record_property):
    share = MILLION // 10 if work(codec) >= 10 else MILLION // 2000  # 500,000 large payloads would be 150 GB
    do(work, codec, share)
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), resident()
    for _ in range(10):
        do(work, codec, share)
    gc.collect()
    grown = resident() - memory
    print(f"{10 * share} frames: {sys.getallocatedblocks() - blocks:+} blocks, {grown >> 10:+} KiB resident")
    assert abs(sys.getallocatedblocks() - blocks) < 100
    assert grown < 4 << 20


# References to what came in.


@contextlib.contextmanager
def untouched(*arguments):
    """Nobody keeps a reference to any of them."""
    gc.collect()  # garbage of other tests may refer to a format
    before = [sys.getrefcount(each) for each in arguments]
    yield
    gc.collect()
    assert [sys.getrefcount(each) for each in arguments] == before


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("B", data)])
def test_a_chunk_is_let_go(codec, kind):
    wire = codec.Encoder(U32).encode_many(SMALL)
    chunk, cut, head = kind(wire), kind(wire[:-1]), kind(wire[:7])
    codec.Decoder(U32).feed(chunk)  # what is known of a format is kept
    with untouched(chunk, cut, head, U32):
        for _ in range(10):
            decoder = codec.Decoder(U32)
            decoder.feed(chunk)
            decoder.feed(cut)
            decoder.feed(b"x")
            decoder.feed(chunk, 3)
            decoder.feed_batch(chunk)
            decoder.feed(head)
            decoder.detach()
            with contextlib.suppress(FrameError):
                codec.Decoder(FrameFormat("u32be", max_payload_length=8)).feed(chunk)
        del decoder


def test_a_chunk_lives_as_long_as_its_batch_and_whatever_is_of_it(codec):
    chunk = codec.Encoder(U32).encode_many(SMALL)
    with untouched(chunk):
        batch = codec.Decoder(U32).feed_batch(chunk)
        users = [batch[1:], batch.view(9), batch.data, batch.wire, pa.array(batch), batch.__arrow_c_array__()]
        del batch
        assert bytes(users[1]) == SMALL[9]
        del users


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("B", data)])
def test_a_payload_and_a_buffer_are_let_go(codec, kind):
    encoder, room = codec.Encoder(U8), bytearray(300)
    payload, long = kind(b"abc" * 9), kind(bytes(201))
    both = [payload, long]
    with untouched(payload, long, room, both, U8):
        for _ in range(10):
            encoder.encode(payload)
            encoder.encode_many([payload] * 3)
            encoder.encode_many(iter([payload] * 3))
            encoder.encode_into(room, 0, payload)
            for call in (
                lambda: encoder.encode(long),
                lambda: encoder.encode_many(both),
                lambda: encoder.encode_many(iter(both)),
                lambda: encoder.encode_into(room, 290, payload),
                lambda: encoder.encode_into(payload, 0, room),
            ):
                with contextlib.suppress(ValueError, BufferError):
                    call()
    room.clear()  # a BufferError, were it still exported


def test_what_is_handed_out_is_the_callers_alone(codec):
    """One reference each: that a list of payloads was built without counting twice."""
    decoder, wire = codec.Decoder(U32), codec.Encoder(U32).encode_many([b"payload one", b"payload two"])
    got = [*decoder.feed(wire), *decoder.feed(wire[:9]), *decoder.feed(wire[9:]), *receive(decoder, wire)]
    got += [*decoder.feed(codec.Encoder(U32).header(len(LARGE)) + LARGE[:9]), *receive(decoder, LARGE[9:])]
    assert len(got) == 7
    alone = [bytes(9)]
    assert [sys.getrefcount(each) for each in got] == [sys.getrefcount(each) for each in alone] * 7
