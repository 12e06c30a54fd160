"""What the benchmarks' options look like: sizes with units, names of contenders. What cannot be gets an error in one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Final

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
UNITS: Final = {"": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}


def whole_number(text: str) -> int:
    """Parse 64, 16KiB or 1MiB, 16MiB at most."""
    size = _scaled(text)
    if not 0 < size <= 16 * MIB:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 16MiB")
    return size


def numbers(text: str) -> list[int]:
    return [whole_number(part) for part in text.split(",")]


def file_size(text: str) -> int:
    """Parse 64, 16KiB, 1MiB or 2GiB."""
    size = _scaled(text)
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 300MiB or 2GiB")
    return size


def _scaled(text: str) -> int:
    found = re.fullmatch("([0-9]{1,9})(KiB|MiB|GiB|)", text, re.ASCII)
    return int(found[1]) * UNITS[found[2]] if found else 0


def names_of(chosen: Callable[[list[str]], object]) -> Callable[[str], list[str]]:
    """Return a parser of NAME,... that `chosen` raises ValueError for if one of them names nobody."""

    def names(text: str) -> list[str]:
        parts = text.split(",")
        try:
            chosen(parts)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return parts

    return names
