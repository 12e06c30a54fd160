"""The keepers of a server: one for each command that runs, kept for the next command of the same permit.

A keeper takes 10 ms to make, 6 without a sandbox, and the smallest command 1 to 3: so keepers wait for the next one a while. A
sandbox grants the files that were there when it was made. Programs and logs are replaced: then their keepers are, too.

A keeper ends its command in time. Should it stand still, stopped by somebody or waiting for a disk that hangs, it is killed
with all that it keeps, some seconds after it had to be done.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from . import channel, logs, pipes
from .channel import Channel
from .descendants import Descendants
from .errors import OperationError
from .nursery import Nursery

if TYPE_CHECKING:
    from .permits import Permit

IDLE_SECONDS: Final = 60.0  # that a keeper waits for its next command; it takes 3 MiB
MOST_SECONDS: Final = 60.0  # of one keeper: what the system replaces meanwhile (the linker's cache) no command of it can read
MOST_RUNS: Final = 1000  # of one keeper: what its process spends itself counts to RLIMIT_CPU
START_SECONDS: Final = 30.0  # until a keeper is ready: milliseconds, and the nursery's start on a machine that is busy
STILL_SECONDS: Final = 10.0  # over its time for a command to be over, which takes milliseconds: then its keeper stands still
SURE_SECONDS: Final = 0.5  # more, for a keeper that goes on just then
DRAIN_SECONDS: Final = 1.0  # for the RESULT of a command that is ended by a drain to reach its client
# For a start; later there may be. ETOOMANYREFS: of descriptors that are on their way.
NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS})
LOST: Final = "what ran the command has ended"
STILL: Final = "it stands still"
TOO_LONG: Final = frozenset({errno.E2BIG, errno.EMSGSIZE})

# Device and number of each file or directory; a sandbox holds on to what it grants, so that no other gets that number.
Places = tuple[tuple[int, int] | None, ...]


class Command:
    """A command that runs. The descriptors are this end of its pipes, not blocking, and closed by `close`.

    `ended` becomes the fields of its RESULT once nothing of it is left; an OperationError if it could not be started
    (not_started, too_large, busy).
    """

    def __init__(self, keeper: _Keeper, pipes: tuple[int, int, int]) -> None:
        self._keeper = keeper
        self.stdin, self.stdout, self.stderr = pipes
        self._reasons: set[str] = set()  # to end, as its keeper was told
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(_retrieve)

    def signal(self, number: int) -> None:
        """Send a signal to the program and its process group."""
        self._tell(signal=number)

    def end(self, reason: str, limit: str = "") -> None:
        """Have it end by SIGTERM, and after its grace by SIGKILL; at once for a limit. The first reason counts."""
        if self._keeper.command is self and reason not in self._reasons:
            self._reasons.add(reason)
            self._tell(end=reason, limit=limit)
            self._keeper.expect_end(0.0 if limit else self._keeper.permit.limits.grace)

    def close_stdin(self) -> None:
        descriptor, self.stdin = self.stdin, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Have it end, if it has not, and close the pipes."""
        self.end("gone")
        self.close_stdin()
        channel.close_all((self.stdout, self.stderr))

    def _tell(self, **message: Any) -> None:
        if self._keeper.command is self:  # it may have the next one already
            self._keeper.tell(message)


