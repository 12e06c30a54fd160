"""The exec server: runs the commands that its allow-list permits, on `session.py`. docs/exec.md has what that promises.

    OPEN name, arguments, environment   OPENED credit   DATA, DATA_STDERR ...   RESULT: how it ended, and what it took

Who may run what is `permits.py`; processes, and how they end, `keepers.py` and `keeper.py`; the streams `pipes.py`. This is
what the messages mean.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import os
import shlex
import signal
import socket
import ssl as tls
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from fastframe import aio

from . import arguments, confinement, credentials, host, logs, memory, messages, permits
from .errors import OperationError
from .keepers import Keepers
from .messages import Kind
from .pipes import CREDIT, Input, Outputs
from .service import Operation, ServerSession, Service, ServiceServer
from .session import misplaced

if TYPE_CHECKING:
    from .keepers import Command
    from .messages import Fields
    from .permits import Permits

SIGNAL_NUMBERS: Final = {name: getattr(signal, f"SIG{name}") for name in messages.SIGNALS}
# Who reads output in a pager takes nothing for as long as he looks at it: the command waits, and its own time is limited.
LIMITS: Final = aio.Limits(write_timeout=None)


class Exec:
    """The operation on an allow-list. `keepers` run what it permits."""

    def __init__(self, allowed: Permits, keepers: Keepers) -> None:
        self._permits = allowed
        self._keepers = keepers

    @property
    def operations(self) -> dict[str, Operation]:
        return {"exec": self.exec}

    async def exec(self, session: ServerSession, asked: Fields) -> dict[str, Any]:
        """Run a command: its output as it comes, and at last how it ended."""
        name, given = asked.text("name"), asked.texts("arguments", most=messages.MAX_CONTROL)  # a message has room for no more
        session.audit.update(arguments=shlex.join(given))
        if session.going_away:
            raise OperationError("going_away")
        permit = self._permits.find(name, session.user)
        argv, environment = permit.argv(given), permit.variables(asked.object("environment"))
        milliseconds = round(permit.limits.timeout * 1000)
        milliseconds = min(milliseconds, asked.integer("timeout_ms", default=milliseconds, least=1))
        has_input = not asked.flag("no_input")
        command = await self._keepers.start(permit, argv, environment, milliseconds / 1000, has_input=has_input)
        running = Running(session, command, permit.limits.output)
        session.cleanups.push_async_callback(running.close)  # when RESULT has been sent
        await session.opened(credit=CREDIT if has_input else 0, timeout_ms=milliseconds)
        result = await running.result()
        session.audit.update(_audited(result))
        del result["refused"]  # paths of this machine are for its operator alone
        return result


def _audited(result: dict[str, Any]) -> dict[str, object]:
    """Return what the log says of how a command ended: what is the same for most is left out."""
    told = {key: result[key] for key in ("reason", "status", "signal", "limit")}
    told |= {"denied": ",".join(result["denied"]), "refused": ", ".join(result["refused"]), "left": result["left"] or None}
    return {key: value for key, value in told.items() if value not in (None, "")}


class Running:
    """A command and its client: what passes between them until nothing is left of the one, or the other is gone."""

    def __init__(self, session: ServerSession, command: Command, most_output: int | None) -> None:
        self._session = session
        self._command = command
        self._outputs = Outputs(command, self._send, most_output, session.max_data)
        self._stdin = Input(command, self._grant)
        self._feeding: asyncio.Task[None] | None = None
        self._hearing = asyncio.create_task(self._hear())
        self._hearing.add_done_callback(self._heard)

    async def result(self) -> dict[str, Any]:
        """Return the fields of RESULT once both streams have ended and nothing is left; raise what its client's end is."""
        await self._outputs.over
        sizes = {"stdin": self._stdin.size, "stdout": self._outputs.stdout.size, "stderr": self._outputs.stderr.size}
        return self._command.ended.result() | sizes

    async def close(self) -> None:
        """Stop what is left of this. A command that still runs is ended meanwhile."""
        self._outputs.over.cancel()
        self._hearing.cancel()
        tasks = [task for task in (self._hearing, self._feeding) if task is not None]
        if self._feeding is not None:
            self._feeding.cancel()
        await asyncio.wait(tasks)
        await self._outputs.close()
        self._command.close()

    def _heard(self, hearing: asyncio.Task[None]) -> None:
        if not hearing.cancelled():
            self._outputs.check(hearing.exception())

    async def _hear(self) -> None:
        """Do what the client says; raise when it is gone, or says what it may not."""
        while True:
            message = await self._session.receive()
            if message.kind is Kind.DATA:
                self._stdin.take(message.data)
                self._feed()
            elif message.kind is Kind.END:
                self._stdin.end(message.fields.get("size"))
                self._feed()
            elif message.kind is Kind.SIGNAL:
                self._signal(message.fields.get("signal"))
            elif message.kind is Kind.CANCEL:
                self._command.end("cancelled")
            else:
                raise misplaced(message)

    def _feed(self) -> None:
        """See that somebody writes what comes; most commands get nothing."""
        if self._feeding is None:
            self._feeding = asyncio.create_task(self._stdin.run())
            self._feeding.add_done_callback(self._heard)

    def _signal(self, name: object) -> None:
        if not isinstance(name, str) or name not in SIGNAL_NUMBERS:
            raise OperationError("bad_message", f"SIGNAL of none of {', '.join(SIGNAL_NUMBERS)}")
        self._command.signal(SIGNAL_NUMBERS[name])

    async def _grant(self, count: int) -> None:
        await self._session.send(Kind.CREDIT, credit=count)

    async def _send(self, number: int, data: bytes) -> int:
        """Send what the command wrote to its descriptor `number`; return how many bytes that were."""
        await self._session.send_data(data, Kind.DATA if number == 1 else Kind.DATA_STDERR)
        return len(data)


