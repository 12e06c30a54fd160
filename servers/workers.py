"""Several processes for one server: this one starts the others, starts again those that die, and ends them.

It has neither loop nor thread, so that it may fork at any time. It sleeps in `sigwaitinfo`: a child that ends is a signal, an
order from outside is a signal, a worker that accepts sends one, and a timer when something is due. What they have to say stands
on the board. All signals are blocked from before the first fork, so that none is lost: a worker unblocks them when it can obey.

Workers share the listening sockets: whoever is free first accepts, and a connection in the backlog outlives a dead worker. With
a socket for each (SO_REUSEPORT) it would not.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from . import libc, logs, metrics
from .arguments import UsageError
from .board import Board
from .life import PULSE, Job, Orders, Server

if TYPE_CHECKING:
    from .listeners import Listeners
    from .systemd import Notifier

SIGNALS: Final = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM))
ACCEPTING: Final = signal.SIGUSR1  # from a worker: it accepts
SHORTEST_SLEEP: Final = 1e-6  # seconds: a timer that is set to 0 is off
LONGEST_SLEEP: Final = 3600.0
STRAGGLE_SECONDS: Final = 2.0  # after the drain, for a worker to end
FIRST_DELAY: Final = 0.1  # seconds until a dead child is started again; doubled each time, up to
LAST_DELAY: Final = 10.0
STEADY_SECONDS: Final = 10.0  # a child that lived so long starts with the first delay again
PR_SET_PDEATHSIG: Final = 1  # prctl(2): a signal to get when the parent dies


@dataclass
class Child:
    """A process that this one starts, and what it needs to know of it."""

    name: str
    work: Callable[[], int]  # what it does; its exit status
    orphaned: signal.Signals  # what it gets when this process dies
    slot: int = 0  # on the board; a worker has one
    pid: int = 0  # 0: it is not running
    began: float = 0.0
    delay: float = FIRST_DELAY  # until it is started again
    due: float = 0.0  # when it is to be started


def run(job: Job, opened: Listeners, notifier: Notifier) -> int:
    """Run `job` in worker processes, and what answers scrapes in one more; return the exit status.

    It is 0 after a drain; 1 if a worker did not start, had to be killed, or was told a second time to end. Raise UsageError and
    ListenError.
    """
    if not hasattr(signal, "sigwaitinfo"):
        raise UsageError("several processes need Linux")
    board = Board(job.options.workers)
    # An orphaned worker drains, as if it had been told to.
    children = [
        Child(f"worker {slot}", functools.partial(_work, job, board, slot), signal.SIGTERM, slot) for slot in board.workers
    ]
    port = job.options.metrics_port
    scrapes = None if port is None else metrics.listen(port)
    if scrapes is not None:
        # All other signals are blocked there: it shows how the workers drain, until the end.
        children.append(Child("metrics", functools.partial(_answer_scrapes, scrapes, board, opened), signal.SIGKILL))
    return Supervisor(job, opened, notifier, board, children, scrapes=scrapes).run()


def _work(job: Job, board: Board, slot: int) -> int:
    return job.run(Worker(board, slot))


def _answer_scrapes(scrapes: Listeners, board: Board, opened: Listeners) -> int:
    for listener in opened.sockets:  # else connections would go on piling up there while the workers drain
        listener.close()
    return metrics.run(scrapes, board)


class Worker:
    """The post of a worker: it answers to the process that started it."""

    pulse = PULSE

    def __init__(self, board: Board, slot: int) -> None:
        self._board = board
        self._slot = slot
        self._before: dict[str, int] = board.read(slot).get("counters", {})  # what its predecessors counted
        self._starter = os.getppid()
        self._state = "starting"

    def signals(self, job: Job, orders: Orders) -> Mapping[signal.Signals, Callable[[], object]]:
        # A terminal's Ctrl-C and systemd's SIGTERM reach every process of the group, and the parent's SIGTERM follows.
        return {
            signal.SIGTERM: orders.drain.set,
            signal.SIGINT: lambda: None,
            signal.SIGQUIT: orders.stop_now,
            signal.SIGHUP: job.reload,
        }

    def ready(self, server: Server) -> None:
        self._state = "accepting"
        self.alive(server)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._starter, ACCEPTING)

    def alive(self, server: Server) -> None:
        counters = {name: self._before.get(name, 0) + value for name, value in server.counters.items()}
        report = {"state": self._state, "beat": time.monotonic(), "connections": server.connections, "counters": counters}
        self._board.write(self._slot, {**report, "addresses": server.addresses})

    def stopping(self, server: Server) -> None:
        self._state = "draining"
        self.alive(server)

    def stopped(self, server: Server) -> None:
        self.alive(server)
        # The loop is about to let go of them, and the parent's order may follow the group's: it would be an end by signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


class Supervisor:
    """Looks after the children until the last worker has ended."""

    def __init__(
        self,
        job: Job,
        opened: Listeners,
        notifier: Notifier,
        board: Board,
        children: list[Child],
        *,
        scrapes: Listeners | None,
    ) -> None:
        self._job = job
        self._listeners = opened
        self._notifier = notifier
        self._board = board
        self._children = children
        self._workers = [child for child in children if child.slot]
        self._scrapes = scrapes
        self._announced = False
        self._stopping = False
        self._restarts = 0
        self._status = 0
        self._deadline = float("inf")  # when workers that still run are killed
        self._ping = 0.0 if notifier.watchdog else float("inf")  # when systemd wants to hear

    def run(self) -> int:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, as some starters leave it, nobody can be waited for
        signals = SIGNALS if self._job.ssl is not None else SIGNALS - {signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self._report()
        try:
            while self._tend():
                self._obey(self._sleep(signals))
        finally:
            self._kill(self._children)
        return self._status

    def _tend(self) -> bool:
        """Do what is due; tell whether there is still something to look after."""
        for child in self._children:
            self._bury(child)
        now = time.monotonic()
        for child in self._children:
            if not child.pid and not self._stopping and child.due <= now:
                self._start(child)
        if not self._announced and self._board.states() == ["accepting"] * len(self._workers):
            self._announce()
        if now >= self._ping:
            self._ping = now + (self._notifier.watchdog or LONGEST_SLEEP) / 2
            if not self._board.stuck():
                self._notifier.alive()
        if now >= self._deadline:
            self._give_up()
        return not self._stopping or any(worker.pid for worker in self._workers)

    def _sleep(self, signals: frozenset[signal.Signals]) -> signal.Signals:
        """Return the next signal; SIGALRM comes when something is due.

        After a stop (Ctrl-Z) that lasts longer than its time, Python's `sigtimedwait` returns what was in its memory before.
        """
        signal.setitimer(signal.ITIMER_REAL, max(SHORTEST_SLEEP, self._patience()))
        return signal.Signals(signal.sigwaitinfo(signals).si_signo)

    def _patience(self) -> float:
        """Return the seconds until something is due of which no signal will tell."""
        moments = [self._deadline, self._ping]
        if not self._stopping:
            moments += [child.due for child in self._children if not child.pid]
        return max(0.0, min(LONGEST_SLEEP, min(moments) - time.monotonic()))

    def _obey(self, order: signal.Signals) -> None:
        if order == signal.SIGHUP:
            self._notifier.reloading()
            if self._job.reload():  # for the workers that will be started; the others load it themselves
                self._tell(signal.SIGHUP)
            self._notifier.ready()
        elif order in (signal.SIGTERM, signal.SIGINT):
            self._stop(now=self._stopping)

    def _start(self, child: Child) -> None:
        sys.stdout.flush()
        child.began = time.monotonic()
        parent = os.getpid()
        child.pid = os.fork()
        if not child.pid:
            _become(child, parent)
        logs.event(logging.INFO, "started", child=child.name, child_pid=child.pid)

    def _bury(self, child: Child) -> None:
        """If `child` has ended, say so, and have it started again."""
        if not child.pid:
            return
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if not pid:
            return
        child.pid = 0
        code = os.waitstatus_to_exitcode(status)
        if child.slot:
            self._board.write(child.slot, {**self._board.read(child.slot), "state": "gone", "connections": 0})
        if self._stopping:
            self._status = self._status or int(code != 0)
            return
        text = f"signal {-code}" if code < 0 else f"status {code}"
        logs.event(logging.WARNING, "ended", child=child.name, child_pid=pid, how=text)
        if not self._announced:  # it would not fare better the next time
            self._status = 1
            self._stop()
            return
        now = time.monotonic()
        delay = FIRST_DELAY if now - child.began >= STEADY_SECONDS else child.delay
        child.due, child.delay = now + delay, min(LAST_DELAY, 2 * delay)
        self._restarts += 1
        self._report()

    def _announce(self) -> None:
        self._announced = True
        for address in self._board.read(1)["addresses"]:
            print(f"listening on {address}", flush=True)
        if self._scrapes is not None:
            print(f"metrics on 127.0.0.1:{self._scrapes.sockets[0].getsockname()[1]}", flush=True)
        self._notifier.ready()

    def _stop(self, *, now: bool = False) -> None:
        self._stopping = True
        self._report()
        self._notifier.stopping()
        self._listeners.close()
        self._tell(signal.SIGQUIT if now else signal.SIGTERM)
        self._deadline = time.monotonic() + STRAGGLE_SECONDS + (0 if now else self._job.options.drain_timeout)

    def _give_up(self) -> None:
        logs.event(logging.ERROR, "killing workers that did not end", workers=sum(bool(worker.pid) for worker in self._workers))
        self._status = 1
        self._kill(self._workers)

    def _tell(self, order: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, order)  # it exists until it is waited for

    def _kill(self, children: list[Child]) -> None:
        for child in children:
            if child.pid:
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = 0

    def _report(self) -> None:
        self._board.write(0, {"stopping": self._stopping, "restarts": self._restarts})


def _become(child: Child, parent: int) -> NoReturn:
    """Be `child`, in the process that was forked for it. What the parent was about to do must not happen here, too."""
    status = 1
    try:
        libc.prctl(PR_SET_PDEATHSIG, child.orphaned)
        if os.getppid() == parent:  # else it died before that
            status = child.work()
    except BaseException:
        logs.logger.exception("%s failed", child.name)
    finally:
        sys.stdout.flush()
        os._exit(status)
