"""Raw streams of a server: what a handler receives and sends, what ends a request, and how peers leave."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time

import pytest
import uvloop
from executing import until
from peers import leaping_loop, play
from sessions import PATIENCE, played, where

from fastframe import EndOfStreamError, FrameFormat, IncompleteFrameError, aio
from fastframe.servers import tutorial_streams
from fastframe.servers.errors import OperationError

I32 = FrameFormat("i32le")


@contextlib.asynccontextmanager
async def served(handler, **limits):
    """Serve on the loopback interface; yield the server, and what connects to it."""
    sockets = aio.bind("127.0.0.1", 0)
    async with (
        await tutorial_streams.serve(handler, sockets=sockets, ssl=None, limits=aio.Limits(**limits)) as server,
        contextlib.AsyncExitStack() as connections,
    ):

        async def connect():
            reader, writer = await asyncio.open_connection(**where(server))
            connections.callback(writer.close)
            return reader, writer

        async with asyncio.timeout(PATIENCE):
            yield server, connect


async def requests(stream):
    """Answer each request with its length and what it begins with."""
    while True:
        try:
            request = await stream.recv_request(most=2048)
        except OperationError as error:
            await stream.sendall(error.code.encode())
            continue
        if not request:
            return
        await stream.sendall(f"{len(request)} {request[:4]!r}".encode())


@pytest.fixture
def long_quiet(monkeypatch):
    """Have a request that does not end in a line feed last too long for a test."""
    monkeypatch.setattr(tutorial_streams, "QUIET_SECONDS", 2 * PATIENCE)


@played
async def test_a_request_in_two_pieces_is_one(long_quiet):
    async with served(requests) as (_, connect):
        reader, writer = await connect()
        writer.write(b"a" * 1024)
        await asyncio.sleep(0.05)
        writer.write(b"b" * 1000 + b"\n")
        assert await reader.read(100) == b"2025 b'aaaa'"


@played
async def test_silence_ends_a_request():
    async with served(requests) as (_, connect):
        reader, writer = await connect()
        began = asyncio.get_running_loop().time()
        writer.write(b"ls")
        assert await reader.read(100) == b"2 b'ls'"
        assert asyncio.get_running_loop().time() - began > 0.99 * tutorial_streams.QUIET_SECONDS


@played
async def test_a_line_feed_ends_a_request_at_once(long_quiet):
    async with served(requests) as (_, connect):
        reader, writer = await connect()
        writer.write(b"ls\n")
        assert await reader.read(100) == b"3 b'ls\\n'"


@played
async def test_no_part_of_a_request_that_is_too_long_is_another(long_quiet):
    async with served(requests) as (_, connect):
        reader, writer = await connect()
        writer.write(b"a" * 3000 + b"tail" * 100_000 + b"\n")
        assert await reader.read(100) == b"too_large"
        writer.write(b"next\n")
        assert await reader.read(100) == b"5 b'next'"


@played
async def test_the_last_request_is_answered_though_its_client_has_ended_its_direction():
    async with served(requests) as (_, connect):
        reader, writer = await connect()
        writer.write(b"last")
        writer.write_eof()
        assert await reader.read() == b"4 b'last'"


async def frame_and_more(stream):
    await stream.sendall(await stream.recv_frame(I32) + b"|" + await stream.recv(3))


@played
async def test_what_follows_a_frame_stays_raw():
    async with served(frame_and_more) as (_, connect):
        reader, writer = await connect()
        writer.write(struct.pack("i", 4) + b"abcdxyz")
        assert await reader.read() == b"abcd|xyz"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EndOfStreamError),
        (b"\1", IncompleteFrameError),
        (struct.pack("i", -1), ValueError),
        (b"\5\0\0\0a", IncompleteFrameError),
    ],
)
def test_what_is_no_frame_ends_its_own_connection_alone(data, error):
    raised = []

    async def handler(stream):
        try:
            await frame_and_more(stream)
        except Exception as failure:
            raised.append(failure)
            raise

    @played
    async def test():
        async with served(handler) as (server, connect):
            reader, writer = await connect()
            writer.write(data)
            writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            assert isinstance(raised[0], error)
            assert server.counters["bad_frames"] == (error is not EndOfStreamError)
            reader, writer = await connect()
            writer.write(struct.pack("i", 4) + b"abcdxyz")
            assert await reader.read() == b"abcd|xyz"

    test()


@played
async def test_a_server_that_closes_lets_a_message_end_and_waits_for_no_other():
    began, go_on = asyncio.Event(), asyncio.Event()

    async def handler(stream):
        while request := await stream.recv_request():
            began.set()
            await go_on.wait()
            await stream.sendall(request)

    async with served(handler) as (server, connect):
        (reader, writer), (idle, _) = await connect(), await connect()
        writer.write(b"slow\n")
        await began.wait()
        closing = asyncio.create_task(server.close(grace=PATIENCE))
        assert await idle.read() == b""
        go_on.set()
        assert await reader.read() == b"slow\n"
        writer.close()
        _.close()
        await closing
        assert server.counters["cut"] == 0


@pytest.mark.parametrize("cut", [1, 5])  # within the header, within the payload
@played
async def test_a_server_that_closes_waits_for_the_rest_of_a_frame(cut):
    streams = []

    async def handler(stream):
        streams.append(stream)
        await frame_and_more(stream)

    data = struct.pack("i", 4) + b"abcdxyz"
    async with served(handler) as (server, connect):
        reader, writer = await connect()
        writer.write(data[:cut])
        await until(lambda: streams and streams[0].in_message)
        closing = asyncio.create_task(server.close(grace=PATIENCE))
        await asyncio.sleep(0.05)  # it would be cut by then
        writer.write(data[cut:])
        assert await reader.read() == b"abcd|xyz"
        writer.close()
        await closing


@played
async def test_a_server_that_closes_waits_for_the_rest_of_a_request(long_quiet):
    streams = []

    async def handler(stream):
        streams.append(stream)
        await requests(stream)

    async with served(handler) as (server, connect):
        reader, writer = await connect()
        writer.write(b"ab")
        await until(lambda: streams and streams[0].in_message)
        closing = asyncio.create_task(server.close(grace=PATIENCE))
        await asyncio.sleep(0.05)
        writer.write(b"cd\n")
        assert await reader.read() == b"5 b'abcd'"
        writer.close()
        await closing


@played
async def test_the_last_answer_arrives_though_its_client_sends_on():
    async def handler(stream):
        await stream.recv(1)
        await stream.sendall(b"enough" * 10_000)

    async with served(handler) as (_, connect):
        reader, writer = await connect()
        for _ in range(4):
            writer.write(bytes(1 << 20))
            await asyncio.sleep(0.01)
        writer.write_eof()
        assert await reader.read() == b"enough" * 10_000


@played
async def test_a_peer_that_takes_nothing_is_cut():
    async def handler(stream):
        while True:
            await stream.sendall(bytes(1 << 20))

    async with served(handler, write_timeout=0.2) as (server, connect):
        await connect()
        await until(lambda: server.counters["writes_overdue"] and not server.connections)


@pytest.mark.parametrize("handler", [frame_and_more, requests])
@played
async def test_a_trickle_is_cut(handler):
    data = iter(struct.pack("i", 1000) + bytes(1000))
    async with served(handler, frame_timeout=0.2) as (server, connect):
        _, writer = await connect()
        while not server.counters["frames_overdue"]:
            writer.write(bytes([next(data)]))
            await asyncio.sleep(0.02)
        await until(lambda: not server.connections)


def test_what_comes_on_may_take_its_time():
    async def handler(stream):
        stream.in_message = True
        size = 0
        while data := await stream.recv():
            size += len(data)
        await stream.sendall(b"%d" % size)

    async def main():
        async with served(handler, frame_timeout=5) as (_, connect):
            reader, writer = await connect()
            for _ in range(6):
                writer.write(bytes(tutorial_streams.BLOCK))
                await asyncio.sleep(3)
            writer.write_eof()
            assert await reader.read() == b"%d" % (6 * tutorial_streams.BLOCK)

    play(leaping_loop, main)


@played
async def test_silence_is_cut_when_it_is_limited():
    async with served(requests, idle_timeout=0.1) as (server, connect):
        reader, _ = await connect()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert server.counters["idle"] == 1


@played
async def test_a_handler_that_fails_is_reported():
    reported = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.set_result(context["exception"]))

    async def handler(stream):
        raise KeyError("bug")

    async with served(handler) as (_, connect):
        await connect()
        assert isinstance(await reported, KeyError)


@played
async def test_what_nobody_receives_is_not_read():
    done = asyncio.Event()
    streams = []

    async def handler(stream):
        streams.append(stream)
        await done.wait()
        while await stream.recv():
            pass

    async with served(handler) as (_, connect):
        _, writer = await connect()
        writer.write(bytes(8 << 20))
        await until(lambda: streams and len(streams[0]._received) >= tutorial_streams.BLOCK)
        await asyncio.sleep(0.05)
        assert len(streams[0]._received) <= 8 * tutorial_streams.BLOCK
        done.set()
        writer.write_eof()
        await writer.drain()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_came_in_time_is_not_late_because_nobody_looked(new_loop, monkeypatch):
    monkeypatch.setattr(tutorial_streams, "QUIET_SECONDS", 0.02)

    async def main():
        async with served(requests) as (_, connect):
            reader, writer = await connect()
            writer.write(b"ab")
            for _ in range(4):  # until the server waits for more
                await asyncio.sleep(0)
            writer.write(b"cd\n")
            time.sleep(0.05)  # noqa: ASYNC251  as a machine does that has no time for it
            assert await reader.read(100) == b"5 b'abcd'"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
