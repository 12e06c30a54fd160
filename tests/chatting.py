"""Chat rooms in the same process: a server of the package, and servers that say what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from queue import Queue

import sessions
from filing import Scripted

from fastframe import aio
from fastframe.servers import chat, chat_client, session
from fastframe.servers.messages import Kind
from fastframe.servers.rooms import Rooms

SECRET = "5e" * 16


@contextlib.asynccontextmanager
async def rooms_served(port: int = 0, rate: float = 1e6, history: int = 1000) -> AsyncIterator[chat.ChatServer]:
    sockets = aio.bind("127.0.0.1", port)
    async with await chat.serve(Rooms(history, rate=rate), sockets=sockets, ssl=None, limits=chat.LIMITS) as server:
        yield server


def entering(server, name="ann", **options):
    options = {"room": "lobby", "timeout": sessions.PATIENCE, "retry": sessions.PATIENCE, **options}
    return chat_client.connect(**sessions.where(server), name=name, **options)


class Host(Scripted):
    """A chat server's end of a connection, which says what a test wants."""

    async def let_in(self, log="log", head=1, seq=None, **fields) -> dict:
        """Hear the OPEN of a member and let it in; unless `seq` is 0, it has seen all when its own `joined` has come."""
        asked = await self.hears(Kind.OPEN, operation="chat")
        described = {"room": "lobby", "name": "ann", "topic": "", "members": 1, "secret": SECRET, "limits": {"text": 4096}}
        await self.say(Kind.OPENED, log=log, head=head, **{**described, **fields})
        if seq != 0:
            await self.event("joined", head)
        return asked

    async def event(self, type, seq=None, name="ann", **fields) -> None:
        numbered = {} if seq is None else {"seq": seq, "time": 1.5, "name": name}
        await self.say(Kind.DATA, sessions.json.dumps({"type": type, **numbered, **fields}).encode())

    async def heard(self) -> dict:
        """Return what the member asks for."""
        kind, body = await self.hear()
        assert kind is Kind.DATA, (kind, body)
        return sessions.json.loads(body)

    async def let_go(self, seq: int) -> None:
        await self.hears(Kind.END)
        await self.event("left", seq, reason="left")
        await self.say(Kind.RESULT, seq=seq)


@contextlib.asynccontextmanager
async def hosting(*scripts) -> AsyncIterator[aio.FrameServer]:
    """Play a script to each connection, one after the other; all have to have ended well. Further connections are cut."""
    waiting, played, all_played = list(scripts), [], asyncio.Event()

    async def handle(stream):
        if not waiting:
            stream.abort()
            return
        script = waiting.pop(0)
        peer = Host(stream)
        try:
            await peer.welcome()
            await script(peer)
            played.append(None)
        except BaseException as error:
            played.append(error)
            raise
        finally:
            if len(played) == len(scripts):
                all_played.set()

    async with await aio.serve(handle, "127.0.0.1", 0, format=session.EARLY_FORMAT) as server:
        yield server
        await asyncio.wait_for(all_played.wait(), sessions.PATIENCE)
    assert played == [None] * len(scripts)


async def until(room, type, count=1) -> list:
    """Return the events that come, up to the `count`th of that type."""
    events = []
    async with asyncio.timeout(sessions.PATIENCE):
        while sum(event.type == type for event in events) < count:
            more = await room.read()
            assert more, "the room was left"
            events += more
    return events


@contextlib.contextmanager
def running(server):
    """Run a server, which is an async context manager, in a thread; give its address. It has to end well."""
    addresses, failures = Queue(), []

    async def serve():
        over = asyncio.Event()
        async with server as served:
            addresses.put((served.addresses[0], asyncio.get_running_loop(), over))
            await over.wait()

    def run():
        try:
            asyncio.run(serve())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    address, loop, over = addresses.get(timeout=sessions.PATIENCE)
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(3 * sessions.PATIENCE)
    if failures:
        raise failures[0]
