"""`fastframe bench recommend`: the sizes to use on this machine, each with its reason in figures.

They are read off the sweeps of `fastframe bench chunks`, of a short one that is made now or of a saved one:

- a read: what receives frames of all sizes measured in nearly the least processor time. For each way of receiving and each size
  of frames the times of all sizes of reads are divided by the best of them; their geometric mean over ways and frames is a
  size's cost. The smallest whose cost is within 5 % of the least is recommended: memory is a price too.
- a frame of bulk data: the smallest that is within 10 % of the best rate, received with reads of that size and more.
- frames in one call: the fewest that are within 10 % of the best.
- the loop: the one on which our echo takes less processor time, mean over frames.
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
TOLERANCE: Final = 1.10  # where a transfer's rate decides, which is noisier
SHORT_SWEEP: Final = (
    *("--quick", "--repetitions", "5", "--sweeps", "echo,transfer,batch"),
    *("--frames", "64,4KiB,64KiB,256KiB,1MiB,4MiB", "--reads", "4KiB,16KiB,64KiB,256KiB,1MiB,4MiB"),
)
LOOPS: Final = ("asyncio", "uvloop")

Row = dict[str, Any]
Costs = Mapping[int, float]  # by size: 1 is the best there is


class Advice(NamedTuple):
    """`value` is for programs, `text` and `reason` are for people."""

    what: str
    value: int | str
    text: str
    reason: str


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    try:
        report = saved(args.from_) if args.from_ else swept()
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
    yield from frame_advice(report, int(read.value) if read else DEFAULT_READ)
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
    """Return what each size of reads costs, of those that every way can have that may read any number of bytes."""
    relative: dict[int, list[float]] = {}
    for own in receivers(report):
        best = min(own.values())
        for read, cost in own.items():
            relative.setdefault(read, []).append(cost / best)
    if not relative:
        return {}
    most = max(map(len, relative.values()))
    return normal({read: statistics.geometric_mean(costs) for read, costs in relative.items() if len(costs) == most})


def receivers(report: Report) -> Iterator[Costs]:
    """Yield for each way and size of frames the receiver's processor time by size of reads; ways that can have all sizes."""
    largest = max((row["read"] for sweep in ("echo", "transfer") for row in report[sweep]), default=0)
    for sweep, key in (("echo", "ns"), ("transfer", "receiver_ns")):
        for _, _, own in series(report[sweep]):
            if own[-1]["read"] == largest:
                yield {row["read"]: row[key]["median"] for row in own}


def normal(costs: Costs) -> Costs:
    best = min(costs.values())
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


# A frame, a batch, a loop


def frame_advice(report: Report, read: int) -> Iterator[Advice]:
    """Yield the size of frames for bulk data, if there is a choice."""
    rates: dict[int, list[float]] = {}
    for row in report["transfer"]:
        if row["read"] >= read:
            rates.setdefault(row["payload"], []).append(ns(row) / row["payload"])
    costs = normal({payload: statistics.geometric_mean(each) for payload, each in rates.items()}) if rates else {}
    if len(costs) > 1:
        size = smallest(costs, TOLERANCE)
        gb_s = 1 / statistics.geometric_mean(rates[size])
        reason = f"{gb_s:.2f} GB/s, within {100 * (TOLERANCE - 1):.0f} % of the best; {beside(costs, size)}"
        yield Advice("frames of bulk data", size, f"{size_text(size)} a frame", reason)


def batch_advice(rows: Sequence[Row]) -> Iterator[Advice]:
    for payload in sorted({row["payload"] for row in rows}):
        times = {row["batch"]: ns(row) for row in rows if row["payload"] == payload}
        costs = normal(times)
        size, last = smallest(costs, TOLERANCE), max(costs)
        reason = f"{times[size] / 1000:.2f} us a frame; sent one by one it is {times[min(times)] / 1000:.2f}"
        if last != size:
            reason += f", with {last} it takes {compared(costs[last], costs[size])}"
        what = f"frames of {size_text(payload)}"
        yield Advice(what, size, f"{size} in a call of send_many ({size_text(size * payload)})", reason)


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
    each = ", ".join(f"{ratio:.2f} for frames of {size_text(payload)}" for payload, ratio in ratios.items())
    loop = LOOPS[1] if ratio < 1 else LOOPS[0]
    yield Advice("loop", loop, loop, f"an echo on uvloop takes {ratio:.2f} times the processor time of one on asyncio: {each}")
