"""Misuse is refused and harms nothing: after the end, from within a call, from another thread, out of memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest
from vectors import BAD_VECTORS, describe, drive, each

from fastframe import FrameError, FrameFormat, FrameTooLargeError, MisuseError

U8 = FrameFormat("u8")

CALLS = {
    "feed": lambda decoder: decoder.feed(b""),
    "feed_batch": lambda decoder: decoder.feed_batch(b""),
    "get_buffer": lambda decoder: decoder.get_buffer(),
    "buffer_updated": lambda decoder: decoder.buffer_updated(0),
    "buffer_updated_batch": lambda decoder: decoder.buffer_updated_batch(0),
    "finish": lambda decoder: decoder.finish(),
    "detach": lambda decoder: decoder.detach(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("by", ["finish", "detach"])
def test_b11_a_closed_decoder_says_so(codec, by, call):
    decoder = codec.Decoder(U8)
    CALLS[by](decoder)
    for _ in range(2):
        with pytest.raises(MisuseError, match=rf"closed: {by}\(\) was called"):
            call(decoder)
    assert (decoder.pending, decoder.needed) == (0, 0)


@each(BAD_VECTORS)
def test_b11_a_failed_decoder_says_so_again(codec, vector):
    for call in (call for name, call in CALLS.items() if name != "detach"):
        decoder = codec.Decoder(FrameFormat.parse(vector.format))
        first = drive(decoder, [vector.wire])[1]
        for _ in range(2):
            with pytest.raises(FrameError) as caught:
                call(decoder)
            assert (describe(caught.value), caught.value.frames) == (first, [])
        assert decoder.needed == 0
        assert decoder.detach() == vector.wire[vector.attributes["offset"] :]
        with pytest.raises(FrameError):
            decoder.detach()


def test_b11_an_error_that_was_changed_outside_changes_nothing_inside(codec):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=2))
    with pytest.raises(FrameTooLargeError) as caught:
        decoder.feed(b"\3")
    caught.value.length = 0
    caught.value.seen = True
    with pytest.raises(FrameTooLargeError) as again:
        decoder.feed(b"")
    assert (again.value.length, again.value is caught.value) == (3, False)


def test_b11_detach_inside_a_skipped_frame_is_refused(codec):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=1), on_oversize="skip")
    decoder.feed(b"\2a")
    with pytest.raises(MisuseError, match="in the middle of a skipped frame"):
        decoder.detach()
    assert decoder.feed(b"b\1c") == [b"c"]


@pytest.mark.parametrize("end", ["finish", "comma"])
def test_b11_detach_after_a_skipped_frame_failed_does_not_pretend_to_have_it(codec, end):
    """What it hands over begins with the bad frame, or it says that it cannot."""
    decoder = codec.Decoder(FrameFormat("netstring", max_payload_length=1), on_oversize="skip")
    with pytest.raises(FrameError):  # noqa: PT012
        decoder.feed(b"2:ab" if end == "finish" else b"2:ab;1:a,")
        decoder.finish()
    with pytest.raises(MisuseError, match="skipped"):
        decoder.detach()


@pytest.mark.parametrize("value", [None, "u32be", 4, object])
def test_b11_a_decoder_needs_a_format(codec, value):
    with pytest.raises(TypeError, match="a FrameFormat is required, not"):
        codec.Decoder(value)


def test_b11_a_subclass_that_forgets_to_initialise_is_refused(codec):
    class Forgetful(codec.Decoder):
        def __init__(self):
            pass

    with pytest.raises((AttributeError, MisuseError, TypeError)):
        Forgetful().feed(b"a", 1)


def test_b11_a_decoder_whose_initialisation_failed_is_not_initialised(codec):
    decoder = codec.Decoder.__new__(codec.Decoder)
    with pytest.raises(AttributeError):
        decoder.__init__(FrameFormat.__new__(FrameFormat))
    with pytest.raises((AttributeError, MisuseError)):
        decoder.feed(b"a", 1)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_b11_a_call_from_within_a_call_is_refused(codec, monkeypatch, call):
    """Python code may run in the middle of one: a finalizer, a signal handler, a tracer."""
    refused = []

    def meddle():
        with pytest.raises(MisuseError, match="the decoder is in use"):
            call(decoder)
        refused.append(True)
        return Unread()

    Unread = codec.Unread  # noqa: N806  made when something is left, in the middle of a call
    monkeypatch.setattr(codec, "Unread", meddle)
    decoder = codec.Decoder(U8)
    assert decoder.feed(b"\1a\1b", 1) == [b"a"]
    assert refused
    assert decoder.feed(b"") == [b"b"]


def test_b11_a_finalizer_may_call_and_harms_nothing(codec):
    calls = []

    class Meddler:
        def __init__(self):
            self.cycle = self

        def __del__(self):
            try:
                calls.append(decoder.feed(b""))
            except MisuseError:
                calls.append([])

    decoder = codec.Decoder(U8)
    thresholds = gc.get_threshold()
    try:
        gc.set_threshold(1)
        for _ in range(50):
            Meddler()
            assert decoder.feed(b"\1a\2b") == [b"a"]
            assert decoder.feed(b"c") == [b"bc"]
    finally:
        gc.set_threshold(*thresholds)
    assert calls
    assert not any(calls)


class Calling:
    """A number that calls the decoder when it is read."""

    def __init__(self, decoder):
        self.decoder, self.got = decoder, []

    def __index__(self):
        self.got += self.decoder.feed(b"\1a\1")
        return 5


def test_b11_an_argument_that_calls_while_it_is_read_comes_first(codec):
    decoder = codec.Decoder(U8)
    number = Calling(decoder)
    assert (decoder.feed(b"b", number), number.got) == ([b"b"], [b"a"])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ in Python is new in 3.12")
def test_b11_a_chunk_that_calls_while_it_is_read_comes_first(codec):
    class Chunk(Calling):
        def __buffer__(self, flags):
            index = self.__index__()
            assert index
            return memoryview(b"b")

    decoder = codec.Decoder(U8)
    chunk = Chunk(decoder)
    assert (decoder.feed(chunk), chunk.got) == ([b"b"], [b"a"])


def test_b11_a_second_thread_is_refused(codec, monkeypatch):
    inside, go_on = threading.Event(), threading.Event()
    Unread, results = codec.Unread, []  # noqa: N806  made when something is left, in the middle of a call

    def wait():
        inside.set()
        assert go_on.wait(10)
        return Unread()

    decoder = codec.Decoder(U8)
    monkeypatch.setattr(codec, "Unread", wait)
    thread = threading.Thread(target=lambda: results.append(decoder.feed(b"\1a\1", 1)))
    thread.start()
    assert inside.wait(10)
    for call in CALLS.values():
        with pytest.raises(MisuseError, match="a second thread"):
            call(decoder)
    go_on.set()
    thread.join()
    assert (results, decoder.feed(b"b")) == ([[b"a"]], [b"b"])


def test_b11_threads_that_meet_lose_nothing_that_was_taken(codec):
    decoder = codec.Decoder(U8)
    got = []

    def work():
        for _ in range(300):
            try:
                got.append(decoder.feed(b"\1a\1b" * 50, 100))
            except MisuseError:
                continue

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert got == [[b"a", b"b"] * 50] * len(got)
    decoder.finish()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_b11_an_interrupted_decoder_says_so(codec, monkeypatch, interruption):
    """Payloads may have been lost with the call, and the stream's place with them."""

    def interrupt():
        raise interruption

    decoder = codec.Decoder(U8)
    with monkeypatch.context() as patched:
        patched.setattr(codec, "Unread", interrupt)
        with pytest.raises(interruption):
            decoder.feed(b"\1a\1", 1)
    for call in CALLS.values():
        with pytest.raises(MisuseError, match="interrupted half-way"):
            call(decoder)
    assert repr(decoder).startswith("<Decoder u8,max=255: header, ")


OUT_OF_MEMORY = """
import gc, importlib, sys, _testcapi
from fastframe import FrameFormat, MisuseError
codec = importlib.import_module(sys.argv[1])
gc.disable()
for nth in range(8):
    decoder = codec.Decoder(FrameFormat("u32be"))
    decoder.feed((300).to_bytes(4, "big") + b"a" * 100)
    chunk, failed = b"a" * 200 + bytes(8), False
    _testcapi.set_nomemory(nth, nth + 1)
    try:
        decoder.feed(chunk)
    except MemoryError:
        failed = True
    _testcapi.remove_mem_hooks()
    victims = [bytes([65 + at]) * 300 for at in range(8)]  # one of them lies where the payload was, if that was freed
    counts = list(map(sys.getrefcount, victims))
    if failed:
        try:
            decoder.feed(b"")
            sys.exit("not a word about it")
        except MisuseError:
            pass
    del decoder
    assert list(map(sys.getrefcount, victims)) == counts, nth
"""


def test_b11_out_of_memory_frees_nothing_twice(codec):
    pytest.importorskip("_testcapi")
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY, codec.__name__], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
