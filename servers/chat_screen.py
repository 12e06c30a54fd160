"""What a person sees of a room: each event as lines, in colours or without.

    12:34 <ann> how is it going?                a terminal: the time of day, long texts broken with an indent, days between
    2026-11-22 12:34:56 <ann> how is it going?  a pipe or a file: one line for each event

A name has the same colour everywhere. Everything that somebody else wrote is harmless when it is here: see `chat_text`.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from . import chat_text
from .chat_text import Piece, harmless
from .rooms import folded

if TYPE_CHECKING:
    from .chat_events import Event

INDENT: Final = 6  # cells, as many as the time takes
NAME_STYLES: Final = tuple(f"{weight}{colour}" for weight in ("", "1;") for colour in (31, 32, 33, 34, 35, 36))
DIM: Final = "2"
ESCAPE: Final = "7"  # reversed: no text looks like that
REASONS: Final = {
    "left": "",
    "lost": "connection lost",
    "slow": "too slow",
    "replaced": "comes again",
    "expired": "not heard of any more",
}


def wants_colours(*, is_terminal: bool) -> bool:
    """Return whether an output gets colours (https://no-color.org)."""
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Screen:
    """Turns events into what is shown; `columns` tells how wide the terminal is, and is None where there is none."""

    def __init__(self, columns: Callable[[], int] | None, *, colours: bool) -> None:
        self._columns = columns
        self._colours = colours
        self._day = _day(time.time())  # of the line before
        self._escape = ESCAPE if colours else ""
        self._dim = DIM if colours else ""

    def text(self, events: list[Event]) -> str:
        """Return the lines of `events`, with their ends."""
        return "".join(line + "\n" for event in events for line in self._lines(event))

    def remark(self, text: str) -> str:
        """Return the lines of what the program itself has to say to its user."""
        return "".join(line + "\n" for part in text.split("\n") for line in self._broken(self._pieces("  " + part, self._dim)))

    def _lines(self, event: Event) -> list[str]:
        if event.type == "unknown":
            return []
        moment = event.time or time.time()
        day, self._day = self._day, _day(moment)
        lines = (
            []
            if self._columns is None or self._day == day
            else [chat_text.paint([Piece(f"--- {self._day} ---", 0, self._dim)])]
        )
        stamp = Piece(_stamp(moment, "%Y-%m-%d %H:%M:%S " if self._columns is None else "%H:%M "), INDENT, self._dim)
        return lines + self._broken([stamp, *self._said(event)])

    def _said(self, event: Event) -> list[Piece]:
        if event.type == "said":
            return [*self._pieces("<"), *self._name(event.name), *self._pieces("> "), *self._pieces(event.text)]
        parts = [self._name(word) if is_name else self._pieces(word, self._dim) for word, is_name in words(event)]
        return [*self._pieces("* ", self._dim), *(piece for part in parts for piece in part)]

    def _broken(self, pieces: list[Piece]) -> list[str]:
        if self._columns is None:
            return [chat_text.paint(pieces)]
        return [chat_text.paint(line) for line in chat_text.wrap(pieces, self._columns(), INDENT)]

    def _name(self, name: str) -> list[Piece]:
        return self._pieces(name, name_style(name) if self._colours else "")

    def _pieces(self, text: str, style: str = "") -> list[Piece]:
        return harmless(text, style, self._escape)


def words(event: Event) -> list[tuple[str, bool]]:
    """Return the sentence that tells of an event, in parts, and which of them are names."""
    match event.type:
        case "joined":
            return [(event.name, True), (" joined", False)]
        case "left":
            reason = REASONS.get(event.reason, event.reason)
            return [(event.name, True), (f" left ({reason})" if reason else " left", False)]
        case "topic":
            return [(event.name, True), (f" set the topic: {event.topic}" if event.topic else " removed the topic", False)]
        case "who":
            names = [part for name in event.members for part in ((", ", False), (name, True))]
            return [(f"{max(event.count, len(event.members))} here: ", False), *names[1:]]
        case "entered":
            topic = f"; the topic: {event.topic}" if event.topic else ""
            return [(f"in {event.room} as ", False), (event.name, True), (f", {event.count} here{topic}", False)]
    return [(text, False)] if (text := _other_words(event)) else []


def sentence(event: Event) -> str:
    """Return the same without styles, harmless."""
    return chat_text.plain("".join(word for word, _ in words(event)))


def name_style(name: str) -> str:
    """Return the colour that a name has everywhere."""
    return NAME_STYLES[zlib.crc32(folded(name).encode()) % len(NAME_STYLES)]


def _other_words(event: Event) -> str:
    match event.type:
        case "back":
            return f"back in {event.room}: {_missed(event.missed)}"
        case "lost":
            return f"the connection is lost ({event.reason}); trying to come back"
        case "gap":
            return "the room began anew" if event.missed is None else f"{_events(event.missed)} missing here: not kept any more"
        case "refused":
            return f"refused: {event.message or event.code}"
    return ""


def _missed(count: int | None) -> str:
    if count is None:
        return "what came meanwhile is not known"
    return f"{_events(count)} came meanwhile" if count else "nothing came meanwhile"


def _events(number: int) -> str:
    return "1 event" if number == 1 else f"{number} events"


def _stamp(moment: float, form: str) -> str:
    return time.strftime(form, time.localtime(moment))


def _day(moment: float) -> str:
    return _stamp(moment, "%A, %d %B %Y")
