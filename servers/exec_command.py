"""`fastframe exec`: runs a command on an exec server as if it ran here, with its streams, its signals and its exit status.

    0 to 255    what the command exited with
    128 + N     signal N ended it
    124         it took longer than it may
    255         there is no such status: no connection, or the server refused, or ended the command, which then claimed success

What fastframe itself has to say are lines on stderr behind all output. Ctrl-C is passed on; again, it cancels the command; once
more, it cuts the connection, upon which the server kills the command. SIGTERM and SIGHUP cancel, and cut.
"""

from __future__ import annotations

import argparse
import asyncio
import codecs
import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from fastframe import EndOfStreamError, FrameError

from . import arguments, exec_client, logs, memory, stdio
from .errors import OperationError
from .reaching import Unreachable, reaching, session_options

if TYPE_CHECKING:
    from .exec_client import Command, Result

TIMED_OUT: Final = 124  # as of timeout(1)
FAILED: Final = 255  # as of ssh(1)
ONCE_SECONDS: Final = 0.1  # in which a signal that comes again is the same: timeout(1) sends it to us, and to our group
LIMITS: Final = {"cpu": "processor time", "processes": "process", "file_size": "file size"}  # as words; others are words


def exec_main(argv: list[str]) -> int:
    options = _parse(argv)
    try:
        connection = session_options(options)
    except arguments.UsageError as error:
        return _fail(error, 2)
    memory.keep()
    try:
        return asyncio.run(_run(connection, options))
    except stdio.Unread:
        raise BrokenPipeError from None  # which main() knows
    except Cut as error:
        return _fail("interrupted", 128 + error.number)
    except EndOfStreamError:
        return _fail("the server hung up")
    except TimeoutError as error:
        return _fail(str(error) or f"no answer within {options.timeout:g} s")
    except (Unreachable, stdio.Unusable, OperationError, FrameError, OSError) as error:
        return _fail(error)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastframe exec",
        usage="fastframe exec ADDR [OPTION ...] -- NAME [ARG ...]",
        description="Run a command on an exec server, with the streams, the signals and the exit status of this one. "
        "Status 124: it took longer than it may; 128 + N: signal N ended it; 255: it could not be run, or the server ended it.",
        epilog="example: fastframe exec build.example:9000 --tls --token ~/.fastframe-token -- ls -l",
    )
    _add_options(parser)
    options = _with_words(parser, argv)
    options.asked = {"environment": dict(options.env), "timeout": options.time_limit}
    try:
        exec_client.request(options.words[0], options.words[1:], **options.asked)
    except OperationError as error:
        parser.error(logs.escape(error.message))
    return options


def _add_options(parser: argparse.ArgumentParser) -> None:
    arguments.add_client_options(parser)
    parser.add_argument("words", nargs="*", metavar="NAME", help="what the server's list calls the command, and its arguments")
    parser.add_argument("-n", "--no-stdin", action="store_true", help="give it no input, and read none here")
    parser.add_argument(
        "--env",
        action="append",
        type=_variable,
        default=[],
        metavar="NAME=VALUE",
        help="for its environment; repeat it for more",
    )
    parser.add_argument(
        "--time-limit", type=arguments.seconds, metavar="S", help="seconds that it may take (default, and most: the server's)"
    )
    parser.add_argument(
        "--encoding",
        type=_encoding,
        metavar="E",
        help="of its output, as gbk, which is shown in the terminal's (default: bytes as they are)",
    )
    arguments.add_token_option(parser)
    parser.add_argument("--json", action="store_true", help="tell how it ended as a line of JSON, the last on standard error")
    parser.add_argument("--quiet", action="store_true", help="do not tell how it ended")


