"""One list of scenarios over both fronts, both codecs and three event loops; the peer is a plain socket that sees the bytes.

A scenario is a coroutine `(stream, peer)`. The blocking front takes part through `Threaded`, which runs each call in a thread.
"""

import asyncio
import contextlib
import ctypes
import itertools
import os
import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable

import aiofastnet
import pytest
import trustme
import uvloop
from batches import check
from vectors import frame

from fastframe import (
    CorruptFrameError,
    Encoder,
    EndOfStreamError,
    FrameFormat,
    FrameTooLargeError,
    IncompleteFrameError,
    MisuseError,
    _endpoint,
    _frame_socket,
    aio,
    sync,
)

U32 = FrameFormat("u32be", max_payload_length=5 << 20)
PAYLOADS = [b"", b"a", bytes(range(256)), b"x" * 70_000, b"y" * (1 << 20), b"", b"end"]
# Two bytes in front that no payload has, so that only what came can be what leaves.
ODD = FrameFormat("u32be", length_field_offset=2, max_payload_length=5 << 20)


def odd_frame(payload: bytes, number: int) -> bytes:
    return struct.pack(">HI", 0xCA00 + number, len(payload)) + payload


ODD_FRAMES = [odd_frame(payload, number) for number, payload in enumerate(PAYLOADS)]


class Threaded:
    """A FrameSocket whose calls are awaited, so that it can stand where a FrameStream does."""

    def __init__(self, blocking):
        self.blocking = blocking

    def __getattr__(self, name):
        attribute = getattr(self.blocking, name)
        if name not in ("send", "send_many", "send_parts", "send_batch", "recv", "recv_batch", "close"):
            return attribute
        return lambda *args, **kwargs: asyncio.to_thread(attribute, *args, **kwargs)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        await self.close()


class Peer:
    """The other end: a socket without a codec. Its waits end after ten seconds."""

    def __init__(self, raw: socket.socket):
        raw.settimeout(10)
        self.raw = raw

    async def send(self, data: bytes) -> None:
        await asyncio.to_thread(self.raw.sendall, data)

    async def recv(self, length: int) -> bytes:
        def read() -> bytes:
            data = bytearray()
            while len(data) < length and (more := self.raw.recv(length - len(data))):
                data += more
            return bytes(data)

        return await asyncio.to_thread(read)

    def end(self) -> None:
        self.raw.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


@pytest.fixture(scope="module")
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


class AioFront:
    def __init__(self, loop_factory):
        self.loop_factory = loop_factory

    async def wrap(self, near, format, on_oversize, context):
        make = lambda: aio.FrameStream(format, on_oversize)  # noqa: E731
        name = "127.0.0.1" if context else None
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(make, sock=near, ssl=context, server_hostname=name)
        return stream

    @contextlib.asynccontextmanager
    async def echo_server(self, **where):
        async def echo(stream):
            async for payload in stream:
                await stream.send(payload)

        async with await aio.serve(echo, **where) as server:
            yield server.addresses[0]

    async def connect(self, **where):
        return await aio.connect(**where)


class SyncFront:
    loop_factory = staticmethod(asyncio.new_event_loop)

    async def wrap(self, near, format, on_oversize, context):
        if context:
            near = await asyncio.to_thread(context.wrap_socket, near, server_hostname="127.0.0.1")
        return Threaded(sync.FrameSocket(near, format, on_oversize))

    @contextlib.asynccontextmanager
    async def echo_server(self, **where):
        def echo(listener):
            with contextlib.suppress(TimeoutError), listener.accept(timeout=10) as stream:
                for payload in stream:
                    stream.send(payload)

        with sync.listen(**where) as listener:
            serving = asyncio.create_task(asyncio.to_thread(echo, listener))
            yield listener.addresses[0]
            await serving

    async def connect(self, **where):
        return Threaded(await asyncio.to_thread(lambda: sync.connect(**where)))


FRONTS = {
    "aio-asyncio": AioFront(asyncio.new_event_loop),
    "aio-uvloop": AioFront(uvloop.new_event_loop),
    "aio-aiofastnet": AioFront(aiofastnet.loop_factory()),
    "sync": SyncFront(),
}


