"""The server: whom it lets in, what their sockets are born with, what it counts, and how it ends."""

import contextlib
import socket

import pytest
from peers import ALL_LOOPS, U32, Recorder, peer_of, play, until

from fastframe import aio
from fastframe.aio import Limits


@contextlib.asynccontextmanager
async def serving(handler=Recorder, *, sockets=None, ssl=None, **limits):
    where = {"host": "127.0.0.1", "port": 0} if sockets is None else {"sockets": sockets}
    async with await aio.serve(handler, **where, format=U32, ssl=ssl, limits=Limits(**limits)) as server:
        yield server


def endpoint_of(server):
    """The server's side of its only connection."""
    (endpoint,) = server._endpoints
    return endpoint


# What an accepted socket is born with


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
@pytest.mark.parametrize("given", [False, True], ids=["bound", "given"])
def test_sockets_are_born_with_what_the_limits_say(loop, given):
    async def main():
        sockets = aio.bind("127.0.0.1", 0) if given else None
        async with serving(sockets=sockets, keepalive=33, unsent=55_000) as server, peer_of(server):
            await until(lambda: server.connections and endpoint_of(server)._transport)
            option = endpoint_of(server).transport.get_extra_info("socket").getsockopt
            assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 11
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert option(socket.IPPROTO_TCP, 25) == 55_000  # TCP_NOTSENT_LOWAT

    play(loop, main)
