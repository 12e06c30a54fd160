"""What only the asyncio front has: callbacks, the server. More is in test_stream.py, and for both fronts in test_fronts.py."""

import asyncio
import contextlib
import socket
import ssl
import struct

import aiofastnet
import pytest
import trustme
import uvloop
from batches import check
from peers import Recorder, until
from vectors import frame

from fastframe import (
    EndOfStreamError,
    FrameFormat,
    FrameTooLargeError,
    IncompleteFrameError,
    MisuseError,
    _endpoint,
    aio,
)

U32 = FrameFormat("u32be", max_payload_length=2 << 20)
LARGE = FrameFormat("u32be", max_payload_length=5 << 20)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request, codec, monkeypatch):
    """Run a coroutine on either loop with either codec; what the loop would only log fails the test."""
    monkeypatch.setattr(_endpoint, "Decoder", codec.Decoder)
    monkeypatch.setattr(_endpoint, "Encoder", codec.Encoder)
    monkeypatch.setattr(_endpoint, "DEFAULT_LIMITS", aio.Limits(linger_timeout=0.05))  # no peer here leaves when told to
    complaints = []

    def run(main, expect_complaint=""):
        async def limited():
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
            async with asyncio.timeout(30):
                await main()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(limited())
        expected = [expect_complaint] if expect_complaint else []
        assert [complaint["message"][: len(expect_complaint)] for complaint in complaints] == expected, complaints

    return run


@contextlib.asynccontextmanager
async def recorded(format=U32, on_oversize="raise", protocol=Recorder):
    """Yield a protocol that serves one connection, and the client's reader and writer."""
    made = []

    def make():
        made.append(protocol(format, on_oversize))
        return made[0]

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await until(lambda: made and made[0].calls)
    try:
        yield made[0], reader, writer
    finally:
        writer.transport.abort()
        server.close()
        made[0].abort()
        await asyncio.wait([made[0].over])


# Callbacks


def test_protocol_echoes_what_a_read_completed_and_ends_cleanly(run):
    async def main():
        async with recorded() as (protocol, reader, writer):
            wire = frame(b"one") + frame(b"") + frame(b"three")
            writer.write(wire)
            writer.write_eof()
            assert await reader.read() == wire
            assert await protocol.over is None
            assert protocol.calls == ["connected", [b"one", b"", b"three"], "ended"]

    run(main)


def test_protocol_answers_good_frames_before_it_ends_with_a_bad_one(run):
    async def main():
        async with recorded() as (protocol, reader, writer):
            writer.write(frame(b"good") + b"SSH-2.0-")
            assert await reader.readexactly(8) == frame(b"good")
            error = await protocol.over
            assert isinstance(error, FrameTooLargeError)
            assert (error.offset, error.frames) == (8, [])

    run(main)


def test_protocol_tells_a_truncated_end(run):
    async def main():
        async with recorded() as (protocol, _reader, writer):
            writer.write(frame(b"good") + b"\0\0\0")
            writer.write_eof()
            error = await protocol.over
            assert isinstance(error, IncompleteFrameError)
            assert (error.pending, error.expected) == (3, 4)

    run(main)


def test_protocol_tells_a_failure(run):
    async def main():
        async with recorded() as (protocol, reader, writer):
            writer.write(frame(b"good"))
            await reader.readexactly(8)
            writer.transport.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: a reset
            writer.transport.abort()
            assert isinstance(await protocol.over, ConnectionResetError)

    run(main)


def test_protocol_that_raises_is_told_its_own_exception(run):
    class Failing(Recorder):
        def frames_received(self, frames):
            raise ZeroDivisionError

    async def main():
        async with recorded(protocol=Failing) as (protocol, _reader, writer):
            writer.write(frame(b"x"))
            assert isinstance(await protocol.over, ZeroDivisionError)

    run(main, expect_complaint="Fatal error")


