"""A keeper: a process that runs one command at a time, and knows when nothing of it is left.

It is a child subreaper: what a command leaves behind becomes the keeper's child, whatever it did to hide. A command has ended
when the kernel says that there is no child any more (ECHILD); then the next one may come. Nothing of that needs privileges.

    server -> keeper   {"permit": ...}                        once, before all
                       {"run": ...} with descriptors          stdout, stderr, and stdin if it has any
                       {"signal": 2}, {"end": "cancelled"}    while it runs
                       {"kill": 1}                            the server ends
    keeper -> server   {"born": pid}                          once, before all, and then
                       {"ready": 1} or {"refused": text}      once
                       {"failed": errno}                      it could not be started, or
                       {"ended": {...}}                       how it ended, and what it took

Commands are started by posix_spawn. What a sandbox asks for holds for one thread and what it starts, so a second thread starts
them: this one stays outside, where it can look at them, and where they cannot signal it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import select
import signal
import socket
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NoReturn

from . import channel, descendants, libc
from .channel import Channel
from .confinement import Confinement

LOOK_SECONDS: Final = 0.05  # between two looks at what a command's processes take; a look takes 0.2 to 0.5 ms
ANSWER_SECONDS: Final = 0.01  # between two looks whether the thread that starts a command waits: none ever should
LINGER_SECONDS: Final = 0.25  # that processes have to end by themselves once the program has: `tee` behind a shell's `>(...)`
REAP_SECONDS: Final = 0.25  # of waiting for what has ended, at most: who forks without end may be as fast as that
MOST_REFUSED: Final = 8  # files that are told to the operator: enough to see what a list lacks
KILL_SECONDS: Final = 0.01  # until what has been killed should be gone; else it is done again
SPARE_PROCESSES: Final = 1024  # for what else this user starts, see `_limit_all`
SPARE_CPU: Final = 1  # second over the limit, in which a look finds out: the kernel's SIGKILL does not say why
SPARE_MEMORY: Final = 4  # times the limit, in address space: programs map more than they use
PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)
# What a new program finds as it is by default, although Python ignores some: all but what cannot be set.
DEFAULTED: Final = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
# Statuses by which shells tell that a signal ended what they ran.
SHELL_LIMITS: Final = {128 + signal.SIGXCPU: "cpu", 128 + signal.SIGXFSZ: "file_size"}
LIMIT_SIGNALS: Final = {int(signal.SIGXCPU): "cpu", int(signal.SIGXFSZ): "file_size"}


class Run:
    """A command that runs: what is known of it so far."""

    def __init__(self, pid: int, now: float) -> None:
        self.pid = pid
        self.began = now
        self.status: int | None = None  # of the program itself, as wait(2) has it
        self.reason = ""  # why it is being ended, and `limit`, which one it went over
        self.limit = ""
        self.kill_at: float | None = None
        self.left = 0  # processes that were killed after the program itself had ended
        self.denied: set[str] = set()
        self.refused: dict[str, None] = {}  # the first files of that, for the operator
        self.user_seconds = self.system_seconds = 0.0
        self.peak_memory = 0  # bytes: of the largest process, or of all that were there at one look

    def count(self, usage: resource.struct_rusage) -> None:
        """Add what a process took that has been waited for."""
        self.user_seconds += usage.ru_utime
        self.system_seconds += usage.ru_stime
        self.peak_memory = max(self.peak_memory, usage.ru_maxrss * 1024)

    def ending(self) -> dict[str, Any]:
        """Return how it ended, as RESULT says it, and `refused` for the log."""
        assert self.status is not None
        code = os.waitstatus_to_exitcode(self.status)
        limit = self.limit or (LIMIT_SIGNALS.get(-code, "") or SHELL_LIMITS.get(code, "") if not self.reason else "")
        reason = "limit" if limit else self.reason or ("exited" if code >= 0 else "signaled")
        return {
            "reason": reason,
            "status": code if code >= 0 else None,
            "signal": None if code >= 0 else _name(-code),
            "limit": limit,
            "denied": sorted(self.denied),
            "refused": list(self.refused),
            "left": self.left,
            "user_seconds": round(self.user_seconds, 6),
            "system_seconds": round(self.system_seconds, 6),
            "peak_memory": self.peak_memory,
            "seconds": round(time.monotonic() - self.began, 6),
        }


class Keeper:
    """The process itself: what comes from the server, from the kernel, and from the clock."""

    def __init__(self, server: Channel) -> None:
        self._server: Channel | None = server
        self._run: Run | None = None
        self._descendants = descendants.Descendants(os.getpid())
        self._poll = select.poll()
        self._deadline = 0.0
        self._look_at = 0.0
        self._looked = 0.0  # seconds that the last look took, or the last kill

    def main(self) -> None:
        """Keep commands until the server is gone and nothing of the last one is left."""
        assert self._server is not None
        self._tell(born=os.getpid())
        first = self._server.receive()
        if first is None:
            return
        self._permit = first[0]["permit"]
        try:
            self._set_up()
        except OSError as error:
            self._tell(refused=f"{error.filename or 'sandbox'}: {error.strerror}")
            return
        self._tell(ready=1)
        while self._server is not None or self._run is not None:
            self._turn()

    def _set_up(self) -> None:
        """Become what the permit says of every command of it; raise OSError."""
        permit = self._permit
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        os.umask(permit["umask"])
        os.chdir(permit["directory"])
        self._wakeups, written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # also where it was ignored: that would have the kernel reap
        self._spawn = os.posix_spawn
        self._listener = -1
        sandbox = permit["sandbox"]
        if sandbox is not None:
            self._enter(Confinement(**sandbox))
        _limit_all(permit["limits"])
        assert self._server is not None
        for descriptor in (self._server.fileno(), self._wakeups, *((self._listener,) if self._listener >= 0 else ())):
            self._poll.register(descriptor, select.POLLIN)

    def _enter(self, confinement: Confinement) -> None:
        """Have a thread go into the sandbox, which starts everything from now on."""
        self._confinement = confinement
        self._spawner = ThreadPoolExecutor(1)
        self._spawner.submit(confinement.enter).result()
        self._spawn = self._spawn_inside
        self._listener = confinement.listener

    def _spawn_inside(self, *args: Any, **options: Any) -> int:
        """Have that thread start a program, and answer what it does itself: a finaliser that runs there may open a file."""
        spawning = self._spawner.submit(os.posix_spawn, *args, **options)
        while not _is_done(spawning):
            if self._listener >= 0 and select.select((self._listener,), (), (), 0)[0]:
                self._answer()
        return spawning.result()

    def _turn(self) -> None:
        """Wait for whatever is first, and see to it."""
        for descriptor, _ in self._poll.poll(self._patience()):
            if descriptor == self._listener:
                self._answer()
            elif descriptor == self._wakeups:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeups, 4096)
            elif self._server is not None:
                self._hear(self._server)
        if self._run is not None and not self._reap(self._run):
            self._tell(ended=self._run.ending())
            self._run = None
        if self._run is not None:
            self._watch(self._run)

    def _patience(self) -> float | None:
        """Return the milliseconds until the clock has something to say."""
        if self._run is None:
            return None
        due = min(self._look_at, self._deadline, self._run.kill_at or self._deadline)
        return max(0.0, due - time.monotonic()) * 1000

    def _hear(self, server: Channel) -> None:
        heard = server.receive()
        if heard is None:
            self._poll.unregister(server)
            self._server = None
            self._end("gone")
            return
        message, descriptors = heard
        try:
            if "run" in message:
                self._start(message["run"], descriptors)
        finally:
            channel.close_all(descriptors)
        if "signal" in message:
            self._signal(message["signal"])
        if "end" in message:
            self._end(message["end"], message.get("limit", ""))
        if "kill" in message and self._run is not None:
            self._kill(self._run)

    def _start(self, asked: dict[str, Any], descriptors: list[int]) -> None:
        # Without input its stdin is this process's own, /dev/null.
        actions = [
            (os.POSIX_SPAWN_DUP2, descriptor, number) for descriptor, number in zip(descriptors, (1, 2, 0), strict=False)
        ]
        argv = [argument.encode() for argument in asked["argv"]]
        environment = {name.encode(): value.encode() for name, value in asked["environment"].items()}
        try:
            pid = self._spawn(
                asked["program"], argv, environment, file_actions=actions, setsid=True, setsigmask=(), setsigdef=DEFAULTED
            )
        except OSError as error:
            self._tell(failed=error.errno)
            return
        _limit_one(pid, self._permit["limits"])
        self._descendants.forget_strangers()  # nobody has looked since the last command: numbers may be used again
        now = time.monotonic()
        self._run = Run(pid, now)
        self._deadline = now + asked["seconds"]
        self._look_at = now + LOOK_SECONDS

    def _signal(self, number: int) -> None:
        """Send a signal to the program and those it shares its group with, as a terminal does."""
        if self._run is not None and self._run.status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._run.pid, number)

    def _answer(self) -> None:
        if (denied := self._confinement.answer()) and self._run is not None:
            self._run.denied.add(denied)
            if denied != "network" and len(self._run.refused) < MOST_REFUSED:
                place = self._confinement.refused.encode(errors="backslashreplace").decode()
                self._run.refused[f"{denied} {place}"] = None

    def _reap(self, run: Run) -> bool:
        """Wait for what has ended; False when no child is left, and that was the command.

        There is as much time for that as for looking at what has ended: 20,000 of it would be looked at for minutes.
        """
        until = time.monotonic() + REAP_SECONDS + self._looked
        while time.monotonic() < until:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                break
            run.count(usage)
            if pid == run.pid:
                run.status = status
                if run.kill_at is None:  # else it is being ended, and the others have what is left of its grace
                    run.kill_at = time.monotonic() + LINGER_SECONDS
        return True

    def _watch(self, run: Run) -> None:
        """See to what the clock says."""
        now = time.monotonic()
        if now >= self._deadline:
            self._deadline = float("inf")
            self._end("timeout")
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._weigh(run)
        if run.kill_at is not None and now >= run.kill_at:
            self._kill(run)
        self._looked = time.monotonic() - now

    def _weigh(self, run: Run) -> None:
        """Look at what all its processes take together."""
        limits, found = self._permit["limits"], self._descendants.look()
        seconds = run.user_seconds + run.system_seconds + sum(process.seconds for process in found)
        memory = sum(process.resident for process in found)
        if memory > limits["memory"]:  # shared pages were counted more than once; this is exact, and takes longer
            memory = sum(map(descendants.proportional, found))
        run.peak_memory = max(run.peak_memory, memory)
        if len(found) > limits["processes"]:
            self._end("limit", "processes")
        elif memory > limits["memory"]:
            self._end("limit", "memory")
        elif seconds > limits["cpu"]:
            self._end("limit", "cpu")

    def _end(self, reason: str, limit: str = "") -> None:
        """End the command: by SIGTERM and after its grace by SIGKILL, or at once if it takes what others need.

        The first reason counts.
        """
        run = self._run
        if run is None or (run.reason and not limit):
            return
        if not run.reason:
            run.reason, run.limit = reason, limit
        if limit:
            self._kill(run)
            return
        self._descendants.signal(signal.SIGTERM, run.pid)
        self._descendants.signal(signal.SIGCONT, run.pid)  # who is stopped would not hear it
        grace = time.monotonic() + self._permit["limits"]["grace"]
        run.kill_at = grace if run.kill_at is None else min(grace, run.kill_at)

    def _kill(self, run: Run) -> None:
        self._signal(signal.SIGKILL)  # who has not left its group starts nothing more while the others are looked for
        killed = self._descendants.kill(lambda: self._reap(run))
        if run.status is not None and not run.reason:
            run.left = max(run.left, killed)
        run.kill_at = time.monotonic() + KILL_SECONDS

    def _tell(self, **message: Any) -> None:
        if self._server is not None:
            with contextlib.suppress(OSError):  # it is gone: the next message says so
                self._server.send(message)


def _is_done(future: Future[int]) -> bool:
    """Wait a moment for it; a third of what `concurrent.futures.wait` takes."""
    try:
        future.exception(ANSWER_SECONDS)
    except TimeoutError:  # the future's own is returned
        return False
    return True


def _limit_all(limits: dict[str, Any]) -> None:
    """Set what this process can bear as well, so that commands are born with it.

    RLIMIT_NPROC counts all threads of a user, those of other commands too: it can only keep a bomb from growing without end
    between two looks. It does not hold for root.
    """
    with open("/proc/loadavg") as file:
        threads = int(file.read().split()[3].partition("/")[2])  # of the whole machine
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, limits["file_size"])
    _lower(resource.RLIMIT_NOFILE, limits["open_files"])
    _lower(resource.RLIMIT_NPROC, threads + limits["processes"] + SPARE_PROCESSES)


def _limit_one(pid: int, limits: dict[str, Any]) -> None:
    """Set what would end this process. The program is being loaded meanwhile, and has had no time to fork.

    The looks at all its processes come before these; they hold if a look is late.
    """
    cpu = limits["cpu"] + SPARE_CPU
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or is a setuid program's
        for kind, value in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, SPARE_MEMORY * limits["memory"])):
            _, most = resource.prlimit(pid, kind)
            if most == resource.RLIM_INFINITY or value < most:
                resource.prlimit(pid, kind, (value, value))


def _lower(kind: int, value: int) -> None:
    _, most = resource.getrlimit(kind)
    least = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(kind, (least, least))


@functools.cache
def _name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:  # a real-time signal
        return str(number)


def run(connection: socket.socket) -> NoReturn:
    """Be a keeper, in a process that was forked for it."""
    status = 1
    try:
        Keeper(Channel(connection)).main()
        status = 0
    except BaseException:
        traceback.print_exc()  # to the server's stderr: this is a bug
    finally:
        os._exit(status)