@pytest.fixture(params=FRONTS.values(), ids=FRONTS)
def front(request, codec, monkeypatch):
    for module in (_endpoint, _frame_socket):
        monkeypatch.setattr(module, "Decoder", codec.Decoder)
        monkeypatch.setattr(module, "Encoder", codec.Encoder)
    monkeypatch.setattr(_endpoint, "DEFAULT_LIMITS", aio.Limits(linger_timeout=0.05))  # no peer here leaves when told to
    return request.param


def run(front, main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await main()

    with asyncio.Runner(loop_factory=front.loop_factory) as runner:
        runner.run(limited())


@pytest.fixture
def play(front, tls_contexts):
    """Run a scenario on a fresh connection."""

    def play(scenario, format=U32, on_oversize="raise", tls=False):
        async def main():
            near, far = tcp_pair()
            server, client = tls_contexts if tls else (None, None)
            if server:
                shaking = asyncio.create_task(asyncio.to_thread(server.wrap_socket, far, server_side=True))
            stream = await front.wrap(near, format, on_oversize, client)
            if server:
                far = await shaking
            with far:
                async with stream:
                    await scenario(stream, Peer(far))

        run(front, main)

    return play


# Receiving


def test_payloads_arrive_whole_and_in_order(play):
    async def scenario(stream, peer):
        sending = asyncio.create_task(peer.send(b"".join(map(frame, PAYLOADS))))
        assert [await stream.recv() for _ in PAYLOADS] == PAYLOADS
        await sending

    play(scenario)


def test_iteration_stops_at_a_clean_end(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"one") + frame(b"two"))
        peer.end()
        if isinstance(stream, Threaded):
            assert await asyncio.to_thread(list, stream.blocking) == [b"one", b"two"]
        else:
            assert [payload async for payload in stream] == [b"one", b"two"]

    play(scenario)


def test_recv_times_out_at_every_byte_and_loses_nothing(play):
    async def scenario(stream, peer):
        received = []
        for byte in b"".join(map(frame, (b"abc", b"", b"d"))):
            with contextlib.suppress(TimeoutError):
                received.append(await stream.recv(timeout=0))
            await peer.send(bytes([byte]))
        while len(received) < 3:
            received.append(await stream.recv(timeout=10))
        with pytest.raises(TimeoutError):
            await stream.recv(timeout=0.05)
        assert received == [b"abc", b"", b"d"]

    play(scenario)


def test_a_clean_end_is_told_and_told_again(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"last"))
        peer.end()
        assert await stream.recv() == b"last"
        for _ in range(2):
            with pytest.raises(EndOfStreamError):
                await stream.recv()

    play(scenario)


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_truncated_end_is_told_at_every_byte(play, cut):
    async def scenario(stream, peer):
        await peer.send(frame(b"good") + frame(b"bad")[:cut])
        peer.end()
        assert await stream.recv() == b"good"
        for _ in range(2):
            with pytest.raises(IncompleteFrameError) as caught:
                await stream.recv()
            assert (caught.value.pending, caught.value.expected) == (cut, 4 if cut < 4 else 7)
            assert caught.value.offset == 8

    play(scenario)


def test_a_reset_is_a_failure_and_never_an_end(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"good") + b"\0\0")
        assert await stream.recv() == b"good"
        peer.reset()
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                await stream.recv()

    play(scenario)


def test_a_bad_frame_is_told_after_the_good_ones_and_again(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"one") + frame(b"two") + b"GET / HTTP/1.1")
        assert await stream.recv() == b"one"
        assert await stream.recv() == b"two"
        for _ in range(2):
            with pytest.raises(FrameTooLargeError) as caught:
                await stream.recv()
            assert caught.value.frames == []
            assert (caught.value.length, caught.value.offset) == (0x47455420, 14)

    play(scenario)


def test_a_corrupt_frame_is_told_to_a_receiver_that_waits(play):
    async def scenario(stream, peer):
        receiving = asyncio.create_task(stream.recv())
        await peer.send(b"\xff\xff\xff\xff")
        with pytest.raises(CorruptFrameError):
            await receiving

    play(scenario, FrameFormat("i32be"))


def test_oversize_frames_are_skipped_on_demand(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"a") + frame(b"long") + frame(b"b"))
        assert [await stream.recv(), await stream.recv()] == [b"a", b"b"]
        assert stream.skipped == 1

    play(scenario, FrameFormat("u32be", max_payload_length=3), on_oversize="skip")


