"""What strangers write, on a terminal: nothing in it steers, deceives, or leaves its lines."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from fastframe.servers import chat_text
from fastframe.servers.chat_text import Piece, harmless, paint, plain, wrap

SHOWN = {
    "words": ("hi there", "hi there"),
    "ESC": ("\x1b[2J", "\\x1b[2J"),
    "C1": ("\x9b2J\x85", "\\x9b2J\\x85"),
    "NUL and DEL": ("\0\x7f", "\\x00\\x7f"),
    "line ends": ("a\nb\r\n\u2028\u2029\v\f", "a\\nb\\r\\n\\u2028\\u2029\\x0b\\x0c"),
    "a tab": ("a\tb", "a    b"),
    "backslashes are theirs": ("C:\\x1b", "C:\\x1b"),
    "bidi": ("\u202a\u202e\u2066\u2069\u200e\u200f\u061c", "\\u202a\\u202e\\u2066\\u2069\\u200e\\u200f\\u061c"),
    "invisible": ("a\u00ad\u2060\ufeff\u200b", "a\\xad\\u2060\\ufeff\\u200b"),
    "fillers of Hangul": ("\u3164\u115f\uffa0", "\\u3164\\u115f\\uffa0"),
    "tags": ("\U000e0041", "\\U000e0041"),
    "a family": ("👩‍👩‍👧", "👩‍👩‍👧"),
    "a heart": ("❤️", "❤️"),
    "Persian with ZWNJ": ("می‌خواهم", "می‌خواهم"),
    "Hindi": ("हिन्दी", "हिन्दी"),
    "Hebrew with points": ("שָׁלוֹם", "שָׁלוֹם"),
    "spaces of others": ("a\u3000b\u00a0c\u202fd", "a\u3000b\u00a0c\u202fd"),
    "accents": ("e\u0301" + "o\u0301\u0323\u0308\u0304", "e\u0301" + "o\u0301\u0323\u0308\u0304"),
    "a tower of accents": ("Z" + "\u0301" * 6 + "x", "Z" + "\u0301" * 4 + "\\u0301\\u0301x"),
    "a tower with joiners between": ("Z" + "\u0301\u200d" * 3, "Z" + "\u0301\u200d" * 2 + "\\u0301\\u200d"),
    "an accent on nothing": ("\u0301a", "\\u0301a"),
    "an accent on an escape": ("\n\u0301", "\\n\\u0301"),
    "an accent on a tab": ("\t\u0301", "    \\u0301"),
    "a lone joiner": ("\u200d", "\\u200d"),
}


@pytest.mark.parametrize("case", SHOWN)
def test_what_is_shown(case):
    text, shown = SHOWN[case]
    assert plain(text) == shown
    assert plain(shown) == shown or case.startswith("a tab")


DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_no_character_at_all_steers():
    for plane in range(0, sys.maxunicode + 1, 0x10000):
        step = 1 if plane in (0, 0xE0000) else 97  # the others have fewer surprises
        shown = set(plain("a".join(map(chr, range(plane, plane + 0x10000, step)))))
        assert not {unicodedata.category(character) for character in shown} & {"Cc", "Zl", "Zp", "Cs", "Co", "Cn"}
        assert not {unicodedata.bidirectional(character) for character in shown} & DIRECTIONS
        assert {character for character in shown if unicodedata.category(character) == "Cf"} <= {"\u200c", "\u200d"}


def test_escapes_have_a_style_of_their_own():
    assert harmless("a\x1b", "31", "7") == [Piece("a", 1, "31"), Piece("\\x1b", 4, "7")]
    assert paint(harmless("ab\x1bc", "31", "7")) == "\x1b[31mab\x1b[0m\x1b[7m\\x1b\x1b[0m\x1b[31mc\x1b[0m"
    assert paint(harmless("a\x1b")) == "a\\x1b"


@pytest.mark.parametrize(
    ("text", "cells"), [("abc", 3), ("中文", 4), ("e\u0301", 1), ("👋", 2), ("❤️", 2), ("\x1b", 4), ("\uff57", 2)]
)
def test_cells(text, cells):
    assert sum(piece.cells for piece in harmless(text)) == cells


WRAPPED = {
    "short": ("some words", ["some words"]),
    "nothing": ("", [""]),
    "at spaces": ("one two three four five six seven", ["one two three four ", "  five six seven"]),
    "a space behind the last cell": ("x" * 20 + " ", ["x" * 20]),
    "exactly": ("x" * 20, ["x" * 20]),
    "a long word": ("ab " + "x" * 40, ["ab " + "x" * 17, "  " + "x" * 18, "  " + "x" * 5]),
    "wide": ("中" * 21, ["中" * 10, "  " + "中" * 9, "  " + "中" * 2]),
    "many spaces": ("a" + " " * 30 + "b", ["a" + " " * 19, "  " + " " * 10 + "b"]),
    "a link": ("see https://example.org/" + "x" * 20 + " ok", ["see ", "  https://example.org/" + "x" * 20, "  ok"]),
    "an escape stays whole": ("x" * 18 + "\x1b", ["x" * 18, "  \\x1b"]),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_wrapping(case):
    text, lines = WRAPPED[case]
    assert [paint(line) for line in wrap(harmless(text), 20, 2)] == lines


def test_no_line_but_the_first_begins_without_an_indent():
    text = "12:34 <bob> pay ann! " * 20 + "x" * 100 + " " * 90 + "12:34 <bob> yes"
    for width in range(1, 100):
        lines = [paint(line) for line in wrap(harmless(text), width, 6)]
        assert all(line.startswith(" " * 6) for line in lines[1:])
        assert all(len(line) <= max(width, chat_text.LEAST_WIDTH) for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
