"""The tutorial's upload: a description of a file, and its bytes.

    client | i32le: length | {"file_name": "a.iso", "file_size": 17} | 17 bytes |

The server takes exactly those bytes, whole or not at all; what follows is the next description. Its answer is nothing, for the
tutorial's client reads none, but a connection that ends can be told from one that is reset. So here each is reset (SO_LINGER,
which a connection has from its listener), by the kernel too, when the server is killed; save those of whose files each is on
disk. Our client ends its own direction, and waits for which of the two comes.

There is no checksum on this wire; with `--md5` our client has it among the description, where the tutorial's server ignores it.
Nothing tells what is there already, so nothing is resumed: `fastframe put` is for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from fastframe import Encoder, EndOfStreamError, FrameFormat

from . import digests, local, messages, offload, transfer, tutorial, tutorial_files, tutorial_streams
from .errors import OperationError, about
from .staging import Staging, Upload
from .tutorial_files import BLOCK

if TYPE_CHECKING:
    from fastframe import aio

    from .life import Serve
    from .root import Root
    from .source import Source
    from .tutorial_files import Note
    from .tutorial_streams import RawStream

HEADER: Final = FrameFormat("i32le", max_payload_length=64 * 1024)
MODE: Final = 0o644  # the wire has none
WINDOW: Final = 4 * 1024 * 1024  # bytes that a client sends or hashes between two looks at its progress
LEAVE_SECONDS: Final = 2.0  # for a client to end its direction, when the server closes
COMMIT_SECONDS: Final = 600.0  # for a server to have it all on disk: a slow one needs minutes for 10 GB
RESET: Final = struct.pack("ii", 1, 0)  # struct linger: a close is a reset, unless the own direction was ended before
NOT_STORED: Final = "the server did not store it, and its log has the reason; or it has ended"


class Uploads:
    """Takes files beneath the root, one after the other on a connection."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging

    async def __call__(self, stream: RawStream) -> None:
        stored = 0
        with tutorial_files.cutting(stream, "upload"):
            try:
                while True:
                    await self._take(stream, messages.decode_fields(await stream.recv_frame(HEADER)))
                    stored += 1
            except EndOfStreamError:
                if not stored or not await _sends_no_more(stream):
                    raise ConnectionAbortedError("not everything was stored") from None

    async def _take(self, stream: RawStream, header: messages.Fields) -> None:
        """Store a file; raise OperationError, and then there is nothing of it."""
        upload = Upload(header.text("file_name"), header.integer("file_size"), time.time_ns(), MODE, owner="")
        md5 = header.text("md5", default="")
        hasher = digests.new("md5" if md5 else "none")
        await offload.run(self._staging.check, upload, replace=True)  # as the tutorial's
        partial = await offload.run(self._staging.open, upload)
        try:
            await transfer.receive(_body(stream, upload.size), partial.write, hasher)
            if hasher.hexdigest() != md5.lower():
                raise about(upload.name, "wrong_digest")
            await offload.run(partial.commit, replace=True)
        finally:
            await offload.run(partial.discard)  # unless it has its name


async def _sends_no_more(stream: RawStream) -> bool:
    """Tell whether the client has ended its direction: on a server that closes the next file may be on its way."""
    stream.in_message = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_SECONDS):
            return await stream.recv() == b""
    return False


def _body(stream: RawStream, size: int) -> Callable[[], Awaitable[list[memoryview]]]:
    """Return what receives the next `size` bytes, some at a time, and then []."""
    left = size

    async def data() -> list[memoryview]:
        nonlocal left
        if not left:
            return []
        chunk = await stream.recv(min(left, BLOCK))
        if not chunk:
            raise OperationError("wrong_size", f"{left} of {size} bytes did not come")
        left -= len(chunk)
        return [memoryview(chunk)]

    return data


async def serve(staging: Staging, *, sockets: Sequence[socket.socket], **given: Any) -> aio.FrameServer:
    """Serve on listening sockets, as `host.run` wants it."""
    for listener in sockets:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return await tutorial_streams.serve(Uploads(staging), sockets=sockets, **given)


def serve_upload(argv: list[str]) -> int:
    parser = tutorial.server_parser(
        "upload",
        "Take files into a directory, each whole or not at all, until SIGTERM or Ctrl-C. One of the same name is replaced.",
        "fastframe serve tutorial upload --root /srv/files",
        usage="--root DIR [OPTION ...]",
    )
    tutorial_files.add_root(parser)
    options = parser.parse_args(argv)
    if options.unix:
        parser.error("that a file was not stored is told by a reset, which only TCP has: leave out --unix")

    def make(root: Root) -> Serve:
        staging = Staging(root)
        with contextlib.suppress(OperationError):
            staging.remove_expired()  # what servers left that were killed
        return functools.partial(serve, staging)

    return tutorial_files.serve(parser, options, make)


def client_upload(argv: list[str]) -> int:
    parser = tutorial.client_parser(
        "upload", "Send a file, and wait until the server has it on disk.", "fastframe tutorial upload big.iso"
    )
    parser.add_argument("path", metavar="FILE")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="what the server shall call it (default: the last part of FILE)"
    )
    parser.add_argument("--md5", action="store_true", help="say its MD5, which our server compares and the tutorial's ignores")
    tutorial_files.add_client_options(parser)
    options = parser.parse_args(argv)
    if "path" in options.address:
        parser.error("that a file was not stored is told by a reset, which only TCP has: --address is host:port or [v6]:port")
    name = options.name or os.path.basename(options.path)

    def work(connection: socket.socket, note: Note) -> int:
        with contextlib.closing(local.open_source(options.path, "md5" if options.md5 else "none")) as source:
            for start in range(0, source.size, WINDOW):
                source.hash(start, min(start + WINDOW, source.size))
            try:
                send(connection, name, source, note)
            except ConnectionError:
                raise OperationError("cancelled", NOT_STORED) from None
            return source.size

    return tutorial_files.transfer(options, options.path, work)


def send(connection: socket.socket, name: str, source: Source, note: Note) -> None:
    """Send a file, and wait until it is stored; raise ConnectionError if it is not, OperationError, OSError."""
    header: dict[str, Any] = {"file_name": name, "file_size": source.size}
    if source.is_hashed:
        header["md5"] = source.digest
    connection.sendall(Encoder(HEADER).encode(json.dumps(header).encode()))
    sent = 0
    with open(source.descriptor, "rb", buffering=0, closefd=False) as file:
        while sent < source.size:
            count = connection.sendfile(file, sent, min(WINDOW, source.size - sent))
            if not count:
                raise about(source.name, "changed")
            sent += count
            note(sent, source.size)
    source.finish()
    with contextlib.suppress(OSError):  # it is reset already, as the next call tells
        connection.shutdown(socket.SHUT_WR)
    connection.settimeout(COMMIT_SECONDS)
    if connection.recv(1):
        raise OperationError("bad_message", "an answer came, where a tutorial's server has none")