def test_protocol_that_closes_ends_without_an_error_through_tls_too(run):
    class Closing(Recorder):
        def frames_received(self, frames):
            self.close()

    async def main():
        server_context, client_context = tls_contexts()
        made = []

        def make():
            made.append(Closing(U32))
            return made[0]

        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, ssl=server_context)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context)
        writer.write(frame(bytes(1000)) * 1000)
        with contextlib.suppress(OSError):
            await reader.read()
        assert await made[0].over is None
        writer.transport.abort()
        server.close()

    run(main)


def test_protocol_does_not_send_after_its_end(run):
    async def main():
        async with recorded() as (protocol, reader, _writer):
            protocol.send(b"last")
            protocol.send_eof()
            with pytest.raises(MisuseError, match="send_eof"):
                protocol.send(b"too late")
            assert await reader.read() == frame(b"last")

    run(main)


def test_protocol_skips_oversize_frames(run):
    async def main():
        async with recorded(FrameFormat("u32be", max_payload_length=4), "skip") as (protocol, reader, writer):
            writer.write(frame(b"long one") + frame(b"ok"))
            assert await reader.readexactly(6) == frame(b"ok")
            assert protocol.skipped == 1

    run(main)


def test_protocol_stops_reading_while_its_answers_are_not_taken(run):
    async def main():
        async with recorded() as (protocol, reader, writer):
            payload = bytes(1 << 20)
            wrote = asyncio.create_task(asyncio.wait_for(flood(writer, frame(payload) * 64), 20))
            await until(lambda: protocol._reading_paused)
            await asyncio.sleep(0.2)  # not for a thing to happen: for it not to happen
            assert protocol.transport.get_write_buffer_size() <= 2 * len(frame(payload))
            for _ in range(64):
                assert await reader.readexactly(4 + len(payload)) == frame(payload)
            await wrote

    async def flood(writer, data):
        writer.write(data)
        await writer.drain()

    run(main)


def test_small_frames_of_one_turn_leave_in_one_write(run):
    async def main():
        async with recorded() as (protocol, reader, _writer):
            written = spy_writes(protocol)
            for number in range(100):
                protocol.send(b"%d" % number)
            assert written == []
            await asyncio.sleep(0)
            assert written == [b"".join(frame(b"%d" % number) for number in range(100))]
            await reader.readexactly(len(written[0]))

    run(main)


def test_a_large_payload_is_not_copied(run):
    async def main():
        async with recorded() as (protocol, reader, _writer):
            written = spy_writes(protocol)
            large = bytes(1 << 20)
            protocol.send(b"before")
            protocol.send_many([large, b"after"])
            await reader.readexactly(10 + 4 + len(large) + 9)
            assert any(part is large for part in written)
            assert b"".join(written) == frame(b"before") + frame(large) + frame(b"after")

    run(main)


def spy_writes(protocol) -> list[bytes]:
    """Have what the protocol writes from now on noted, part by part, and written."""
    written: list[bytes] = []

    class Spy:
        def __init__(self, transport):
            self._transport = transport

        def __getattr__(self, name):
            return getattr(self._transport, name)

        def writelines(self, parts):
            written.extend(parts)
            self._transport.writelines(parts)

        def write(self, part):
            written.append(part)
            self._transport.write(part)

    protocol._transport = Spy(protocol._transport)
    return written


# Callbacks with batches


class BatchRecorder(Recorder):
    """Send each batch on to its sender, and keep what was called."""

    def batch_received(self, batch):
        self.calls.append(batch)
        self.send_batch(batch)


def batches_of(protocol) -> list:
    return [call for call in protocol.calls if not isinstance(call, str)]


ODD = FrameFormat("u32be", length_field_offset=2, max_payload_length=5 << 20)  # two bytes in front that no payload has


def odd_frame(payload, number=0xCAFE) -> bytes:
    return struct.pack(">HI", number, len(payload)) + payload


