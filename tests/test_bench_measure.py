"""The measuring core: turns, units, ratios against a base, who runs where. Nothing here is timed."""

import functools
import gc
import itertools
import os
import time

import pytest

from fastframe.bench import measure
from fastframe.bench.entry import BenchError


def steps(*durations):
    """Return a clock that says each duration in turn has passed."""
    ticks = itertools.accumulate(itertools.chain.from_iterable((0, duration) for duration in itertools.cycle(durations)))
    return lambda: next(ticks)


def test_contenders_take_turns_after_one_untimed_call_each():
    calls = []
    measure.measure({name: lambda name=name: calls.append(name) for name in "abc"}, 3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"


def test_times_are_a_unit_and_ratios_are_taken_turn_by_turn():
    # turns: a b, b a, a b, b a; the machine is 10 times slower from the third on, which no ratio shows
    results = measure.measure({"a": int, "b": int}, 4, units=10, clock=steps(100, 300, 300, 100, 1000, 3000, 3000, 1000))
    assert results.turns == {"a": [10, 10, 100, 100], "b": [30, 30, 300, 300]}
    assert results.ns("a") == (10, 55, 100)
    assert results.ratio("b", "a") == (3, 3, 3)
    assert results.ratio("a", "a") == (1, 1, 1)


def test_units_may_differ_from_one_to_the_other():
    results = measure.measure({"a": int, "b": int}, 1, units={"a": 1, "b": 10}, clock=steps(100, 100))
    assert results.turns == {"a": [100], "b": [10]}


def test_one_repetition_is_its_own_spread():
    assert measure.measure({"a": int}, 1, clock=steps(7)).ns("a") == (7, 7, 7)


def test_no_garbage_is_collected_meanwhile_and_it_is_as_before_afterwards():
    seen = []
    measure.measure({"a": lambda: seen.append(gc.isenabled())}, 2)
    assert seen == [False] * 3
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        measure.measure({"a": lambda: 1 // 0}, 1)
    assert gc.isenabled()


def test_who_fails_is_forgiven_and_has_no_part_in_the_rest():
    played, forgiven = [], []

    def play(name):
        played.append(name)
        if played.count("b") == 2 and name == "b":
            raise BenchError("no more")
        return len(played)

    players = {name: functools.partial(play, name) for name in "abc"}
    turns = measure.take_turns(players, 3, lambda name, error: forgiven.append((name, str(error))))
    assert "".join(played) == "abc" + "bca" + "ac"
    assert turns == {"a": [1, 6, 7], "c": [3, 5, 8]}
    assert forgiven == [("b", "no more")]
    played.clear()
    with pytest.raises(BenchError, match="no more"):
        measure.take_turns(players, 2)


def test_the_kernel_is_asked_for_the_time_of_a_process():
    before = measure.cpu_ns(os.getpid())
    while time.process_time_ns() < 1000:
        pass
    assert 0 < before < measure.cpu_ns(os.getpid())
    with pytest.raises(OSError, match="Invalid argument"):
        measure.cpu_ns(1 << 22)  # no process has such a number


def test_two_cores_where_there_are_two(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert measure.two_cores() == (3, 5)
    assert measure.cores_used() == "one for the servers, one for the client"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert measure.two_cores() == (None, None)
    assert measure.cores_used() == "not pinned: there is one"


def test_what_is_started_on_a_core_runs_there():
    cores = os.sched_getaffinity(0)
    with measure.on_core(min(cores)):
        assert os.sched_getaffinity(0) == {min(cores)}
    with measure.on_core(None):
        assert os.sched_getaffinity(0) == cores


def test_who_is_slow_makes_fewer_passes(monkeypatch):
    run = []
    monkeypatch.setattr(measure.time, "thread_time_ns", lambda: sum(run))
    for took, passes in ((1, 1000), (10_000, 100), (1_000_000, 1), (9_000_000, 1)):
        assert measure.passes_in_time(lambda passes, took=took: run.append(passes * took), 1000, 1_000_000) == passes
