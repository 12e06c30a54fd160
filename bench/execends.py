"""The client processes of the exec benchmark, and what each of them runs a command with: `python -m fastframe.bench.execends`.

A client says `ready` when all that it will need at once is connected. Then it reads jobs, a line of JSON each, and answers each
with how long every run took: in each of `at_once` threads, or tasks of a loop, one command follows the other until the time is
up. A run is over when the status of the program and all that it wrote are known; what is not as it should be is an error.

What Python brings along stands here; what runs commands by way of another process, in `otherexecs.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, NamedTuple

from .pairs import READY

TRUE: Final = ["/bin/true"]
BLOCK: Final = 1 << 20  # bytes that are read at once at most; a pipe has 64 KiB of them

Command = list[str]


class Outcome(NamedTuple):
    """What is known after a run: the status of the program, and how many bytes it wrote."""

    status: int
    stdout: int
    stderr: int


Run = Callable[[Command], Outcome]
AsyncRun = Callable[[Command], Awaitable[Outcome]]


class Threads(NamedTuple):
    """What a thread runs commands with: its own."""

    open: Callable[[str], AbstractContextManager[Run]]


class Tasks(NamedTuple):
    """What the tasks of a loop run commands with: each its own, if they cannot share one."""

    open: Callable[[str, int], AbstractAsyncContextManager[list[AsyncRun]]]


class Job(NamedTuple):
    """Run `true` for some seconds, so many at once; or, with a size, once a program that prints so many bytes."""

    seconds: float = 0
    at_once: int = 1
    size: int = 0

    def command(self) -> Command:
        return ["/usr/bin/head", "-c", str(self.size), "/dev/zero"] if self.size else TRUE


class Answer(NamedTuple):
    """Nanoseconds: all together, and each run."""

    ns: int
    runs: list[int]


def main(argv: list[str], ways: dict[str, Threads | Tasks]) -> None:
    name, target, at_once = argv
    way = ways[name]
    opened = in_threads(way, target, int(at_once)) if isinstance(way, Threads) else in_tasks(way, target, int(at_once))
    with opened as do:
        print(READY, flush=True)
        for line in sys.stdin:
            try:
                answer: dict[str, Any] = do(Job(*json.loads(line)))._asdict()
            except Exception as error:  # whatever it is, the bench says it
                answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
            print(json.dumps(answer), flush=True)


@contextlib.contextmanager
def in_threads(way: Threads, target: str, at_once: int) -> Iterator[Callable[[Job], Answer]]:
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(way.open(target)) for _ in range(at_once)]
        yield lambda job: do_in_threads(runs[: job.at_once], job)


def do_in_threads(runs: list[Run], job: Job) -> Answer:
    start = time.perf_counter_ns()

    def work(run: Run) -> list[int]:
        ends = [start]
        while len(ends) == 1 or ends[-1] - start < job.seconds * 1e9:
            check(run(job.command()), job)
            ends.append(time.perf_counter_ns())
        return differences(ends)

    with ThreadPoolExecutor(len(runs)) as pool:
        took = list(itertools.chain.from_iterable(pool.map(work, runs)))
    return Answer(time.perf_counter_ns() - start, took)


@contextlib.contextmanager
def in_tasks(way: Tasks, target: str, at_once: int) -> Iterator[Callable[[Job], Answer]]:
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        runs = runner.run(stack.enter_async_context(way.open(target, at_once)))
        yield lambda job: runner.run(do_in_tasks(runs[: job.at_once], job))
        runner.run(stack.aclose())


async def do_in_tasks(runs: list[AsyncRun], job: Job) -> Answer:
    start = time.perf_counter_ns()

    async def work(run: AsyncRun) -> list[int]:
        ends = [start]
        while len(ends) == 1 or ends[-1] - start < job.seconds * 1e9:
            check(await run(job.command()), job)
            ends.append(time.perf_counter_ns())
        return differences(ends)

    took = await asyncio.gather(*map(work, runs))
    return Answer(time.perf_counter_ns() - start, list(itertools.chain.from_iterable(took)))


def differences(ends: list[int]) -> list[int]:
    return [end - start for start, end in itertools.pairwise(ends)]


def check(outcome: Outcome, job: Job) -> None:
    if outcome != Outcome(0, job.size, 0):
        raise ValueError(f"{outcome} of a program that prints {job.size} bytes")


# what runs commands


@contextlib.contextmanager
def posix_spawn(_: str) -> Iterator[Run]:
    """os.posix_spawn and waitpid, with output to /dev/null: less cannot be done."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, nowhere, number) for number in (0, 1, 2)]

    def run(command: Command) -> Outcome:
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        return Outcome(status_of(pid), 0, 0)

    try:
        yield run
    finally:
        os.close(nowhere)


@contextlib.contextmanager
def pipes(_: str) -> Iterator[Run]:
    """os.posix_spawn, two pipes that are read to their end one after the other, and waitpid: the least with output."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    buffer = bytearray(BLOCK)

    def run(command: Command) -> Outcome:
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        moves = [(os.POSIX_SPAWN_DUP2, theirs, number) for number, theirs in enumerate((nowhere, out_end, err_end))]
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=moves)
        os.close(out_end)
        os.close(err_end)
        sizes = [read_out(out, buffer), read_out(err, buffer)]
        return Outcome(status_of(pid), *sizes)

    try:
        yield run
    finally:
        os.close(nowhere)


def read_out(pipe: int, buffer: bytearray) -> int:
    """Read to the end, close, and return how many bytes there were."""
    size = 0
    while some := os.readv(pipe, [buffer]):
        size += some
    os.close(pipe)
    return size


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def subprocess_run(_: str) -> Iterator[Run]:
    """subprocess.run with captured output."""

    def run(command: Command) -> Outcome:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return Outcome(done.returncode, len(done.stdout), len(done.stderr))

    yield run


@contextlib.asynccontextmanager
async def asyncio_exec(_: str, at_once: int) -> AsyncIterator[list[AsyncRun]]:
    """asyncio.create_subprocess_exec and communicate, on asyncio's own loop with the child watcher that it comes with."""
    pipe = asyncio.subprocess.PIPE

    async def run(command: Command) -> Outcome:
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stdin=nowhere, stdout=pipe, stderr=pipe)
        out, err = await process.communicate()
        assert process.returncode is not None
        return Outcome(process.returncode, len(out), len(err))

    yield [run] * at_once


LOCAL: Final[dict[str, Threads | Tasks]] = {
    "posix_spawn": Threads(posix_spawn),
    "pipes": Threads(pipes),
    "subprocess": Threads(subprocess_run),
    "asyncio": Tasks(asyncio_exec),
}
