"""`fastframe bench compare BEFORE.json AFTER.json`: what got slower, beyond the noise.

A figure is compared with the one of the same name. Where both have a ratio to the base of the same turn, the ratios are
compared, since what else the machine did has slowed the base down as well; else the values. It has changed if

- the quartiles of the one lie all beyond those of the other, and
- the medians differ by more than the threshold.

Two runs of the same code on a shared machine: see `THRESHOLD`. Nobody passes or fails by it: the exit status is 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from .command import read_json
from .entry import BenchError
from .families import family
from .report import print_table, say
from .tables import ns_text

if TYPE_CHECKING:
    from .family import Figure, Report
    from .measure import Spread

THRESHOLD: Final = 5.0  # percent
CHANGING: Final = ("date", "memcpy_stumble")  # from run to run on the same machine

Verdict = Literal["slower", "faster", "the same"]


class Change(NamedTuple):
    """A figure before and after, and how many times longer it takes now; what is more when better is turned over."""

    family: str
    before: Figure
    after: Figure
    times: float
    verdict: Verdict

    @property
    def paired(self) -> bool:
        """Whether ratios to the base were compared, and not the values."""
        return self.before.ratio is not None and self.after.ratio is not None


class Comparison(NamedTuple):
    """`only_before`, `only_after`: names of figures that the other file has not. `different`: what the figures depend on."""

    changes: list[Change]
    only_before: list[str]
    only_after: list[str]
    different: list[str]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe bench compare",
        description="Tell what got slower or faster from one run to another, beyond the noise.",
        epilog="example: fastframe bench compare before.json after.json --threshold 10",
    )
    parser.add_argument("before", type=Path, metavar="BEFORE.json", help="written by fastframe bench ... --json")
    parser.add_argument("after", type=Path, metavar="AFTER.json")
    parser.add_argument(
        "--threshold", type=percent, default=THRESHOLD, metavar="PERCENT", help="of a change that counts (default: %(default)g)"
    )
    parser.add_argument("--all", action="store_true", help="show what did not change, too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(argv)
    try:
        found = compare(read_json(args.before), read_json(args.after), args.threshold)
    except (BenchError, OSError) as error:
        say(f"fastframe bench compare: {error}")
        return 1
    if args.json:
        print(json.dumps(plain(found), indent=1))
    else:
        show(found, everything=args.all)
    return 0


def percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of percent")
    return value


def compare(before: list[Report], after: list[Report], threshold: float = THRESHOLD) -> Comparison:
    """Compare the families that both have; raise `BenchError` if there is none."""
    old, new = ({report["benchmark"]: report for report in reports} for reports in (before, after))
    both = [name for name in old if name in new]
    if not both:
        raise BenchError(f"nothing to compare: {', '.join(old) or 'nothing'} before, {', '.join(new) or 'nothing'} after")
    found = Comparison([], [name for name in old if name not in new], [name for name in new if name not in old], [])
    for name in both:
        figures = [{each.name: each for each in family(name).figures(report)} for report in (old[name], new[name])]
        found.different.extend(each for each in differences(name, old[name], new[name]) if each not in found.different)
        found.only_before.extend(f"{name}: {each}" for each in figures[0] if each not in figures[1])
        found.only_after.extend(f"{name}: {each}" for each in figures[1] if each not in figures[0])
        found.changes.extend(
            change(name, figures[0][each], figures[1][each], threshold) for each in figures[0] if each in figures[1]
        )
    return found


def change(family: str, before: Figure, after: Figure, threshold: float) -> Change:
    old, new = before.value, after.value
    more_is_better = before.better == "more"
    if before.ratio is not None and after.ratio is not None:
        old, new = before.ratio, after.ratio
    times = new.median / old.median if old.median else 1.0
    if more_is_better:
        old, new, times = new, old, 1 / times if times else 1.0
    verdict: Verdict = "the same"
    if new.lower > old.upper and times > 1 + threshold / 100:
        verdict = "slower"
    elif new.upper < old.lower and times < 1 / (1 + threshold / 100):
        verdict = "faster"
    return Change(family, before, after, times, verdict)


def differences(name: str, before: Report, after: Report) -> Iterator[str]:
    """Yield in words what is not the same in what the figures depend on, but for the date."""
    if before["quick"] != after["quick"]:
        yield f"{name}: one of the two was measured with --quick"
    for part, where in (("machine", ""), ("versions", ""), ("settings", f"{name}: ")):
        old, new = before[part], after[part]
        for key in {**old, **new}:
            if key not in CHANGING and old.get(key) != new.get(key):
                yield f"{where}{key} was {said(old.get(key))}, is {said(new.get(key))}"


def said(value: object) -> str:
    return "not there" if value is None else str(value)


# What is shown


def show(found: Comparison, *, everything: bool) -> None:
    for line in found.different:
        print(line)
    for verdict in ("slower", "faster", *(("the same",) if everything else ())):
        changes = sorted((each for each in found.changes if each.verdict == verdict), key=lambda each: -abs(1 - each.times))
        if changes:
            print_table(["", "before", "after", "unit", "times", "of"], [row(each) for each in changes], verdict)
    for name, missing in (("before", found.only_before), ("after", found.only_after)):
        if missing:
            print(f"only {name}: {len(missing)}, such as {missing[0]}")
    print(summary(found))


def row(each: Change) -> list[str]:
    values = [f"{ns_text(figure.value.median)} {deviation(figure.value)}" for figure in (each.before, each.after)]
    name = f"{each.family}: {each.before.name}"
    return [name, *values, each.before.unit, f"{each.times:.2f}x", "the ratio to the base" if each.paired else "the value"]


def deviation(spread: Spread) -> str:
    return f"±{50 * (spread.upper - spread.lower) / spread.median:.0f} %" if spread.median else ""


def summary(found: Comparison) -> str:
    counts = {verdict: sum(each.verdict == verdict for each in found.changes) for verdict in ("slower", "faster", "the same")}
    text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    values = [each.after.value.median / each.before.value.median for each in found.changes if each.before.value.median]
    drift = statistics.median(values) if values else 1.0
    return f"{len(found.changes)} figures: {text}; the median of all values is {drift:.2f} times what it was"


def plain(found: Comparison) -> dict[str, Any]:
    """Return it as data for JSON."""
    changes = [
        {
            "family": each.family,
            "name": each.before.name,
            "unit": each.before.unit,
            "before": each.before.value._asdict(),
            "after": each.after.value._asdict(),
            "times": each.times,
            "of": "ratio" if each.paired else "value",
            "verdict": each.verdict,
        }
        for each in found.changes
    ]
    return {**found._asdict(), "changes": changes}
