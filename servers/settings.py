"""A TOML file that says what a server may do: read strictly, and asked for key by key.

Every key is taken once, with its type and its bounds; what nobody took is unknown, and refused like everything else that is
wrong, in one line that names the file, the table and the key: a slip of the pen must not become a permission.

Who can write the file can do what the server does: it may be writable for its owner alone, who is us or root.
"""

from __future__ import annotations

import os
import stat
import tomllib
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from .arguments import UsageError, long_size

T = TypeVar("T")

LONGEST_FILE: Final = 1024 * 1024  # bytes: thousands of entries
_MISSING: Final = object()
_NAMES: Final = {str: "a string", bool: "true or false", int: "an integer", list: "a list", dict: "a table"}


def read_settings(path: str) -> Table:
    """Return what a TOML file says; raise UsageError if others can write it, or it is none."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(LONGEST_FILE + 1)
        if len(data) > LONGEST_FILE:
            raise UsageError(f"cannot read {path}: it is longer than {LONGEST_FILE} bytes")
        values = tomllib.loads(data.decode())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeError:
        raise UsageError(f"cannot read {path}: it is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from None
    if status.st_uid not in (os.geteuid(), 0):
        raise UsageError(f"{path} belongs to another user, who could change it: chown it to root or to the server's user")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise UsageError(f"{path} can be written by others: chmod go-w {path}")
    return Table(values, path)


class Table:
    """A table of such a file. What is not there and has no default is missing; everything wrong raises UsageError."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self._values = dict(values)
        self._where = where

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def refuse(self, key: str, reason: object) -> NoReturn:
        """Raise UsageError: the file, the table, the key, and what is wrong with it."""
        raise UsageError(f"{self._where}: {key if key.isprintable() else ascii(key)}: {reason}")

    def end(self) -> None:
        """Refuse what nobody took."""
        for key in self._values:
            raise UsageError(f"{self._where}: there is no key {key!r}")

    def text(self, key: str, default: Any = _MISSING) -> str:
        """Return a string without NUL, which the kernel's own strings end with."""
        text: str = self._take(key, str, default)
        if "\0" in text:
            self.refuse(key, "a NUL cannot be in it")
        return text

    def flag(self, key: str, default: bool) -> bool:
        value: bool = self._take(key, bool, default)
        return value

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """Return an integer from `least` to `most`."""
        value: int = self._take(key, int, default)
        if not least <= value <= most:
            self.refuse(key, f"{value} is not an integer from {least} to {most}")
        return value

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """Return an integer or a fraction from `least` to `most`; NaN is none."""
        value = self._values.pop(key, default)
        if type(value) not in (int, float) or not least <= value <= most:
            self.refuse(key, f"{value!r} is not a number from {least:g} to {most:g}")
        return float(value)

    def size(self, key: str, default: T) -> int | T:
        """Return a number of bytes, written as an integer or as "512MiB"."""
        if key not in self._values:
            return default
        if type(value := self._values[key]) is int:
            self._values[key] = str(value)
        return self.parsed(key, long_size)

    def parsed(self, key: str, parse: Callable[[str], int], default: Any = _MISSING) -> int:
        """Return what `parse` makes of a string: one of the parsers in arguments.py."""
        if default is not _MISSING and key not in self._values:
            return int(default)
        try:
            return parse(self.text(key))
        except ArgumentTypeError as error:
            self.refuse(key, error)

    def items(self, key: str, kind: type) -> list[Any]:
        """Return a list whose items all are a `kind`; [] if it is not there."""
        values: list[Any] = self._take(key, list, [])
        for value in values:
            if type(value) is not kind:
                self.refuse(key, f"{value!r} is not {_NAMES[kind]}")
            if isinstance(value, str) and "\0" in value:
                self.refuse(key, "a NUL cannot be in it")
        return values

    def union(self, key: str, *kinds: type) -> Any:
        """Return what is one of `kinds`."""
        value = self._values.pop(key)
        if type(value) not in kinds:
            self.refuse(key, f"it is neither {' nor '.join(_NAMES[kind] for kind in kinds)}")
        return value

    def table(self, key: str) -> Table:
        """Return the table below it; an empty one if it is not there."""
        return Table(self._take(key, dict, {}), f"{self._where}, [{key}]")

    def tables(self, key: str) -> dict[str, Table]:
        """Return the tables below the table `key`, by their names."""
        parent: dict[str, Any] = self._take(key, dict, {})
        for name, value in parent.items():
            if type(value) is not dict:
                self.refuse(key, f"{name!r} is not a table")
        return {name: Table(value, f"{self._where}, [{key}.{name}]") for name, value in parent.items()}

    def strings(self, key: str) -> dict[str, str]:
        """Return a table whose values are strings without NUL; an empty one if it is not there."""
        values: dict[str, Any] = self._take(key, dict, {})
        table = Table(values, f"{self._where}, [{key}]")
        return {name: table.text(name) for name in values}

    def _take(self, key: str, kind: type, default: Any) -> Any:
        value = self._values.pop(key, default)
        if value is _MISSING:
            self.refuse(key, "it is missing")
        if type(value) is not kind:  # not isinstance: True is an int
            self.refuse(key, f"{value!r} is not {_NAMES[kind]}")
        return value
