"""Logs: one event, one line on stderr, as `key=value` or as JSON; what a peer sent can neither end a line nor steer a terminal.

    time=2026-11-21T16:34:08.123Z level=warning pid=17 event="worker ended" worker=2 status="signal 9"

Every logger goes through here, asyncio's too. A warning that repeats is let through a few times per interval from one place
in the code, however the texts differ, and then counted: the next one that passes has `suppressed=N`.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
import time
from typing import Any, Final

logger = logging.getLogger("fastframe.servers")

BARE: Final = re.compile(r'[^ "=\\]+')  # what needs no quotes, if it is printable
LONGEST_VALUE: Final = 8192  # characters: a traceback has room, what a peer sends is no way to fill a disk
REPEATS: Final = 5  # warnings from one place in an interval
INTERVAL: Final = 10.0  # seconds


def configure(form: str, level: str) -> None:
    """Have all loggers write to stderr as `form`: "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(RepeatFilter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def event(level: int, name: str, /, **fields: object) -> None:
    """Log that `name` happened; the fields may hold what a peer sent."""
    logger.log(level, name, extra={"fields": fields}, stacklevel=2)


def escape(text: str) -> str:
    """Return `text` with escapes for backslashes, quotes and what has no picture of its own: line ends, ESC, bidi."""
    return "".join(_escape(character) for character in text)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what a line says of `record`, in order."""
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    fields: dict[str, object] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "pid": record.process,
        "event": record.getMessage(),
    }
    if record.name != logger.name:
        fields["logger"] = record.name
    fields |= getattr(record, "fields", {})
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    if suppressed := getattr(record, "suppressed", 0):
        fields["suppressed"] = suppressed
    return fields


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quote(_shorten(str(value)))}" for key, value in fields_of(record).items())


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({key: _plain(value) for key, value in fields_of(record).items()})


class RepeatFilter(logging.Filter):
    """Let `REPEATS` warnings from one place in the code pass in each `INTERVAL`, and count the others."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[tuple[str, int], _Place] = {}  # as many as there are logging calls

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        place = self._places.setdefault((record.pathname, record.lineno), _Place())
        now = time.monotonic()
        if now - place.began >= INTERVAL:
            record.suppressed = place.passed_over
            place.began, place.passed, place.passed_over = now, 0, 0
        if place.passed == REPEATS:
            place.passed_over += 1
            return False
        place.passed += 1
        return True


class _Place:
    began = float("-inf")
    passed = 0
    passed_over = 0


def _escape(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _quote(text: str) -> str:
    bare = BARE.fullmatch(text) and text.isprintable()
    return text if bare else f'"{escape(text)}"'


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."


def _plain(value: object) -> Any:
    return value if isinstance(value, int | float | bool | None) else _shorten(str(value))