class Keepers:
    """All keepers of one server process."""

    def __init__(self) -> None:
        self._nursery = Nursery()
        self._idle: defaultdict[str, list[_Keeper]] = defaultdict(list)  # by permit
        self._running: Counter[str] = Counter()  # by permit
        self._all: set[_Keeper] = set()
        self._over_at: float | None = None  # when a drain has to be over, by the loop's clock
        self._sweep()

    async def start(
        self, permit: Permit, argv: list[str], environment: dict[str, str], seconds: float, *, has_input: bool = True
    ) -> Command:
        """Start a command, which may take so many seconds; raise OperationError (busy, internal).

        Without input its stdin is empty, and `Command.stdin` -1.
        """
        if self._running[permit.name] >= permit.at_once:
            raise OperationError("busy", f"{permit.name} runs {permit.at_once} times already")
        self._running[permit.name] += 1
        try:
            keeper = await self._keeper(permit)
        except BaseException:
            self._running[permit.name] -= 1
            raise
        order = {"program": permit.program, "argv": argv, "environment": environment, "seconds": seconds}
        command = keeper.start(order, has_input=has_input)
        if self._over_at is not None:  # its keeper was made meanwhile
            keeper.drain(self._over_at - asyncio.get_running_loop().time())
        return command

    def drain(self, grace: float) -> None:
        """Have commands end in time for their RESULT to be sent before `grace` seconds are over."""
        self._over_at = asyncio.get_running_loop().time() + grace
        for keeper in self._all:
            keeper.drain(grace)

    async def close(self) -> None:
        """Kill all commands, and return when nothing of them is left."""
        self._sweeper.cancel()
        for keeper in list(self._all):
            keeper.tell({"kill": 1})  # whatever its grace is: there was time
            keeper.leave()
        self._nursery.leave()
        await asyncio.to_thread(self._nursery.wait)

    async def _keeper(self, permit: Permit) -> _Keeper:
        places = _places(permit)
        while idle := self._idle[permit.name]:
            if (keeper := idle.pop()).suits(places):
                return keeper
            keeper.leave()
            self._all.discard(keeper)
        keeper = _Keeper(self._connect(permit), permit, places, self._free)
        self._all.add(keeper)
        nursery = self._nursery
        try:
            await keeper.ready
            if not keeper.is_here:  # any more
                raise OperationError("internal", LOST)
        except BaseException:
            keeper.leave()
            self._all.discard(keeper)
            if keeper.stands_still and not keeper.pid and nursery is self._nursery:  # who should have made it does
                self._replace_nursery()
            raise
        return keeper

    def _connect(self, permit: Permit) -> socket.socket:
        with _told_if_full():
            try:
                return self._nursery.keeper(permit.limits.grace)
            except (ConnectionError, BlockingIOError):  # reset, if it has left a message unread; full, if it stands still
                self._replace_nursery()
                return self._nursery.keeper(permit.limits.grace)

    def _replace_nursery(self) -> None:
        """Have a new one, for the old one has ended or stands still; its keepers go on. Raise OperationError if that fails."""
        with _told_if_full():
            new = Nursery()  # or the old one stays, to be found lost again
        status = self._nursery.end({keeper.pid for keeper in self._all})
        logs.event(logging.ERROR, "nursery lost", status=status)
        self._nursery = new

    def _free(self, keeper: _Keeper) -> None:
        """Take note that the command of a keeper has ended, and take it back if it is there."""
        self._running[keeper.permit.name] -= 1
        if keeper.runs >= MOST_RUNS:
            keeper.leave()
        if keeper.is_here:
            self._idle[keeper.permit.name].append(keeper)
        else:
            self._all.discard(keeper)

    def _sweep(self) -> None:
        """Have those leave that nobody has needed since the last time."""
        for idle in self._idle.values():
            for keeper in idle:
                if keeper.is_resting:
                    keeper.leave()
                keeper.is_resting = True
            idle[:] = [keeper for keeper in idle if keeper.is_here]
        self._all = {keeper for keeper in self._all if keeper.is_here}
        self._sweeper = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)


