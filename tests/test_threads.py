"""The rule for threads, under stress: one decoder, one caller at a time, and whoever breaks it is told so and harms nothing.

An encoder keeps no state, so threads may share one. Neither implementation declares that it runs without the interpreter lock.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import zlib
from pathlib import Path

import pytest

import fastframe
from fastframe import Encoder, FrameError, FrameFormat, MisuseError

U32 = FrameFormat("u32be", max_payload_length=1 << 20)
SECONDS = 1.0
THREADS = 6


@pytest.fixture(autouse=True)
def _eager_switching():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def together(works, seconds=None):
    """Run each work in a thread, again and again for some time or else once; raise what any of them raised."""
    failures, begin, end = [], threading.Barrier(len(works)), time.monotonic() + (seconds or 0)

    def run(work):
        try:
            begin.wait(10)
            work()
            while seconds and not failures and time.monotonic() < end:
                work()
        except BaseException as failure:  # a thread's own would be a warning only
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def signed(body):
    """Return a payload that says itself whether it is whole."""
    return zlib.crc32(body).to_bytes(4) + body


def is_signed(payload):
    return type(payload) is bytes and payload == signed(payload[4:])


class Shared:
    """One decoder for many threads, and another in its place when it is closed or failed."""

    def __init__(self, codec):
        self.codec = codec
        self.refused = self.taken = 0
        self.decoder = codec.Decoder(U32)

    def call(self, name, *arguments):
        """Call and return what it gives; None if it was misuse, or the end of that decoder."""
        decoder = self.decoder
        try:
            got = getattr(decoder, name)(*arguments)
        except MisuseError as error:
            self.refused += 1
            if "closed" in str(error):
                self.decoder = self.codec.Decoder(U32)
            return None
        except FrameError as error:
            self.decoder = self.codec.Decoder(U32)
            return error.frames
        self.taken += 1
        return got


def look(decoder):
    assert decoder.pending >= 0
    assert decoder.skipped >= 0
    assert isinstance(decoder.needed, int)
    assert repr(decoder).startswith("<Decoder u32be,")


def test_b11_threads_in_one_decoder_get_whole_payloads_or_a_misuse_error(codec):
    """Each chunk is whole frames, so whatever order they come in, what comes out is what went in."""
    shared = Shared(codec)
    sent = {size: signed(bytes([size % 251]) * size) for size in (0, 60, 600, 70_000, 300_000)}
    encoder = codec.Encoder(U32)
    few, many = encoder.encode_many([sent[0], sent[60], sent[600]] * 5), encoder.encode(sent[70_000]) * 2
    got = []

    def keep(payloads):
        for payload in payloads or ():
            assert is_signed(payload), len(payload)
            got.append(payload) if len(got) < 5_000 else None

    def fill():
        view = shared.call("get_buffer")
        if view is not None:
            with contextlib.suppress(ValueError):  # another thread was lent the memory: this view is released
                view[: len(few)] = few
            del view
        if time.monotonic_ns() % 3 == 0:
            keep(shared.call("feed", many))

    works = [
        lambda: keep(shared.call("feed", few)),
        lambda: keep(shared.call("feed", bytearray(many))),
        lambda: keep(shared.call("feed", few, 2)),
        lambda: keep(shared.call("feed_batch", few)),
        lambda: keep(shared.call("feed_batch", memoryview(many))),
        fill,
        lambda: look(shared.decoder),
        lambda: [shared.call("detach"), shared.call("feed", b""), time.sleep(0.005)],
    ]
    together(works, SECONDS)
    assert shared.taken > 100
    assert shared.refused > 0
    assert all(map(is_signed, got))  # still


def test_b11_threads_in_one_decoder_with_any_bytes_raise_nothing_else(codec):
    """Cut frames by every door and in any order: what comes out means nothing, but it is bytes that never change."""
    shared = Shared(codec)
    stream = Encoder(U32).encode_many([bytes([at]) * (at * at * 17) for at in range(120)])
    kept = []

    def keep(payloads):
        if payloads is not None:
            kept.extend((payload, zlib.crc32(payload)) for payload in itertools.islice(payloads, 3))
            del kept[:-200]

    def chunk():
        start = random.randrange(len(stream))
        return stream[start : start + random.choice([1, 3, 5, 1000, 100_000])]

    def receive():
        view, piece = shared.call("get_buffer"), chunk()
        with contextlib.suppress(ValueError, TypeError):  # released, or None
            view[: len(piece)] = piece[: len(view)]
        for name in random.sample(["buffer_updated", "buffer_updated_batch"], 2):
            with contextlib.suppress(ValueError):  # what was lent may be less by now
                keep(shared.call(name, random.choice([0, 1, len(piece)])))

    def start_large():
        keep(shared.call("feed", (900_000).to_bytes(4) + b"x" * 1000))
        receive()

    works = [
        lambda: keep(shared.call("feed", chunk())),
        lambda: keep(shared.call("feed", bytearray(chunk()), random.choice([0, 1, None]))),
        lambda: keep(shared.call("feed_batch", chunk())),
        receive,
        start_large,
        start_large,
        lambda: look(shared.decoder),
        lambda: [shared.call(random.choice(["detach", "finish"])), time.sleep(0.002)],
    ]
    together(works, SECONDS)
    assert shared.taken > 100
    assert all(zlib.crc32(payload) == checksum for payload, checksum in kept)


def test_b2_threads_that_detach_a_failed_decoder_get_its_tail_once(codec):
    for _ in range(500):
        decoder, tails, begin = codec.Decoder(FrameFormat("u8", max_payload_length=2)), [], threading.Barrier(3)
        with pytest.raises(FrameError):
            decoder.feed(b"\1a\xffrest")

        def detach(decoder=decoder, tails=tails, begin=begin):
            begin.wait(10)
            with contextlib.suppress(FrameError, MisuseError):
                tails.append(decoder.detach())

        together([detach] * 3)
        assert tails == [b"\xffrest"]


def test_b2_a_finalizer_that_detaches_a_failed_decoder_gets_its_tail_alone(codec):
    thresholds = gc.get_threshold()
    for waste in range(24):
        decoder, tails = codec.Decoder(FrameFormat("u8", max_payload_length=2)), []
        with pytest.raises(FrameError):
            decoder.feed(b"\1a\xffrest")

        def meddle(decoder=decoder, tails=tails):
            with contextlib.suppress(FrameError, MisuseError):
                tails.append(decoder.detach())

        gc.collect()
        gc.disable()
        kept = [[] for _ in range(waste)]
        Meddler(meddle)
        gc.set_threshold(gc.get_count()[0])  # so that what is allocated next collects
        gc.enable()
        try:
            tails.append(decoder.detach())
        except (FrameError, MisuseError):
            pass
        finally:
            gc.set_threshold(*thresholds)
        assert tails == [b"\xffrest"]
        assert len(kept) == waste


def test_a_decoder_for_each_thread_is_exact(codec):
    """By every door at once, frames from empty ones to such as are received in place."""
    sizes = [0, 1, 17, 300, 5_000, 200_000]

    def work_of(seed):
        def work():
            draw = random.Random(seed)
            payloads = [bytes([draw.randrange(256)]) * draw.choice(sizes) for _ in range(60)]
            wire = codec.Encoder(U32).encode_many(payloads)
            decoder, got = codec.Decoder(U32), []
            while wire:
                size = draw.choice([1, 4, 999, 65_536, 300_000])
                door = draw.randrange(4)
                if door < 2:
                    got += (decoder.feed, decoder.feed_batch)[door](wire[:size])
                else:
                    view = decoder.get_buffer()
                    size = min(size, len(view))
                    view[: len(wire[:size])] = wire[:size]
                    got += (decoder.buffer_updated, decoder.buffer_updated_batch)[door - 2](len(wire[:size]))
                wire = wire[size:]
            decoder.finish()
            assert got == payloads

        return work

    together([work_of(seed) for seed in range(THREADS)], SECONDS / 2)


def test_an_encoder_shared_by_threads_is_exact(codec):
    encoder = codec.Encoder(U32)

    def work_of(byte):
        payloads = [bytes([byte]) * size for size in (0, 1, 100, 5_000)]
        frames = [len(payload).to_bytes(4) + payload for payload in payloads]
        room = bytearray(6_000)

        def work():
            assert [encoder.encode(payload) for payload in payloads] == frames
            assert encoder.encode_many(payloads) == encoder.encode_many(iter(map(bytearray, payloads))) == b"".join(frames)
            for payload, frame in zip(payloads, frames, strict=True):
                assert encoder.header(len(payload)) == frame[:4]
                assert room[: encoder.encode_into(room, 0, payload)] == frame
            with pytest.raises(FrameError):
                encoder.header((1 << 20) + 1)

        return work

    together([work_of(byte) for byte in range(THREADS)], SECONDS / 2)


def test_b9_no_thread_sees_what_another_one_receives(codec):
    """Receive blocks go from hand to hand; views of some are kept, and some decoders are dropped with theirs."""

    def work_of(byte):
        pattern = bytes([byte]) * 40_000
        frame, held = codec.Encoder(U32).encode(pattern), []

        def work():
            decoder = codec.Decoder(U32)
            for round_ in range(4):
                view = decoder.get_buffer()
                view[: len(frame)] = frame
                time.sleep(0)
                assert view[: len(frame)] == frame
                if round_ % 2:
                    held.append((view[4 : len(frame)], view))
                assert decoder.buffer_updated(len(frame)) == [pattern]
                for kept, _ in held:
                    assert kept == pattern
            decoder.get_buffer()
            held.clear()

        return work

    together([work_of(byte) for byte in range(1, THREADS + 1)], SECONDS / 2)


class Meddler:
    """Garbage that calls a decoder when it is collected."""

    def __init__(self, meddle):
        self.meddle, self.cycle = meddle, self

    def __del__(self):
        self.meddle()


@pytest.mark.parametrize(("sizes", "step"), [((0, 30, 300), 3), ((0, 30, 3_000), 700), ((0, 200_000), 50_000)])
def test_b11_finalizers_that_call_the_decoder_lose_nothing(codec, sizes, step):
    """Wherever the collector runs, by every door; each call of theirs does nothing, or is refused."""
    decoder, got, calls = codec.Decoder(U32), [], itertools.count()
    payloads = [signed(bytes(size)) for size in sizes] * 3
    wire = codec.Encoder(U32).encode_many(payloads)

    def receive(piece):
        while True:
            view = decoder.get_buffer()
            with contextlib.suppress(ValueError, MisuseError):  # a finalizer's call ended the loan
                view[: len(piece)] = piece
                return decoder.buffer_updated(len(piece))

    def meddle():
        next(calls)
        with contextlib.suppress(MisuseError):
            got.extend(decoder.feed(b""))

    doors = [decoder.feed, decoder.feed_batch, lambda piece: decoder.feed(bytearray(piece), 9), receive]
    gc.collect()
    thresholds = gc.get_threshold()
    try:
        for threshold in (1, 2, 3, 5):
            gc.set_threshold(threshold)
            got.clear()
            for at in range(0, len(wire), step):
                Meddler(meddle)
                got += doors[at // step % 4](wire[at : at + step])
            gc.set_threshold(0)
            assert got == payloads
    finally:
        gc.set_threshold(*thresholds)
    assert next(calls) > 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that signals")
def test_b11_a_signal_handler_that_calls_the_decoder_loses_nothing(codec):
    decoder, got, calls = codec.Decoder(U32), [], []
    payloads = [signed(bytes(size)) for size in (0, 30, 3_000)]
    wire = codec.Encoder(U32).encode_many(payloads)

    def handle(number, frame):
        calls.append(number)
        with contextlib.suppress(MisuseError):
            assert decoder.feed(b"") == []
        with contextlib.suppress(MisuseError):
            assert not decoder.feed_batch(b"")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    rounds = 0
    try:
        end = time.monotonic() + SECONDS / 2
        while time.monotonic() < end:
            rounds += 1
            for at in range(0, len(wire), 41):
                with contextlib.suppress(MisuseError):  # a handler's call is over before this one goes on
                    got += decoder.feed(wire[at : at + 41])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls
    assert got == payloads * rounds


def test_b11_no_module_declares_that_it_runs_without_the_lock():
    """Nobody has stressed that, so a free-threaded interpreter has to turn its lock on: Cython's default."""
    sources = [path for path in Path(fastframe.__file__).parent.glob("*") if path.suffix in (".pyx", ".pxd", ".py")]
    assert len(sources) > 10
    assert not [path.name for path in sources if "freethreading_compatible" in path.read_text()]
    assert not [path.name for path in sources if "Py_mod_gil" in path.read_text()]


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded interpreter")
def test_b11_a_free_threaded_interpreter_turns_its_lock_on(built):
    if not built:
        pytest.skip("the extension is not built")
    say = "import sys, fastframe; print(fastframe.IMPLEMENTATION, sys._is_gil_enabled())"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", say], capture_output=True, text=True, check=True)
    assert done.stdout == "cython True\n"
