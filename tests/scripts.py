"""Exec servers that say what a test wants, for a client in the same process, or for one that runs its own loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from queue import Queue

import filing
from sessions import PATIENCE

from fastframe.servers import exec_client
from fastframe.servers.messages import Kind

scripted = functools.partial(filing.scripted, connect=exec_client.connect)
ENDED = {
    "reason": "exited",
    "status": 0,
    "signal": None,
    "limit": "",
    "denied": [],
    "left": 0,
    "stdin": 0,
    "stdout": 0,
    "stderr": 0,
    "user_seconds": 0.25,
    "system_seconds": 0,
    "peak_memory": 4096,
    "seconds": 1.5,
    "unknown": {"to": "this client"},
}


async def opened(peer, credit=65_536, **asked):
    """Hear the OPEN of a command with these fields, and grant credit."""
    given = await peer.opened("exec", credit=credit, timeout_ms=60_000)
    assert asked.items() <= given.items()
    peer.has_input = not given["no_input"]


async def stdin(peer, data=b"", *, until=None):
    """Return `data` and what comes behind it as stdin, `until` there are so many bytes, or to its end."""
    while peer.has_input and (until is None or len(data) < until):
        kind, body = await peer.hear()
        if kind is Kind.END:
            assert body == {"size": len(data)}
            break
        assert kind is Kind.DATA
        data += body
    return data


async def ended(peer, **fields):
    await peer.say(Kind.RESULT, **{**ENDED, **fields})


@contextlib.contextmanager
def playing(script):
    """Play `script` to one client, in a thread; give the address, and have it ended well."""
    addresses, failures = Queue(), []

    async def play():
        over = asyncio.Event()

        @contextlib.asynccontextmanager
        async def hand_over(host, port):
            addresses.put((f"{host}:{port}", asyncio.get_running_loop(), over))
            yield
            await over.wait()

        async with filing.scripted(script, hand_over):
            pass

    def run():
        try:
            asyncio.run(play())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    address, loop, over = addresses.get(timeout=PATIENCE)
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(3 * PATIENCE)
    if failures:
        raise failures[0]
