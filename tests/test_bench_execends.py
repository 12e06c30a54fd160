"""The clients of the exec benchmark: what Python itself runs commands with, and how many are run, at once and in what time."""

import asyncio
import contextlib
import io
import json
import os
import sys
import threading

import pytest

from fastframe.bench import execends
from fastframe.bench.execends import Job, Outcome, Tasks, Threads
from fastframe.bench.pairs import READY

SCRIPT = ["/bin/sh", "-c", "echo out; echo oops >&2; exit 3"]
DONE = Outcome(0, 0, 0)


def outcome_of(way, command):
    if isinstance(way, Threads):
        with way.open("") as run:
            return run(command)

    async def once():
        async with way.open("", 1) as (run,):
            return await run(command)

    return asyncio.run(once())


@pytest.mark.parametrize("name", execends.LOCAL)
def test_status_and_sizes_of_a_command_are_known(name):
    before = os.listdir("/proc/self/fd")
    outcome = outcome_of(execends.LOCAL[name], SCRIPT)
    assert outcome == (Outcome(3, 0, 0) if name == "posix_spawn" else Outcome(3, len("out\n"), len("oops\n")))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_pipes_are_read_to_their_end():
    job = Job(size=execends.BLOCK + 300_001)
    with execends.pipes("") as run:
        execends.check(run(job.command()), job)


def test_a_job_with_a_size_prints_so_many_bytes():
    assert Job(1.0, 8).command() == execends.TRUE
    assert Job(size=7).command()[-2:] == ["7", "/dev/zero"]


@pytest.mark.parametrize("outcome", [(1, 3, 0), (0, 2, 0), (0, 3, 1), (None, 3, 0)])
def test_a_run_is_checked(outcome):
    execends.check(Outcome(0, 3, 0), Job(size=3))
    with pytest.raises(ValueError, match="of a program that prints 3 bytes"):
        execends.check(Outcome(*outcome), Job(size=3))


def test_threads_run_at_once_and_go_on_until_the_time_is_up():
    together = threading.Barrier(2, timeout=10)
    ran = []

    @contextlib.contextmanager
    def open_one(target):
        def run(command):
            together.wait()  # breaks if the other one does not run meanwhile
            ran.append(target)
            return DONE

        yield run

    with execends.in_threads(Threads(open_one), "there", 3) as do:
        answer = do(Job(seconds=0, at_once=2))
        assert ran == ["there", "there"]
        assert len(answer.runs) == 2
        assert max(answer.runs) <= answer.ns


def test_one_follows_the_other_until_the_time_is_up(monkeypatch):
    clock = iter(range(0, 10**12, 400_000_000))
    monkeypatch.setattr(execends.time, "perf_counter_ns", lambda: next(clock))
    answer = execends.do_in_threads([lambda command: DONE], Job(seconds=1))
    assert answer.runs == [400_000_000] * 3  # the third one ends behind the end
    assert answer.ns == 1_600_000_000


def test_tasks_run_at_once():
    async def ways():
        together = asyncio.Event()
        waiting = []

        async def run(command):
            waiting.append(command)
            if len(waiting) == 2:
                together.set()
            await asyncio.wait_for(together.wait(), 10)
            return DONE

        return await execends.do_in_tasks([run, run], Job(at_once=2))

    assert len(asyncio.run(ways()).runs) == 2


def test_tasks_are_closed_when_all_jobs_are_done():
    log = []

    @contextlib.asynccontextmanager
    async def open_some(target, at_once):
        async def run(command):
            log.append("run")
            return DONE

        log.append((target, at_once))
        yield [run] * at_once
        log.append("closed")

    with execends.in_tasks(Tasks(open_some), "there", 3) as do:
        do(Job(at_once=2))
    assert log == [("there", 3), "run", "run", "closed"]


def test_jobs_are_answered_line_by_line_and_errors_are_said(monkeypatch, capsys):
    @contextlib.contextmanager
    def open_one(target):
        yield lambda command: Outcome(0 if command == execends.TRUE else 1, 0, 0)

    monkeypatch.setattr(sys, "stdin", io.StringIO("[0]\n[0, 1, 5]\n[0]\n"))
    execends.main(["way", "", "1"], {"way": Threads(open_one)})
    ready, first, second, third = capsys.readouterr().out.splitlines()
    assert ready == READY
    assert len(json.loads(first)["runs"]) == len(json.loads(third)["runs"]) == 1
    assert json.loads(second) == {"error": "ValueError: Outcome(status=1, stdout=0, stderr=0) of a program that prints 5 bytes"}
