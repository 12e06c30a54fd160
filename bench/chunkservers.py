"""Echo servers that read so much at a time and no more: `python -m fastframe.bench.chunkservers WAY [LOOP]`.

    callback   FrameProtocol, of whose memory as much is lent as a read may bring     asyncio or uvloop
    feed       asyncio's BufferedProtocol: memory of the size of a read, Decoder.feed, one write of all answers
    blocking   a thread for each connection: recv_into memory of that size, Decoder.feed, sendall

The first frame of a connection says how many bytes a read may bring, and is not answered. So one process serves all sizes, and
what differs between them is that number alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from typing import Final, cast

from fastframe import Decoder, Encoder, aio

from .serve import FORMAT, HOST, run_on, say_where, serve_own

FIRST_READ: Final = 1024  # until the first frame has come


def main(argv: list[str]) -> None:
    way, loop = (*argv, "asyncio")[:2]
    if way == "callback":
        run_on(loop, serve_own(Cut, ""))
    elif way == "feed":
        run_on(loop, serve_feed())
    else:
        serve_blocking()


class Cut(aio.FrameProtocol):
    """Ours: where a large payload is at hand, its own memory is lent, and otherwise a block of 256 KiB; here less of it."""

    read_size: int | None = None

    def get_buffer(self, sizehint: int) -> memoryview:
        return super().get_buffer(sizehint)[: self.read_size]

    def frames_received(self, frames: list[bytes]) -> None:
        if self.read_size is None:
            self.read_size = int(frames[0])
            frames = frames[1:]
        self.send_many(frames)


class Feed(asyncio.BufferedProtocol):
    """The same with memory of its own, which may be larger than what ours lends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.decoder, self.encoder = Decoder(FORMAT), Encoder(FORMAT)
        self.memory = memoryview(bytearray(FIRST_READ))
        self.told = False

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self.memory

    def buffer_updated(self, nbytes: int) -> None:
        frames = self.decoder.feed(self.memory[:nbytes])
        if frames and not self.told:
            self.told = True
            self.memory = memoryview(bytearray(int(frames.pop(0))))
        if frames:
            self.transport.write(self.encoder.encode_many(frames))

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def serve_feed() -> None:
    server = await asyncio.get_running_loop().create_server(Feed, HOST, 0)
    say_where(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def serve_blocking() -> None:
    with socket.create_server((HOST, 0)) as listener:
        say_where(listener.getsockname()[1])
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def answer(connection: socket.socket) -> None:
    decoder, encoder = Decoder(FORMAT), Encoder(FORMAT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(OSError):
        frames: list[bytes] = []
        while not frames:
            frames = decoder.feed(connection.recv(FIRST_READ))
        memory = memoryview(bytearray(int(frames.pop(0))))
        while True:
            if frames:
                connection.sendall(encoder.encode_many(frames))
            nbytes = connection.recv_into(memory)
            if not nbytes:
                return
            frames = decoder.feed(memory[:nbytes])


if __name__ == "__main__":
    main(sys.argv[1:])