@pytest.mark.parametrize("cut", [1, 5, 7, 50_000, 1 << 23])
def test_a_relay_of_batches_sends_the_very_bytes_that_came(run, cut):
    payloads = [b"one", b"", b"three"] if cut < 50_000 else [b"x" * (5 << 20), b"y", b"z" * (1 << 20), b"", b"w" * 70_000]
    wire = b"".join(odd_frame(payload, number) for number, payload in enumerate(payloads))

    async def main():
        async with recorded(ODD, protocol=BatchRecorder) as (protocol, reader, writer):
            receiving = asyncio.create_task(reader.readexactly(len(wire)))
            for start in range(0, len(wire), cut):
                writer.write(wire[start : start + cut])
                await writer.drain()
                await asyncio.sleep(0)
            assert await receiving == wire
            writer.write_eof()
            assert await protocol.over is None
            assert [payload for batch in batches_of(protocol) for payload in batch] == payloads
            assert b"".join(batch.wire for batch in batches_of(protocol)) == wire

    run(main)


def test_the_good_frames_before_a_bad_one_are_a_batch_that_stays(run):
    made = []

    async def main():
        async with recorded(protocol=BatchRecorder) as (protocol, reader, writer):
            writer.write(frame(b"one") + frame(b"two") + b"SSH-2.0-")
            assert await reader.readexactly(14) == frame(b"one") + frame(b"two")
            error = await protocol.over
            assert isinstance(error, FrameTooLargeError)
            assert (error.offset, error.frames) == (14, [])
            assert protocol.calls[-1] == "ended"
            made.extend(batches_of(protocol))

    run(main)
    (batch,) = made
    check(batch, [(b"one", frame(b"one")), (b"two", frame(b"two"))])


def test_a_bad_frame_alone_is_no_batch(run):
    async def main():
        async with recorded(protocol=BatchRecorder) as (protocol, _reader, writer):
            writer.write(b"SSH-2.0-")
            assert isinstance(await protocol.over, FrameTooLargeError)
            assert batches_of(protocol) == []

    run(main)


def test_who_overrides_frames_received_gets_lists(run):
    async def main():
        async with recorded() as (protocol, reader, writer):
            for payloads in ([b"a", b"b"], [b"x" * (1 << 20)]):
                wire = b"".join(map(frame, payloads))
                writer.write(wire)
                assert await reader.readexactly(len(wire)) == wire
                assert protocol.calls[-1] == payloads
                assert type(protocol.calls[-1]) is list

    run(main)


def test_a_batch_that_was_sent_leaves_before_the_close(run):
    class Answering(BatchRecorder):
        def batch_received(self, batch):
            super().batch_received(batch)
            self.send_batch(batch[:0])
            self.close()

    async def main():
        async with recorded(protocol=Answering) as (protocol, reader, writer):
            writer.write(frame(b"x" * (1 << 20)))
            assert await reader.read() == frame(b"x" * (1 << 20))
            assert await protocol.over is None

    run(main)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("protocol", [Recorder, BatchRecorder], ids=["frames", "batches"])
def test_a_protocol_receives_large_payloads_in_their_own_memory(run, protocol, tls):
    received = {"buffer_updated": 0, "feed": 0}
    payloads = [bytes([number]) * size for number, size in enumerate((1 << 20, 1 << 20, 5 << 20))]

    class Counting(protocol):
        def buffer_updated(self, nbytes):
            received["buffer_updated" if self._in_place else "feed"] += nbytes
            super().buffer_updated(nbytes)

    async def main():
        server_context, client_context = tls_contexts() if tls else (None, None)
        async with await aio.serve(Counting, "127.0.0.1", 0, format=LARGE, ssl=server_context) as server:
            host, _, port = server.addresses[0].rpartition(":")
            async with aio.connect(host, int(port), format=LARGE, ssl=client_context) as stream:
                for payload in payloads:
                    sending = asyncio.create_task(stream.send(payload))
                    assert await stream.recv() == payload
                    await sending

    run(main)
    assert received["buffer_updated"] > received["feed"]


# Connecting, and the server


def test_connecting_has_a_deadline(run):
    async def main():
        # The kernel connects, and nobody answers the TLS handshake.
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
            await aio.connect(*silent.getsockname(), ssl=ssl.create_default_context(), timeout=0.1)

    run(main)