def test_a_peer_that_sends_faster_than_we_receive_is_held_back(play):
    payload = b"z" * 10_000
    count = 4_000  # 40 MB: more than kernels buffer

    async def scenario(stream, peer):
        sending = asyncio.create_task(peer.send(frame(payload) * count))
        assert await stream.recv() == payload
        await asyncio.sleep(0.3)  # not for a thing to happen: for it not to happen
        assert not sending.done()
        for _ in range(count - 1):
            assert await stream.recv() == payload
        await sending

    play(scenario)


# Sending


def test_payloads_are_sent_whole_and_in_order(play):
    async def scenario(stream, peer):
        wire = b"".join(map(frame, PAYLOADS))
        receiving = asyncio.create_task(peer.recv(2 * len(wire)))
        for payload in PAYLOADS:
            await stream.send(payload)
        await stream.send_many(iter(PAYLOADS))
        assert await receiving == 2 * wire

    play(scenario)


def test_a_batch_of_nothing_sends_nothing(play):
    async def scenario(stream, peer):
        await stream.send_many([])
        await stream.send_many(iter(()))
        await stream.send(b"next")
        assert await peer.recv(8) == frame(b"next")

    play(scenario)


@pytest.mark.parametrize("size", [3, 1 << 17])
def test_a_generator_may_refill_one_buffer_for_each_payload(play, size):
    async def scenario(stream, peer):
        def refilled():
            buffer = bytearray(size)
            for number in range(3):
                buffer[:] = bytes([number]) * size
                yield buffer

        receiving = asyncio.create_task(peer.recv(3 * (4 + size)))
        await stream.send_many(refilled())
        assert await receiving == b"".join(frame(bytes([number]) * size) for number in range(3))

    play(scenario)


def test_a_large_payload_among_many_small_ones(play):
    payloads = [b"s"] * 20_000 + [bytes(1 << 17)] + [b"t"] * 20_000

    async def scenario(stream, peer):
        wire = b"".join(map(frame, payloads))
        receiving = asyncio.create_task(peer.recv(len(wire)))
        await stream.send_many(payloads)
        assert await receiving == wire

    play(scenario)


def test_a_payload_may_be_changed_after_it_was_sent(play):
    async def scenario(stream, peer):
        for size in (10, 1 << 20):
            payload = bytearray(b"m" * size)
            receiving = asyncio.create_task(peer.recv(4 + size))
            await stream.send(payload)
            payload[:] = bytes(size)
            assert await receiving == frame(b"m" * size)

    play(scenario)


def test_a_peer_that_does_not_receive_holds_us_back_and_nothing_is_torn(play):
    payloads = [bytes([number]) * (1 << 20) for number in range(40)]

    async def scenario(stream, peer):
        sent = []
        with contextlib.suppress(TimeoutError):
            for payload in payloads:
                sent.append(payload)
                if isinstance(stream, Threaded):
                    await stream.send(payload, timeout=0.3)
                else:
                    async with asyncio.timeout(0.3):
                        await stream.send(payload)
        assert len(sent) < len(payloads)
        receiving = asyncio.create_task(peer.recv((4 + (1 << 20)) * (len(sent) + 1)))
        await stream.send(b"last" * (1 << 18))
        assert await receiving == b"".join(map(frame, [*sent, b"last" * (1 << 18)]))

    play(scenario)


def test_a_payload_over_the_limit_is_not_sent_nor_its_batch(play):
    async def scenario(stream, peer):
        with pytest.raises(FrameTooLargeError):
            await stream.send(bytes(U32.max_payload_length + 1))
        with pytest.raises(FrameTooLargeError):
            await stream.send_many([b"good", bytes(U32.max_payload_length + 1)])
        await stream.send(b"next")
        assert await peer.recv(8) == frame(b"next")

    play(scenario)


