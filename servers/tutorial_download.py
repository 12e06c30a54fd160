"""The tutorial's download: a file by its name, with its MD5.

    client | name |              | ack |        | ack |
    server          | 000001 |           | 17 |        | 17 bytes | 32 hex digits |        or 000000, if there is no such file

Nothing marks where a name or an ack ends: an ack is all that comes at a time, and a name and an ack that come together are one
name, of which there is no file. An ack that does not come, because it is empty or came together with the one before, is waited
for no longer than `--ack-timeout`. Then the answer is sent all the same, and after the file the connection ends, since an ack
that is only late would be taken for the next name. A connection that is cut before the last digit is a file that failed.

Size, bytes and digits may come together too, when the client's ack was none. Ours always sends one, and counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Final

from fastframe import EndOfStreamError

from . import arguments, local, offload, tutorial, tutorial_files, tutorial_streams
from .errors import OperationError, about
from .local import LocalError, Part
from .root import NAME_BYTES_MAX, Root
from .source import Source
from .tutorial_files import BLOCK

if TYPE_CHECKING:
    from .life import Serve
    from .tutorial_files import Note
    from .tutorial_streams import RawStream

FOUND: Final = b"000001"
MISSING: Final = b"000000"
# What is no file here, and will be none the next moment. Of a server without descriptors or a disk that fails nobody can tell.
UNREACHABLE: Final = ("not_found", "bad_name", "outside_root", "not_a_file", "not_a_directory", "permission_denied")
ACK: Final = b"ok"
ACK_SECONDS: Final = 5.0  # longer than a client takes that does send one
MD5_LENGTH: Final = 32  # hex digits
SIZE: Final = re.compile(rb"[0-9]{1,19}")  # more digits no file's size has
NEW: Final = ".new"  # how the name ends until the file is whole


class Downloads:
    """Sends the files beneath `root`, one after the other on a connection; waits `patience` seconds for an ack."""

    def __init__(self, root: Root, patience: float = ACK_SECONDS) -> None:
        self._root = root
        self._patience = patience

    async def __call__(self, stream: RawStream) -> None:
        with tutorial_files.cutting(stream, "download"):
            while name := await _recv_name(stream):
                source = await offload.run(self._open, name)
                if source is None:
                    await stream.sendall(MISSING)
                elif not await self._send(stream, source):
                    return

    def _open(self, name: bytes) -> Source | None:
        """Return the file of that name, None if there is none; raise OperationError if only now nobody can tell."""
        try:
            text = name.removesuffix(b"\n").decode()  # for those who type it
            return Source(self._root.open_file(text), text, "md5")
        except UnicodeDecodeError:
            return None
        except OperationError as error:
            if error.code in UNREACHABLE:
                return None
            raise

    async def _send(self, stream: RawStream, source: Source) -> bool:
        """Send a file, and close it; tell whether both acks came."""
        with contextlib.closing(source):
            await stream.sendall(FOUND)
            first = await self._ack_came(stream)
            await stream.sendall(b"%d" % source.size)
            second = await self._ack_came(stream)
            for start in range(0, source.size, BLOCK):
                await _send_block(stream, source, start, min(start + BLOCK, source.size))
            await stream.sendall((await offload.run(source.finish)).encode())
        return first and second

    async def _ack_came(self, stream: RawStream) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                return await stream.recv() != b""
        return False


async def _recv_name(stream: RawStream) -> bytes:
    try:
        return await stream.recv_request(NAME_BYTES_MAX + 1)
    except OperationError:
        return b"\0"  # nothing has this name, nor one that is so long


async def _send_block(stream: RawStream, source: Source, start: int, stop: int) -> None:
    """Send and hash the bytes from `start` to `stop`, at the same time."""
    hashing = offload.start(source.hash, start, stop)
    try:
        await stream.sendall(await offload.run(source.read, start, stop - start))
    finally:
        await offload.settle([hashing])
    hashing.result()


def serve_download(argv: list[str]) -> int:
    parser = tutorial.server_parser(
        "download",
        "Send the files beneath a directory, each with its MD5, until SIGTERM or Ctrl-C.",
        "fastframe serve tutorial download --root /srv/files",
        usage="--root DIR [OPTION ...]",
    )
    tutorial_files.add_root(parser)
    parser.add_argument(
        "--ack-timeout",
        type=arguments.seconds,
        default=ACK_SECONDS,
        metavar="S",
        help="how long a client's ack is waited for, which may be empty (default: %(default)g)",
    )
    options = parser.parse_args(argv)

    def make(root: Root) -> Serve:
        return functools.partial(tutorial_streams.serve, Downloads(root, options.ack_timeout))

    return tutorial_files.serve(parser, options, make)


def client_download(argv: list[str]) -> int:
    parser = tutorial.client_parser(
        "download",
        f"Fetch a file. It is called PATH{NEW} until it is whole and its MD5 is right, and is gone if it never is.",
        "fastframe tutorial download big.iso",
    )
    parser.add_argument("name", metavar="NAME", help="what the server calls it")
    parser.add_argument("path", nargs="?", metavar="PATH", help="where to (default: the last part of NAME, here)")
    parser.add_argument("--replace", action="store_true", help="take the place of a file that has that name")
    tutorial_files.add_client_options(parser)
    options = parser.parse_args(argv)
    path = options.path or options.name.rpartition("/")[2]

    def work(connection: socket.socket, note: Note) -> int:
        with contextlib.closing(local.open_part(path, NEW)) as part:
            if part.size:
                raise LocalError("exists", f"{path}{NEW}: it is there already; did a download end before it could remove it?")
            try:
                part.check(replace=options.replace)
                fetch(connection, options.name, part, note)
                part.commit(time.time_ns(), 0o666 & ~_umask(), replace=options.replace)
            except BaseException:  # Ctrl-C as well
                part.remove()
                raise
            return part.size

    return tutorial_files.transfer(options, path, work)


def fetch(connection: socket.socket, name: str, part: Part, note: Note) -> None:
    """Have all of a file in `part`; raise OperationError, `EndOfStreamError`, OSError."""
    connection.sendall(os.fsencode(name))
    flag = _receive(connection, len(FOUND))
    if flag != FOUND:
        raise about(name, "not_found") if flag == MISSING else _unexpected(flag)
    connection.sendall(ACK)
    digits = _some(connection, BLOCK)
    if SIZE.fullmatch(digits) is None:
        raise _unexpected(digits)
    connection.sendall(ACK)
    size, hasher = int(digits), part.resume(0, "md5")
    while part.size < size:
        chunk = _some(connection, min(BLOCK, size - part.size))
        part.write([memoryview(chunk)])
        hasher.update(chunk)
        note(part.size, size)
    if _receive(connection, MD5_LENGTH) != hasher.hexdigest().encode():
        raise OperationError("wrong_digest")


def _receive(connection: socket.socket, length: int) -> bytes:
    """Return exactly so many bytes."""
    data = b""
    while len(data) < length:
        data += _some(connection, length - len(data))
    return data


def _some(connection: socket.socket, most: int) -> bytes:
    if chunk := connection.recv(most):
        return chunk
    raise EndOfStreamError


def _unexpected(data: bytes) -> OperationError:
    return OperationError("bad_message", f"{data[: len(FOUND)]!r} is no answer of a tutorial's server")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
