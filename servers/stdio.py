"""Standard input and outputs on an event loop, which goes on while nobody writes or reads there.

To make a descriptor non-blocking would make it so for everybody who shares it, the shell at a terminal among them. So a pipe or
a terminal is opened once more, for this program alone, which Linux can. Anything else that lets one wait, as a socket, is
asked whether it is ready first, and then given so little that it does not block (pipe(7), PIPE_BUF). Files let nobody wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import select
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

BLOCK_SIZE: Final = 64 * 1024  # bytes that are read at a time: all that a pipe holds
MOST_PIECES: Final = 1024  # in one write (IOV_MAX of Linux, the BSDs and macOS)
# Bytes of a pipe that is full, instead of 64 KiB: both sides wait less often, which takes a fifth less of
# processor time. Linux gives a user 64 MiB for all pipes, and thereafter new ones of 8 KiB: so not more, and not sooner.
PIPE_SIZE: Final = 256 * 1024
LEAST_WRITE: Final = select.PIPE_BUF  # bytes for which there is room where there is any


class Unread(Exception):  # noqa: N818  a BrokenPipeError could be of the connection
    """Nobody reads an output any more."""


class Unusable(Exception):  # noqa: N818
    """A standard stream fails; the text says which, and why."""


class Standard:
    """A standard stream, which people know as `name`."""

    def __init__(self, number: int, name: str, flags: int, event: int) -> None:
        kind = os.fstat(number).st_mode
        self._name = name
        self._waits = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or os.isatty(number)
        own = None if stat.S_ISSOCK(kind) or not self._waits else _opened_again(number, flags)
        self._is_own = own is not None
        self._file = number if own is None else own
        self._poll = select.poll()
        self._poll.register(self._file, event)

    def close(self) -> None:
        """Close what was opened here; the stream itself stays open."""
        if self._is_own:
            os.close(self._file)

    @contextlib.contextmanager
    def _used(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise Unread from None
        except OSError as error:
            raise Unusable(f"{self._name}: {error.strerror or error}") from error

    def _is_ready(self) -> bool:
        return not self._waits or bool(self._poll.poll(0))

    async def _wait(self, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
        ready = asyncio.get_running_loop().create_future()
        add(self._file, _wake, ready)
        try:
            await ready
        finally:
            remove(self._file)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class Input(Standard):
    """Standard input."""

    def __init__(self) -> None:
        super().__init__(0, "standard input", os.O_RDONLY, select.POLLIN)

    async def read(self) -> bytes:
        """Return the bytes that are there, as soon as there are some; b"" at the end. Raise Unusable."""
        loop = asyncio.get_running_loop()
        while True:
            with self._used(), contextlib.suppress(BlockingIOError):
                # A read of a terminal stops a program in the background, and so there is none before somebody types.
                if self._is_ready():
                    return os.read(self._file, BLOCK_SIZE)
            await self._wait(loop.add_reader, loop.remove_reader)


class Output(Standard):
    """Standard output or standard error. `at_line_start`: whether nothing was written, or a line feed last."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(number, name, os.O_WRONLY, select.POLLOUT)
        self.at_line_start = True
        self._widens = self._is_own and hasattr(fcntl, "F_SETPIPE_SZ")

    async def write(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Write all of `pieces`, without a copy. Raise Unread, Unusable."""
        loop = asyncio.get_running_loop()
        left = deque(memoryview(piece) for piece in pieces if piece)
        if left:
            self.at_line_start = left[-1][-1] == ord("\n")
        while left:
            if written := self._write(left):
                _drop(left, written)
            elif self._widens:
                self._widen()
            else:
                await self._wait(loop.add_writer, loop.remove_writer)

    def _widen(self) -> None:
        self._widens = False
        with contextlib.suppress(OSError):  # it is no pipe, or the user has too many, or it holds more than that
            fcntl.fcntl(self._file, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    def _write(self, pieces: deque[memoryview]) -> int:
        """Write what goes without waiting, and return how many bytes."""
        with self._used(), contextlib.suppress(BlockingIOError):
            if self._is_own or not self._waits:
                return os.writev(self._file, list(itertools.islice(pieces, MOST_PIECES)))
            if self._is_ready():
                return os.write(self._file, pieces[0][:LEAST_WRITE])
        return 0


def _drop(pieces: deque[memoryview], count: int) -> None:
    """Take `count` bytes away from the beginning."""
    while count:
        first = pieces.popleft()
        if count < len(first):
            pieces.appendleft(first[count:])
        count -= min(count, len(first))


def _opened_again(number: int, flags: int) -> int | None:
    try:
        return os.open(f"/proc/self/fd/{number}", flags | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # no such directory, or a terminal of another user, or a pipe that nobody reads
        return None
