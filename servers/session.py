"""What the framed servers and their clients say to each other: messages, a handshake, one operation at a time.

    client                                  server
    HELLO     version, nonce          ->
                                      <-    WELCOME        version, nonce, what it offers
    AUTH      key, proof              ->                   only if it asks for that
                                      <-    AUTHENTICATED  proof
    OPEN      operation, arguments    ->
                                      <-    OPENED         what the server will do
    DATA ... END                     <-->   DATA ... END
                                      <-    RESULT         or ERROR: one of them, last

Any number of operations follow each other. A payload may have 16 KiB until the handshake is over, and as much as WELCOME says
from then on. docs/protocol.md has every byte. `service.py` is the server's side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl as tls
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable
from typing import Any, Final, Self

import fastframe
from fastframe import EndOfStreamError, FrameError, FrameFormat, aio

from . import arguments, credentials, messages
from .errors import OperationError
from .messages import Fields, Kind, Message

AGENT: Final = f"fastframe/{fastframe.__version__}"
GONE: Final = (EndOfStreamError, FrameError, OSError)  # what is raised when there is no connection any more
DATA_TYPE: Final = bytes((Kind.DATA,))
ASIDE: Final = frozenset({Kind.PING, Kind.PONG, Kind.GOAWAY})  # which have their place anywhere
# Silence until TCP asks whether the server's machine is there; unanswered three times, it is not. A server may work for longer.
KEEPALIVE_SECONDS: Final = 30
KEEPALIVE_PROBES: Final = 3
MESSAGES_PER_TURN: Final = 256  # that are here already, each decoded in 10 us, until others have their turn
NO_PROOF: Final = "the server does not ask for the token, and so does not prove that it knows it"
CANCEL_SECONDS: Final = 5.0  # for the server to answer that it has stopped; it is in the middle of one block


def frame_format(max_payload: int) -> FrameFormat:
    """Return the frames of the framed servers: a length in four bytes, the most significant first, and a payload."""
    return FrameFormat("u32be", max_payload_length=max_payload)


EARLY_FORMAT: Final = frame_format(messages.MAX_EARLY_PAYLOAD)


class Session:
    """One end of a connection, over its `FrameStream`. One task at a time may receive, any number may send.

    `receive` and `receive_data` answer PING by themselves, and take note of GOAWAY (`going_away`). They raise what
    `FrameStream.recv` does, and OperationError (bad_message) for what is no message.
    """

    def __init__(self, stream: aio.FrameStream) -> None:
        self.stream = stream
        self.going_away = False
        self.max_payload = messages.MAX_EARLY_PAYLOAD  # bytes, in both directions
        self._arrived: deque[memoryview] = deque()  # payloads that nobody has asked for
        self._taken = 0  # messages since others had their turn

    @property
    def max_data(self) -> int:
        """How many bytes one DATA message may carry."""
        return self.max_payload - len(DATA_TYPE)

    async def send(self, kind: Kind, /, **fields: Any) -> None:
        """Send a control message."""
        await self.stream.send(messages.encode(kind, fields))

    async def send_data(self, data: bytes | memoryview, kind: Kind = Kind.DATA) -> None:
        """Send a DATA message, or another of bytes; `data` is not copied if it is large."""
        await self.stream.send_parts((bytes((kind,)), data))

    async def send_many_data(self, pieces: Iterable[bytes]) -> None:
        """Send a DATA message for each of `pieces`, which are small: they leave in one write."""
        await self.stream.send_many([DATA_TYPE + piece for piece in pieces])

    async def send_file(self, file: int, offset: int, count: int, block: int) -> None:
        """Send DATA messages of `block` bytes of a file each, without reading them; raise as `FrameStream.send_file` does."""
        await self.stream.send_file(file, offset, count, prefix=DATA_TYPE, block=block)

    async def send_end(self, size: int, digest: str) -> None:
        """Tell that there is no more data: all of it, before this transfer too, has `size` bytes and that digest."""
        await self.send(Kind.END, size=size, digest=digest)

    async def receive(self) -> Message:
        """Return the next message."""
        message = await self.peek()
        self._arrived.popleft()
        return message

    async def peek(self) -> Message:
        """Return the next message, which stays the next."""
        while True:
            await self._wait()
            message = messages.decode(self._arrived[0])
            if message.kind not in ASIDE:
                return message
            self._arrived.popleft()
            await self._answer(message)

    async def expect(self, kind: Kind) -> Message:
        """Return the next message, which has to be of that kind."""
        message = await self.receive()
        if message.kind is not kind:
            raise misplaced(message)
        return message

    async def receive_data(self) -> list[memoryview]:
        """Return the bytes of the DATA messages that are here, at least one; [] if the next message is another.

        They are lent from what was received, which they keep in memory as a whole.
        """
        chunks: list[memoryview] = []
        while True:
            await self._wait()
            while self._arrived and self._arrived[0][:1] == DATA_TYPE:
                chunks.append(self._arrived.popleft()[1:])
            if chunks or (await self.peek()).kind is not Kind.DATA:
                return chunks

    def widen(self, max_payload: int) -> None:
        """Allow payloads of `max_payload` bytes from now on, since the handshake is over."""
        self.stream.change_format(frame_format(max_payload))
        self.max_payload = max_payload

    async def _wait(self) -> None:
        """Wait until there is a payload. Before the handshake is over they are taken one by one: its end changes the format."""
        self._taken += 1
        if self._taken > MESSAGES_PER_TURN:
            self._taken = 0
            await asyncio.sleep(0)  # a flood of messages must not keep others from their turn
        if not self._arrived and self.max_payload == messages.MAX_EARLY_PAYLOAD:
            self._arrived.append(memoryview(await self.stream.recv()))
        while not self._arrived:
            batch = await self.stream.recv_batch()
            self._arrived.extend(map(batch.view, range(len(batch))))

    async def _answer(self, message: Message) -> None:
        """Do what a message asks for that has its place anywhere."""
        if message.kind is Kind.PING:
            await self.stream.send(messages.encode_bytes(Kind.PONG, bytes(message.data)))
        elif message.kind is Kind.GOAWAY:
            self.going_away = True


def misplaced(message: Message) -> OperationError:
    """Return what is said of a message that is right, and has no place where it came."""
    return OperationError("bad_message", f"{message.kind.name} has no place here")


class ClientSession(Session):
    """A client's end: what `connect` gives. Operations that are begun at the same time wait for each other."""

    def __init__(self, stream: aio.FrameStream) -> None:
        super().__init__(stream)
        _find_out_if_lost(stream.transport.get_extra_info("socket"))
        self.welcome = Fields()  # what the server said of itself
        self._turn = asyncio.Lock()
        self._running = False
        self._is_cut = False

    async def shake_hands(self, key: str | None, token: str | None) -> None:
        """Greet the server, and prove to each other that both know `token`, which does not travel."""
        nonce = credentials.new_nonce()
        await self.send(Kind.HELLO, version=messages.VERSION, agent=AGENT, nonce=nonce)
        self.welcome = (await self.expect(Kind.WELCOME)).fields
        if self.welcome.integer("version") != messages.VERSION:
            raise OperationError("unsupported", f"the server speaks version {self.welcome['version']} of the protocol")
        if "token" in self.welcome.texts("auth"):
            await self._authenticate(nonce, self.welcome.text("nonce"), key, token)
        elif token is not None:  # whoever sits there could be anybody, and was to prove that it is not
            raise OperationError("unauthenticated", NO_PROOF)
        self.widen(self.welcome.object("limits").integer("max_payload", least=1024, most=arguments.MOST_PAYLOAD))

    async def receive(self) -> Message:
        """Return the next message; raise the OperationError that an ERROR is."""
        message = await super().receive()
        if message.kind in (Kind.RESULT, Kind.ERROR):
            self._running = False
        if message.kind is Kind.ERROR:
            raise OperationError(message.fields.text("code", most=64), message.fields.text("message", default=""))
        return message

    @contextlib.asynccontextmanager
    async def operation(self, name: str, /, **arguments: Any) -> AsyncIterator[Fields]:
        """Begin an operation: `async with session.operation(...) as opened`, which has to receive until its RESULT.

        What leaves the body before that ends the operation: the server is told to stop, and the session can be used again,
        unless the task was cancelled.
        """
        async with self._turn:
            if self._is_cut:
                raise ConnectionAbortedError("the connection was cut in the middle of an operation")
            if self.going_away:
                raise OperationError("going_away")
            try:
                await self.send(Kind.OPEN, operation=name, **arguments)
                self._running = True
                yield (await self.expect(Kind.OPENED)).fields
            except Exception:
                if self._running:
                    await self._cancel()
                raise
            except BaseException:
                self._cut()
                raise

    async def result(self) -> Fields:
        """Return what an operation's RESULT says."""
        return (await self.expect(Kind.RESULT)).fields

    async def ping(self) -> float:
        """Return how many seconds the server took to answer a PING; between operations only."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            start = loop.time()
            await self.stream.send(messages.encode_bytes(Kind.PING, b"ping"))
            while True:
                await self._wait()
                message = messages.decode(self._arrived.popleft())
                if message.kind is Kind.PONG:
                    return loop.time() - start
                await self._answer(message)

    async def close(self) -> None:
        """End the connection. Safe to repeat."""
        await self.stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self.close()

    async def _authenticate(self, nonce: str, server_nonce: str, key: str | None, token: str | None) -> None:
        if key is None or token is None:
            raise OperationError("unauthenticated", "the server wants a token")
        challenge = credentials.Challenge(key, nonce, server_nonce)
        await self.send(Kind.AUTH, key=key, proof=credentials.proof(token, "client", challenge))
        answer = (await self.expect(Kind.AUTHENTICATED)).fields.text("proof")
        if not credentials.is_proof(answer, token, "server", challenge):
            raise OperationError("unauthenticated", "the server does not know the token")

    async def _cancel(self) -> None:
        """Have the server stop, and take what was on its way to the last message; cut the connection if that does not come."""
        try:
            with contextlib.suppress(OperationError, *GONE):
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self.send(Kind.CANCEL)
                    while self._running:
                        await self.receive()
        finally:
            if self._running:  # it did not come in time, or what came is no message, or this was cancelled
                self._cut()

    def _cut(self) -> None:
        """Cut the connection. What had come on it belongs to no other operation."""
        self.stream.abort()
        self._is_cut = True
        self._running = False


def _find_out_if_lost(connection: socket.socket) -> None:
    """Have the loss of the server's machine found out while nothing is sent: a server may hash or sync for long."""
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // KEEPALIVE_PROBES)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


class connect:  # noqa: N801  it is called like a function
    """Connect to a framed server: `async with connect(...) as session`, or `await` it.

    The address and TLS as for `aio.connect`; `token`: key and token, for a server that asks for one: a server that does not is
    refused, since it proves nothing; `timeout`: seconds until connection and handshake must stand.

    Raise OSError if there is no connection, TimeoutError, OperationError if the server refuses, `FrameError` if it is no such
    server, ValueError unless there is one address.
    """

    session_class: type[ClientSession] = ClientSession

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        ssl: tls.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        token: tuple[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self._connection = aio.connect(
            host, port, path=path, format=EARLY_FORMAT, ssl=ssl, server_hostname=server_hostname, timeout=timeout
        )
        self._token = token or (None, None)
        self._timeout = timeout

    def __await__(self) -> Generator[Any, None, ClientSession]:
        return self._connect().__await__()

    async def __aenter__(self) -> ClientSession:
        self._session = await self._connect()
        return self._session

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self._session.close()

    async def _connect(self) -> ClientSession:
        async with asyncio.timeout(self._timeout):
            stream = await self._connection
            session = self.session_class(stream)
            try:
                await session.shake_hands(*self._token)
            except BaseException:
                stream.abort()
                raise
        return session
