"""The client of chat rooms over datagrams: `chat_client` with a socket in the place of connections.

    async with chat_udp_client.connect("127.0.0.1", 9000, room="lobby", name="ann") as room: ...

It enters the room with HELLO and OPEN, each sent until it is answered, and stays there for a `Visit`, which knows what is
missing and what is to be said again. When the server falls silent it comes back from another port, with what shows who it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from fastframe import datagram

from . import chat_client, credentials, messages
from .chat_door import HELLO_LENGTH
from .chat_events import Event
from .chat_visit import Visit
from .errors import OperationError
from .messages import Fields, Kind, Message
from .session import AGENT, NO_PROOF

if TYPE_CHECKING:
    from collections.abc import Callable

ATTEMPT_SECONDS: Final = 10.0  # to be let in, unless something else is said
FIRST_TRY, LONGEST_TRY = 0.5, 4.0  # seconds until HELLO or OPEN is sent again
MOST_WAITING: Final = 1024  # messages that came and were not looked at, since nobody reads the events: then they are dropped


class Line:
    """A socket that talks to one server. `tell` is called when something has come."""

    def __init__(self, sock: socket.socket, server: datagram.Address, tell: Callable[[], None]) -> None:
        self._server = server
        self._tell = tell
        self._endpoint = datagram.DatagramEndpoint(sock, self._take)
        self._arrived: deque[bytes] = deque()

    def send(self, payloads: list[bytes]) -> None:
        self._endpoint.send_many([(payload, self._server) for payload in payloads])

    def receive(self) -> Message | None:
        """Return the next message that has come; None if there is none. What is no message is passed over."""
        while self._arrived:
            with contextlib.suppress(OperationError):
                return messages.decode(self._arrived.popleft())
        return None

    async def close(self) -> None:
        await self._endpoint.close()

    def _take(self, _: datagram.DatagramEndpoint, received: list[datagram.Datagram]) -> None:
        for payload, sender in received:
            if sender == self._server and len(self._arrived) < MOST_WAITING:
                self._arrived.append(payload)
        self._tell()


class DatagramStay(chat_client.StreamStay):
    """A `Stay` over datagrams: `connect` makes it."""

    def __init__(
        self,
        where: dict[str, Any],
        token: tuple[str, str] | None,
        asked: dict[str, Any],
        timeout: float | None,
        retry: float | None,
    ) -> None:
        super().__init__(None, asked, timeout, retry)
        self._where = where
        self._token = token

    async def _visit(self) -> None:
        """Be in the room as long as the server answers."""
        async with asyncio.timeout(self._timeout or ATTEMPT_SECONDS) as patience:
            line = Line(*await find(**self._where), self._tell)
            try:
                opened = await self._knock(line)
                patience.reschedule(None)
                await self._enter(opened)
                if opened.flag("gap"):
                    await self._take(Event("gap", next=opened.integer("next", least=1)))
                await self._attend(line, Visit(opened, self._now()))
            finally:
                self._is_here = False
                await line.close()

    async def _knock(self, line: Line) -> Fields:
        """Have oneself let in; return what the server says of the room."""
        nonce = credentials.new_nonce()
        hello = {"version": messages.VERSION, "nonce": nonce, "agent": AGENT, "pad": "0" * HELLO_LENGTH}
        welcome = await self._ask(line, Kind.HELLO, hello, Kind.WELCOME)
        challenge = credentials.Challenge(self._token[0] if self._token else "", nonce, welcome.text("nonce", most=64))
        proof = self._prove(welcome, challenge)
        asked = {"operation": "chat", "nonce": nonce, "cookie": challenge.server_nonce} | proof | self._asked
        opened = await self._ask(line, Kind.OPEN, asked, Kind.OPENED)
        if self._token and not credentials.is_proof(opened.text("proof"), self._token[1], "server", challenge):
            raise OperationError("unauthenticated", "the server does not know the token")
        return opened

    def _prove(self, welcome: Fields, challenge: credentials.Challenge) -> dict[str, str]:
        """Return what shows that this client knows its token, if there is to be one."""
        wants = "token" in welcome.texts("auth")
        if wants != bool(self._token):
            raise OperationError("unauthenticated", "the server wants a token" if wants else NO_PROOF)
        if self._token is None:
            return {}
        return {"key": challenge.key, "proof": credentials.proof(self._token[1], "client", challenge)}

    async def _ask(self, line: Line, kind: Kind, fields: dict[str, Any], wanted: Kind) -> Fields:
        """Send a message until its answer comes; return that. Raise OperationError for an ERROR."""
        pause = FIRST_TRY
        while True:
            line.send([messages.encode(kind, fields)])
            until = self._now() + pause
            while self._now() < until:
                while message := line.receive():
                    if message.fields.get("to") == fields["nonce"] and message.kind in (wanted, Kind.ERROR):
                        return _answer(message)
                await self._wait(until)
            pause = min(2 * pause, LONGEST_TRY)

    async def _attend(self, line: Line, visit: Visit) -> None:
        """Be in the room, until the server has heard that one leaves."""
        try:
            while not visit.is_over:
                while message := line.receive():
                    for event in visit.take(message, self._now()):
                        await self._take(event)
                self._hand_over(visit)
                line.send(visit.due(self._now()))
                if not visit.is_over:
                    await self._wait(visit.next_due)
        finally:
            if self._is_leaving and not visit.is_over:  # there is no time left to wait for an answer
                line.send([visit.farewell()])

    def _hand_over(self, visit: Visit) -> None:
        """Have a visit do what is to be done."""
        outbox, self._outbox = self._outbox, []
        for wish in outbox:
            visit.wish({"id": secrets.token_hex(8)} | messages.decode_fields(wish), self._now())
        if self._is_leaving and visit.is_idle:
            visit.leave(self._now())

    async def _wait(self, until: float) -> None:
        """Wait until something has changed, or until that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._changed()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class connect(chat_client.connect):  # noqa: N801  it is called like a function
    """Enter a room: `async with connect(...) as room`, or `await` it, and `leave` it in the end.

    As `chat_client.connect`, without TLS, which is not for datagrams; `timeout` is 10 s unless told. A token proves who one is;
    what follows can be read and changed by anybody on the path. Raise OSError, TimeoutError if no answer comes, OperationError
    if the server does not let one in, ValueError unless there is one address.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        room: str,
        name: str | None = None,
        history: int = chat_client.HISTORY,
        path: str | os.PathLike[str] | None = None,
        token: tuple[str, str] | None = None,
        timeout: float | None = None,
        retry: float | None = None,
    ) -> None:
        if (path is None) != (host is not None and port is not None):
            raise ValueError("give host and port, or path")
        asked = {"room": room, "history": history} | ({} if name is None else {"name": name})
        self._stay = DatagramStay({"host": host, "port": port, "path": path}, token, asked, timeout, retry)


async def find(
    host: str | None, port: int | None, path: str | os.PathLike[str] | None
) -> tuple[socket.socket, datagram.Address]:
    """Return a socket that can reach a server, and the server's address as it comes with datagrams; raise OSError.

    The socket is not connected: see `DatagramEndpoint`.
    """
    if path is not None:
        found: list[tuple[Any, Any]] = [(socket.AF_UNIX, os.fspath(path))]
    else:
        resolved = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        found = [(family, address) for family, _, _, _, address in resolved]
    failure: OSError | None = None
    for family, address in found:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(address)
                own, server = probe.getsockname(), probe.getpeername()
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                sock.bind((own[0], 0, *own[2:]) if isinstance(own, tuple) else "")  # Linux makes up a name for a Unix socket
            except OSError:
                sock.close()
                raise
            return sock, server
        except OSError as error:
            failure = error
    assert failure is not None
    raise failure


def _answer(message: Message) -> Fields:
    """Return what an answer says; raise the error that it is."""
    if message.kind is not Kind.ERROR:
        return message.fields
    code = message.fields.text("code", most=64)
    if code == "timeout":
        raise TimeoutError("the server took too long to answer")
    raise OperationError(code, message.fields.text("message", default=""))