LARGE = b"L" * (1 << 17)


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"",),
        (b"a", b"", b"bc"),
        (b"h", LARGE),
        (LARGE, LARGE, b"t"),
        (bytearray(LARGE), b"m"),
        (memoryview(LARGE)[1:], b"v"),
    ],
    ids=["none", "empty", "small", "large", "two-large", "mutable", "view"],
)
@pytest.mark.parametrize("text", ["u32be", "netstring", "u32be,strip=0"])
def test_parts_are_sent_as_one_payload(play, parts, text):
    fmt = FrameFormat.parse(text)
    payload = b"".join(parts)
    if text.endswith("strip=0"):  # it brings its header
        parts = (struct.pack(">I", len(payload)), *parts)
        payload = b"".join(parts)

    async def scenario(stream, peer):
        wire = Encoder(fmt).encode(payload) + Encoder(fmt).encode(b"\0\0\0\4next")
        receiving = asyncio.create_task(peer.recv(len(wire)))
        await stream.send_parts(parts)
        await stream.send(b"\0\0\0\4next")
        assert await receiving == wire

    play(scenario, fmt)


def test_parts_may_change_after_they_were_sent(play):
    async def scenario(stream, peer):
        parts = [b"head", bytearray(b"m" * 100_000), LARGE, bytearray(b"small")]
        wire = frame(b"".join(parts))
        receiving = asyncio.create_task(peer.recv(len(wire)))
        with memoryview(LARGE) as view:
            await stream.send_parts([*parts[:2], view, parts[3]])
        parts[1][:] = bytes(100_000)
        parts[3].clear()
        assert await receiving == wire

    play(scenario)


def test_parts_over_the_limit_or_of_no_bytes_are_not_sent(play):
    async def scenario(stream, peer):
        for parts, error in ((LARGE, bytes(U32.max_payload_length)), FrameTooLargeError), ((LARGE, 7), TypeError):
            with pytest.raises(error):
                await stream.send_parts(parts)
        await stream.send(b"next")
        assert await peer.recv(8) == frame(b"next")

    play(scenario)


def test_a_netstring_of_any_size_gets_its_comma(play):
    async def scenario(stream, peer):
        receiving = asyncio.create_task(peer.recv(8 + 100_000 + 6))
        await stream.send(b"n" * 100_000)
        await stream.send(b"abc")
        assert await receiving == b"100000:" + b"n" * 100_000 + b",3:abc,"

    play(scenario, FrameFormat("netstring"))


def test_sending_to_a_peer_that_is_gone_fails_and_stays_failed(play):
    async def scenario(stream, peer):
        peer.reset()

        async def send_until_it_fails():
            for _ in itertools.repeat(None, 1000):
                await stream.send(b"q" * 100_000)

        for _ in range(2):
            with pytest.raises(OSError):  # noqa: PT011  its class depends on who noticed first
                await send_until_it_fails()

    play(scenario)


# Batches


async def receive(stream, count, methods=("recv_batch",)) -> list:
    """Receive until there are `count` payloads, by the given methods in turn."""
    received = []
    in_turn = itertools.cycle(methods)
    while len(received) < count:
        if next(in_turn) == "recv":
            received.append(await stream.recv())
        else:
            batch = await stream.recv_batch()
            assert batch
            received += batch
    return received


def test_a_batch_is_all_that_is_there(play):
    async def scenario(stream, peer):
        small = [b"one", b"", b"three"]
        await peer.send(b"".join(map(frame, small)) + frame(b"cut")[:6])
        await asyncio.sleep(0.05)  # nothing tells that it has arrived
        check(await stream.recv_batch(), [(payload, frame(payload)) for payload in small])
        await peer.send(frame(b"cut")[6:] + frame(b"next"))
        await asyncio.sleep(0.05)
        check(await stream.recv_batch(), [(payload, frame(payload)) for payload in (b"cut", b"next")])

    play(scenario)


def test_a_batch_waits_for_its_first_payload(play):
    async def scenario(stream, peer):
        receiving = asyncio.create_task(stream.recv_batch())
        for byte in frame(b"late"):
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.01)
        check(await receiving, [(b"late", frame(b"late"))])

    play(scenario)


@pytest.mark.parametrize("methods", [("recv", "recv_batch"), ("recv_batch",), ("recv", "recv", "recv_batch", "recv_batch")])
@pytest.mark.parametrize("size", [50_000, 1 << 22])
def test_payloads_and_batches_come_in_order(play, methods, size):
    async def scenario(stream, peer):
        async def send():
            for start in range(0, len(wire), size):
                await peer.send(wire[start : start + size])

        wire = b"".join(map(frame, PAYLOADS * 3))
        sending = asyncio.create_task(send())
        assert await receive(stream, 3 * len(PAYLOADS), methods) == PAYLOADS * 3
        await sending

    play(scenario)


