"""How any server is run: what its options ask for is checked, its sockets are bound, and it lives in one process or several.

A server prints `listening on ADDR` to stdout, flushed, for each listener once it accepts, so that a script may use `--port 0`.
SIGTERM and SIGINT end it: it stops accepting, lets each connection end between two frames, cuts what is left after
`--drain-timeout`, status 0. A second signal cuts at once, status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import importlib.util
import signal
import socket
import sys
from collections.abc import Callable, Mapping

from fastframe import aio

from . import arguments, listeners, logs, memory, systemd, tls
from .life import PULSE, Job, Orders, Serve, Server


def fail(reason: object, status: int = 1) -> int:
    """Say on stderr, in one line, why the command ends, and return its exit status."""
    print(f"fastframe: {reason}", file=sys.stderr)
    return status


def run(
    options: argparse.Namespace,
    serve: Serve,
    bind: listeners.Bind | None = None,
    kind: socket.SocketKind = socket.SOCK_STREAM,
) -> int:
    """Run the server that `serve(sockets=..., ssl=..., limits=...)` starts until a signal ends it; return the exit status.

    `bind(host, port)` and `bind(path=...)` return sockets of that `kind`; by default they listen for connections.
    """
    logs.configure(options.log_format, options.log_level)
    notifier = systemd.Notifier.from_environment()
    opened = None
    try:
        new_loop = loop_factory(options.loop)
        context = tls.server_context(options)
        if context is not None:
            memory.spare()
        opened = listeners.open_listeners(
            options, bind or functools.partial(aio.bind, backlog=options.backlog or arguments.BACKLOG), kind
        )
        limits = listeners.allow(arguments.limits(options), options.workers)
        job = Job(options, serve, opened.sockets, context, limits, new_loop)
        if options.workers == 1 and options.metrics_port is None:
            return job.run(Alone(opened, notifier))
        from . import workers  # noqa: PLC0415  most servers do without

        return workers.run(job, opened, notifier)
    except arguments.UsageError as error:
        return fail(error, 2)
    except listeners.ListenError as error:
        return fail(error)
    finally:
        if opened is not None:
            opened.close()


class Alone:
    """The post of a process that is the whole server: it answers to whoever started the command, and to systemd."""

    def __init__(self, opened: listeners.Listeners, notifier: systemd.Notifier) -> None:
        self._listeners = opened
        self._notifier = notifier
        self.pulse = min(PULSE, (notifier.watchdog or PULSE) / 2)

    def signals(self, job: Job, orders: Orders) -> Mapping[signal.Signals, Callable[[], object]]:
        stop = {signal.SIGTERM: orders.stop, signal.SIGINT: orders.stop}
        # Without a certificate SIGHUP is what it is to most programs: their terminal is gone.
        return stop if job.ssl is None else {**stop, signal.SIGHUP: lambda: self._reload(job)}

    def ready(self, server: Server) -> None:
        for address in server.addresses:
            print(f"listening on {address}", flush=True)
        self._notifier.ready()

    def alive(self, server: Server) -> None:  # noqa: ARG002
        self._notifier.alive()

    def stopping(self, server: Server) -> None:  # noqa: ARG002
        self._notifier.stopping()
        self._listeners.remove_files()

    def stopped(self, server: Server) -> None:
        pass

    def _reload(self, job: Job) -> None:
        self._notifier.reloading()
        job.reload()
        self._notifier.ready()


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop of that name; raise UsageError if it is not installed."""
    if name == "auto":
        name = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        raise arguments.UsageError(f"{name} is not installed: pip install {name}") from None
    return module.loop_factory() if name == "aiofastnet" else module.new_event_loop  # type: ignore[no-any-return]
