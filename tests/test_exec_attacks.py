"""Clients and commands that want more than they may have: the ways that were found to work, each once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from executing import permit, served
from sessions import played, speaking

from fastframe.servers.messages import Kind

MIB = 1 << 20


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


# What clients send.


@pytest.mark.parametrize(
    ("data", "beside", "times"), [(b"", b"", 20_000), (b"x", bytes(60_000), 300)], ids=["empty", "a byte in much else"]
)
@played
async def test_input_that_nobody_reads_is_held_in_as_many_bytes_as_it_has(traced, data, beside, times):
    async with served(permit("/bin/sleep")) as server, speaking(server, greeted=True) as peer:
        await peer.say(Kind.OPEN, operation="exec", name="it", arguments=["60"])
        await peer.hears(Kind.OPENED)
        await peer.say(Kind.DATA, bytes(100_000))  # more than the pipe holds
        await peer.say(Kind.PING, b"heard")
        while (heard := await peer.hear())[0] is Kind.CREDIT:
            pass
        assert heard == (Kind.PONG, b"heard")
        before, _ = tracemalloc.get_traced_memory()
        for number in range(times):
            await peer.say(Kind.DATA, data)
            if beside or number % 1000 == 0:
                await peer.say(Kind.PING, beside)
                await peer.hear()
        assert tracemalloc.get_traced_memory()[0] - before < MIB