def test_serve_counts_connections_and_cuts_them_when_it_closes(run):
    async def main():
        async def wait(stream):
            await stream.recv()

        server = await aio.serve(wait, "127.0.0.1", 0, format=U32)
        host, _, port = server.addresses[0].rpartition(":")
        async with aio.connect(host, int(port)) as stream:
            await until(lambda: server.connections)
            await server.close()
            with pytest.raises((OSError, EndOfStreamError)):
                await stream.recv()
        assert (server.connections, server.addresses) == (0, [])

    run(main)


def test_serve_gives_connections_the_grace_to_end(run):
    async def main():
        async def slow(stream):
            payload = await stream.recv()
            await asyncio.sleep(0.2)
            await stream.send(payload)

        server = await aio.serve(slow, "127.0.0.1", 0, format=U32)
        host, _, port = server.addresses[0].rpartition(":")
        async with aio.connect(host, int(port)) as stream:
            await stream.send(b"last words")
            await until(lambda: server.connections)
            closing = asyncio.create_task(server.close(grace=20))
            assert await stream.recv() == b"last words"
        await closing

    run(main)


def test_serve_lets_a_handler_finish_within_the_grace_when_its_peer_is_gone(run):
    async def main():
        finished = []

        async def slow(stream):
            finished.append(await stream.recv())
            await asyncio.sleep(0.1)
            finished.append("done")

        server = await aio.serve(slow, "127.0.0.1", 0, format=U32)
        host, _, port = server.addresses[0].rpartition(":")
        async with aio.connect(host, int(port)) as stream:
            await stream.send(b"work")
            await until(lambda: finished)
            stream.abort()
            await until(lambda: not server.connections)
            await server.close(grace=20)
        assert finished == [b"work", "done"]

    run(main)


def test_serve_cuts_handshakes_when_it_closes(run):
    async def main():
        server = await aio.serve(Recorder, "127.0.0.1", 0, ssl=tls_contexts()[0])
        host, _, port = server.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await until(lambda: server.connections)  # one that waits for a handshake
        await server.close(grace=20)
        assert server.connections == 0
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()

    run(main)


def test_serve_takes_a_protocol_class(run):
    async def main():
        async with await aio.serve(Recorder, "127.0.0.1", 0, format=U32) as server:
            host, _, port = server.addresses[0].rpartition(":")
            async with aio.connect(host, int(port), format=U32) as stream:
                await stream.send(b"to a class")
                assert await stream.recv() == b"to a class"

    run(main)


@pytest.mark.parametrize("sent", [b"", frame(b"x"), b"\xff" * 4, b"\0"], ids=["end", "frame", "bad", "cut"])
def test_serve_spares_handlers_what_peers_do(run, sent):
    async def main():
        async def greedy(stream):
            while True:
                await stream.recv()

        async with await aio.serve(greedy, "127.0.0.1", 0, format=U32) as server:
            host, _, port = server.addresses[0].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

    run(main)


def test_serve_reports_what_a_handler_did_wrong(run):
    async def main():
        async def wrong(stream):
            raise ZeroDivisionError

        async with await aio.serve(wrong, "127.0.0.1", 0) as server:
            host, _, port = server.addresses[0].rpartition(":")
            async with aio.connect(host, int(port)) as stream:
                with pytest.raises(EndOfStreamError):
                    await stream.recv()

    run(main, expect_complaint="the handler of 127.0.0.1")


@pytest.mark.parametrize("mistake", ["a missing file", "a payload over the limit"])
def test_serve_reports_a_handlers_mistake_that_looks_like_a_peers(run, mistake):
    async def main():
        async def wrong(stream):
            if mistake == "a missing file":
                raise FileNotFoundError
            await stream.send(bytes(U32.max_payload_length + 1))

        async with await aio.serve(wrong, "127.0.0.1", 0, format=U32) as server:
            host, _, port = server.addresses[0].rpartition(":")
            async with aio.connect(host, int(port)) as stream:
                with pytest.raises(EndOfStreamError):
                    await stream.recv()

    run(main, expect_complaint="the handler of 127.0.0.1")


