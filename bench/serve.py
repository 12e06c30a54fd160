"""The echo servers in Python: `python -m fastframe.bench.serve WAY [LOOP] [CERTIFICATE]` runs one until it is killed.

    callback      ours: FrameProtocol, frames_received and send_many        asyncio, uvloop or aiofastnet
    batch         ours: FrameProtocol, batch_received and send_batch        the same, and so for the two that follow
    stream        ours: FrameStream, a task for each connection, recv and send
    readexactly   asyncio's streams, two `readexactly` a frame
    picows        WebSocket frames, for picows has no others                asyncio or uvloop
    sync          ours: fastframe.sync, a thread for each connection
    socketserver  ThreadingTCPServer, two receptions of an exact number of bytes a frame
    twisted       Int32StringReceiver

Each is written as its own documentation has it. None collects answers of its own accord: who sends each by itself shows what
that costs. All stop reading while the peer does not take what was sent, and disable Nagle's algorithm, as asyncio does.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import socketserver
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from fastframe import FrameBatch, FrameFormat, aio, sync
from fastframe.servers import memory

FORMAT: Final = FrameFormat("u32be")
HOST: Final = "127.0.0.1"
LIMITS: Final = aio.Limits(max_connections=None)


def main(argv: list[str]) -> None:
    way, loop, certificate = (*argv, "", "")[:3]
    if way in OWN:
        run_on(loop, serve_own(OWN[way], certificate))
    elif way in PEERS:
        run_on(loop, PEERS[way](certificate))
    else:
        BLOCKING[way]()


def say_where(port: int) -> None:
    print(f"listening on {HOST}:{port}", flush=True)


def run_on(loop: str, serve: Any) -> None:
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(serve)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes a loop of that kind; raise ModuleNotFoundError if it is not installed."""
    if name == "asyncio":
        return asyncio.new_event_loop
    module = importlib.import_module(name)
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop if name == "uvloop" else module.loop_factory()
    return factory


def tls_context(certificate: str) -> ssl.SSLContext | None:
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


# ours


async def serve_own(handler: Any, certificate: str) -> None:
    if certificate:
        memory.spare()
    context = tls_context(certificate)
    # The one place where the benchmarks start our own asyncio servers. Their limits are the default ones, which everybody pays
    # for, but for the number of connections.
    async with await aio.serve(handler, HOST, 0, format=FORMAT, ssl=context, limits=LIMITS) as server:
        print("listening on", *server.addresses, flush=True)
        await asyncio.Event().wait()


class Callback(aio.FrameProtocol):
    def frames_received(self, frames: list[bytes]) -> None:
        self.send_many(frames)


class Batch(aio.FrameProtocol):
    def batch_received(self, batch: FrameBatch) -> None:
        self.send_batch(batch)


async def stream(peer: aio.FrameStream) -> None:
    async for payload in peer:
        await peer.send(payload)


def serve_sync() -> None:
    def echo(peer: sync.FrameSocket) -> None:
        with peer, contextlib.suppress(OSError):
            for payload in peer:
                peer.send(payload)

    with sync.listen(HOST, 0, format=FORMAT) as listener:
        print("listening on", *listener.addresses, flush=True)
        for peer in listener:
            threading.Thread(target=echo, args=(peer,), daemon=True).start()


# peers


async def serve_readexactly(certificate: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                header = await reader.readexactly(4)
                (length,) = struct.unpack(">I", header)
                if length > FORMAT.max_payload_length:
                    break
                payload = await reader.readexactly(length)
                writer.write(header + payload)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0, ssl=tls_context(certificate))
    say_where(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def serve_picows(_certificate: str) -> None:
    picows = importlib.import_module("picows")

    class Echo(picows.WSListener):  # type: ignore[misc, name-defined]  # a class of a module imported by name
        def on_ws_connected(self, transport: Any) -> None:
            self.transport = transport.underlying_transport

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())

        def pause_writing(self) -> None:
            self.transport.pause_reading()

        def resume_writing(self) -> None:
            self.transport.resume_reading()

    server = await picows.ws_create_server(lambda _: Echo(), HOST, 0, max_frame_size=FORMAT.max_payload_length)
    say_where(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def serve_socketserver() -> None:
    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):
                while header := recv_exact(self.request, 4):
                    (length,) = struct.unpack(">I", header)
                    if length > FORMAT.max_payload_length:
                        break
                    self.request.sendall(header + recv_exact(self.request, length))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server((HOST, 0), Echo) as server:
        say_where(server.server_address[1])
        server.serve_forever()


def recv_exact(connection: socket.socket, length: int) -> bytearray:
    """Return so many bytes; none at the end of the stream."""
    data = bytearray(length)
    view = memoryview(data)
    while view:
        received = connection.recv_into(view)
        if not received:
            return bytearray()
        view = view[received:]
    return data


def serve_twisted() -> None:
    protocol, basic, reactor = (
        importlib.import_module(name)
        for name in ("twisted.internet.protocol", "twisted.protocols.basic", "twisted.internet.reactor")
    )

    class Echo(basic.Int32StringReceiver):  # type: ignore[misc, name-defined]  # a class of a module imported by name
        MAX_LENGTH = FORMAT.max_payload_length

        def connectionMade(self) -> None:  # noqa: N802
            self.transport.setTcpNoDelay(True)
            self.transport.registerProducer(self, True)  # who pauses while the answers are not taken

        def stringReceived(self, payload: bytes) -> None:  # noqa: N802
            self.sendString(payload)

    port = reactor.listenTCP(0, protocol.Factory.forProtocol(Echo), interface=HOST)
    say_where(port.getHost().port)
    reactor.run()


OWN: Final[dict[str, Any]] = {"callback": Callback, "batch": Batch, "stream": stream}
PEERS: Final = {"readexactly": serve_readexactly, "picows": serve_picows}
BLOCKING: Final = {"sync": serve_sync, "socketserver": serve_socketserver, "twisted": serve_twisted}


if __name__ == "__main__":
    main(sys.argv[1:])