@pytest.mark.parametrize("first", ["recv", "recv_batch"])
@pytest.mark.parametrize("then", ["recv", "recv_batch"])
def test_after_each_timeout_nothing_is_lost(play, first, then):
    async def scenario(stream, peer):
        received = []
        for byte in b"".join(map(frame, (b"abc", b"", b"d"))):
            with contextlib.suppress(TimeoutError):
                some = await getattr(stream, first)(timeout=0)
                received += [some] if first == "recv" else some
            await peer.send(bytes([byte]))
        received += await receive(stream, 3 - len(received), [then])
        assert received == [b"abc", b"", b"d"]

    play(scenario)


@pytest.mark.parametrize("cut", [3, 6, 100, 300_000, (1 << 20) - 1])
@pytest.mark.parametrize("method", ["recv", "recv_batch"])
def test_a_large_frame_that_timed_out_is_whole_in_the_next_batch(play, cut, method):
    frames = [odd_frame(b"x" * (1 << 20), 1), odd_frame(b"next", 2)]

    async def scenario(stream, peer):
        await peer.send(frames[0][:cut])
        with pytest.raises(TimeoutError):
            await getattr(stream, method)(timeout=0.01)
        sending = asyncio.create_task(peer.send(frames[0][cut:] + frames[1]))
        await asyncio.sleep(0.01)
        batches = [await stream.recv_batch()]
        if len(batches[0]) == 1:
            batches.append(await stream.recv_batch())
        await sending
        assert [payload for batch in batches for payload in batch] == [b"x" * (1 << 20), b"next"]
        assert b"".join(batch.wire for batch in batches) == b"".join(frames)

    play(scenario, ODD)


def test_a_batch_tells_a_clean_end_and_tells_it_again(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"last"))
        peer.end()
        assert list(await stream.recv_batch()) == [b"last"]
        for method in (stream.recv_batch, stream.recv_batch, stream.recv):
            with pytest.raises(EndOfStreamError):
                await method()

    play(scenario)


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_batch_comes_before_a_truncated_end(play, cut):
    async def scenario(stream, peer):
        await peer.send(frame(b"good") + frame(b"bad")[:cut])
        peer.end()
        assert list(await stream.recv_batch()) == [b"good"]
        for method in (stream.recv_batch, stream.recv_batch, stream.recv):
            with pytest.raises(IncompleteFrameError) as caught:
                await method()
            assert (caught.value.pending, caught.value.expected, caught.value.offset) == (cut, 4 if cut < 4 else 7, 8)

    play(scenario)


def test_a_batch_does_not_take_a_reset_for_an_end(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"good") + b"\0\0")
        assert list(await stream.recv_batch()) == [b"good"]
        peer.reset()
        for method in (stream.recv_batch, stream.recv_batch, stream.recv):
            with pytest.raises(ConnectionResetError):
                await method()

    play(scenario)


@pytest.mark.parametrize("waits", [False, True])
def test_the_payloads_before_a_bad_frame_are_in_the_error(play, waits):
    async def scenario(stream, peer):
        receiving = asyncio.create_task(stream.recv_batch()) if waits else None
        await asyncio.sleep(0.05)
        await peer.send(frame(b"one") + frame(b"two") + b"GET / HTTP/1.1")
        with pytest.raises(FrameTooLargeError) as first:
            await (receiving or stream.recv_batch())
        assert first.value.frames == [b"one", b"two"]
        for method in (stream.recv_batch, stream.recv_batch, stream.recv):
            with pytest.raises(FrameTooLargeError) as again:
                await method()
            assert (again.value.frames, again.value.offset, str(again.value)) == ([], 14, str(first.value))
        await stream.close(timeout=0.05)  # it would give this peer time to hang up

    play(scenario)


def test_a_stream_that_nobody_takes_batches_from_is_held_back(play):
    count = 4_000  # 40 MB: more than kernels buffer

    async def scenario(stream, peer):
        sending = asyncio.create_task(peer.send(frame(b"z" * 10_000) * count))
        received = len(await stream.recv_batch())
        await asyncio.sleep(0.3)  # not for a thing to happen: for it not to happen
        assert not sending.done()
        while received < count:
            batch = await stream.recv_batch()
            assert len(batch.wire) <= 1 << 20
            assert set(batch) == {b"z" * 10_000}
            received += len(batch)
        assert received == count
        await sending

    play(scenario)


