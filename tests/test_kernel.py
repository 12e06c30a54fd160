"""What the kernel tells of real connections, over the transports of each loop."""

import asyncio
import contextlib
import socket

import pytest
from peers import ALL_LOOPS, play, tls_contexts, until

from fastframe import _kernel

SOME = bytes(1000)
LOOPS = {**ALL_LOOPS, "asyncio": asyncio.new_event_loop}  # threads take part, so that the clock must not leap


@contextlib.asynccontextmanager
async def connected(family=socket.AF_INET, tls=False):
    """Yield a transport that reads nothing, and the socket of its peer."""
    if family == socket.AF_UNIX:
        near, far = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near, far = socket.create_connection(listener.getsockname()), listener.accept()[0]
    near.setblocking(False)
    shaking = asyncio.to_thread(tls_contexts()[1].wrap_socket, far, server_hostname="127.0.0.1") if tls else None
    task = asyncio.ensure_future(shaking) if shaking is not None else None
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
        asyncio.Protocol, near, ssl=tls_contexts()[0] if tls else None
    )
    far = await task if task is not None else far
    transport.pause_reading()
    with far:
        yield transport, far
        transport.abort()
        await until(lambda: near.fileno() == -1)
        assert (_kernel.unread(transport), _kernel.untaken(transport), _kernel.taken(transport)) == (0, 0, None)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=lambda family: family.name)
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_what_came_and_was_not_read_is_known(loop, family):
    async def main():
        async with connected(family) as (transport, far):
            assert _kernel.unread(transport) == 0
            far.sendall(SOME)
            await until(lambda: _kernel.unread(transport) == len(SOME))
            transport.resume_reading()
            await until(lambda: _kernel.unread(transport) == 0)

    play(loop, main)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_what_the_peer_took_is_known(loop, tls):
    async def main():
        async with connected(tls=tls) as (transport, far):
            before = _kernel.taken(transport)
            transport.write(SOME)
            await until(lambda: _kernel.taken(transport) - before >= len(SOME) and not _kernel.untaken(transport))
            transport.write(bytes(12 << 20))
            await until(lambda: _kernel.untaken(transport))
            at_the_peers = _kernel.taken(transport) - before - len(SOME)
            far.settimeout(10)
            received = await asyncio.to_thread(receive, far, (12 << 20) + len(SOME))
            assert received == (12 << 20) + len(SOME)
            await until(lambda: not _kernel.untaken(transport))
            assert _kernel.taken(transport) - before >= received
            assert 0 < at_the_peers < received

    def receive(far, length):
        received = 0
        while received < length:
            received += len(far.recv(1 << 20))
        return received

    play(loop, main)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_unix_socket_tells_what_waits_and_not_how_much_was_taken(loop):
    async def main():
        async with connected(socket.AF_UNIX) as (transport, far):
            transport.write(SOME)
            await until(lambda: _kernel.untaken(transport) >= len(SOME))  # with what the kernel needs for itself
            far.recv(len(SOME))
            assert _kernel.untaken(transport) == 0
            assert _kernel.taken(transport) is None

    play(loop, main)


def test_a_transport_without_a_socket_tells_nothing():
    transport = asyncio.Transport()
    assert (_kernel.unread(transport), _kernel.untaken(transport), _kernel.taken(transport)) == (0, 0, None)
