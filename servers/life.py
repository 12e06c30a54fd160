"""The life of a server in one process: it starts, is alive, drains, ends.

What is fixed before there is a process or a loop is a `Job`. Whom the process answers to (a terminal and systemd, or the parent
that started it as a worker) is a `Post`: which signals mean what, and who is told how the server is.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from . import logs, tls
from .arguments import UsageError

if TYPE_CHECKING:
    from fastframe import aio

PULSE: Final = 0.25  # seconds between two signs of life, which take some 50 microseconds
CUT_SECONDS: Final = 1.0  # for handlers to end that are told to end now
# Which of a server's counters are worth a line. What strangers do all day on a public port is none that an operator must read.
NOTABLE: Final = (
    (logging.WARNING, "connections ended by their limits", ("refused", "frames_overdue", "writes_overdue")),
    (logging.INFO, "connections ended by their limits", ("idle",)),
    (logging.INFO, "connections failed", ("handshakes_failed", "bad_frames")),
    (
        logging.INFO,
        "datagrams not answered",
        tuple(f"datagrams_{why}" for why in ("answers", "own", "nameless", "bad", "cut", "dropped")),
    ),
)


class Server(Protocol):
    """What `aio.serve` and its like return."""

    @property
    def addresses(self) -> list[str]: ...

    @property
    def connections(self) -> int: ...

    @property
    def accepting(self) -> bool: ...

    @property
    def counters(self) -> Mapping[str, int]: ...

    async def close(self, grace: float = 0.0) -> None: ...


Serve = Callable[..., Awaitable[Server]]  # called with sockets, ssl and limits


class Orders:
    """What the signals have asked for so far."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.cut = asyncio.Event()

    def stop(self) -> None:
        """Drain; asked a second time, cut."""
        (self.cut if self.drain.is_set() else self.drain).set()

    def stop_now(self) -> None:
        self.drain.set()
        self.cut.set()


class Post(Protocol):
    """Whom a server's process answers to."""

    pulse: float  # seconds between two calls of `alive`

    def signals(self, job: Job, orders: Orders) -> Mapping[signal.Signals, Callable[[], object]]:
        """Return what to do at which signal."""

    def ready(self, server: Server) -> None: ...

    def alive(self, server: Server) -> None: ...

    def stopping(self, server: Server) -> None: ...

    def stopped(self, server: Server) -> None: ...


@dataclass(frozen=True)
class Job:
    """A server to run: everything that is fixed before there is a process or a loop for it."""

    options: argparse.Namespace
    serve: Serve
    sockets: list[socket.socket]
    ssl: ssl.SSLContext | None
    limits: aio.Limits
    new_loop: Callable[[], asyncio.AbstractEventLoop]

    def run(self, post: Post) -> int:
        """Serve until a signal ends it; return the exit status: 1 if connections were cut at a second signal."""
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            return runner.run(_live(self, post))

    def reload(self) -> bool:
        """Load the certificate anew; tell whether that went well."""
        if self.ssl is None:
            return True
        try:
            tls.reload(self.ssl, self.options)
        except UsageError as error:
            logs.event(logging.ERROR, "certificate not reloaded, the old one stays", reason=error)
            return False
        logs.event(logging.INFO, "certificate reloaded", file=self.options.tls_cert)
        return True


class Notices:
    """Tells the log what the limits did, once a beat and not once a peer: a flood of peers is no flood of lines."""

    def __init__(self, server: Server) -> None:
        self._counters = dict(server.counters)
        self._accepting = True

    def look(self, server: Server) -> None:
        grown = {name: value - self._counters.get(name, 0) for name, value in server.counters.items()}
        self._counters = dict(server.counters)
        for level, what, names in NOTABLE:
            if counts := {name: grown[name] for name in names if grown.get(name)}:
                logs.event(level, what, **counts)
        if server.accepting != self._accepting:
            self._accepting = server.accepting
            pause = "accepting again" if self._accepting else "accepting paused, there is no room"
            logs.event(logging.WARNING, pause, connections=server.connections)


async def _live(job: Job, post: Post) -> int:
    orders = Orders()
    signals = post.signals(job, orders)
    for number, obey in signals.items():
        asyncio.get_running_loop().add_signal_handler(number, obey)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())  # a worker starts with signals blocked
    try:
        server = await job.serve(sockets=job.sockets, ssl=job.ssl, limits=job.limits)
    except OSError as error:
        logs.event(logging.ERROR, "cannot serve", reason=error)
        return 1
    post.ready(server)
    beating = asyncio.create_task(_beat(server, post, orders))
    await orders.drain.wait()
    post.stopping(server)
    status = await _drain(server, job.options.drain_timeout, orders, list(signals))
    beating.cancel()
    post.stopped(server)
    return status


async def _beat(server: Server, post: Post, orders: Orders) -> None:
    notices = Notices(server)
    while True:
        post.alive(server)
        if not orders.drain.is_set():
            notices.look(server)
        await asyncio.sleep(post.pulse)


async def _drain(server: Server, patience: float, orders: Orders, signals: list[signal.Signals]) -> int:
    connections = server.connections
    closing = asyncio.create_task(server.close(grace=patience))
    cut = asyncio.create_task(orders.cut.wait())
    await asyncio.sleep(0)
    logs.event(logging.INFO, "draining", connections=connections, seconds=patience)  # who reads this may bind the address
    await asyncio.wait((closing, cut), return_when=asyncio.FIRST_COMPLETED)
    hurried = not closing.done()
    if hurried:
        for number in signals:  # a third one does what it does to any program
            asyncio.get_running_loop().remove_signal_handler(number)
        await asyncio.wait((closing, asyncio.create_task(server.close())), timeout=CUT_SECONDS)
    cut.cancel()
    left = server.counters.get("cut", 0)
    logs.event(logging.WARNING if left else logging.INFO, "stopped", cut=left)
    return int(hurried)
