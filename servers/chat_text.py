r"""Texts of strangers on a terminal: made harmless, measured in cells, broken into lines.

What could steer a terminal or deceive who reads is shown as an escape: control characters such as ESC (`\x1b`), line ends
(`\n`), what turns the direction of writing (`\u202e`), what cannot be seen at all. Joiners stay, which emoji and Persian need,
and accents as long as they sit on a letter and are not too many: a tower of them is drawn over the lines around it.

Texts are broken here, not by the terminal: what goes on is indented, and so nothing that somebody writes can look like a line
of somebody else.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

MOST_MARKS: Final = 4  # on a letter: Hebrew with its accents and Vietnamese in single pieces have three
JOINERS: Final = "\u200c\u200d"  # ZWNJ, ZWJ
MARKS: Final = ("Mn", "Me")  # which take no cell of their own
FILLERS: Final = "\u115f\u1160\u3164\uffa0"  # of Hangul: letters, says Unicode, and nobody sees them
SPACES: Final = "Zs"  # as in French and Japanese; Python counts them as not printable
TAB: Final = " " * 4
LINK: Final = re.compile("[!-~]*https?://[!-~]+")  # stays in one piece, so that a terminal knows it
LEAST_WIDTH: Final = 20  # cells: the longest escape has ten


class Piece(NamedTuple):
    """A character with the marks on it, or an escape."""

    text: str
    cells: int = 1
    style: str = ""


def harmless(text: str, style: str = "", escape: str = "") -> list[Piece]:
    """Return the pieces of `text`, in that style; what is escaped has the style `escape`."""
    pieces: list[Piece] = []
    room = 0  # for marks on the last piece
    for character in text:
        look = _look(character)
        if room and look.clings:
            last = pieces[-1]
            # Some terminals make an emoji wide that has a variation selector: better a cell too many.
            pieces[-1] = Piece(last.text + character, last.cells + (character == "\ufe0f"), style)
            room -= 1
        elif character == "\t":
            pieces += [Piece(" ", 1, style)] * len(TAB)
            room = 0
        else:
            pieces.append(Piece(look.text, look.cells, style if look.is_harmless else escape))
            room = MOST_MARKS if look.is_harmless else 0
    return pieces


def plain(text: str) -> str:
    """Return `text` as it is shown without styles."""
    return "".join(piece.text for piece in harmless(text))


def wrap(pieces: list[Piece], width: int, indent: int) -> Iterator[list[Piece]]:
    """Yield lines of at most `width` cells, all but the first behind `indent` spaces, broken at spaces where that can be.

    A link that is longer is one line that the terminal breaks.
    """
    width = max(width, LEAST_WIDTH)
    line: list[Piece] = []
    start = used = 0
    for unit in _units(pieces, width - indent):
        cells = _sum(unit)
        if used + cells > width and used > start:
            yield line
            line, start, used = [Piece(" " * indent, indent)], indent, indent
            if unit[0].text == " ":
                continue
        line += unit
        used += cells
    if used > start or not start:
        yield line


def paint(pieces: list[Piece]) -> str:
    """Return what a terminal is told to show these pieces; a style is the parameters of SGR, as `1;31`."""
    return "".join(
        f"\x1b[{style}m{text}\x1b[0m" if style else text
        for style, text in ((style, "".join(piece.text for piece in group)) for style, group in groupby(pieces, itemgetter(2)))
    )


def _units(pieces: list[Piece], width: int) -> Iterator[list[Piece]]:
    """Yield what stands in one line: spaces, words, and the pieces of a word that has no room in any."""
    for is_space, group in groupby(pieces, lambda piece: piece.text == " "):
        word = list(group)
        if is_space or (_sum(word) > width and not LINK.fullmatch("".join(piece.text for piece in word))):
            yield from ([piece] for piece in word)
        else:
            yield word


def _sum(pieces: list[Piece]) -> int:
    return sum(piece.cells for piece in pieces)


class Look(NamedTuple):
    """What a character looks like that stands alone, and whether it would rather sit on another one."""

    text: str
    cells: int
    is_harmless: bool
    clings: bool


@functools.lru_cache(4096)  # a flood of text shall not take all time: asking costs ten times as much
def _look(character: str) -> Look:
    category = unicodedata.category(character)
    clings = character in JOINERS or category in MARKS
    if not clings and character not in FILLERS and (character.isprintable() or category == SPACES):
        return Look(character, 2 if unicodedata.east_asian_width(character) in "WF" else 1, is_harmless=True, clings=False)
    escape = character.encode("unicode_escape").decode("ascii")
    return Look(escape, len(escape), is_harmless=False, clings=clings)
