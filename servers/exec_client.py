"""The client of the exec server: one command after the other, each with its input, its two outputs and its result.

    async with exec_client.connect("127.0.0.1", 9000, token=("alice", "...")) as client:
        done = await client.run("ls", "-l")
        async with client.start("sort") as command:
            await command.write(b"some lines")
            await command.write_eof()
            async for stream, data in command: ...

Messages of all kinds come one behind the other, and whoever waits for one of them receives: who reads, output, and who writes,
credit. Each puts aside what the other waits for. A writer whom nobody reads beside puts output aside up to a bound, and then
waits for a reader: so nothing is received that nobody wants, and the command waits where it writes, as it does for a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal as signals
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from . import messages, session
from .errors import OperationError
from .messages import SIGNALS, Fields, Kind

if TYPE_CHECKING:
    from .session import ClientSession

MOST_OUTPUT: Final = 64 * 1024 * 1024  # bytes that `run` collects unless told: of a command that writes without end
HELD: Final = 1024 * 1024  # bytes of output that a writer puts aside: as much as the largest message there is by default
PIECE_COST: Final = 256  # bytes that a piece costs besides
REASONS: Final = ("exited", "signaled", "timeout", "limit", "cancelled", "drained")
UNKNOWN_SIGNAL: Final = 127  # the number of a signal that only the server's system has

Stream = Literal["stdout", "stderr"]
Piece = tuple[Stream, memoryview]
Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. Sizes are in bytes, times in seconds."""

    reason: str  # one of REASONS: `exited` and `signaled` if the server had nothing to do with it
    status: int | None  # with which the program exited
    signal: str | None  # which ended it instead, as "TERM", or as "35" if it has no name
    limit: str  # which it was over, if that is the reason: cpu, memory, processes, file_size, output
    denied: tuple[str, ...]  # what the sandbox refused at least once: network, read, write
    left: int  # processes that the program left behind, which were killed
    stdin: int  # what was handed to the program
    stdout: int
    stderr: int
    user_seconds: float
    system_seconds: float
    peak_memory: int
    seconds: float

    @property
    def returncode(self) -> int:
        """The status, or -N if signal N of this system ended the program, as `subprocess` has it."""
        return self.status if self.status is not None else -_signal_number(self.signal or "")

    @property
    def shell_status(self) -> int:
        """The status, or 128 + N if signal N of this system ended the program, as shells have it."""
        return self.returncode if self.returncode >= 0 else 128 - self.returncode


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended, and all that it wrote."""

    result: Result
    stdout: bytes
    stderr: bytes


class Command:
    """A command that runs; `ExecClient.start` makes it.

    One task may read, and another one write at the same time: a command that writes much waits until that is read, and takes
    no more input meanwhile. Who writes and reads in turns has to write less than the command answers with, or uses
    `communicate`.

    All methods raise `OperationError` for what the server refuses, also if the output is not as long as the server says
    (wrong_size); OSError and `FrameError` if the connection fails. Anything else is a bug.
    """

    def __init__(self, client: ClientSession, opened: Fields, *, has_input: bool = True) -> None:
        self.timeout = opened.integer("timeout_ms") / 1000  # seconds that the command may take
        self.result: Result | None = None  # when it has ended, and somebody has heard so
        self._client = client
        self._credit = opened.integer("credit")  # bytes of stdin that may be sent
        self._sent = 0
        self._at_eof = not has_input  # of stdin
        self._received = {"stdout": 0, "stderr": 0}
        self._output: deque[Piece] = deque()  # which nobody has read
        self._held = 0  # bytes that it takes
        self._room = asyncio.Event()  # for more of it
        self._room.set()
        self._receiving = asyncio.Lock()
        self._failure: OperationError | None = None

    async def write(self, data: Bytes) -> None:
        """Send bytes to the command's stdin; wait until the server can take them.

        What a command does not read, or has not read when it ends, is thrown away. Raise ValueError after `write_eof`.
        """
        if self._at_eof:
            raise ValueError("write() after write_eof()")
        rest = memoryview(data).cast("B")
        while (rest := await self._send_some(rest)) and self.result is None:
            await self._room.wait()
            await self._hear_unless(lambda: self._credit or self.result)

    async def write_eof(self) -> None:
        """Tell the command that its stdin ends here. Safe to repeat."""
        if not self._at_eof and self.result is None:
            self._at_eof = True
            await self._client.send(Kind.END, size=self._sent)

    async def signal(self, name: str) -> None:
        """Send the program and its process group a signal, one of `SIGNALS`; raise ValueError for another."""
        if name not in SIGNALS:
            raise ValueError(f"{name!r} is not one of {', '.join(SIGNALS)}")
        if self.result is None:
            await self._client.send(Kind.SIGNAL, signal=name)

    async def cancel(self) -> None:
        """Have the server end the command: with SIGTERM, and SIGKILL after a while. Its output and its result still come."""
        if self.result is None:
            await self._client.send(Kind.CANCEL)

    async def read(self) -> list[Piece]:
        """Return the output that is here, at least one piece, as ("stdout" or "stderr", bytes); [] when the command has ended.

        The bytes are lent from what was received, which they keep in memory as a whole. What is not read yet stays with the
        server, and the command waits.
        """
        await self._until(lambda: self._output or self.result)
        return self._take()

    async def wait(self) -> Result:
        """Return how the command ended, when it has; throw away what it writes."""
        while self.result is None:
            await self.read()
        return self.result

    async def communicate(self, stdin: Bytes = b"", limit: int | None = MOST_OUTPUT) -> Finished:
        """Send all of the command's stdin, and return what it wrote when it has ended.

        Raise OperationError (too_large) if it writes more than `limit` bytes, stdout and stderr together, and ValueError for
        `stdin` after `write_eof`.
        """
        rest = memoryview(stdin).cast("B")
        if rest and self._at_eof:
            raise ValueError("communicate() with stdin after write_eof()")
        collected: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        while self.result is None or self._output:
            for stream, data in self._take():
                collected[stream] += data
            if limit is not None and sum(map(len, collected.values())) > limit:
                raise OperationError("too_large", f"the command wrote more than {limit} bytes")
            rest = await self._send_some(rest)
            if not rest:
                await self.write_eof()
            if self.result is None:
                await self._hear()
        return Finished(self.result, bytes(collected["stdout"]), bytes(collected["stderr"]))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        """Return the next piece of output, lent as by `read`."""
        await self._until(lambda: self._output or self.result)
        if not self._output:
            raise StopAsyncIteration
        piece = self._output.popleft()
        self._make_room(_cost([piece]))
        return piece

    async def _send_some(self, data: memoryview) -> memoryview:
        """Send what may be sent of `data`; return the rest."""
        while self.result is None and (size := min(len(data), self._credit, self._client.max_data)):
            self._credit -= size
            self._sent += size
            await self._client.send_data(data[:size])
            data = data[size:]
        return data

    async def _until(self, ready: Callable[[], object]) -> None:
        while not ready():
            await self._hear_unless(ready)

    async def _hear_unless(self, ready: Callable[[], object]) -> None:
        """Receive something, unless the task that receives already has brought about what is waited for."""
        async with self._receiving:
            if not ready():
                await self._hear()

    async def _hear(self) -> None:
        """Wait for what comes next, and put it where it belongs."""
        if self._failure is not None:
            raise OperationError(self._failure.code, self._failure.message)
        try:
            if chunks := await self._client.receive_data():
                self._keep("stdout", chunks)
            else:
                self._note(await self._client.receive())
        except OperationError as error:
            self._failure = error
            raise

    def _note(self, message: messages.Message) -> None:
        if message.kind is Kind.DATA_STDERR:
            self._keep("stderr", [message.data])
        elif message.kind is Kind.CREDIT:
            self._credit += message.fields.integer("credit")
        elif message.kind is Kind.RESULT:
            result = result_of(message.fields)
            sent = {"stdout": result.stdout, "stderr": result.stderr}
            for stream, size in self._received.items():
                if size != sent[stream]:
                    raise OperationError("wrong_size", f"{size} bytes of {stream} came, {sent[stream]} were sent")
            self.result = result
        else:
            raise session.misplaced(message)

    def _keep(self, stream: Stream, chunks: list[memoryview]) -> None:
        pieces = [(stream, chunk) for chunk in chunks if chunk]
        self._received[stream] += sum(map(len, chunks))
        self._output += pieces
        self._held += _cost(pieces)
        if self._held >= HELD:
            self._room.clear()

    def _take(self) -> list[Piece]:
        pieces = list(self._output)
        self._output.clear()
        self._make_room(self._held)
        return pieces

    def _make_room(self, size: int) -> None:
        self._held -= size
        if self._held < HELD:
            self._room.set()


class ExecClient(session.ClientSession):
    """A connection to an exec server; `connect` makes it. Commands that are started at the same time wait for each other.

    It raises `OperationError` for what the server refuses, and what it would refuse; OSError and `FrameError` if the connection
    fails. Anything else is a bug. After an OperationError the next command may follow, unless its code is bad_message,
    unauthenticated or going_away. Cancelling a task that runs a command cuts the connection, and the server ends the command.
    """

    @contextlib.asynccontextmanager
    async def start(
        self,
        name: str,
        /,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  the command's, not this method's
        has_input: bool = True,
    ) -> AsyncGenerator[Command, None]:
        """Start the command that the server's list calls `name`: `async with client.start(...) as command`.

        `environment`: variables that the list lets a client set; `timeout`: seconds that the command may take, if that is less
        than what the list says; without `has_input` its stdin is empty from the start, which saves a message. Who leaves the
        body before the command has ended cancels it; `wait` waits for it. If the server has not answered that after 5 s the
        connection is cut.
        """
        asked = request(name, arguments, environment, timeout, has_input=has_input)
        async with self.operation("exec", **asked) as opened:
            yield Command(self, opened, has_input=has_input)
            if self._running:
                await self._cancel()

    async def run(
        self,
        name: str,
        /,
        *arguments: str,
        stdin: Bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        limit: int | None = MOST_OUTPUT,
    ) -> Finished:
        """Run a command, as `start` does, and return what it wrote and how it ended; `stdin` and `limit` as for `communicate`.

        A command that fails is no error here: look at `result.returncode`.
        """
        has_input = len(stdin) > 0
        async with self.start(name, *arguments, environment=environment, timeout=timeout, has_input=has_input) as command:
            return await command.communicate(stdin, limit)


class connect(session.connect):  # noqa: N801  it is called like a function
    """Connect to an exec server: `async with connect(...) as client`; otherwise as `session.connect`."""

    session_class = ExecClient

    def __await__(self) -> Generator[Any, None, ExecClient]:
        return super().__await__()  # type: ignore[return-value]

    async def __aenter__(self) -> ExecClient:
        return await super().__aenter__()  # type: ignore[return-value]


def request(
    name: str,
    arguments: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
    *,
    has_input: bool = True,
) -> dict[str, Any]:
    """Return what OPEN asks for, as `ExecClient.start` is told it; raise OperationError for what no command can be given."""
    arguments, environment = list(arguments), dict(environment or {})
    for text in (name, *arguments, *environment, *environment.values()):
        _check_text(text)
    asked = {"name": name, "arguments": arguments, "environment": environment, "no_input": not has_input}
    if timeout is not None:
        if not 0 < timeout < math.inf:
            raise OperationError("bad_request", "the timeout is not a number of seconds above 0")
        asked["timeout_ms"] = math.ceil(timeout * 1000)
    size = len(messages.encode(Kind.OPEN, {"operation": "exec", **asked}))
    if size > messages.MAX_CONTROL:
        raise OperationError("too_large", f"name, arguments and environment take {size} bytes, {messages.MAX_CONTROL} may be")
    return asked


def result_of(fields: Fields) -> Result:
    """Return what a RESULT says; raise OperationError if that cannot be."""
    status = None if fields.get("status") is None else fields.integer("status", most=255)
    signal = None if fields.get("signal") is None else fields.text("signal", most=16)
    if (status is None) == (signal is None):
        raise OperationError("bad_message", "a program ends with a status or by a signal")
    return Result(
        reason=fields.text("reason", most=16),
        status=status,
        signal=signal,
        limit=fields.text("limit", most=16),
        denied=tuple(fields.texts("denied")),
        left=fields.integer("left"),
        stdin=fields.integer("stdin"),
        stdout=fields.integer("stdout"),
        stderr=fields.integer("stderr"),
        user_seconds=_seconds(fields, "user_seconds"),
        system_seconds=_seconds(fields, "system_seconds"),
        peak_memory=fields.integer("peak_memory"),
        seconds=_seconds(fields, "seconds"),
    )


def _check_text(text: str) -> None:
    """Raise OperationError for what the system can give no program."""
    if "\0" in text:
        raise OperationError("bad_request", f"{text!r} has a zero byte, as no argument may")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OperationError("bad_request", f"{text!r} is not UTF-8, as arguments are") from None


def _seconds(fields: Fields, name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise OperationError("bad_request", f"{name!r} is not a number of seconds")
    return float(value)


def _signal_number(name: str) -> int:
    if name.isdecimal() and int(name) < signals.NSIG:  # most real-time signals have no name
        return int(name)
    return getattr(signals, f"SIG{name}", UNKNOWN_SIGNAL)


def _cost(pieces: Iterable[Piece]) -> int:
    return sum(len(data) + PIECE_COST for _, data in pieces)
