"""What only `FrameStream` has: cancellation, waiting, wakening. Scenarios of both fronts are in test_fronts.py."""

import asyncio
import contextlib
import functools
import struct
from unittest import mock

import pytest
import uvloop
from batches import check
from peers import play, until
from vectors import frame

from fastframe import FrameFormat, MisuseError, _endpoint, _receive, aio

U32 = FrameFormat("u32be", max_payload_length=2 << 20)
ODD = FrameFormat("u32be", length_field_offset=2, max_payload_length=5 << 20)  # two bytes in front that no payload has


def odd_frame(payload, number=0xCAFE) -> bytes:
    return struct.pack(">HI", number, len(payload)) + payload


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request, codec, monkeypatch):
    """Run a coroutine on either loop with either codec; what the loop would only log fails the test."""
    monkeypatch.setattr(_endpoint, "Decoder", codec.Decoder)
    monkeypatch.setattr(_endpoint, "Encoder", codec.Encoder)
    monkeypatch.setattr(_endpoint, "DEFAULT_LIMITS", aio.Limits(linger_timeout=0.05))  # no peer here leaves when told to
    return functools.partial(play, request.param)


@contextlib.asynccontextmanager
async def stream_and_peer(format=U32, **options):
    accepted = asyncio.get_running_loop().create_future()

    async def handler(reader, writer):
        accepted.set_result((reader, writer))

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        async with aio.connect(host, port, format=format, **options) as stream:
            reader, writer = await accepted
            yield stream, reader, writer
    finally:
        writer.close()
        server.close()