def test_a_batch_outlives_its_connection(play):
    kept = []

    async def scenario(stream, peer):
        sending = asyncio.create_task(peer.send(b"".join(map(frame, PAYLOADS))))
        while sum(map(len, kept)) < len(PAYLOADS):
            kept.append(await stream.recv_batch())
        await sending

    play(scenario)
    frames = iter([(payload, frame(payload)) for payload in PAYLOADS])
    for batch in kept:
        check(batch, list(itertools.islice(frames, len(batch))))


@pytest.mark.parametrize("size", [1, 7, 50_000, 1 << 22])
def test_a_relay_sends_on_the_very_bytes_that_came(play, size):
    frames = ODD_FRAMES[:3] if size < 50_000 else ODD_FRAMES * 2
    wire = b"".join(frames)

    async def scenario(stream, peer):
        async def send():
            for start in range(0, len(wire), size):
                await peer.send(wire[start : start + size])
            peer.end()

        sending, receiving = asyncio.create_task(send()), asyncio.create_task(peer.recv(len(wire)))
        with contextlib.suppress(EndOfStreamError):
            while True:
                await stream.send_batch(await stream.recv_batch())
        assert await receiving == wire
        await sending

    play(scenario, ODD)


def test_a_batch_that_was_sent_arrives_before_the_close(play):
    async def scenario(stream, peer):
        sending = asyncio.create_task(peer.send(frame(b"w" * 3_000_000)))
        batch = await stream.recv_batch()
        await sending
        await stream.send(b"before")
        await stream.send_batch(batch[:0])
        await stream.send_batch(batch)
        receiving = asyncio.create_task(peer.recv(4_000_000))
        await stream.close()
        assert await receiving == frame(b"before") + frame(b"w" * 3_000_000)
        with pytest.raises(MisuseError, match="close"):
            await stream.send_batch(batch)
        with pytest.raises(MisuseError, match="close"):
            await stream.recv_batch()

    play(scenario)


def test_no_batch_follows_the_own_end(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"x"))
        batch = await stream.recv_batch()
        stream.send_eof()
        with pytest.raises(MisuseError, match="send_eof"):
            await stream.send_batch(batch)
        assert await peer.recv(1) == b""

    play(scenario)


# Large payloads are received in their own memory


def address_of(memory) -> int:
    if isinstance(memory, bytes):
        return id(memory) + sys.getsizeof(b"") - 1
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class Spied:
    """A decoder of which is known what it lent, and which bytes came into that."""

    def __init__(self, decoder):
        self._decoder = decoder
        self.lent, self.calls = [], []

    def __getattr__(self, name):
        return getattr(self._decoder, name)

    def get_buffer(self, sizehint=-1):
        view = self._decoder.get_buffer(sizehint)
        self.lent.append(address_of(view))
        return view

    def buffer_updated(self, nbytes, max_frames=None):
        self.calls.append(nbytes)
        return self._decoder.buffer_updated(nbytes, max_frames)

    def buffer_updated_batch(self, nbytes):
        self.calls.append(nbytes)
        return self._decoder.buffer_updated_batch(nbytes)


@pytest.fixture
def spied(codec, monkeypatch):
    """All decoders that are made from now on."""
    seen = []

    def make(*arguments):
        seen.append(Spied(codec.Decoder(*arguments)))
        return seen[-1]

    for module in (_endpoint, _frame_socket):
        monkeypatch.setattr(module, "Decoder", make)
    return seen


@pytest.mark.parametrize(("size", "tls"), [(1 << 20, False), (5 << 20, False), (1 << 20, True)], ids=["1MiB", "5MiB", "tls"])
@pytest.mark.parametrize("method", ["recv", "recv_batch"])
def test_large_payloads_are_received_in_their_own_memory(front, codec, play, spied, method, size, tls):
    payloads = [bytes([number]) * size for number in range(4)]

    async def scenario(stream, peer):
        (decoder,) = spied
        sending = asyncio.create_task(peer.send(b"".join(map(frame, payloads))))
        copied = 0
        for expected in payloads:
            del decoder.lent[:], decoder.calls[:]
            (payload,) = await receive(stream, 1, [method])
            assert payload == expected
            assert sum(decoder.calls) > size // 3
            start = address_of(payload)
            copied += not any(start < address < start + size for address in decoder.lent)
        await sending
        if codec.IMPLEMENTATION == "cython":  # the pure one only does as if
            # uvloop holds the memory until buffer_updated() is over: the first payload that ends in its own memory is copied,
            # and the last byte of those behind it is left to the read that follows.
            assert copied <= (front is FRONTS["aio-uvloop"])
        await stream.close(timeout=0.1)  # through TLS it would wait for an answer that this peer never gives

    play(scenario, tls=tls)


