"""The echo servers of the sweep: each reads so much and no more, and answers everything."""

import asyncio
import socket
import threading

import pytest

from fastframe import aio
from fastframe.bench import chunkservers
from fastframe.bench.workloads import frame

KIB, MIB = 1 << 10, 1 << 20

WIRE = frame([b"x" * length for length in (0, 1, 5000, 200_000, 64, *[64] * 3000)])


def answered(connection, wire, expected):
    """Send while receiving, for a server that is not read takes nothing."""
    thread = threading.Thread(target=connection.sendall, args=(wire,))
    thread.start()
    got = b""
    while len(got) < len(expected):
        got += connection.recv(1 << 16)
    thread.join()
    return got


@pytest.mark.parametrize("read", [1 * KIB, 64 * KIB])
def test_a_thread_answers_all_that_follows_the_first_frame(read):
    client, server = socket.socketpair()
    thread = threading.Thread(target=chunkservers.answer, args=(TcpLike(server, read),))
    thread.start()
    with client:
        assert answered(client, frame([b"%d" % read]) + WIRE, WIRE) == WIRE
    thread.join(10)


class TcpLike:
    """A socket of a pair that takes the options of TCP, and looks at how much is asked for."""

    def __init__(self, socket, read):
        self.socket, self.read = socket, read

    def setsockopt(self, *option):
        pass

    def recv_into(self, memory):
        assert len(memory) == self.read
        return self.socket.recv_into(memory)

    def __getattr__(self, name):
        return getattr(self.socket, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()


@pytest.mark.parametrize("way", [chunkservers.Cut, chunkservers.Feed])
def test_a_loop_answers_all_that_follows_the_first_frame_and_lends_no_more_than_that_says(way):
    lent = set()

    class Watched(way):
        def get_buffer(self, sizehint):
            memory = super().get_buffer(sizehint)
            lent.add(len(memory))
            return memory

    async def exchange():
        loop = asyncio.get_running_loop()
        if way is chunkservers.Cut:
            server = await aio.serve(Watched, "127.0.0.1", 0, format=chunkservers.FORMAT)
            address = server.addresses[0].rpartition(":")
        else:
            server = await loop.create_server(Watched, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
        async with server:
            with socket.create_connection(("127.0.0.1", int(address[-1 if way is chunkservers.Cut else 1]))) as connection:
                wire = frame([b"5000"]) + WIRE
                assert await loop.run_in_executor(None, answered, connection, wire, WIRE) == WIRE

    asyncio.run(exchange())
    first = 256 * KIB if way is chunkservers.Cut else chunkservers.FIRST_READ
    assert max(lent - {first}) == 5000
