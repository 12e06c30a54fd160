"""The nursery: a small process from which keepers are forked.

A server is large, has threads and tokens in memory, and may not be forked without care; this process has nothing but what a
keeper needs. It is a subreaper, too: should a keeper be killed, what it kept comes here and is killed.

    server -> nursery   {"keeper": grace} with a descriptor   the seconds that the keeper may need behind the server
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Set
from pathlib import Path
from typing import Final

import fastframe

from . import keeper, libc
from .channel import Channel
from .descendants import Descendants

PR_SET_DUMPABLE: Final = 4  # prctl(2)
END_SECONDS: Final = 10.0  # for the nursery to end behind its keepers, which kill what they have left at once
STILL_SECONDS: Final = 10.0  # over its grace, after which a keeper that the server left behind stands still
# -P: what lies in the directory that the server was started in is no module of ours.
START: Final = """
import sys
sys.path.insert(0, sys.argv[1])
from fastframe.servers import nursery
nursery.main(int(sys.argv[2]))
"""


class Nursery:
    """The server's end. Making one raises OSError if there is no room for another process."""

    def __init__(self) -> None:
        ours, its = Channel.pair()
        try:
            self.process = _started(its)
        except OSError:
            ours.close()
            raise
        finally:
            its.close()
        ours.setblocking(False)
        self._channel = Channel(ours)

    def keeper(self, grace: float) -> socket.socket:
        """Return a connection to a new keeper, for commands with this grace.

        Raise OSError: ConnectionError if there is no nursery any more, BlockingIOError if it has stood still for long.
        """
        ours, its = Channel.pair()
        with its:
            try:
                self._channel.send({"keeper": grace}, (its.fileno(),))
            except OSError:
                ours.close()
                raise
        return ours

    def leave(self) -> None:
        """Have it end once its keepers have; they do when their connections are closed and nothing of a command is left."""
        self._channel.close()

    def wait(self) -> int:
        """Return its exit status when it has ended. It is killed if it does not, stopped by somebody, say, or a keeper is."""
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return self.end()

    def end(self, spared: Set[int] = frozenset()) -> int:
        """Kill it and what descends from it, without the keepers `spared` and theirs; return its exit status."""
        self._channel.close()
        if self.process.poll() is None:
            Descendants(self.process.pid, spared).end()
        return self.process.wait()


def _started(connection: socket.socket) -> subprocess.Popen[bytes]:
    root = str(Path(fastframe.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", START, root, str(connection.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # its own messages go to stderr, as the server's do
        pass_fds=(connection.fileno(),),
        start_new_session=True,  # a terminal's Ctrl-C is for the server, which lets commands end
    )


def main(descriptor: int) -> None:
    """Be a nursery until the server is gone and all keepers are."""
    libc.prctl(keeper.PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(PR_SET_DUMPABLE, 0)  # keepers, too: processes of the same user may neither read nor trace them
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # systemd's go to every process; this one leaves with the server
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whoever started it may have blocked some, SIGCHLD above all
    server = Channel(socket.socket(fileno=descriptor))
    wakeups, written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    keepers: set[int] = set()
    is_open, longest = True, 0.0
    while is_open or keepers:
        watched = [wakeups, server.fileno()] if is_open else [wakeups]
        readable, _, _ = select.select(watched, [], [], None if is_open else longest + STILL_SECONDS)
        if server.fileno() in readable:
            grace = _serve(server, keepers)
            is_open, longest = grace is not None, max(longest, grace or 0.0)
        if wakeups in readable:
            os.read(wakeups, 4096)
            _reap(keepers)
        if not readable:  # the server is gone, and they stand still
            Descendants(os.getpid()).kill()


def _serve(server: Channel, keepers: set[int]) -> float | None:
    """Do what the server asks for; return the grace of the keeper, None once the server is gone."""
    heard = server.receive()
    if heard is None:
        return None
    message, descriptors = heard
    grace: float = message["keeper"]
    with socket.socket(fileno=descriptors[0]) as connection:
        try:
            pid = os.fork()
        except OSError as error:  # there are too many processes
            Channel(connection).send({"refused": error.strerror, "errno": error.errno})
            return grace
        if not pid:
            server.close()
            keeper.run(connection)
    keepers.add(pid)
    return grace


def _reap(keepers: set[int]) -> None:
    """Wait for keepers, and end what came here from one that was killed."""
    if _wait(keepers):
        Descendants(os.getpid(), keepers).kill(lambda: _wait(keepers))


def _wait(keepers: set[int]) -> bool:
    """Wait for what has ended; tell whether anything is left."""
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            keepers.discard(pid)
        return True
    return False
