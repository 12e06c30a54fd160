"""Keepers without a server, and what lives of the commands that they run, as /proc has it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from executing import permit

from fastframe.servers import keepers
from fastframe.servers.channel import Channel, close_all
from fastframe.servers.nursery import Nursery

if TYPE_CHECKING:
    from fastframe.servers.permits import Permit

PATIENCE = 30.0  # seconds: nothing here takes as long, on a busy machine either
MARK = "FASTFRAME_MARK"
# Says something a few milliseconds after the shell that started it has ended, and been waited for.
LATE = "(while kill -0 $$; do :; done 2> /dev/null; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo late) &"
_numbers = itertools.count()


def eventually(predicate: Callable[[], object], what: str = "") -> None:
    """Return when something is so that nothing tells of; fail when it never is."""
    patience = time.monotonic() + PATIENCE
    while not predicate():
        assert time.monotonic() < patience, what or predicate
        time.sleep(0.002)


def mark() -> dict[str, str]:
    """Return a variable that no other process has."""
    return {MARK: f"{os.getpid()}-{next(_numbers)}."}


def alive(marked: dict[str, str]) -> list[int]:
    """Return the processes that have this variable, and live."""
    wanted = f"{MARK}={marked[MARK]}\0".encode()
    return [pid for pid in _processes() if wanted in _read(pid, "environ")]


def programs(marked: dict[str, str]) -> list[str]:
    """Return the names of what they run, sorted."""
    names = (_read(pid, "cmdline").partition(b"\0")[0].rpartition(b"/")[2].decode() for pid in alive(marked))
    return sorted(names)


def end(marked: dict[str, str]) -> None:
    """Kill those that are alive until there is none: one that becomes a program just then is not seen."""

    def kill() -> bool:
        there = alive(marked)
        for pid in there:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(there)

    eventually(lambda: not kill())


def children(pid: int) -> dict[int, str]:
    """Return the children of a process with their states, Z for a zombie."""
    states = {child: _read(child, "stat").rpartition(b")")[2].split()[:2] for child in _processes()}
    return {child: fields[0].decode() for child, fields in states.items() if fields[1:] == [b"%d" % pid]}


def is_there(pid: int) -> bool:
    """Tell whether a process lives; who is the parent of an orphan may take seconds to wait for it."""
    return _read(pid, "stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"])


def open_descriptors(pid: int) -> int:
    """Return how many a keeper has open; root alone may know."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        assert os.geteuid()
        return 0


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


class Ended(NamedTuple):
    """What a keeper said of a command, and what that wrote."""

    result: dict[str, Any]
    stdout: bytes
    stderr: bytes


class Kept:
    """A keeper, told what to do by hand."""

    def __init__(self, nursery: Nursery, kept: Permit | None = None) -> None:
        self.permit = kept or permit("/bin/sh", sandbox=False, grace=0.2)
        connection = nursery.keeper(self.permit.limits.grace)
        connection.settimeout(PATIENCE)
        self._channel = Channel(connection)
        self._outputs: list[int] = []
        self.tell(permit=keepers._described(self.permit))
        self.pid = self.hear()["born"]
        self.first = self.hear()

    def tell(self, **message: Any) -> None:
        self._channel.send(message)

    def hear(self) -> dict[str, Any] | None:
        heard = self._channel.receive()
        return None if heard is None else heard[0]

    def start(
        self, *argv: str, program: str = "", seconds: float = PATIENCE, stdin: int | None = None, **variables: str
    ) -> None:
        """Start a program, or the shell's `-c argv`; `stdin` is closed then."""
        if len(argv) == 1 and not program:
            argv = ("sh", "-c", *argv)
        self._outputs, theirs = map(list, zip(os.pipe(), os.pipe(), strict=True))
        order = {"program": program or self.permit.program, "argv": argv, "environment": {"PATH": "/usr/bin:/bin", **variables}}
        theirs += [] if stdin is None else [stdin]
        self._channel.send({"run": {**order, "seconds": seconds}}, theirs)
        close_all(theirs)

    def said(self) -> str:
        """Return the next that the command writes to stdout."""
        return os.read(self._outputs[0], 65536).decode()

    def ended(self) -> Ended:
        """Hear how it ended; `result` is what else the keeper said, if it did."""
        heard = self.hear()
        assert heard is not None, "the keeper has ended"
        written = [_rest(output) for output in self._outputs]
        close_all(self._outputs)
        return Ended(heard.get("ended", heard), *written)

    def run(self, *argv: str, **options: Any) -> Ended:
        self.start(*argv, **options)
        return self.ended()

    def leave(self) -> None:
        self._channel.close()


def _rest(descriptor: int) -> bytes:
    """Return what is in a pipe now."""
    os.set_blocking(descriptor, False)
    read = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(descriptor, 65536):
            read += data
    return read


@contextlib.contextmanager
def nursing() -> Iterator[Nursery]:
    """Have a nursery, and see that it ends, and leaves nothing."""
    nursery = Nursery()
    try:
        yield nursery
    finally:
        nursery.leave()
        try:
            nursery.process.wait(PATIENCE)
        except BaseException:
            for pid in (*children(nursery.process.pid), nursery.process.pid):
                os.kill(pid, signal.SIGKILL)
            nursery.process.wait(PATIENCE)
            raise


@contextlib.contextmanager
def keeping(nursery: Nursery, kept: Permit | None = None) -> Iterator[Kept]:
    """Have a keeper that is ready."""
    keeper = Kept(nursery, kept)
    try:
        assert keeper.first == {"ready": 1}
        yield keeper
    finally:
        keeper.leave()
