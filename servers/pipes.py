"""What a command reads and writes: the server's ends of its pipes, on the event loop, in bounded memory.

Output is read when the client has taken what was read before, so that a command writes as fast as its client reads. Input is
taken up to what was granted (CREDIT), which is granted again as the command reads.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import functools
import os
import termios
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from . import channel
from .errors import OperationError

if TYPE_CHECKING:
    from .keepers import Command

PIPE_SIZE: Final = 1024 * 1024  # bytes, the most that anybody may have: who writes much is woken less often
CREDIT: Final = 256 * 1024  # bytes of input that may wait for the command
GRANT: Final = CREDIT // 4  # bytes that it has read, until they are granted again


def open_pipes(has_input: bool) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """Return the ends of pipes: the command's stdout, stderr and perhaps stdin; our stdin (or -1), stdout and stderr.

    Ours do not block. Raise OSError.
    """
    opened: list[int] = []
    try:
        for _ in range(3 if has_input else 2):
            opened += os.pipe()
    except OSError:
        channel.close_all(opened)
        raise
    ours_out, stdout, ours_err, stderr, *stdin = opened
    ours_in = stdin[1] if has_input else -1
    for descriptor in (ours_out, ours_err, *stdin[1:]):
        os.set_blocking(descriptor, False)
    with contextlib.suppress(OSError):  # a user may have 64 MiB of larger pipes
        fcntl.fcntl(ours_out, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return (stdout, stderr, *stdin[:1]), (ours_in, ours_out, ours_err)


class Output:
    """One stream of output, from the pipe to `send`, which returns how many bytes it has sent.

    `is_over` once it has ended; `on_over(error)` is called then, with what `send` raised. There is a task only while something
    is sent: most commands write little or nothing.
    """

    def __init__(
        self,
        command: Command,
        descriptor: int,
        send: Callable[[bytes], Awaitable[int]],
        on_over: Callable[[BaseException | None], None],
        block: int,
    ) -> None:
        self._command = command
        self._descriptor = descriptor
        self._send = send
        self._block = block  # bytes that are read at once, at most
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._sending: asyncio.Task[None] | None = None
        self._is_at_end = False  # when the last piece was sent
        self._rest: int | None = None  # bytes that were there when the command ended: what comes later is somebody else's
        self.is_over = False
        self.size = 0  # bytes sent
        self._loop.add_reader(descriptor, self.read)

    def read(self) -> None:
        """Send what is there, if anything is: the pipe can be read, or nobody is left who could write to it."""
        if self._sending is not None or self.is_over:
            return
        data = self._read()
        if data:
            self._loop.remove_reader(self._descriptor)
            self._sending = self._loop.create_task(self._send_all(data))
            self._sending.add_done_callback(self._sent)
        elif data is not None:
            self._end(None)

    async def close(self) -> None:
        """Read no more."""
        self._on_over = lambda _: None
        self._end(None)
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait((self._sending,))

    def _read(self) -> bytes | None:
        """Return what is there, b"" if nothing more will come, None if something may."""
        if self._rest is None and self._command.ended.done():
            self._rest = _waiting(self._descriptor)
        try:
            data = os.read(self._descriptor, self._block if self._rest is None else min(self._block, self._rest))
        except BlockingIOError:
            return None
        if self._rest is not None:
            self._rest -= len(data)
        return data

    async def _send_all(self, data: bytes | None) -> None:
        while data:
            self.size += await self._send(data)
            await asyncio.sleep(0)  # or who writes as fast as this is sent would have the event loop for itself
            data = self._read()
        self._is_at_end = data is not None

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sending = None
        if self.is_over or sending.cancelled():
            return
        if (error := sending.exception()) is not None or self._is_at_end:
            self._end(error)
        else:
            self._loop.add_reader(self._descriptor, self.read)
            if self._command.ended.done():  # while this waited for its turn
                self.read()

    def _end(self, error: BaseException | None) -> None:
        if not self.is_over:
            self._loop.remove_reader(self._descriptor)
            self.is_over = True
            self._on_over(error)


class Outputs:
    """stdout and stderr of a command, to `send(number, data)`: up to `most` bytes in all, and more of it ends the command.

    `over` is done once both streams have ended and nothing is left of the command, or has the error that ended it.
    """

    def __init__(self, command: Command, send: Callable[[int, bytes], Awaitable[int]], most: int | None, block: int) -> None:
        self._command = command
        self._send = send
        self._most = most
        self._taken = 0  # bytes
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stdout = Output(command, command.stdout, functools.partial(self._take, 1), self.check, block)
        self.stderr = Output(command, command.stderr, functools.partial(self._take, 2), self.check, block)
        command.ended.add_done_callback(self._ended)

    def check(self, error: BaseException | None = None) -> None:
        """See whether it is all over, or has failed."""
        if self.over.done():
            return
        if error is not None:
            self.over.set_exception(error)
        elif self._command.ended.done() and self.stdout.is_over and self.stderr.is_over:
            self.over.set_result(None)

    async def close(self) -> None:
        """Read no more."""
        self.over.cancel()
        await self.stdout.close()
        await self.stderr.close()

    def _ended(self, _: object) -> None:
        self.stdout.read()
        self.stderr.read()
        self.check()

    async def _take(self, number: int, data: bytes) -> int:
        if self._most is not None and self._taken + len(data) > self._most:
            data = data[: self._most - self._taken]
            self._command.end("limit", "output")
        self._taken += len(data)
        return await self._send(number, data) if data else 0


class Input:
    """The stream of input, from messages to the pipe. `grant` tells the client how much more it may send."""

    def __init__(self, command: Command, grant: Callable[[int], Awaitable[None]]) -> None:
        self._command = command
        self._grant = grant
        self._credit = CREDIT
        self._granted = 0  # bytes to grant again, once they are worth a message
        self._taken = 0  # bytes that came
        self._waiting = bytearray()
        self._came = asyncio.Event()
        self._is_ended = command.stdin < 0
        self.size = 0  # bytes that the pipe took

    def take(self, data: memoryview) -> None:
        """Take what came; raise OperationError (bad_message) if it is more than was granted, or comes after its end."""
        self._credit -= len(data)
        self._taken += len(data)
        if self._credit < 0 or self._is_ended:
            raise OperationError("bad_message", "more input than was granted" if self._credit < 0 else "input after its end")
        self._waiting += data  # copied: one byte of it would keep in memory all that it came with
        self._came.set()

    def end(self, size: object) -> None:
        """Take the end of the stream; raise OperationError (bad_message) if it has been there, or its `size` is another."""
        if self._is_ended:
            raise OperationError("bad_message", "input has ended twice")
        if size != self._taken:
            raise OperationError("bad_message", f"{self._taken} bytes of input came, and {size!r} were sent")
        self._is_ended = True
        self._came.set()

    async def run(self) -> None:
        """Write what comes. What the command does not want to read is thrown away."""
        while self._waiting or not self._is_ended:
            await self._came.wait()
            self._came.clear()
            data, self._waiting = memoryview(self._waiting), bytearray()
            while data:
                written = await self._write(data)
                data = data[written:]
                await self._free(written)
        self._command.close_stdin()

    async def _write(self, data: memoryview) -> int:
        """Return how many bytes the pipe took; all of them if nobody reads it any more."""
        while self._command.stdin >= 0:
            try:
                written = os.write(self._command.stdin, data)
            except BlockingIOError:
                await self._room()
            except BrokenPipeError:
                self._command.close_stdin()
            else:
                self.size += written
                return written
        return len(data)

    async def _free(self, count: int) -> None:
        """Grant what is no longer waiting."""
        self._granted += count
        if self._granted >= GRANT:
            granted, self._granted = self._granted, 0
            self._credit += granted
            await self._grant(granted)

    async def _room(self) -> None:
        """Wait until the pipe takes more."""
        loop, descriptor = asyncio.get_running_loop(), self._command.stdin
        ready = loop.create_future()
        loop.add_writer(descriptor, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_writer(descriptor)


def _waiting(descriptor: int) -> int:
    """Return how many bytes a pipe holds."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]
