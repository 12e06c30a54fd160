"""The file server in the same process with a client at it, and servers that say what they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import sessions
from sessions import Speaker

from fastframe import EndOfStreamError, aio
from fastframe.servers import files_client, session
from fastframe.servers.files import Files
from fastframe.servers.messages import Kind
from fastframe.servers.root import Root
from fastframe.servers.staging import Staging

if TYPE_CHECKING:
    from fastframe.servers.files_client import FilesClient
    from fastframe.servers.service import ServiceServer

MIB = 1024 * 1024


@contextlib.asynccontextmanager
async def files_served(root: Path, *, write: bool = True, max_size: int = 1 << 40, **options) -> AsyncIterator[ServiceServer]:
    with Root(root, hidden=(Staging.DIRECTORY,)) as opened:
        files = Files(opened, Staging(opened) if write else None, max_size)
        async with sessions.served(files.operations, **options) as server:
            yield server


@contextlib.asynccontextmanager
async def filing(path: Path, **options) -> AsyncIterator[FilesClient]:
    """Serve the files below `path` and connect a client."""
    async with files_served(path, **options) as server, files_client.connect(**sessions.where(server)) as client:
        yield client


class Scripted(Speaker):
    """A server's end of a connection, which says what a test wants."""

    async def welcome(self) -> None:
        await self.hears(Kind.HELLO)
        await self.say(Kind.WELCOME, version=1, agent="test", auth=[], nonce=sessions.NONCE, limits={"max_payload": MIB})
        self.stream.change_format(session.frame_format(MIB))

    async def opened(self, operation: str, **fields: object) -> dict:
        """Hear an OPEN of that operation, answer it; return what was asked."""
        asked = await self.hears(Kind.OPEN, operation=operation)
        await self.say(Kind.OPENED, **fields)
        return asked

    async def end(self, size: int, digest: str) -> None:
        await self.say(Kind.END, size=size, digest=digest)
        await self.say(Kind.RESULT)


@contextlib.asynccontextmanager
async def scripted(script: Callable[[Scripted], Awaitable[None]], connect=files_client.connect) -> AsyncIterator[FilesClient]:
    """Connect a client to a server that plays `script`, which has to have ended well."""
    played = asyncio.get_running_loop().create_future()

    async def handle(stream: aio.FrameStream) -> None:
        peer = Scripted(stream)
        try:
            await peer.welcome()
            played.set_result(await script(peer))
        except BaseException as error:
            if not played.done():
                played.set_exception(error)
            raise

    server = await aio.serve(handle, "127.0.0.1", 0, format=session.EARLY_FORMAT)
    async with server:
        async with connect(**sessions.where(server)) as client:
            yield client
        await asyncio.wait_for(played, sessions.PATIENCE)


async def gone(peer: Scripted) -> None:
    """Wait for the client's end."""
    with contextlib.suppress(EndOfStreamError, OSError):
        while True:
            await peer.stream.recv(sessions.PATIENCE)


def descriptors() -> set[str]:
    """Return what files this process has open."""
    return {target for number in os.listdir("/proc/self/fd") if (target := _target(number)).startswith("/")}


def _target(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return ""