class ExecServer(ServiceServer):
    """What serves commands: they end before it does."""

    def __init__(self, service: Service, server: aio.FrameServer, keepers: Keepers) -> None:
        super().__init__(service, server)
        self._keepers = keepers

    async def close(self, grace: float = 0.0) -> None:
        self._keepers.drain(grace)
        await super().close(grace)
        await self._keepers.close()


def serve_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe serve exec",
        usage="%(prog)s --config FILE [OPTION ...]",
        description="Run the commands that a list permits for `fastframe exec`, until SIGTERM or Ctrl-C.",
        epilog="example: fastframe serve exec --config exec.toml --tokens tokens --tls-cert server.pem --host 0.0.0.0",
    )
    add_list_options(parser)
    arguments.add_service_options(parser)
    arguments.add_server_options(parser, LIMITS)
    parser.set_defaults(log_level="info")  # a line for each command, and for each that was refused
    options = parser.parse_args(argv)
    try:
        check_host(options)
        allowed = permits.read_permits(options.config)
        keyring = credentials.keyring(options.tokens)
    except arguments.UsageError as error:
        return host.fail(error, 2)
    if options.tls_cert is None:
        memory.keep()
    return host.run(options, functools.partial(serve, allowed, keyring=keyring, max_payload=options.max_payload))


async def serve(
    allowed: Permits,
    *,
    sockets: Sequence[socket.socket],
    ssl: tls.SSLContext | None,
    limits: aio.Limits,
    keyring: credentials.Keyring | None = None,
    max_payload: int = messages.MAX_PAYLOAD,
) -> ExecServer:
    """Serve commands on listening sockets, as `host.run` wants it; raise UsageError if nothing would tell who a client is."""
    has_certificates = ssl is not None and ssl.verify_mode == tls.CERT_REQUIRED
    if keyring is None and not has_certificates and any(listener.family != socket.AF_UNIX for listener in sockets):
        raise arguments.UsageError(
            "nothing tells who a client is: give --tokens, or --tls-cert with --tls-client-ca, or --unix alone"
        )
    logs.event(logging.INFO, "sandbox", active=" ".join(confinement.active()) or "nothing")
    keepers = Keepers()
    service = Service(
        Exec(allowed, keepers).operations, keyring=keyring, max_payload=max_payload, offer={"operations": ["exec"]}
    )
    return ExecServer(service, await service.listen(sockets=sockets, ssl=ssl, limits=limits), keepers)


def add_list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", required=True, metavar="FILE", help=f"the list: TOML, described in docs/exec.md, as {permits.EXAMPLE}"
    )
    parser.add_argument("--allow-root", action="store_true", help="run, and run commands, as root")


def check_host(options: argparse.Namespace) -> None:
    """Raise UsageError if this cannot run here, or commands would run as root without that being said."""
    if sys.platform != "linux":
        raise arguments.UsageError("running commands needs Linux")
    if os.geteuid() == 0 and not options.allow_root:
        raise arguments.UsageError("commands would run as root: run this as a user of its own, or say --allow-root")
