"""The tutorials' exec servers: run a command line, and answer with its output, in one of three ways (`tutorial_answers.py`).

    request: a command line, raw     answer: Plain, Struct or Json     request: ...

Who may run what, the sandbox and the limits are those of `exec.py`. The first word of a line is the name of an entry of the
list, and no shell sees the others. There is no credential: whoever reaches the address may.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import shlex
from typing import TYPE_CHECKING, Any, Final

from . import arguments, host, logs, permits, service, tutorial
from . import exec as framed
from .errors import OperationError
from .keepers import Keepers
from .messages import Fields
from .pipes import Outputs
from .tutorial_answers import Ending, Json, Plain, Struct
from .tutorial_streams import BLOCK, StreamServer

if TYPE_CHECKING:
    from .keepers import Command
    from .permits import Permit, Permits
    from .tutorial_streams import RawStream

ANYBODY: Final = "loopback:"  # who connects over TCP: no entry can have a user of that name (`permits.USER`)


class Exec:
    """The handler of one server: answers each request by an answer of its kind."""

    def __init__(self, answer: type[Plain], allowed: Permits, keepers: Keepers) -> None:
        self._answer = answer
        self._permits = allowed
        self._keepers = keepers

    async def __call__(self, stream: RawStream) -> None:
        while request := await self._request(stream):
            # Nothing else tells two requests apart that came together; an empty line among others is none.
            for line in list(filter(bytes.strip, request.splitlines())) or [b""]:
                if line == self._answer.quit:
                    return
                await self._respond(stream, line)

    async def _request(self, stream: RawStream) -> bytes:
        while True:
            try:
                return await stream.recv_request()
            except OperationError as error:
                await self._refuse(stream, error)

    async def _respond(self, stream: RawStream, line: bytes) -> None:
        try:
            with contextlib.closing(self._answer(stream)) as answer:
                await answer.end(await self._run(stream, line, answer))
        except OperationError as error:
            await self._refuse(stream, error)

    async def _refuse(self, stream: RawStream, error: OperationError) -> None:
        logs.event(logging.INFO, "operation", peer=stream.peername, outcome=error.code)
        with contextlib.closing(self._answer(stream)) as answer:
            await answer.end(Ending(remark=f"fastframe: {error}\n".encode()))

    async def _run(self, stream: RawStream, line: bytes, answer: Plain) -> Ending:
        """Run what a line names; raise OperationError."""
        name, *given = _words(line)
        permit = self._permits.find(name, _user(stream))
        argv, environment = permit.argv(given), permit.variables(Fields())
        command = await self._keepers.start(permit, argv, environment, permit.limits.timeout, has_input=False)
        said = {"name": name, "arguments": shlex.join(given), "peer": stream.peername}
        run = Run(command, answer, permit)
        try:
            result = await run.result(stream)
        except ConnectionError:
            logs.event(logging.INFO, "operation", **said, outcome="connection lost")
            raise
        finally:
            await run.close()
        logs.event(logging.INFO, "operation", **said, outcome="done", reason=result["reason"], status=result["status"])
        return Ending(name, result["status"], _remark(result))


class Run:
    """A command that runs, until nothing is left of it or its client is gone."""

    def __init__(self, command: Command, answer: Plain, permit: Permit) -> None:
        self._command = command
        most = min(filter(None, (permit.limits.output, answer.most)), default=None)
        self._outputs = Outputs(command, answer.take, most, BLOCK)

    async def result(self, stream: RawStream) -> dict[str, Any]:
        """Return how it ended (`Command.ended`), with all that it wrote taken; raise ConnectionError if nobody waits for it."""
        leaving = asyncio.create_task(stream.left())
        try:
            await asyncio.wait((self._outputs.over, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
        if not self._outputs.over.done():
            raise ConnectionAbortedError("the client left, or sent 64 KiB ahead, before its command had ended")
        self._outputs.over.result()
        return self._command.ended.result()

    async def close(self) -> None:
        """End what still runs."""
        await self._outputs.close()
        self._command.close()


class ExecServer(StreamServer):
    """What serves commands: they end before it does."""

    def __init__(self, handler: Exec, keepers: Keepers, **settings: Any) -> None:
        super().__init__(handler, **settings)
        self._keepers = keepers

    async def close(self, grace: float = 0.0) -> None:
        self._keepers.drain(grace)
        await super().close(grace)
        await self._keepers.close()


async def serve(answer: type[Plain], allowed: Permits, **settings: Any) -> ExecServer:
    """Serve commands on listening sockets, as `host.run` wants it."""
    keepers = Keepers()
    return ExecServer(Exec(answer, allowed, keepers), keepers, **settings)


def serve_exec_plain(argv: list[str]) -> int:
    return _serve("exec-plain", Plain, argv)


def serve_exec_struct(argv: list[str]) -> int:
    return _serve("exec-struct", Struct, argv)


def serve_exec_json(argv: list[str]) -> int:
    return _serve("exec-json", Json, argv)


def _serve(kind: str, answer: type[Plain], argv: list[str]) -> int:
    parser = tutorial.server_parser(
        kind,
        "Run the commands that a list permits. Whoever reaches the address may have them run: every user of this machine, "
        "or with --unix alone those whom the socket's permissions and the list's `uids` let in.",
        f"fastframe serve tutorial {kind} --config exec.toml",
        usage="--config FILE [OPTION ...]",
    )
    framed.add_list_options(parser)
    parser.set_defaults(log_level="info")  # a line for each command
    options = parser.parse_args(argv)
    try:
        framed.check_host(options)
        allowed = permits.read_permits(options.config)
    except arguments.UsageError as error:
        return host.fail(error, 2)
    return tutorial.run(parser, options, functools.partial(serve, answer, allowed))


def _user(stream: RawStream) -> str:
    """Return whom the kernel vouches for at a Unix socket; over TCP it is anybody."""
    return service.user_of(stream.transport) if stream.peername.startswith("unix:") else ANYBODY


def _words(line: bytes) -> list[str]:
    """Return the words of a command line, as a shell splits them; raise OperationError (bad_request)."""
    try:
        words = shlex.split(line.decode())
    except (UnicodeDecodeError, ValueError) as error:
        raise OperationError("bad_request", f"this is no command line: {error}") from None
    if not words:
        raise OperationError("bad_request", "an empty line is no command")
    return words


def _remark(result: dict[str, Any]) -> bytes:
    """Return what is told of a command that did not just exit."""
    if result["reason"] == "exited":
        return b""
    what = f"signal {result['signal']}" if result["reason"] == "signaled" else f"{result['reason']} {result['limit']}".strip()
    return f"fastframe: the command was ended: {what}\n".encode()
