"""Work in threads: what it returns and raises, and that nobody goes before it has ended."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sessions import played

from fastframe.servers import offload


@played
async def test_work_is_done_in_another_thread():
    assert await offload.run(threading.get_ident) != threading.get_ident()
    assert await offload.run(int, "ff", base=16) == 255
    with pytest.raises(ZeroDivisionError):
        await offload.run(divmod, 1, 0)


class Gate:
    """Work that is done when it is told so."""

    def __init__(self, result=None, error=None):
        self.begun, self.open, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.result, self.error = result, error

    def work(self):
        self.begun.set()
        self.open.wait(10)
        self.ended.set()
        if self.error is not None:
            raise self.error
        return self.result


class Closable:
    closed = False

    def close(self):
        self.closed = True


async def cancelled(gate):
    """Start the gate's work, cancel who waits for it, twice, and let it end."""
    task = asyncio.create_task(offload.run(gate.work))
    await asyncio.to_thread(gate.begun.wait, 10)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not task.done()
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.ended.is_set()


@played
async def test_who_is_cancelled_goes_when_the_thread_has_ended():
    await cancelled(Gate())


@played
async def test_what_nobody_gets_is_closed():
    result = Closable()
    await cancelled(Gate(result))
    assert result.closed


@played
async def test_an_error_that_nobody_gets_is_forgotten():
    await cancelled(Gate(error=ValueError()))


@played
async def test_all_jobs_have_ended_when_they_are_settled():
    gates = [Gate(), Gate(error=ValueError())]
    jobs = [offload.start(gate.work) for gate in gates]
    settling = asyncio.create_task(offload.settle(jobs))
    gates[1].open.set()
    await asyncio.to_thread(gates[1].ended.wait, 10)
    await asyncio.sleep(0.01)
    assert not settling.done()
    gates[0].open.set()
    await settling
    assert isinstance(jobs[1].exception(), ValueError)


@played
async def test_long_work_is_done_in_turns():
    parts, checks = [], []
    await offload.in_turns(lambda start, stop: parts.append((start, stop)), 2 * offload.TURN + 5, lambda: checks.append(1))
    assert parts == [(0, offload.TURN), (offload.TURN, 2 * offload.TURN), (2 * offload.TURN, 2 * offload.TURN + 5)]
    assert len(checks) == len(parts)
    await offload.in_turns(lambda start, stop: parts.clear(), 0, checks.clear)
    assert parts
    assert checks


@played
async def test_a_check_ends_long_work():
    def check():
        if parts:
            raise ZeroDivisionError

    parts = []
    with pytest.raises(ZeroDivisionError):
        await offload.in_turns(lambda start, stop: parts.append(start), 3 * offload.TURN, check)
    assert parts == [0]


@played
async def test_long_work_is_cancelled_between_two_parts():
    async def cancelled():
        await offload.in_turns(lambda start, stop: parts.append(start), 1 << 60, lambda: None)

    parts = []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(cancelled(), 0.05)
    assert parts
