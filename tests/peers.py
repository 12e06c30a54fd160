"""What the tests of the serving modules share: two loops, a server, and peers that see the bytes.

asyncio's loop gets a clock that is set forward to the next timer whenever nothing else happens: its deadlines take no time, and
are exact on a busy machine too. uvloop's clock is the real one.
"""

import asyncio
import contextlib
import functools
import selectors
import socket
import ssl
import struct
import sys
import threading
import time

import aiofastnet
import trustme
import uvloop

from fastframe import FrameFormat, aio

U32 = FrameFormat("u32be", max_payload_length=2 << 20)
READ_SIZE = 256 * 1024
QUIET_SECONDS = 0.001  # nothing comes over loopback for so long: nothing will come before the next timer


class _LeapingSelector(selectors.DefaultSelector):
    """Move the clock instead of waiting."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0

    def select(self, timeout=None):
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(QUIET_SECONDS)
        if not events:
            self.now += timeout
        return events


def leaping_loop() -> asyncio.AbstractEventLoop:
    selector = _LeapingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now
    return loop


def leaps() -> bool:
    """Tell whether this loop's clock leaps, so that a time can be told exactly."""
    return isinstance(getattr(asyncio.get_running_loop(), "_selector", None), _LeapingSelector)


LOOPS = {"asyncio": leaping_loop, "uvloop": uvloop.new_event_loop}
ALL_LOOPS = {**LOOPS, "aiofastnet": aiofastnet.loop_factory()}


def play(loop_factory, main, expect_complaints=()) -> None:
    """Run `main()`; what the loop would only log fails the test, unless it begins as expected, or anything may come (None)."""
    complaints = []

    async def limited():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with asyncio.timeout(3600 if loop_factory is leaping_loop else 40):
            await main()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(limited())
    if expect_complaints is None:
        return
    told = [complaint["message"] for complaint in complaints]
    assert len(told) == len(expect_complaints), complaints
    assert all(map(str.startswith, told, expect_complaints)), complaints


async def until(condition) -> None:
    """Let the loop turn until it has done what nothing else tells; the clock that leaps stands still meanwhile."""
    latest = time.monotonic() + 25
    while not condition():
        assert time.monotonic() < latest
        await asyncio.sleep(0)


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's, which two threads may ask for at once."""
    with _making:
        return _make_tls_contexts()


_making = threading.Lock()  # two that both made them would not trust each other


@functools.cache
def _make_tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def where(server) -> tuple[str, int]:
    """The address of a server's first listener."""
    host, _, port = server.addresses[0].rpartition(":")
    return host.strip("[]"), int(port)


class Recorder(aio.FrameProtocol):
    """Echo, and keep what was called."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.calls = []
        self.over = asyncio.get_running_loop().create_future()

    def connected(self):
        self.calls.append("connected")

    def frames_received(self, frames):
        self.calls.append(list(frames))
        self.send_many(frames)

    def ended(self, error):
        self.calls.append("ended")
        self.over.set_result(error)


async def echo(stream) -> None:
    async for payload in stream:
        await stream.send(payload)


class Peer:
    """The other end: a socket without a codec, that reads when it is told to and not before."""

    def __init__(self, raw: socket.socket):
        raw.setblocking(False)
        self.raw = raw

    @classmethod
    async def connect(cls, server, source: str | None = None, receive_buffer: int | None = None):
        host, port = where(server)
        raw = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the clock that leaps does not wait for Nagle
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            raw.bind((source, 0))
        peer = cls(raw)
        try:
            await asyncio.get_running_loop().sock_connect(raw, (host, port))
            await peer.begin()
        except BaseException:
            raw.close()
            raise
        return peer

    async def begin(self) -> None:
        """Do what comes before the first frame."""

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.raw, data)

    async def some(self, most: int = READ_SIZE) -> bytes:
        """Receive what comes next; nothing at the end."""
        return await asyncio.get_running_loop().sock_recv(self.raw, most)

    async def recv(self, length: int = sys.maxsize) -> bytes:
        """Receive that many bytes, or fewer at the end; without a length all up to the end."""
        data = bytearray()
        while len(data) < length and (more := await self.some(min(READ_SIZE, length - len(data)))):
            data += more
        return bytes(data)

    async def fate(self) -> str:
        """Tell how the connection ends: "end" or "reset"; nothing must come before that."""
        try:
            assert await self.some() == b""
        except ConnectionResetError:
            return "reset"
        return "end"

    async def end(self) -> None:
        """Send no more."""
        self.raw.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()

    def close(self) -> None:
        self.raw.close()


class TlsPeer(Peer):
    """The same through TLS."""

    async def begin(self) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = tls_contexts()[1].wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        await self._exchange(self.session.do_handshake)

    async def send(self, data: bytes) -> None:
        self.session.write(data)
        await self._pass_on()

    async def some(self, most: int = READ_SIZE) -> bytes:
        try:
            return await self._exchange(self.session.read, most)
        except ssl.SSLZeroReturnError:
            return b""

    async def end(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):  # the other side's end
            self.session.unwrap()
        await self._pass_on()

    async def _exchange(self, step, *arguments):
        """Do what needs bytes, until it has enough of them."""
        while True:
            try:
                result = step(*arguments)
            except ssl.SSLWantReadError:
                await self._pass_on()
                if more := await super().some():
                    self.incoming.write(more)
                else:
                    self.incoming.write_eof()
            else:
                await self._pass_on()
                return result

    async def _pass_on(self) -> None:
        if self.outgoing.pending:
            await super().send(self.outgoing.read())


PEERS = {"plain": Peer, "tls": TlsPeer}


@contextlib.asynccontextmanager
async def peer_of(server, kind=Peer, **options):
    peer = await kind.connect(server, **options)
    try:
        yield peer
    finally:
        peer.close()


@contextlib.asynccontextmanager
async def serving(handler, kind=Peer, **limits):
    """Serve peers of a kind, and yield the server."""
    context = tls_contexts()[0] if kind is TlsPeer else None
    async with await aio.serve(handler, "127.0.0.1", 0, format=U32, ssl=context, limits=aio.Limits(**limits)) as server:
        yield server


def counted(server) -> dict[str, int]:
    """What the server counted beside connections."""
    return {name: count for name, count in server.counters.items() if count and name != "accepted"}


def now() -> float:
    return asyncio.get_running_loop().time()