# Ends and hand-over


def test_each_direction_ends_alone(play):
    async def scenario(stream, peer):
        stream.send_eof()
        assert await peer.recv(1) == b""
        with pytest.raises(MisuseError, match="send_eof"):
            await stream.send(b"too late")
        await peer.send(frame(b"answer"))
        assert await stream.recv() == b"answer"

    play(scenario)


def test_an_answer_follows_the_peers_end(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"question"))
        peer.end()
        assert await stream.recv() == b"question"
        with pytest.raises(EndOfStreamError):
            await stream.recv()
        await stream.send(b"answer")
        assert await peer.recv(10) == frame(b"answer")

    play(scenario)


def test_what_was_sent_arrives_before_the_close(play):
    async def scenario(stream, peer):
        await stream.send(b"w" * 3_000_000)
        receiving = asyncio.create_task(peer.recv(4_000_000))
        await stream.close()
        assert await receiving == frame(b"w" * 3_000_000)

    play(scenario)


def test_a_closed_stream_says_so(play):
    async def scenario(stream, peer):
        await stream.close()
        await stream.close()
        with pytest.raises(MisuseError, match="close"):
            await stream.send(b"")
        with pytest.raises(MisuseError, match="close"):
            await stream.recv()
        with pytest.raises(MisuseError, match="close"):
            stream.detach()

    play(scenario)


@pytest.mark.parametrize("tail", [b"", b"x", b"\xff" * 9, frame(b"looks like a frame")])
def test_detach_hands_over_every_byte_behind_the_last_payload(play, tail):
    async def scenario(stream, peer):
        await peer.send(frame(b"upgrade") + tail)
        assert await stream.recv() == b"upgrade"
        under, early = stream.detach()
        await peer.send(b"late")
        if isinstance(stream, Threaded):
            late = await asyncio.to_thread(under.recv, 100)
            under.close()
        else:
            reader = asyncio.StreamReader()
            under.set_protocol(asyncio.StreamReaderProtocol(reader))
            under.resume_reading()
            late = await reader.readexactly(len(tail) + 4 - len(early))
            under.close()
        assert early + late == tail + b"late"
        with pytest.raises(MisuseError, match="detach"):
            await stream.recv()

    play(scenario)


@pytest.mark.parametrize("tail", [b"", b"x", frame(b"cut")[:6], b"\xff" * 9, frame(bytes(1 << 20))[:100_000]])
def test_detach_hands_over_every_byte_behind_the_last_frame_of_a_batch(play, tail):
    async def scenario(stream, peer):
        await peer.send(frame(b"upgrade") + tail)
        if tail.startswith(b"\xff"):
            with pytest.raises(FrameTooLargeError):
                await stream.recv_batch()
        else:
            assert list(await stream.recv_batch()) == [b"upgrade"]
        with pytest.raises((TimeoutError, FrameTooLargeError)):
            await stream.recv_batch(timeout=0.01)  # as much as there is of a frame is found, and handed over all the same
        under, early = stream.detach()
        assert early == tail
        if isinstance(stream, Threaded):
            under.close()
        else:
            under.abort()

    play(scenario)


@pytest.mark.parametrize("cut", range(len(b"5:hello,3:xyz,") + 1))
def test_the_format_may_change_behind_any_payload(play, cut):
    async def scenario(stream, peer):
        await stream.send(b"old")
        await peer.send(frame(b"upgrade") + b"5:hello,3:xyz,"[:cut])
        assert await stream.recv() == b"upgrade"
        stream.change_format(FrameFormat("netstring"))
        assert stream.format == FrameFormat("netstring")
        await stream.send(b"new")
        assert await peer.recv(13) == frame(b"old") + b"3:new,"
        await peer.send(b"5:hello,3:xyz,"[cut:])
        assert await receive(stream, 2, ["recv", "recv_batch"]) == [b"hello", b"xyz"]

    play(scenario)


