"""`fastframe demo sticky`: messages that stick together on live sockets, four cures one after the other, and what each costs.

`sticky_scenes` plays it; this prints the log of each scene. A line is a call: who, what, which message, how many bytes, and the
bytes, each message in its colour. Where a chunk has bytes of several messages, their letters stand below it, so that a page
without colours says the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from .report import say
from .sticky_scenes import ALL, SCENES, play
from .sticky_wire import BORDER, CUT, SEAM, Call, Entry, Piece, Remark

if TYPE_CHECKING:
    from .sticky_stage import Costs, Stage

WIDTH: Final = 80
INDENT: Final = "  "
BOLD: Final = "1"
DIM: Final = "2"
ALARM: Final = "1;31"
COLOURS: Final = {"A": "30;46", "B": "30;43", "C": "30;45", "D": "30;42", "E": "30;47"}  # by letter; black on something light
ROUND_TRIP: Final = 50  # ms, across a continent

LEGEND: Final = textwrap.fill(
    "Each line is a call on a live socket: who, what, of which message, how many bytes, and the bytes, in hexadecimal where"
    f" they are no text. {BORDER} is where a message begins or ends, {SEAM} where its header ends, {CUT} where it is cut."
    " Letters below the bytes tell whose they are.",
    WIDTH,
)
FAILS: Final = "Still fails:"  # how the remark begins that a student should not miss


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe demo sticky",
        description="Show on live sockets how messages stick together without frames, and four cures with their costs.",
        epilog="example: fastframe demo sticky sender struct",
    )
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"some of: {', '.join(SCENES)} (default: all)")
    parser.add_argument("--json", action="store_true", help="print the calls and what was counted for programs")
    options = parser.parse_args(argv)
    for name in options.scenes:
        if name not in SCENES:
            parser.error(f"there is no scene {name!r}; there are {', '.join(SCENES)}")
    try:
        stages = {name: play(name) for name in options.scenes or SCENES}
    except OSError as error:
        say(f"fastframe: {error}")
        return 1
    if options.json:
        print(json.dumps({name: as_json(stage) for name, stage in stages.items()}, indent=1))
        return 0
    print("\n".join(Page(coloured=wants_colours()).lines(stages)))
    return 0


def wants_colours() -> bool:
    """Tell whether what is printed goes to a terminal with colours, or the environment says so: NO_COLOR, FORCE_COLOR."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


class Page:
    """What is printed of scenes, line by line; `coloured` for a terminal."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured

    def lines(self, stages: dict[str, Stage]) -> Iterator[str]:
        yield LEGEND
        for name, stage in stages.items():
            yield from ("", self._paint(SCENES[name].title, BOLD))
            yield from self.scene(stage.log)
        if costs := [stage.costs for stage in stages.values() if stage.costs]:
            yield from ("", self._paint("What three messages took", BOLD), "")
            yield from costs_lines(costs)
        if len(stages) == len(SCENES):
            yield ""
            yield from wrapped(f"One of these by itself: fastframe demo sticky NAME, which is {', '.join(SCENES)}.")

    def scene(self, log: list[Entry]) -> Iterator[str]:
        """Yield the lines of a log, a blank one before each remark and before calls that belong together."""
        before: Entry | None = None
        for entry in log:
            if not (isinstance(entry, Call) and isinstance(before, Call)):
                yield ""
            yield from self.call(entry) if isinstance(entry, Call) else self.remark(entry)
            before = entry

    def remark(self, remark: Remark) -> Iterator[str]:
        if remark.code:
            for line in remark.text.splitlines():
                yield self._paint(f"{INDENT}{line}", DIM) if line else ""
        else:
            for line in wrapped(remark.text):
                yield line.replace(FAILS, self._paint(FAILS, ALARM))

    def call(self, call: Call) -> Iterator[str]:
        """Yield the call, and below it the letters if its bytes are of several messages."""
        letters = call.letters
        letter = self._paint(letters[0], colour(letters[0])) if len(letters) == 1 and letters[0] else " "
        head, count = f"{INDENT}{call.who} {call.name:<12} ", f" {len(call.data):>2}  "
        shown_bytes = "".join(self._bytes(call.pieces)) if call.pieces else "the end"
        yield head + letter + count + shown_bytes
        if len(letters) > 1:
            yield " " * len(head + " " + count) + "".join(self._letters(call.pieces)).rstrip()

    def _bytes(self, pieces: tuple[Piece, ...]) -> Iterator[str]:
        yield self._mark(pieces[0].before)
        for piece in pieces:
            yield self._paint(shown(piece.data), colour(piece.letter))
            yield self._mark(piece.after)

    def _letters(self, pieces: tuple[Piece, ...]) -> Iterator[str]:
        """Yield the letter of each message where its bytes begin, and blanks as wide as they are."""
        before = ""
        for piece in pieces:
            yield " " + (piece.letter if piece.letter != before else "").ljust(len(shown(piece.data)))
            before = piece.letter

    def _mark(self, mark: str) -> str:
        return self._paint(mark, ALARM if mark == CUT else "")

    def _paint(self, text: str, style: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self._coloured and style else text


def colour(letter: str) -> str:
    return COLOURS.get(letter.upper(), DIM)


def shown(data: bytes) -> str:
    """Return bytes as text, or in hexadecimal if they are none."""
    text = data.decode("ascii", "replace").replace("\n", "\\n")
    return text if text.isascii() and text.isprintable() else data.hex()


def costs_lines(costs: list[Costs]) -> Iterator[str]:
    yield f"{INDENT}{'':<20} sends recvs trips extra  still fails when"
    for cost in costs:
        figures = " ".join(f"{figure:>5}" for figure in (cost.sends, cost.recvs, cost.trips, cost.extra))
        yield f"{INDENT}{cost.name:<20} {figures}  {cost.fails}"
    yield ""
    yield from wrapped(
        "sends, recvs: calls, at both ends; trips: how often the client waited for an answer;"
        f" extra: bytes sent besides the {len(ALL)} of the messages."
    )
    if trips := max(cost.trips for cost in costs):
        yield from wrapped(f"Where a trip takes {ROUND_TRIP} ms, {trips} of them are {trips * ROUND_TRIP} ms of waiting.")


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH - len(INDENT), initial_indent=INDENT, subsequent_indent=INDENT)


def as_json(stage: Stage) -> dict[str, Any]:
    """Return a scene for programs; the bytes of a piece are hexadecimal."""
    log = [call_as_json(entry) if isinstance(entry, Call) else asdict(entry) for entry in stage.log]
    return {"log": log, "costs": asdict(stage.costs) if stage.costs else None}


def call_as_json(call: Call) -> dict[str, Any]:
    pieces = [asdict(piece) | {"data": piece.data.hex()} for piece in call.pieces]
    return {"who": call.who, "call": call.name, "bytes": len(call.data), "pieces": pieces}
