"""Framed servers in the same process, and peers that speak to them message by message."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator

from fastframe import EndOfStreamError, aio
from fastframe.servers import credentials, session
from fastframe.servers.messages import BYTES, Kind
from fastframe.servers.service import Service, ServiceServer

TOKEN = "0123456789abcdef" * 4
NONCE = "ab" * 32
PATIENCE = 30.0  # seconds: nothing here takes as long, on a busy machine either


@contextlib.asynccontextmanager
async def served(operations, *, path=None, limits=None, ssl=None, **options) -> AsyncIterator[ServiceServer]:
    """Serve `operations` on the loopback interface, or on a Unix socket."""
    sockets = aio.bind("127.0.0.1", 0) if path is None else aio.bind(path=path)
    async with await Service(operations, **options).serve(sockets=sockets, ssl=ssl, limits=limits or aio.Limits()) as server:
        yield server


def where(server) -> dict:
    address = server.addresses[0]
    if address.startswith("unix:"):
        return {"path": address.removeprefix("unix:")}
    host, _, port = address.rpartition(":")
    return {"host": host, "port": int(port)}


class Speaker:
    """A client that says what it is told to, byte by byte its own: a type, and JSON or bytes."""

    def __init__(self, stream: aio.FrameStream) -> None:
        self.stream = stream

    async def say(self, kind: int, body: bytes = b"", **fields: object) -> None:
        await self.stream.send(bytes([kind]) + (json.dumps(fields).encode() if fields or not body else body))

    async def hear(self) -> tuple[Kind, dict | bytes]:
        payload = await self.stream.recv(PATIENCE)
        kind, body = Kind(payload[0]), payload[1:]
        return kind, body if kind in BYTES else json.loads(body)

    async def hears(self, kind: Kind, **fields: object) -> dict:
        """Hear the next message, which has to be `kind` and to have those fields; return all of them."""
        heard, body = await self.hear()
        assert heard is kind, (heard, body)
        assert fields.items() <= body.items(), body
        return body

    async def greet(self) -> dict:
        await self.say(Kind.HELLO, version=1, agent="test", nonce=NONCE)
        return await self.hears(Kind.WELCOME)

    async def authenticate(self, welcome: dict, key: str = "alice", token: str = TOKEN) -> None:
        proof = credentials.proof(token, "client", credentials.Challenge(key, NONCE, welcome["nonce"]))
        await self.say(Kind.AUTH, key=key, proof=proof)

    async def ended(self) -> bool:
        """Tell whether the server ends the connection, and sends nothing more; hang up then."""
        try:
            await self.stream.recv(PATIENCE)
        except TimeoutError:
            raise
        except (EndOfStreamError, OSError):
            await self.stream.close()
            return True
        return False


@contextlib.asynccontextmanager
async def speaking(server, *, greeted: bool = False) -> AsyncIterator[Speaker]:
    """Connect a client that can send messages of any length."""
    async with aio.connect(**where(server), format=session.frame_format(1 << 26)) as stream:
        speaker = Speaker(stream)
        if greeted:
            await speaker.greet()
        yield speaker


def played(test):
    """Have an `async def` test played on a loop of its own."""

    @functools.wraps(test)
    def play(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return play