def test_another_limit_holds_for_a_frame_that_has_begun(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"hi") + frame(b"x" * 100)[:50])
        assert await stream.recv() == b"hi"
        with pytest.raises(FrameTooLargeError):
            await stream.send(b"x" * 100)
        stream.change_format(U32)
        await stream.send(b"x" * 100)
        await peer.send(frame(b"x" * 100)[50:])
        assert await stream.recv() == b"x" * 100

    play(scenario, FrameFormat("u32be", max_payload_length=10))


def test_a_large_frame_that_was_begun_is_decoded_anew(play):
    wire = frame(b"\0" * (1 << 20))

    async def scenario(stream, peer):
        await peer.send(wire[:700_000])
        with pytest.raises(TimeoutError):
            await stream.recv(timeout=0.05)
        stream.change_format(FrameFormat("u32be", max_payload_length=2 << 20, initial_bytes_to_strip=0))
        sending = asyncio.create_task(peer.send(wire[700_000:]))
        assert await stream.recv() == wire
        await sending

    play(scenario)


def test_what_was_skipped_before_the_format_changed_counts(play):
    async def scenario(stream, peer):
        await peer.send(frame(b"long") + frame(b"a") + frame(b"longer") + frame(b"b"))
        assert await stream.recv() == b"a"
        stream.change_format(FrameFormat("u32be", max_payload_length=5))
        assert await stream.recv() == b"b"
        assert stream.skipped == 2

    play(scenario, FrameFormat("u32be", max_payload_length=3), on_oversize="skip")


def test_the_format_of_what_has_ended_cannot_change(play):
    async def scenario(stream, peer):
        await peer.send(b"\xff" * 4)
        with pytest.raises(FrameTooLargeError):
            await stream.recv()
        with pytest.raises(FrameTooLargeError):
            stream.change_format(U32)
        await stream.close(timeout=0.05)
        with pytest.raises((MisuseError, FrameTooLargeError)):
            stream.change_format(U32)

    play(scenario)


# Addresses


def echo_over(front, connect=None, **where):
    async def main():
        async with front.echo_server(**where) as address:
            options = dict(connect or {})
            if "path" in where:
                assert address == f"unix:{where['path']}"
                options["path"] = where["path"]
            else:
                host, _, port = address.rpartition(":")
                options |= {"host": host.strip("[]"), "port": int(port)}
                assert host.strip("[]") == where["host"]
            async with await front.connect(**options) as stream:
                assert stream.peername == address
                for payload in PAYLOADS:
                    await stream.send(payload)
                    assert await stream.recv() == payload

    run(front, main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp(front, host):
    echo_over(front, host=host, port=0)


def test_unix(front, tmp_path):
    path = tmp_path / "socket"
    echo_over(front, path=str(path))
    assert not path.exists()


def test_an_abstract_unix_socket_is_no_file(front):
    if front is FRONTS["aio-uvloop"]:
        pytest.skip("uvloop cannot connect to an abstract socket")

    async def main():
        path = f"\0fastframe-test-{os.getpid()}"
        async with front.echo_server(path=path) as address:
            assert address == f"unix:{path}"
            async with await front.connect(path=path) as stream:
                await stream.send(b"abstract")
                assert await stream.recv() == b"abstract"

    run(front, main)


def test_unix_takes_the_place_of_a_socket_nobody_serves(front, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    echo_over(front, path=path)


def test_tls(front, tls_contexts):
    server, client = tls_contexts
    echo_over(front, host="127.0.0.1", port=0, ssl=server, connect={"ssl": client})


@pytest.mark.parametrize("where", [{}, {"host": "127.0.0.1"}, {"port": 1}, {"host": "127.0.0.1", "port": 1, "path": "x"}])
def test_an_address_is_one_thing_or_the_other(front, where):
    async def main():
        with pytest.raises(ValueError, match="either a host and a port, or a path"):
            await front.connect(**where)

    run(front, main)


def test_nobody_listening_is_an_oserror(front, tmp_path):
    async def main():
        with pytest.raises(OSError, match="No such file"):
            await front.connect(path=str(tmp_path / "nothing"))
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))  # nobody else gets its port
            with pytest.raises(ConnectionRefusedError):
                await front.connect(host="127.0.0.1", port=deaf.getsockname()[1])

    run(front, main)
