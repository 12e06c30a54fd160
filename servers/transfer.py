"""The bytes of a file between a disk and a connection, for either side: the network never waits for the disk, or for a digest.

    send       sendfile of one window, while a thread hashes the same bytes, which both find in the page cache
    receive    what has come is written and hashed in two threads, while more comes

Where the bytes change between the two looks, the digest is not theirs, and the other side finds that.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from fastframe import ShortFileError

from . import digests, offload
from .errors import about, from_oserror

if TYPE_CHECKING:
    from .session import Session
    from .source import Source

# Bytes of a DATA message, unless told: as many pages as go into the largest message there is by default. With a
# quarter of it a file takes 7 to 26 % longer, with four times as much up to a fifth less (docs/benchmarks-transfer.md).
BLOCK_SIZE: Final = 1024 * 1024 - 4096
# Bytes that are sent and hashed at a time, each in a thread, which is asked for as rarely as that: to wake one takes as long as
# sending 200 KiB. Between two of them a client that cancels is heard.
WINDOW: Final = 4 * 1024 * 1024
# Below this a sendfile for each block costs more than reading many at once and copying them into frames.
SENDFILE_SIZE: Final = 64 * 1024
READ_SIZE: Final = 256 * 1024
NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)  # a sendfile takes two more; the connection is as good as before
MESSAGES: Final = 2048  # at once: who asks for blocks of one byte and never reads would have 20 MiB wait for it otherwise
# Bytes that are handed to the disk at a time, and how many wait for it at most before nothing more is received. A half of it
# costs a tenth more of processor time, the double gains half as much again, and all of them are memory that an upload takes.
PORTION: Final = 2 * 1024 * 1024
HELD: Final = 2 * PORTION
# Chunks that are smaller than that on average are copied together: each keeps in memory all that came with it, PINGs as well.
JOINED: Final = 32 * 1024
CHUNK_COST: Final = 256  # bytes that a chunk costs besides; an empty one, too


async def send(session: Session, source: Source, offset: int, block: int, note: Callable[[int], None]) -> None:
    """Send a file from `offset` on, in DATA messages of `block` bytes.

    `note` is told now and then up to where it is sent, and may raise why to stop.

    Raise OperationError (changed, io_error), and what `FrameStream.send` does.
    """
    send_window = _send_small if block < SENDFILE_SIZE else _send_large
    window = max(1, WINDOW // block) * block
    while offset < source.size:
        note(offset)
        stop = min(offset + window, source.size)
        hashing = [offload.start(source.hash, offset, stop)] if source.is_hashed else []
        try:
            await send_window(session, source, offset, stop, block)
        finally:
            await offload.settle(hashing)
        for job in hashing:
            job.result()
        offset = stop


async def _send_large(session: Session, source: Source, offset: int, stop: int, block: int) -> None:
    try:
        await session.send_file(source.descriptor, offset, stop - offset, block)
    except ShortFileError as error:
        raise about(source.name, "io_error" if error.__cause__ else "changed") from None
    except OSError as error:
        if error.errno in NO_DESCRIPTORS:
            raise from_oserror(error, source.name) from error
        raise


async def _send_small(session: Session, source: Source, offset: int, stop: int, block: int) -> None:
    size = min(max(1, READ_SIZE // block), MESSAGES) * block
    for start in range(offset, stop, size):
        data = await offload.run(source.read, start, min(size, stop - start))
        await session.send_many_data([data[at : at + block] for at in range(0, len(data), block)])


async def receive(
    data: Callable[[], Awaitable[list[memoryview]]],
    write: Callable[[list[memoryview]], None],
    hasher: digests.Hasher,
) -> None:
    """Give what `data` returns to `write` and to `hasher`, until it is []; also what came before `data` raised something.

    Raise what `data` and `write` do.
    """
    store = _Store(write, hasher)
    try:
        while chunks := await data():
            await store.take(chunks)
    finally:
        await store.finish()


class _Store:
    """Write and hash chunks in two threads. What comes meanwhile is handed over together, so that it happens rarely."""

    def __init__(self, write: Callable[[list[memoryview]], None], hasher: digests.Hasher) -> None:
        self._hasher = hasher
        self._works = (write,) if isinstance(hasher, digests.Nothing) else (write, self._hash)
        self._jobs: list[asyncio.Future[None]] = []
        self._held: list[memoryview] = []
        self._held_bytes = 0

    async def take(self, chunks: list[memoryview]) -> None:
        count = sum(map(len, chunks))
        if count < JOINED * len(chunks):
            chunks = [memoryview(b"".join(chunks))]
        self._held += chunks
        self._held_bytes += count + CHUNK_COST * len(chunks)
        idle = all(job.done() for job in self._jobs)
        if self._held_bytes >= (PORTION if idle else HELD):
            await self._hand_over()

    async def finish(self) -> None:
        """Wait for what was begun, and do what is left, unless something failed."""
        await self._hand_over()
        await self._finish_jobs()

    async def _hand_over(self) -> None:
        await self._finish_jobs()
        held, self._held, self._held_bytes = self._held, [], 0
        self._jobs = [offload.start(work, held) for work in self._works]

    async def _finish_jobs(self) -> None:
        jobs, self._jobs = self._jobs, []
        if jobs:
            await offload.settle(jobs)
        try:
            for job in jobs:
                job.result()
        except BaseException:
            self._held = []  # what is behind a gap is worth nothing
            raise

    def _hash(self, chunks: list[memoryview]) -> None:
        for chunk in chunks:
            self._hasher.update(chunk)
