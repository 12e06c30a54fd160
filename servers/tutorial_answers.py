"""What the tutorials' exec servers answer a command with, in three stages.

    Plain    stdout and stderr as they come, and nothing else: a client cannot tell where one answer ends
    Struct   i32le n | n bytes: stdout, then stderr
    Json     i32le length | JSON {"total_size", "md5", "filename", "status"} | total_size bytes: stdout, then stderr

Where the size comes first, all output has to be there before its first byte is sent: it waits in files without a name, so that
an answer takes little memory however slowly it is taken, up to a size that a client can be expected to take at once.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from fastframe import Encoder, FrameFormat

from .errors import told
from .tutorial_streams import BLOCK

if TYPE_CHECKING:
    from .tutorial_streams import RawStream

MOST_OUTPUT: Final = 64 * 1024 * 1024  # bytes of a command's output whose size comes first
# struct.pack("i", n) where tutorials are run. A line of the server's own may stand behind the output.
FORMAT: Final = FrameFormat("i32le", max_payload_length=MOST_OUTPUT + BLOCK)
IN_MEMORY: Final = 256 * 1024  # bytes of each stream, until it goes to a file
NO_OUTPUT: Final = b"(no output)\n"  # a client that waits for an answer would wait for ever


class Ending(NamedTuple):
    """How a command ended, if it began: the entry's name, its exit status, and a line if that is not all."""

    name: str = ""
    status: int | None = None
    remark: bytes = b""


class Plain:
    """An answer that is sent as it comes. Its methods raise OSError if the connection fails."""

    quit: bytes | None = None  # the request that ends a connection
    most: int | None = None  # bytes of output

    def __init__(self, stream: RawStream) -> None:
        self._stream = stream
        self._sending = asyncio.Lock()  # both outputs of a command have a task of their own
        self._is_empty = True

    async def take(self, number: int, data: bytes) -> int:  # noqa: ARG002
        """Take what a command wrote to its descriptor `number`; return how many bytes that were."""
        async with self._sending:
            self._is_empty = False
            await self._stream.sendall(data)
        return len(data)

    async def end(self, ending: Ending) -> None:
        """Send what is left to send."""
        await self._stream.sendall(ending.remark or (NO_OUTPUT if self._is_empty else b""))

    def close(self) -> None:
        """Forget what was not sent."""


class Struct(Plain):
    """An answer behind its length. `take` raises OperationError if the disk is full."""

    quit: bytes | None = b"q"
    most = MOST_OUTPUT

    def __init__(self, stream: RawStream) -> None:
        super().__init__(stream)
        self._spools = {number: tempfile.SpooledTemporaryFile(IN_MEMORY) for number in (1, 2)}  # noqa: SIM115

    async def take(self, number: int, data: bytes) -> int:
        with told("the output"):
            return self._spools[number].write(data)

    async def end(self, ending: Ending) -> None:
        await self.take(2, ending.remark)
        size = sum(spool.tell() for spool in self._spools.values())
        await self._stream.sendall(await self._header(ending, size))
        for piece in self._pieces():
            await self._stream.sendall(piece)

    def close(self) -> None:
        for spool in self._spools.values():
            spool.close()

    async def _header(self, ending: Ending, size: int) -> bytes:  # noqa: ARG002
        return Encoder(FORMAT).header(size)

    def _pieces(self) -> Iterator[bytes]:
        """Yield stdout, then stderr."""
        for spool in self._spools.values():
            spool.seek(0)
            yield from iter(functools.partial(spool.read, BLOCK), b"")


class Json(Struct):
    """An answer behind its description, which stands behind its own length: a frame, and bytes."""

    quit = None

    async def _header(self, ending: Ending, size: int) -> bytes:
        md5 = hashlib.md5(usedforsecurity=False)
        for piece in self._pieces():
            md5.update(piece)
            await asyncio.sleep(0)  # others have their turn
        fields = {"total_size": size, "md5": md5.hexdigest(), "filename": ending.name, "status": ending.status}
        return Encoder(FORMAT).encode(json.dumps(fields).encode())
