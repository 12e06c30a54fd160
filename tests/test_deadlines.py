"""Who is late, and when. The clock is the loop's, and leaps."""

import asyncio
import functools

import pytest
from peers import LOOPS, leaping_loop, play

from fastframe._deadlines import Deadlines


def leaping(test):
    """Run a test on a loop whose clock leaps."""

    @functools.wraps(test)
    def wrapper():
        play(leaping_loop, test)

    return wrapper


def now() -> float:
    return asyncio.get_running_loop().time()


class Ledger(Deadlines):
    """Deadlines that note who was late, and when."""

    def __init__(self, timeout):
        super().__init__(timeout, lambda debtor: self.late.append((debtor, round(now() - self.began, 6))))
        self.late = []
        self.began = now()


@leaping
async def test_each_is_late_after_its_own_time():
    ledger = Ledger(10)
    for debtor in "abc":
        ledger.restart(debtor)
        await asyncio.sleep(1)
    await asyncio.sleep(30)
    assert ledger.late == [("a", 10), ("b", 11), ("c", 12)]


@leaping
async def test_who_restarts_counts_from_then_on():
    ledger = Ledger(10)
    ledger.restart("a")
    ledger.restart("b")
    await asyncio.sleep(9)
    ledger.restart("a")
    await asyncio.sleep(30)
    assert ledger.late == [("b", 10), ("a", 19)]


@leaping
async def test_who_stops_is_never_late_and_may_stop_again():
    ledger = Ledger(10)
    for debtor in "abc":
        ledger.restart(debtor)
    await asyncio.sleep(9)
    for debtor in ("a", "b", "b", "unknown"):
        ledger.stop(debtor)
    await asyncio.sleep(30)
    assert ledger.late == [("c", 10)]


@leaping
async def test_the_timer_goes_on_after_a_time_without_debtors():
    ledger = Ledger(10)
    ledger.restart("a")
    ledger.stop("a")
    await asyncio.sleep(30)
    ledger.restart("b")
    await asyncio.sleep(30)
    assert ledger.late == [("b", 40)]


@leaping
async def test_without_a_timeout_nobody_is_late():
    ledger = Ledger(None)
    ledger.restart("a")
    await asyncio.sleep(3000)
    ledger.stop("a")
    ledger.close()
    assert ledger.late == []


@leaping
async def test_who_is_late_may_be_given_more_time():
    patience = iter([True, True, False])
    late = []

    def expire(debtor):
        late.append(now() - began)
        if next(patience):
            deadlines.restart(debtor)

    deadlines, began = Deadlines(10, expire), now()
    deadlines.restart("a")
    await asyncio.sleep(100)
    assert late == pytest.approx([10, 20, 30])


@leaping
async def test_all_who_are_late_at_once_are_told_in_the_order_of_their_time():
    ledger = Ledger(10)
    for number in range(1000):
        ledger.restart(number)
    ledger.restart(0)
    await asyncio.sleep(10)
    assert [debtor for debtor, _ in ledger.late] == [*range(1, 1000), 0]


@leaping
async def test_one_timer_serves_them_all():
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at
    loop.call_at = lambda when, *rest, **options: timers.append(when) or call_at(when, *rest, **options)
    ledger = Ledger(10)
    for number in range(1000):
        ledger.restart(number)
    for number in range(1000):
        ledger.stop(number)
    assert len(timers) == 1


@leaping
async def test_after_close_nobody_is_late():
    ledger = Ledger(10)
    ledger.restart("a")
    ledger.close()
    await asyncio.sleep(30)
    assert ledger.late == []


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_either_loops_timers_keep_the_time(loop):
    async def main():
        ledger = Ledger(0.05)
        for debtor in "abc":
            ledger.restart(debtor)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert [debtor for debtor, _ in ledger.late] == ["a", "b", "c"]
        assert all(when >= 0.05 + 0.01 * number - 0.002 for number, (_, when) in enumerate(ledger.late))

    play(loop, main)
