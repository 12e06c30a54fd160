"""The one measuring core: contenders take turns in one process, and each turn is compared with the base's turn beside it.

Machines are shared and noisy, and they drift: a median over turns and a ratio taken pair by pair hold where a mean of one
contender's times, divided by a mean of another's a minute later, does not. Every benchmark measures with `measure`.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import fastframe

STEADY_MEMCPY = "GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=0x10000000"


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
    turns: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    units_of = dict.fromkeys(order, units) if isinstance(units, int) else units
    with quiet():
        for work in contenders.values():
            work()
        for _ in range(repetitions):
            for name in order:
                work = contenders[name]
                start = clock()
                work()
                turns[name].append(max(1, clock() - start) / units_of[name])
            order.append(order.pop(0))  # nobody always runs in the cache that the same neighbour left behind
    return Results(turns)


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


def memcpy_stumble() -> float:
    """Return how many times longer a copy of 16 KiB takes if it goes 16 bytes further into its page than where it comes from.

    1 where all is well. About 20 on AMD Zen 3 and 4 with glibc before 2.39 (sourceware.org/bugzilla/show_bug.cgi?id=30994):
    there one copy in 130 of random alignment falls into the hole, and figures for payloads of 4 KiB and more are a matter of
    luck, for every contender. `STEADY_MEMCPY` in the environment, when Python starts, avoids it.
    """
    length, page = 16 << 10, 4096
    source, target = ctypes.create_string_buffer(length + page), ctypes.create_string_buffer(length + 2 * page)
    start = ctypes.addressof(source)
    aligned = ctypes.addressof(target) + (start - ctypes.addressof(target)) % page

    def copy(to: int) -> None:
        for _ in range(50):
            ctypes.memmove(to, start, length)

    results = measure({"aligned": lambda: copy(aligned), "further": lambda: copy(aligned + 16)}, 5)
    return results.ratio("further", "aligned").median


def machine() -> dict[str, Any]:
    """Return what a result depends on and what it cannot be read without."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "libc": " ".join(platform.libc_ver()),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "memcpy_stumble": round(memcpy_stumble(), 1),
        "fastframe": fastframe.__version__,
        "implementation": fastframe.IMPLEMENTATION,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "unknown"
