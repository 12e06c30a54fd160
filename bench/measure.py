"""The one measuring core: contenders take turns, and each turn is compared with the base's turn beside it.

Machines are shared and noisy, and they drift: a median over turns and a ratio taken pair by pair hold where a mean of one
contender's times, divided by a mean of another's a minute later, does not. Every benchmark has its turns from `take_turns`, and
`Results` makes medians and ratios of them; `measure` is both for what runs in this process.

What a process uses of the processor is asked of the kernel (`cpu_ns`), and where there are cores for it, the two sides of a
connection have one each (`two_cores`, `on_core`).
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeVar

from .entry import BenchError

CPU_CLOCK: Final = 2  # CPUCLOCK_SCHED: exact, where the others count ticks

T = TypeVar("T")


class Spread(NamedTuple):
    """The quartiles of what was measured."""

    lower: float
    median: float
    upper: float


class Results:
    """What each contender took in each turn, in nanoseconds a unit of work."""

    def __init__(self, turns: dict[str, list[float]]) -> None:
        self.turns = turns

    def ns(self, name: str) -> Spread:
        return spread(self.turns[name])

    def ratio(self, name: str, base: str) -> Spread:
        """Return how many times what `base` took in the same turn."""
        return spread([own / other for own, other in zip(self.turns[name], self.turns[base], strict=True)])


def measure(
    contenders: Mapping[str, Callable[[], object]],
    repetitions: int,
    *,
    units: int | Mapping[str, int] = 1,
    clock: Callable[[], int] = time.thread_time_ns,
) -> Results:
    """Call each contender once untimed, and then once in each of `repetitions` turns.

    `units`: how much work one call does, for instance how many frames it decodes; by name where a slow contender does less. A
    call should take a millisecond or more, since reading the clock costs up to 1 us. `clock`: the time on the processor, unless
    told; right for what never waits, and deaf to other processes.
    """
    units_of = dict.fromkeys(contenders, units) if isinstance(units, int) else units

    def timed(name: str) -> Callable[[], float]:
        work, unit = contenders[name], units_of[name]

        def turn() -> float:
            start = clock()
            work()
            return max(1, clock() - start) / unit

        return turn

    with quiet():
        for work in contenders.values():
            work()
        return Results(take_turns({name: timed(name) for name in contenders}, repetitions))


def passes_in_time(run: Callable[[int], None], most: int, turn_ns: int) -> int:
    """Return how many passes, at most `most`, take about `turn_ns`."""
    passes = 1
    while True:
        start = time.thread_time_ns()
        run(passes)
        took = max(1, time.thread_time_ns() - start)
        if passes >= most or took > turn_ns // 20:
            return max(1, min(most, passes * turn_ns // took))
        passes *= 4


def take_turns(
    players: Mapping[str, Callable[[], T]], repetitions: int, forgive: Callable[[str, BenchError], None] | None = None
) -> dict[str, list[T]]:
    """Have each play once in each of `repetitions` turns; return what it gave in each, by name.

    Who raises `BenchError` is handed to `forgive`, if that is given, and has no part in the rest nor in what is returned.
    """
    turns: dict[str, list[T]] = {name: [] for name in players}
    order = list(players)
    for _ in range(repetitions):
        for name in list(order):
            try:
                turns[name].append(players[name]())
            except BenchError as error:
                if forgive is None:
                    raise
                forgive(name, error)
                order.remove(name)
                del turns[name]
        order = order[1:] + order[:1]  # nobody always runs in the cache that the same neighbour left behind
    return turns


def spread(values: list[float]) -> Spread:
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep out what is not the contenders' doing: the garbage collector, and pages given back to the kernel."""
    raise_malloc_thresholds()
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def raise_malloc_thresholds() -> None:
    """Let glibc keep large blocks, for all contenders alike.

    Blocks of 128 KiB and more are mapped, and given back at every free, until one block has been freed: from then on malloc
    keeps what is smaller than that one, up to 32 MiB. Before, each payload of 256 KiB costs 64 page faults, which is more than
    decoding it; whether a program frees something large early is its own affair and not the codec's. A long-lived server has
    done so. Elsewhere than on glibc this does nothing.
    """
    block = bytes(31 << 20)  # never touched, so it costs no memory
    del block


def cpu_ns(pid: int) -> int:
    """Return the time that all threads of a process have had on the processor, ended ones included, in nanoseconds.

    Raise OSError once it has ended.
    """
    return time.clock_gettime_ns(~pid << 3 | CPU_CLOCK)  # as clock_getcpuclockid(3) makes it


def two_cores() -> tuple[int | None, int | None]:
    """Return one core for clients and one for servers, or None for both where there is but one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def cores_used() -> str:
    """Return in words what `two_cores` gives; to be asked before this process is on one of them."""
    return "not pinned: there is one" if two_cores()[0] is None else "one for the servers, one for the client"


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Let what is started here run on this core alone; None: wherever the kernel likes."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
