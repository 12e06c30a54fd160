"""`fastframe bench compare BEFORE.json AFTER.json`: what got slower, beyond the noise.

A figure is compared with the one of the same name. Where both have a ratio to the base of the same turn, the ratios are
compared, since what else the machine did has slowed the base down as well; else the values. Of a base that is ours the values
are compared, too: its ratio to itself would hide that all of ours takes longer. It has changed if

- the quartiles of the one lie all beyond those of the other,
- the medians differ by more than the threshold, and
- by more than what changed by itself: nobody has worked on C's or Twisted's echo between the two runs, so that the changes of
  all contenders that are not ours are noise, and 95 of 100 of them are smaller than what counts. Where there are too few of
  those, as in the sweeps of chunk sizes, noise is how far all changes scatter around their median.

The third one is what holds: with the first two alone, 107 of 180 figures of two runs of the same code had changed on a machine
where others worked. Nobody passes or fails by this: the exit status is 0.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from .command import of_files, read_json
from .entry import BenchError
from .families import family
from .report import deviation, print_table, say
from .tables import ns_text

if TYPE_CHECKING:
    from .family import Figure, Report

THRESHOLD: Final = 5.0  # percent
CHANGING: Final = ("date", "memcpy_stumble")  # from run to run on the same machine

NOISE_SHARE: Final = 0.95  # of the changes that mean nothing are to be taken for that
LEAST_CONTROLS: Final = 10  # figures, for their changes to say how much noise there is
DEVIATIONS: Final = 2.9  # so many median deviations from the median have 95 of 100 of what is scattered normally
OF: Final = {True: "ratio", False: "value"}  # of what a change is: of the ratio to the base, or of the value itself

Verdict = Literal["slower", "faster", "the same"]


class Change(NamedTuple):
    """A figure before and after, and how many times longer it takes now; what is more when better is turned over.

    `apart`: the quartiles do not overlap. `paired`: ratios to the base were compared, and not the values.
    """

    family: str
    before: Figure
    after: Figure
    times: float
    apart: bool
    paired: bool
    verdict: Verdict = "the same"


class Comparison(NamedTuple):
    """`only_before`, `only_after`: names of figures that the other file has not. `different`: what the figures depend on.

    `noise`: how many times more something has to take to count as slower, by family and by whether ratios were compared.
    """

    changes: list[Change]
    noise: dict[tuple[str, bool], float]
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
        before, after = read_json(args.before), read_json(args.after)
        with of_files():
            found = compare(before, after, args.threshold)
    except BenchError as error:
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
    found = Comparison([], {}, [name for name in old if name not in new], [name for name in new if name not in old], [])
    for name in both:
        figures = [{each.name: each for each in family(name).figures(report)} for report in (old[name], new[name])]
        found.different.extend(each for each in differences(name, old[name], new[name]) if each not in found.different)
        found.only_before.extend(f"{name}: {each}" for each in figures[0] if each not in figures[1])
        found.only_after.extend(f"{name}: {each}" for each in figures[1] if each not in figures[0])
        kinds = old[name]["contenders"]
        changes = [change(name, figures[0][each], figures[1][each], kinds) for each in figures[0] if each in figures[1]]
        for paired in (True, False):
            alike = [each for each in changes if each.paired is paired]
            noise = found.noise[name, paired] = noise_of(alike, kinds, 1 + threshold / 100)
            found.changes.extend(each._replace(verdict=judged(each, noise)) for each in alike)
    return found


def change(family: str, before: Figure, after: Figure, kinds: Mapping[str, str]) -> Change:
    old, new = before.value, after.value
    paired = False
    if before.ratio is not None and after.ratio is not None and not (is_base(before) and is_ours(before, kinds)):
        old, new, paired = before.ratio, after.ratio, True
    if before.better == "more":
        old, new = new, old
    times = new.median / old.median if old.median else 1.0
    return Change(family, before, after, times, new.lower > old.upper or new.upper < old.lower, paired)


def is_base(figure: Figure) -> bool:
    """Tell whether it is one of what others are compared with: then its ratio is that to itself."""
    return figure.ratio == (1, 1, 1)


def is_ours(figure: Figure, kinds: Mapping[str, str]) -> bool:
    return kinds.get(figure.contender, "ours") == "ours"


def noise_of(changes: list[Change], kinds: Mapping[str, str], least: float) -> float:
    """Return how many times as long is nothing to speak of, at least `least`."""
    telling = [each for each in changes if each.times > 0 and not (each.paired and is_base(each.before))]
    controls = [each for each in telling if not is_ours(each.before, kinds)]
    if len(controls) >= LEAST_CONTROLS:
        sizes = sorted(max(each.times, 1 / each.times) for each in controls)
        return max(least, sizes[int(NOISE_SHARE * (len(sizes) - 1))])
    if len(telling) >= LEAST_CONTROLS:
        return max(least, math.exp(DEVIATIONS * scatter([math.log(each.times) for each in telling])))
    return least


def scatter(values: list[float]) -> float:
    """Return the median deviation from the median: deaf to what a few of them do."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values)


def judged(each: Change, noise: float) -> Verdict:
    if each.apart and each.times > noise:
        return "slower"
    return "faster" if each.apart and each.times < 1 / noise else "the same"


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
    for (name, paired), noise in found.noise.items():
        if any(each.family == name and each.paired is paired for each in found.changes):
            print(f"{name}: what counts is more than {noise:.2f} times the {OF[paired]}")
    print(summary(found))


def row(each: Change) -> list[str]:
    values = [f"{ns_text(figure.value.median)} {deviation(figure.value._asdict())}" for figure in (each.before, each.after)]
    name = f"{each.family}: {each.before.name}"
    return [name, *values, each.before.unit, f"{each.times:.2f}x", OF[each.paired]]


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
            "of": OF[each.paired],
            "verdict": each.verdict,
        }
        for each in found.changes
    ]
    noise = [{"family": name, "of": OF[paired], "times": times} for (name, paired), times in found.noise.items()]
    return {**found._asdict(), "changes": changes, "noise": noise}
