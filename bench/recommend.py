"""`fastframe bench recommend`: the sizes to use on this machine, each with its reason in figures.

They are read off the sweeps of `fastframe bench chunks`, of a short one that is made now or of a saved one:

- a read: what receives frames of all sizes measured in nearly the least processor time. For each way of receiving and each size
  of frames there is the ratio of each size of reads to one and the same, turn by turn; their geometric mean is a size's cost.
  The smallest whose cost is within 5 % of the least is recommended: memory is a price too.
- a frame of bulk data: the smallest for which both ends together take within 10 % of the least processor time, received with
  reads of our fronts' size and more.
- small frames: as few in one call, and as few bytes outstanding, as are within 10 % of the least.
- the loop: uvloop, which is one more thing to install, if our echo takes 5 % less processor time on it, mean over frames.

Processor time decides, since others on the machine hardly change it, as they do the rate of a transfer.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from . import chunks, command
from .chunkdecode import DEFAULT_READ
from .entry import BenchError
from .kneetables import ns, series
from .report import say, size_text

if TYPE_CHECKING:
    from .family import Report

READ_TOLERANCE: Final = 1.05
TOLERANCE: Final = 1.10  # where a single size of frames decides, which is noisier
SHORT_SWEEP: Final = (
    *("--quick", "--repetitions", "7", "--sweeps", "echo,transfer,batch"),
    *("--frames", "64,4KiB,64KiB,256KiB,1MiB,4MiB", "--reads", "4KiB,16KiB,64KiB,256KiB,1MiB,4MiB"),
)
READING: Final = {"echo": "ratio", "transfer": "receiver_ratio"}  # of the end that reads
LOOPS: Final = ("asyncio", "uvloop")

Row = dict[str, Any]
Costs = Mapping[int, float]  # by size: 1 is the best there is


class Advice(NamedTuple):
    """`value` is for programs, `text` and `reason` are for people."""

    what: str
    value: int | str
    text: str
    reason: str


@command.ended_by_signals()
def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    try:
        report = saved(args.from_) if args.from_ else swept()
        with command.of_files():
            advice = list(advices(report))
        if not advice:
            raise BenchError("nothing was measured that says which sizes to use")
    except (BenchError, OSError) as error:
        say(f"fastframe bench recommend: {error}")
        return 1
    if args.json:
        print(json.dumps({"machine": report["machine"], "recommend": [each._asdict() for each in advice]}, indent=1))
    else:
        print_advice(report, advice)
    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="fastframe bench recommend",
        description="Tell which sizes to use on this machine for reads, for frames of bulk data and for batches of small"
        " frames, and which loop, after a sweep of half a minute or from a saved one.",
        epilog="example: fastframe bench recommend --from chunks.json",
    )
    result.add_argument(
        "--from", dest="from_", type=Path, metavar="FILE", help="what fastframe bench chunks --json has written"
    )
    result.add_argument("--json", action="store_true", help="print it as JSON")
    return result


def swept() -> Report:
    return command.measured(chunks.FAMILY, command.parse(chunks.FAMILY, SHORT_SWEEP))


def saved(path: Path) -> Report:
    for report in command.read_json(path):
        if report["benchmark"] == chunks.FAMILY.name:
            return report
    raise BenchError(f"{path} has no sweep of chunk sizes: fastframe bench chunks --json makes one")


def print_advice(report: Report, advice: Sequence[Advice]) -> None:
    machine = report["machine"]
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, {machine['python']}, {machine['date']}\n")
    for each in advice:
        print(f"{each.what + ':':<26}{each.text}\n    {each.reason}")


def advices(report: Report) -> Iterator[Advice]:
    """Yield what the sweeps tell; what was not measured is left out."""
    read = read_advice(report)
    if read:
        yield read
    yield from frame_advice(report["transfer"])
    yield from window_advice(report["echo"])
    yield from batch_advice(report["batch"])
    yield from loop_advice(report["echo"])


# A read


def read_advice(report: Report) -> Advice | None:
    costs = read_costs(report)
    if len(costs) < 2:
        return None
    size = smallest(costs, READ_TOLERANCE)
    text = f"{size_text(size)} a read"
    reason = f"it is within {100 * (READ_TOLERANCE - 1):.0f} % of the best over all sizes of frames; {beside(costs, size)}"
    reason += "; so do our fronts" if size == DEFAULT_READ else f"; our fronts read {size_text(DEFAULT_READ)}"
    return Advice("receiving", size, text, reason)


def read_costs(report: Report) -> Costs:
    """Return what each size of reads costs, of those ways that may read any number of bytes."""
    ratios: dict[int, list[float]] = {}
    largest = max((row["read"] for sweep in READING for row in report[sweep]), default=0)
    for sweep, ratio in READING.items():
        for _, _, own in series(report[sweep]):
            for row in own if own[-1]["read"] == largest else ():
                ratios.setdefault(row["read"], []).append(row[ratio]["median"])
    most = max(map(len, ratios.values()), default=0)  # very small reads are not measured with every size of frames
    return normal({read: statistics.geometric_mean(each) for read, each in ratios.items() if len(each) == most})


def normal(costs: Costs) -> Costs:
    best = min(costs.values(), default=1)
    return {size: cost / best for size, cost in sorted(costs.items())}


def smallest(costs: Costs, tolerance: float) -> int:
    return next(size for size, cost in costs.items() if cost <= tolerance)


def beside(costs: Costs, size: int) -> str:
    """Say what the next smaller and the largest size would be in comparison."""
    smaller = [other for other in costs if other < size]
    parts = []
    if smaller:
        parts.append(f"{size_text(smaller[-1])} takes {compared(costs[smaller[-1]], costs[size])}")
    last = max(costs)
    if last != size:
        parts.append(f"{size_text(last)} takes {compared(costs[last], costs[size])} and {last // size} times the memory")
    return ", ".join(parts)


def compared(cost: float, own: float) -> str:
    percent = 100 * (cost / own - 1)
    return f"{abs(percent):.0f} % {'longer' if percent >= 0 else 'less'}"


# A frame, many small ones, a loop


def frame_advice(rows: Sequence[Row]) -> Iterator[Advice]:
    """Yield the size of frames for bulk data, if there is a choice."""
    own: dict[int, list[Row]] = {}
    for row in rows:
        if row["read"] >= DEFAULT_READ:
            own.setdefault(row["payload"], []).append(row)
    times = {payload: statistics.geometric_mean(map(both_ends, each)) / payload for payload, each in own.items()}
    costs = normal(times)
    if len(costs) > 1:
        size = smallest(costs, TOLERANCE)
        rate = 1 / statistics.geometric_mean(ns(row) / size for row in own[size])
        reason = f"both ends take {times[size] * 1.073741824:.1f} s of processor a GiB; {beside(costs, size)}; {rate:.2f} GB/s"
        yield Advice("frames of bulk data", size, f"{size_text(size)} a frame", reason)


def both_ends(row: Row) -> float:
    return float(row["sender_ns"]["median"] + row["receiver_ns"]["median"])


def window_advice(rows: Sequence[Row]) -> Iterator[Advice]:
    """Yield how much should be outstanding of small requests: as much as a server likes to read at once."""
    payload = min((row["payload"] for row in rows), default=0)
    times: dict[int, list[float]] = {}
    for row in rows:
        if row["payload"] == payload and row["read"] <= DEFAULT_READ:
            times.setdefault(row["read"], []).append(ns(row) / 1000)
    means = {read: statistics.geometric_mean(each) for read, each in times.items()}
    costs = normal(means)
    if len(costs) > 1:
        size, least = smallest(costs, TOLERANCE), min(costs)
        reason = f"an echo of {size_text(payload)} takes {means[size]:.2f} us of the server if it reads so much at once"
        reason += f", {means[least]:.2f} if {size_text(least)}"
        yield Advice(
            "small requests", size, f"{size_text(size)} outstanding, {size // (payload + 4):,} of {size_text(payload)}", reason
        )


def batch_advice(rows: Sequence[Row]) -> Iterator[Advice]:
    for payload in sorted({row["payload"] for row in rows}):
        times = {row["batch"]: both_ends(row) / 1000 for row in rows if row["payload"] == payload}
        costs = normal(times)
        size, last = smallest(costs, TOLERANCE), max(costs)
        reason = f"both ends take {times[size]:.2f} us of processor a frame; sent one by one {times[min(times)]:.2f}"
        if last != size:
            reason += f", {last} in a call take {compared(costs[last], costs[size])}"
        text = f"{size} in a call of send_many ({size_text(size * payload)})"
        yield Advice(f"frames of {size_text(payload)}", size, text, reason)


def loop_advice(rows: Sequence[Row]) -> Iterator[Advice]:
    """Yield the loop, if both were measured: with the reads that our fronts make, or the largest below."""
    reads = [row["read"] for row in rows if row["contender"] == f"callback/{LOOPS[1]}"]
    if not reads:
        return
    times = {
        loop: {row["payload"]: ns(row) for row in rows if (row["contender"], row["read"]) == (f"callback/{loop}", max(reads))}
        for loop in LOOPS
    }
    ratios = {payload: times[LOOPS[1]][payload] / times[LOOPS[0]][payload] for payload in times[LOOPS[1]]}
    ratio = statistics.geometric_mean(ratios.values())
    each = ", ".join(f"{ratios[payload]:.2f} for frames of {size_text(payload)}" for payload in (min(ratios), max(ratios)))
    loop = LOOPS[1] if ratio * READ_TOLERANCE < 1 else LOOPS[0]
    yield Advice("loop", loop, loop, f"an echo on uvloop takes {ratio:.2f} times the processor time of one on asyncio, {each}")