@pytest.mark.parametrize("how", ["refused", "ended", "no frame"])
def test_serve_reports_what_went_wrong_with_another_connection_of_a_handler(run, how):
    """As a proxy has one: that its backend is down is no news from the client."""

    async def backend(stream):
        if how == "no frame":
            stream.transport.write(b"\xff" * 4)

    async def main():
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))  # nobody else gets its port
            async with await aio.serve(backend, "127.0.0.1", 0) as behind:
                host, _, port = behind.addresses[0].rpartition(":")
                if how == "refused":
                    port = deaf.getsockname()[1]

                async def proxy(stream):
                    async with aio.connect(host, int(port)) as other:
                        await other.recv()

                async with await aio.serve(proxy, "127.0.0.1", 0) as server:
                    host, _, port_ = server.addresses[0].rpartition(":")
                    async with aio.connect(host, int(port_)) as stream:
                        with pytest.raises(EndOfStreamError):
                            await stream.recv()

    run(main, expect_complaint="the handler of 127.0.0.1")


def test_serve_does_not_close_what_a_handler_detached(run):
    async def main():
        detached = asyncio.get_running_loop().create_future()

        async def upgrade(stream):
            await stream.recv()
            detached.set_result(stream.detach())

        async with await aio.serve(upgrade, "127.0.0.1", 0) as server:
            host, _, port = server.addresses[0].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(frame(b"raw from here") + b"tail")
            transport, tail = await detached
            assert tail == b"tail"
            transport.write(b"raw answer")
            assert await reader.readexactly(10) == b"raw answer"
            transport.close()
            writer.close()

    run(main)


# TLS, and the third loop's transports


def tls_contexts():
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def test_a11_large_payloads_through_tls(run):
    async def main():
        server_context, client_context = tls_contexts()
        async with await aio.serve(Recorder, "127.0.0.1", 0, format=U32, ssl=server_context) as server:
            host, _, port = server.addresses[0].rpartition(":")
            async with aio.connect(host, int(port), format=U32, ssl=client_context) as stream:
                payloads = [bytes([number]) * (number * 30_011) for number in range(40)]
                sending = asyncio.create_task(stream.send_many(payloads))
                assert [await stream.recv() for _ in payloads] == payloads
                await sending
                with pytest.raises(NotImplementedError, match="TLS"):
                    stream.send_eof()

    run(main)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a11_a_decoders_own_pair_serves_a_buffered_protocol(run, codec, tls):
    payloads = [bytes([number]) * (number * 30_011) for number in range(40)]

    class Receiver(asyncio.BufferedProtocol):
        def __init__(self):
            self.decoder = codec.Decoder(U32)
            self.received = []
            self.over = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint):
            return self.decoder.get_buffer(sizehint)

        def buffer_updated(self, nbytes):
            self.received += self.decoder.buffer_updated(nbytes)

        def connection_lost(self, exc):
            self.decoder.finish()
            self.over.set_result(exc)

    async def main():
        receivers = []

        def make():
            receivers.append(Receiver())
            return receivers[0]

        server_context, client_context = tls_contexts() if tls else (None, None)
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, ssl=server_context)
        host, port = server.sockets[0].getsockname()
        async with aio.connect(host, port, format=U32, ssl=client_context) as stream:
            await stream.send_many(payloads)
        await receivers[0].over
        server.close()
        assert receivers[0].received == payloads

    run(main)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_aiofastnet_transports(codec, monkeypatch, tls):
    monkeypatch.setattr(_endpoint, "Decoder", codec.Decoder)
    monkeypatch.setattr(_endpoint, "Encoder", codec.Encoder)

    async def main():
        loop = asyncio.get_running_loop()
        server_context, client_context = tls_contexts() if tls else (None, None)
        server = await aiofastnet.create_server(loop, lambda: Recorder(U32), "127.0.0.1", 0, ssl=server_context)
        host, port = server.sockets[0].getsockname()
        make = lambda: aio.FrameStream(U32)  # noqa: E731
        _, stream = await aiofastnet.create_connection(loop, make, host, port, ssl=client_context)
        async with stream:
            payloads = [bytes([number]) * (number * 30_011) for number in range(20)]
            sending = asyncio.create_task(stream.send_many(payloads))
            assert [await stream.recv() for _ in payloads] == payloads
            await sending
        server.close()

    asyncio.run(asyncio.wait_for(main(), 30))