def _with_words(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse options that stand before the command, whose own are none of this one's."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    options, unknown = parser.parse_known_intermixed_args(own)
    words, behind = options.words, argv[len(own) + 1 :]
    if words and (behind or words != own[-len(words) :]):
        parser.error(f"put -- before {logs.escape(words[0])}, since options stand behind it")
    if unknown:
        parser.error(f"unrecognized arguments: {logs.escape(' '.join(unknown))}")
    options.words = words or behind
    if not options.words:
        parser.error("say which command to run")
    return options


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _encoding(text: str) -> str:
    try:
        b" ".decode(text, "replace")
    except (LookupError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no encoding of text") from None
    return text


class Cut(BaseException):  # as BaseException it cuts a connection, and nothing waits for an answer
    """The user wants no more, whatever becomes of the command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


async def _run(connection: dict[str, Any], options: argparse.Namespace) -> int:
    """Run the command, and return the exit status."""
    name, *given = options.words
    with (
        contextlib.closing(_Outlet(1, "standard output", options.encoding)) as out,
        contextlib.closing(_Outlet(2, "standard error", options.encoding)) as err,
    ):
        with reaching(options):
            client = await exec_client.connect(**connection)
        async with (
            client,
            asyncio.timeout(options.timeout) as patience,
            client.start(name, *given, **options.asked, has_input=not options.no_stdin) as command,
        ):
            patience.reschedule(None)
            with _Relay(command):
                async with _fed(command, reads=not options.no_stdin):
                    await _pass_on(command, {"stdout": out, "stderr": err})
                result = await command.wait()
        if options.json:
            await err.say(json.dumps(dataclasses.asdict(result)))
        elif not options.quiet:
            for remark in remarks(result, command.timeout):
                await err.say(f"fastframe: {remark}")
    return exit_status(result)


async def _pass_on(command: Command, outlets: dict[str, _Outlet]) -> None:
    while pieces := await command.read():
        for stream, group in groupby(pieces, itemgetter(0)):
            await outlets[stream].write([data for _, data in group])
    for outlet in outlets.values():
        await outlet.write([], final=True)


@contextlib.asynccontextmanager
async def _fed(command: Command, *, reads: bool) -> AsyncIterator[None]:
    """Give the command what comes on standard input as long as the body lasts."""
    feeding = asyncio.create_task(_feed(command) if reads else command.write_eof())
    try:
        yield
    finally:
        feeding.cancel()
        await asyncio.wait((feeding,))
        failure = None if feeding.cancelled() else feeding.exception()
    if isinstance(failure, stdio.Unusable):  # who reads has heard of anything else
        raise failure


async def _feed(command: Command) -> None:
    with contextlib.closing(stdio.Input()) as source:
        try:
            while data := await source.read():
                await command.write(data)
            await command.write_eof()
        except stdio.Unusable:
            await command.cancel()
            raise


class _Relay:
    """Passes the signals on that this process gets, while the body lasts.

    The first SIGINT goes to the command, which may go on. What comes next cancels it, what comes then cuts the connection.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._taken = 0
        self._last = (0, 0.0)  # signal, and when it came
        self._cut: Cut | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._numbers: list[int] = []

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup(1) has it, and shells for what is in the background
                self._loop.add_signal_handler(number, self._take, number)
                self._numbers.append(number)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        for number in self._numbers:
            self._loop.remove_signal_handler(number)
        if self._cut is not None:
            raise self._cut

    def _take(self, number: int) -> None:
        (last, when), now = self._last, self._loop.time()
        if number == last and now - when < ONCE_SECONDS:
            return
        self._last = (number, now)
        self._taken += 1 if number == signal.SIGINT or self._taken else 2
        if self._taken == 1:
            self._send(self._command.signal("INT"))
        elif self._taken == 2:
            self._send(self._command.cancel())
        elif self._task is not None:
            self._cut = Cut(number)
            self._task.cancel()

    def _send(self, message: Coroutine[Any, Any, None]) -> None:
        sending = self._loop.create_task(message)
        self._sending.add(sending)
        sending.add_done_callback(lambda task: task.cancelled() or task.exception())  # who reads hears that it is lost


class _Outlet:
    """An output here, and what comes to it, decoded if that is wanted."""

    def __init__(self, number: int, name: str, encoding: str | None) -> None:
        self._output = stdio.Output(number, name)
        self._decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)("replace")

    async def write(self, pieces: Sequence[bytes | memoryview], *, final: bool = False) -> None:
        """Write pieces, `final` if nothing follows that belongs to their last character."""
        if self._decoder is not None:
            text = self._decoder.decode(b"".join(pieces), final)
            pieces = [text.encode(sys.stdout.encoding, "replace")]
        await self._output.write(pieces)

    async def say(self, line: str) -> None:
        start = "" if self._output.at_line_start else "\n"
        await self._output.write([f"{start}{line}\n".encode()])

    def close(self) -> None:
        self._output.close()


def remarks(result: Result, timeout: float) -> list[str]:
    """Return what is told of how a command ended that took no more than `timeout` seconds, or was to: often nothing."""
    reasons = {
        "exited": "",
        "signaled": "",
        "timeout": f"timeout after {timeout:g} s",
        "limit": f"over its {LIMITS.get(result.limit, result.limit)} limit",
        "cancelled": "cancelled",
        "drained": "the server is ending",
    }
    ending = [
        f"killed by {_signal_name(result.signal)}" if result.signal else "",
        reasons.get(result.reason, result.reason),
    ]
    remarks = [
        ": ".join(filter(None, ending)),
        f"the sandbox refused: {', '.join(result.denied)}" if result.denied else "",
        f"processes that it left behind, and that were killed: {result.left}" if result.left else "",
    ]
    return [logs.escape(remark) for remark in remarks if remark]


def _signal_name(name: str) -> str:
    return f"signal {name}" if name.isdecimal() else f"SIG{name}"


def exit_status(result: Result) -> int:
    if result.reason == "timeout":
        return TIMED_OUT
    if result.status == 0 and result.reason not in ("exited", "signaled"):
        return FAILED
    return result.shell_status


def _fail(reason: object, status: int = FAILED) -> int:
    text = logs.escape(str(reason)) if isinstance(reason, OperationError) else reason  # a server may have written it
    print(f"fastframe: {text}", file=sys.stderr)
    return status