def test_recv_can_be_cancelled_at_every_byte_and_loses_nothing(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            received = []
            for byte in frame(b"abc") + frame(b"") + frame(b"d"):
                receiving = asyncio.create_task(stream.recv())
                await asyncio.sleep(0)
                writer.write(bytes([byte]))
                await asyncio.sleep(0.005)
                if receiving.done():
                    received.append(await receiving)
                else:
                    receiving.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await receiving
            while len(received) < 3:
                received.append(await stream.recv())
            assert received == [b"abc", b"", b"d"]

    run(main)


def test_a_payload_that_completes_as_its_recv_is_cancelled_goes_to_the_next(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            receiving = asyncio.create_task(stream.recv())
            await asyncio.sleep(0)
            writer.write(frame(b"kept") + frame(b"next"))
            await until(lambda: stream._received)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            with pytest.raises(MisuseError, match="recv"):
                stream.detach()
            assert [await stream.recv(), await stream.recv()] == [b"kept", b"next"]

    run(main)


@pytest.mark.parametrize("first", ["recv", "recv_batch"])
def test_a_receiver_that_is_cancelled_at_any_byte_leaves_all_to_the_next_batch(run, first):
    wire = b"".join(map(odd_frame, (b"abc", b"", b"x" * 100_000)))

    async def main():
        for cut in (*range(1, 16), 300, 50_000):
            async with stream_and_peer(ODD) as (stream, _reader, writer):
                writer.write(wire[:cut])
                receiving = asyncio.create_task(getattr(stream, first)())
                await asyncio.sleep(0.002)
                receiving.cancel()
                taken = await asyncio.gather(receiving, return_exceptions=True)
                writer.write(wire[cut:])
                got = b""
                if isinstance(taken[0], bytes):
                    got = odd_frame(taken[0])
                elif not isinstance(taken[0], asyncio.CancelledError):
                    got = bytes(taken[0].wire)
                while len(got) < len(wire):
                    got += (await stream.recv_batch()).wire
                assert got == wire

    run(main)


def test_a_payload_that_completes_as_its_recv_is_cancelled_is_in_the_next_batch(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            for large in (False, True):
                payload = b"kept" * (1 << 18 if large else 1)
                receiving = asyncio.create_task(stream.recv())
                await asyncio.sleep(0)
                writer.write(frame(payload))
                await until(lambda: stream._received)
                receiving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await receiving
                check(await stream.recv_batch(), [(payload, frame(payload))])

    run(main)


def test_the_format_cannot_change_while_a_payload_waits(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            receiving = asyncio.create_task(stream.recv())
            await asyncio.sleep(0)
            writer.write(frame(b"kept"))
            await until(lambda: stream._received)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            with pytest.raises(MisuseError, match="before change_format"):
                stream.change_format(FrameFormat("netstring"))
            assert await stream.recv() == b"kept"
            stream.change_format(FrameFormat("netstring"))
            await stream.close()
            with pytest.raises(MisuseError, match="close"):
                stream.change_format(U32)

    run(main)


@pytest.mark.parametrize("method", ["recv", "recv_batch"])
def test_who_waits_looks_again_when_the_format_changes(run, method):
    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            receiving = asyncio.create_task(getattr(stream, method)())
            await asyncio.sleep(0)
            writer.write(b"0:,")  # three of four bytes of a length
            await until(lambda: stream._decoder.pending)
            stream.change_format(FrameFormat("netstring"))
            received = await receiving
            assert (received if method == "recv" else received[0]) == b""

    run(main)


def test_one_task_at_a_time_may_receive_batches(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            first = asyncio.create_task(stream.recv_batch())
            await asyncio.sleep(0)
            for method in (stream.recv, stream.recv_batch):
                with pytest.raises(MisuseError, match="one at a time"):
                    await method()
            writer.write(frame(b"for the first"))
            assert list(await first) == [b"for the first"]

    run(main)


def test_a_stream_holds_little_while_an_awakened_receiver_has_no_turn(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            receiving = asyncio.create_task(stream.recv_batch())
            await asyncio.sleep(0)
            writer.write(frame(bytes(10_000)) * 2000)
            assert len((await receiving).wire) <= _endpoint.READ_LIMIT + 2 * _receive.READ_SIZE

    run(main)


def test_a_second_large_payload_waits_for_who_takes_the_first(run):
    """uvloop reads on before a receiver that was awakened has its turn, and the second would take the place of the first."""
    payloads = [bytes([number]) * (300_000 + number) for number in range(40)]

    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            receiving = asyncio.create_task(stream.recv_batch())
            await asyncio.sleep(0)
            received = []
            for payload in payloads:
                writer.write(frame(payload))
            while len(received) < len(payloads):
                received += await receiving
                receiving = asyncio.create_task(stream.recv_batch())
            receiving.cancel()
            assert received == payloads

    run(main)


def test_what_is_received_behind_a_large_payload_that_nobody_took_stops_reading():
    stream = aio.FrameStream(U32)
    transport = mock.Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    transport.is_closing.return_value = False

    def receive(data):
        while data:
            memory = stream.get_buffer(-1)
            chunk, data = data[: len(memory)], data[len(memory) :]
            memory[: len(chunk)] = chunk
            stream.buffer_updated(len(chunk))

    async def main():
        stream.connection_made(transport)
        receiving = asyncio.create_task(stream.recv())
        await asyncio.sleep(0)
        receive(frame(bytes(300_000))[:1000])
        receive(bytes(300_004 - 1000))
        transport.pause_reading.assert_not_called()
        receive(frame(bytes(300_000))[:512])
        transport.pause_reading.assert_called_once_with()
        assert await receiving == bytes(300_000)

    asyncio.run(main())


def test_a_payload_that_a_cancelled_recv_had_begun_does_not_stop_the_back_pressure(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            writer.write(frame(b"begun")[:6])
            with pytest.raises(TimeoutError):
                await stream.recv(timeout=0.05)
            writer.write(frame(b"begun")[6:] + frame(bytes(1 << 20)) * 60)
            await until(lambda: stream._reading_paused)
            assert stream._decoder.pending <= _endpoint.READ_LIMIT + _receive.READ_SIZE
            assert await stream.recv() == b"begun"
            for _ in range(60):
                assert await stream.recv() == bytes(1 << 20)

    run(main)


def test_one_task_at_a_time_may_receive(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, writer):
            first = asyncio.create_task(stream.recv())
            await asyncio.sleep(0)
            with pytest.raises(MisuseError, match="one at a time"):
                await stream.recv()
            writer.write(frame(b"for the first"))
            assert await first == b"for the first"

    run(main)


def test_closing_wakes_a_recv_that_waits(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, _writer):
            receiving = asyncio.create_task(stream.recv())
            await asyncio.sleep(0)
            await stream.close()
            with pytest.raises(MisuseError, match="close"):
                await receiving

    run(main)


def test_a_close_that_the_peer_prevents_is_cut_in_time(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, _writer):
            sending = asyncio.create_task(stream.send_many([bytes(1 << 20)] * 64))
            await asyncio.sleep(0.1)
            assert not sending.done()
            await stream.close(timeout=0.1)
            with pytest.raises(OSError, match="closed on this side"):
                await sending

    run(main)


def test_abort_is_a_failure_for_those_who_wait(run):
    async def main():
        async with stream_and_peer() as (stream, _reader, _writer):
            receiving = asyncio.create_task(stream.recv())
            await asyncio.sleep(0)
            stream.abort()
            with pytest.raises(ConnectionAbortedError):
                await receiving

    run(main)


def test_a_sender_that_never_waits_leaves_others_their_turn(run):
    async def main():
        async with stream_and_peer() as (stream, reader, _writer):
            turns = 0

            async def other():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            async def drain():
                while await reader.read(1 << 20):
                    pass

            tasks = [asyncio.create_task(other()), asyncio.create_task(drain())]
            for _ in range(2000):
                await stream.send(bytes(1000))
            assert turns > 20
            for task in tasks:
                task.cancel()

    run(main)


def test_no_connection_no_properties():
    with pytest.raises(MisuseError, match="no connection"):
        aio.FrameStream(U32).peername  # noqa: B018


def test_pushed_batches_leave_in_order_with_what_is_sent(run, codec):
    async def main():
        async with stream_and_peer() as (stream, reader, _writer):
            batch = codec.Decoder(U32).feed_batch(frame(b"one") + frame(b"two"))
            sending = asyncio.create_task(stream.send(b"zero"))
            await asyncio.sleep(0)
            assert stream.push_batch(batch)
            await sending
            await stream.send(b"three")
            expected = b"".join(map(frame, (b"zero", b"one", b"two", b"three")))
            assert await reader.readexactly(len(expected)) == expected

    run(main)


def test_nothing_is_pushed_at_a_peer_that_takes_nothing(run, codec):
    async def main():
        async with stream_and_peer() as (stream, reader, _writer):
            batch = codec.Decoder(U32).feed_batch(frame(bytes(50_000)))
            pushed = 0
            while stream.push_batch(batch):
                pushed += 1
                await asyncio.sleep(0)
            waiting = stream.transport.get_write_buffer_size()
            assert not stream.push_batch(batch)
            await asyncio.sleep(0)
            assert stream.transport.get_write_buffer_size() == waiting < 64 * 1024 + len(batch.wire)
            await reader.readexactly(pushed * len(batch.wire))
            await until(lambda: stream.push_batch(batch))

    run(main)


def test_nothing_is_pushed_once_there_is_an_end(run, codec):
    async def main():
        batch = codec.Decoder(U32).feed_batch(frame(b"x"))
        async with stream_and_peer() as (stream, reader, _writer):
            stream.send_eof()
            assert not stream.push_batch(batch)
            assert await reader.read() == b""
        assert not stream.push_batch(batch)
        async with stream_and_peer() as (stream, reader, writer):
            writer.transport.abort()
            await until(lambda: not stream.push_batch(batch))

    run(main)


def test_nothing_is_pushed_into_a_file(run, codec, tmp_path):
    async def main():
        file = tmp_path / "file"
        file.write_bytes(bytes(1 << 20))
        batch = codec.Decoder(U32).feed_batch(frame(b"x"))
        async with stream_and_peer() as (stream, reader, _writer):
            with file.open("rb") as opened:
                sending = asyncio.create_task(stream.send_file(opened))
                await asyncio.sleep(0)
                assert not stream.push_batch(batch)
                assert len(await reader.readexactly(4 + (1 << 20))) == 4 + (1 << 20)
                await sending
            assert stream.push_batch(batch)
            assert await reader.readexactly(5) == frame(b"x")

    run(main)
