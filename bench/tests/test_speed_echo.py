"""The fronts: frames there and back over loopback, both ends in one thread, so that nobody waits for a switch between two.

`fastframe bench echo` measures servers, each in a process of its own; here it is what the fronts themselves do.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

import fastframe
from fastframe import aio, sync
from fastframe.bench.report import size_text
from fastframe.bench.serve import FORMAT, HOST, OWN, loop_factory
from fastframe.bench.workloads import some_payloads

KIB, MIB = 1 << 10, 1 << 20
SMALL = [(64, 1), (64, 64), (16 * KIB, 4)]  # payloads, and how many: no more than the buffer of a socket takes

pytestmark = pytest.mark.benchmark(timer=time.thread_time)


def cells(pairs):
    return pytest.mark.parametrize(("payload", "window"), pairs, ids=[f"{size_text(size)}-{window}" for size, window in pairs])


def group(payload, window):
    return f"echo, {size_text(payload)}, {window} at a time"


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request) -> Iterator[asyncio.AbstractEventLoop]:
    if request.param != "asyncio":
        pytest.importorskip(request.param)
    with asyncio.Runner(loop_factory=loop_factory(request.param)) as runner:
        yield runner.get_loop()


@cells([*SMALL, (MIB, 1)])
@pytest.mark.parametrize("way", OWN)
def test_aio(benchmark, note, loop, way, payload, window):
    payloads = some_payloads(payload, window)

    async def connect():
        server = await aio.serve(OWN[way], HOST, 0, format=FORMAT)
        host, port = server.addresses[0].rsplit(":", 1)
        return server, await aio.connect(host, int(port), format=FORMAT)

    async def there_and_back():
        await client.send_many(payloads)
        return [await client.recv() for _ in payloads]

    server, client = loop.run_until_complete(connect())
    note(group(payload, window), fastframe.IMPLEMENTATION, payloads)
    assert benchmark(lambda: loop.run_until_complete(there_and_back())) == payloads
    loop.run_until_complete(client.close())
    loop.run_until_complete(server.close())


@cells(SMALL)
def test_sync(benchmark, note, payload, window):
    payloads = some_payloads(payload, window)

    def there_and_back():
        client.send_many(payloads)
        for _ in payloads:
            server.send(server.recv())
        return [client.recv() for _ in payloads]

    ends = socket.socketpair()
    with sync.FrameSocket(ends[0], FORMAT) as client, sync.FrameSocket(ends[1], FORMAT) as server:
        note(group(payload, window), fastframe.IMPLEMENTATION, payloads)
        assert benchmark(there_and_back) == payloads
