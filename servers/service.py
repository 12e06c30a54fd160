"""The framed servers' side of `session.py`: who is let in, which operation runs, how it ended, and how all of them leave.

A service is a table of operations. An operation is `async def operation(session, arguments)`: it says OPENED, moves its data,
and returns the fields of its RESULT. It raises OperationError, which the client is told; everything else is a bug, which is
logged, and told as `internal`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl as tls
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from fastframe import aio

from . import credentials, logs, messages
from .errors import OperationError
from .messages import Fields, Kind, Message
from .session import AGENT, EARLY_FORMAT, GONE, Session, misplaced

DATA_TIMEOUT: Final = 60.0  # seconds that an operation waits for its client's next message; keepalive finds the dead ones
LEAVE_SECONDS: Final = 2.0  # for a client that is told to leave; as `aio.Limits.linger_timeout`
UCRED: Final = struct.Struct("3i")  # pid, uid and gid of the peer (unix(7), SO_PEERCRED)
OURS: Final = frozenset({"internal", "io_error", "disk_full", "quota_exceeded"})  # what an operator has to see to
COUNTERS: Final = ("authentications_failed", "operations", "operations_failed")
# What a client may have sent before it heard that its operation is over.
LATE: Final = (Kind.DATA, Kind.END, Kind.CANCEL, Kind.SIGNAL)

Operation = Callable[["ServerSession", Fields], Awaitable[dict[str, Any]]]


class ServerSession(Session):
    """A server's end: `user` is who was authenticated, "" for nobody; `source` where the connection comes from."""

    def __init__(self, stream: aio.FrameStream) -> None:
        super().__init__(stream)
        self.peer = stream.peername
        self.source = credentials.source_of(self.peer)
        self.user = user_of(stream.transport)
        self.audit: dict[str, object] = {}  # what the line about the operation says besides
        self.cleanups = contextlib.AsyncExitStack()  # what the operation leaves to be done once its client has the answer
        self._listener: asyncio.Task[Message] | None = None  # while an operation sends

    async def opened(self, **fields: Any) -> None:
        """Tell the client what the operation will do."""
        await self.send(Kind.OPENED, **fields)

    async def data(self) -> list[memoryview]:
        """Return the data that the client has sent, at least one piece; [] after its END. Raise OperationError."""
        try:
            async with asyncio.timeout(DATA_TIMEOUT):
                return await self.receive_data()
        except TimeoutError:
            raise OperationError("timeout", f"no data within {DATA_TIMEOUT:g} s") from None

    async def end(self) -> Fields:
        """Return what the client's END says, when there is no more data; raise OperationError if it cancelled instead."""
        message = await self.receive()
        if message.kind is Kind.CANCEL:
            raise OperationError("cancelled")
        if message.kind is not Kind.END:
            raise misplaced(message)
        return message.fields

    async def leave(self) -> None:
        """Wait a moment for the client to take what was sent last and to hang up: a close while it sends would destroy that."""
        with contextlib.suppress(*GONE, NotImplementedError):  # TLS cannot end one direction
            async with asyncio.timeout(LEAVE_SECONDS):
                self.stream.send_eof()
                while True:
                    await self.stream.recv_batch()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear the client while the body sends, which asks `check_cancelled` now and then."""
        async with self.peeking():
            yield
        objection = self._objection()
        if objection is not None and objection.code != "cancelled":  # a CANCEL that crossed the end is too late
            raise objection

    @contextlib.asynccontextmanager
    async def peeking(self) -> AsyncIterator[None]:
        """Look out for the client while the body computes, which asks `check_wanted` now and then.

        What the client says stays its next message.
        """
        self._listener = asyncio.create_task(self.peek())
        try:
            yield
        finally:
            self._listener.cancel()
            await asyncio.wait((self._listener,))
            if not self._listener.cancelled():
                self._listener.exception()  # or asyncio says that nobody asked

    def check_cancelled(self) -> None:
        """Raise OperationError if the client has said anything: `cancelled`, if that was it."""
        if (objection := self._objection()) is not None:
            raise objection

    def check_wanted(self) -> None:
        """Raise OperationError if the client has cancelled, and what ended its direction: who sends nothing hears it here."""
        if self._listener is not None and self._listener.done() and self._listener.result().kind is Kind.CANCEL:
            raise OperationError("cancelled")

    def _objection(self) -> OperationError | None:
        listener = self._listener
        if listener is None or not listener.done() or listener.cancelled():
            return None
        if (error := listener.exception()) is not None:
            return error if isinstance(error, OperationError) else None  # who sends hears of a lost connection
        message = listener.result()
        return OperationError("cancelled") if message.kind is Kind.CANCEL else misplaced(message)


class Service:
    """A framed server: its operations, and what all of them share.

    `keyring`: whose tokens are asked for; None lets everybody in whom the listener lets in. `max_payload`: bytes of a message
    once the handshake is over. `offer`: what WELCOME says besides.
    """

    def __init__(
        self,
        operations: Mapping[str, Operation],
        *,
        keyring: credentials.Keyring | None = None,
        max_payload: int = messages.MAX_PAYLOAD,
        offer: Mapping[str, Any] | None = None,
    ) -> None:
        self.counters = Counter(dict.fromkeys(COUNTERS, 0))
        self._operations = dict(operations)
        self._keyring = keyring
        self._max_payload = max_payload
        self._offer = dict(offer or {})
        self._penalties = credentials.Penalties()
        self._sessions: set[ServerSession] = set()
        self._handshake_timeout = aio.Limits().handshake_timeout

    async def serve(self, *, sockets: Sequence[socket.socket], ssl: tls.SSLContext | None, limits: aio.Limits) -> ServiceServer:
        """Serve on listening sockets, as `host.run` wants it."""
        return ServiceServer(self, await self.listen(sockets=sockets, ssl=ssl, limits=limits))

    async def listen(
        self, *, sockets: Sequence[socket.socket], ssl: tls.SSLContext | None, limits: aio.Limits
    ) -> aio.FrameServer:
        """Accept clients on listening sockets."""
        self._handshake_timeout = limits.handshake_timeout
        return await aio.serve(self._handle, sockets=sockets, format=EARLY_FORMAT, ssl=ssl, limits=limits)

    async def go_away(self) -> None:
        """Tell every client to finish and leave."""
        for session in self._sessions:
            session.going_away = True
            farewell = asyncio.create_task(session.send(Kind.GOAWAY))
            farewell.add_done_callback(asyncio.Task.exception)  # who has left already needs none
        await asyncio.sleep(0)  # it is queued now, before anything closes

    async def _handle(self, stream: aio.FrameStream) -> None:
        session = ServerSession(stream)
        try:
            async with asyncio.timeout(self._handshake_timeout):
                await self._shake_hands(session)
            session.widen(self._max_payload)
            self._sessions.add(session)
            while True:
                message = await session.receive()
                if message.kind is Kind.OPEN:
                    await self._run(session, message.fields)
                elif message.kind not in LATE:
                    raise misplaced(message)
        except OperationError as error:
            await session.send(Kind.ERROR, code=error.code, message=error.message)
            await session.leave()
        finally:
            self._sessions.discard(session)

    async def _shake_hands(self, session: ServerSession) -> None:
        hello = (await session.expect(Kind.HELLO)).fields
        client_nonce, nonce = hello.text("nonce"), credentials.new_nonce()
        if hello.integer("version") != messages.VERSION or not credentials.is_nonce(client_nonce):
            raise OperationError("unsupported", f"this server speaks version {messages.VERSION}, with a nonce of 32 bytes")
        methods = ["token"] if self._keyring else []
        limits = {"max_payload": self._max_payload}
        await session.send(
            Kind.WELCOME, version=messages.VERSION, agent=AGENT, auth=methods, nonce=nonce, limits=limits, **self._offer
        )
        if self._keyring is not None:
            await self._authenticate(session, self._keyring, client_nonce, nonce)

    async def _authenticate(
        self, session: ServerSession, keyring: credentials.Keyring, client_nonce: str, server_nonce: str
    ) -> None:
        fields = (await session.expect(Kind.AUTH)).fields
        key, client_proof = fields.text("key", most=64), fields.text("proof", most=64)
        await asyncio.sleep(self._penalties.wait(session.source, self._handshake_timeout / 2))
        proof = keyring.check(client_proof, credentials.Challenge(key, client_nonce, server_nonce))
        level = logging.WARNING if proof is None else logging.INFO
        logs.event(level, "authentication", peer=session.peer, key=key, right=proof is not None)
        if proof is None:
            self._penalties.note_wrong(session.source)
            self.counters["authentications_failed"] += 1
            raise OperationError("unauthenticated")
        session.user = key
        await session.send(Kind.AUTHENTICATED, proof=proof)

    async def _run(self, session: ServerSession, fields: Fields) -> None:
        """Run one operation to its RESULT or ERROR, and leave a line of what was decided."""
        start, outcome = time.monotonic(), "connection lost"
        session.audit = {}
        self.counters["operations"] += 1
        session.stream.in_message = True
        try:
            await session.send(Kind.RESULT, **await self._perform(session, fields))
            outcome = "done"
        except OperationError as error:
            outcome = error.code
            self.counters["operations_failed"] += 1
            if error.code == "bad_message":
                raise
            await session.send(Kind.ERROR, code=error.code, message=error.message)
        finally:
            await session.cleanups.aclose()
            session.stream.in_message = False
            said = {key: fields[key] for key in ("operation", "name") if key in fields} | session.audit
            seconds = round(time.monotonic() - start, 6)
            level = logging.WARNING if outcome in OURS else logging.INFO
            logs.event(level, "operation", **said, peer=session.peer, user=session.user, outcome=outcome, seconds=seconds)

    async def _perform(self, session: ServerSession, fields: Fields) -> dict[str, Any]:
        operation = self._operations.get(fields.text("operation", most=64))
        if operation is None:
            raise OperationError("unsupported", "this server has no such operation")
        try:
            return await operation(session, fields)
        except OperationError as error:
            if error.code == "internal":
                logs.logger.error("an operation failed", exc_info=error)
            raise
        except GONE:
            raise
        except Exception:
            logs.logger.exception("an operation failed")
            raise OperationError("internal") from None


class ServiceServer:
    """What `Service.serve` returns: the `FrameServer`, and the sessions on it."""

    def __init__(self, service: Service, server: aio.FrameServer) -> None:
        self._service = service
        self._server = server

    @property
    def addresses(self) -> list[str]:
        return self._server.addresses

    @property
    def connections(self) -> int:
        return self._server.connections

    @property
    def accepting(self) -> bool:
        return self._server.accepting

    @property
    def counters(self) -> Mapping[str, int]:
        return {**self._server.counters, **self._service.counters}

    async def close(self, grace: float = 0.0) -> None:
        """Stop listening, have clients finish and leave, and cut those that have not within `grace` seconds."""
        if grace > 0:
            await self._service.go_away()
        await self._server.close(grace)

    async def __aenter__(self) -> ServiceServer:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self.close()


def user_of(transport: asyncio.Transport) -> str:
    """Return whom the connection itself vouches for: the name on a client's certificate, or the user at a Unix socket."""
    certificate = transport.get_extra_info("peercert")
    if certificate:
        names = dict(pair for part in certificate["subject"] for pair in part)
        return f"certificate:{names.get('commonName', '')}"
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # who has gone already is nobody
        if connection.family == socket.AF_UNIX and hasattr(socket, "SO_PEERCRED"):
            _, uid, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
            return f"uid:{uid}"
    return ""