class _Keeper:
    """The server's end of one keeper. It calls `on_free(self)` for each `start`, when it has failed or nothing is left."""

    def __init__(self, connection: socket.socket, permit: Permit, places: Places, on_free: Callable[[_Keeper], object]) -> None:
        connection.setblocking(False)
        self.permit = permit
        self.places = places
        self.command: Command | None = None  # which runs, or is being started
        self.is_here = True
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._channel = Channel(connection)
        self._on_free = on_free
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.runs = 0
        self.is_resting = False  # since the last sweep
        self.stands_still = False
        self.pid = 0  # until it is born
        self._overdue: asyncio.TimerHandle | None = None
        self._expect(START_SECONDS)
        self._loop.add_reader(self._channel.fileno(), self._hear)
        self.tell({"permit": _described(permit)})

    def suits(self, places: Places) -> bool:
        """Tell whether it is there, and its sandbox is what a new one would be. What is missing now, the command will miss."""
        same = all(now in (then, None) for then, now in zip(self.places, places, strict=True))
        return self.is_here and same and self._loop.time() - self._began < MOST_SECONDS

    def start(self, order: dict[str, Any], *, has_input: bool) -> Command:
        """Start a command, whose `ended` says if that fails; raise OperationError if there is no room for its pipes."""
        self.is_resting = False
        self.runs += 1
        try:
            with _told_if_full():
                theirs, ours = pipes.open_pipes(has_input)
        except OperationError:
            self._on_free(self)
            raise
        self.command = command = Command(self, ours)
        self.expect_end(order["seconds"] + self.permit.limits.grace)
        try:
            self._channel.send({"run": order}, theirs)
        except ConnectionError:
            pass  # it is gone: `_hear` finds out
        except OSError as error:
            self._failed(error.errno or 0)
        finally:
            channel.close_all(theirs)
        return command

    def tell(self, message: dict[str, Any]) -> None:
        """Say something to it, and hang up if it has not taken hundreds of messages yet: that ends its command, too."""
        if not self.is_here:
            return
        try:
            self._channel.send(message)
        except ConnectionError:
            pass  # it is gone: `_hear` finds out
        except OSError:
            self._give_up()

    def drain(self, grace: float) -> None:
        if self.command is not None:
            seconds = max(0.0, grace - self.permit.limits.grace - DRAIN_SECONDS)
            self._loop.call_later(seconds, self.command.end, "drained")

    def expect_end(self, seconds: float) -> None:
        """Give its command so many seconds, but no more than it had, and kill it if that has not ended soon after."""
        if self.is_here:
            self._expect(seconds + STILL_SECONDS)

    def _expect(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        if self._overdue is None or due < self._overdue.when():
            self._relax()
            self._overdue = self._loop.call_at(due, self._warn)

    def _relax(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _warn(self) -> None:
        """Wait a moment more: it may be that this process stood still, and has not heard yet, or the whole machine."""
        self._overdue = self._loop.call_later(SURE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        """End it, since it stands still, and all that it keeps; then tell who waits for it."""
        logs.event(logging.ERROR, "keeper lost", command=self.permit.name, reason=STILL)
        self.is_here, self.stands_still = False, True
        self._relax()
        self._loop.remove_reader(self._channel.fileno())
        if self.pid:  # its own: had it ended, its channel would have been, too
            ending = self._loop.run_in_executor(None, Descendants(self.pid).end)
            ending.add_done_callback(lambda _: self.leave())
        else:
            self.leave()

    def leave(self, code: str = "internal") -> None:
        """Have it end its command, and then itself; `code` is for who waits for it. Safe to repeat."""
        self.is_here = False
        self._relax()
        if self._channel.fileno() < 0:
            return
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        error = OperationError(code, LOST if code == "internal" else "")
        if not self.ready.done():
            self.ready.set_exception(error)
        self._over(error)

    def _hear(self) -> None:
        """Take what it says."""
        try:
            heard = self._channel.receive()
        except BlockingIOError:
            return
        message = {} if heard is None else heard[0]
        if "born" in message:
            self.pid = message["born"]
        elif "ready" in message:
            self._relax()
            self.ready.set_result(None)
        elif "failed" in message:
            self._failed(message["failed"])
        elif "ended" in message:
            self._over(message["ended"])
        else:
            logs.event(logging.ERROR, "keeper lost", command=self.permit.name, reason=message.get("refused", "killed"))
            self.leave("busy" if message.get("errno") in NO_ROOM else "internal")

    def _failed(self, number: int) -> None:
        """Tell why a command did not start: what is wrong with the program is the operator's to know."""
        if number in TOO_LONG:
            error = OperationError("too_large", "the arguments are longer than the system takes")
        elif number in NO_ROOM:
            error = OperationError("busy")
        else:
            error = OperationError("not_started")
            logs.event(logging.ERROR, "not started", command=self.permit.name, reason=os.strerror(number))
        self._over(error)

    def _over(self, outcome: dict[str, Any] | OperationError) -> None:
        """Nothing is left of the command, or nobody will hear of it."""
        self._relax()
        command, self.command = self.command, None
        if command is None:
            return
        if not command.ended.done():
            if isinstance(outcome, OperationError):
                command.ended.set_exception(outcome)
            else:
                command.ended.set_result(outcome)
        self._on_free(self)


def _places(permit: Permit) -> Places:
    """Return what the names that a permit has lead to now."""
    sandbox = permit.sandbox
    return tuple(map(_place, (permit.directory, *(() if sandbox is None else sandbox.read + sandbox.write))))


def _place(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _described(permit: Permit) -> dict[str, Any]:
    """Return what a keeper has to know of a permit."""
    return {
        "directory": permit.directory,
        "umask": permit.umask,
        "limits": dataclasses.asdict(permit.limits),
        "sandbox": None if permit.sandbox is None else dataclasses.asdict(permit.sandbox),
    }


@contextlib.contextmanager
def _told_if_full() -> Iterator[None]:
    """Turn an OSError of the body, which opens descriptors, into what the client is told."""
    try:
        yield
    except OSError as error:
        code = "busy" if error.errno in NO_ROOM else "internal"
        raise OperationError(code) from error


def _retrieve(ended: asyncio.Future[dict[str, Any]]) -> None:
    if not ended.cancelled():
        ended.exception()  # or asyncio says that nobody asked
