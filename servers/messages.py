"""The messages of the framed servers, as bytes: one for the type, and a body. docs/protocol.md describes each of them.

    +------+------------------------------------+
    | type | body                               |      control: a JSON object in UTF-8
    +------+------------------------------------+      data: bytes as they are

What comes from the wire is hostile: JSON is refused unless it is an object in UTF-8 without duplicate keys, NaN, lone
surrogates, deep nesting or endless digits, and every field is asked for with its type and its bounds.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

from .errors import OperationError

VERSION: Final = 1  # of the protocol
MAX_PAYLOAD: Final = 1024 * 1024  # bytes of a message, its type included, once the peer is known
MAX_EARLY_PAYLOAD: Final = 16 * 1024  # before that
MAX_CONTROL: Final = 64 * 1024  # bytes of JSON: argument lists are long, nothing is longer
MAX_DEPTH: Final = 8  # of nested lists and objects
MAX_DIGITS: Final = 20  # of a number: enough for 64 bits, and int() of a million digits takes seconds
MAX_INTEGER: Final = (1 << 63) - 1  # what off_t holds


class Kind(enum.IntEnum):
    """The first byte of a message."""

    HELLO = 0x01
    WELCOME = 0x02
    AUTH = 0x03
    AUTHENTICATED = 0x04
    OPEN = 0x10
    OPENED = 0x11
    DATA = 0x12
    DATA_STDERR = 0x13
    END = 0x14
    CREDIT = 0x15
    SIGNAL = 0x16
    CANCEL = 0x17
    RESULT = 0x18
    ERROR = 0x20
    PING = 0x21
    PONG = 0x22
    GOAWAY = 0x23


BYTES: Final = frozenset({Kind.DATA, Kind.DATA_STDERR, Kind.PING, Kind.PONG})  # whose body is no JSON
# What a SIGNAL may name: what ends a command, and what many programs take as a wish.
SIGNALS: Final = ("HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "CONT", "STOP", "TSTP", "ALRM", "WINCH")


class Fields(dict[str, Any]):
    """The JSON object of a control message. What is unknown in it is ignored: a newer peer may say more."""

    def text(self, name: str, *, default: str | None = None, most: int = 4096) -> str:
        """Return a string of at most `most` characters; raise OperationError (bad_request) if it is none."""
        value = self.get(name, default)
        if not isinstance(value, str) or len(value) > most:
            raise OperationError("bad_request", f"{name!r} is not a string of at most {most} characters")
        return value

    def integer(self, name: str, *, default: int | None = None, least: int = 0, most: int = MAX_INTEGER) -> int:
        value = self.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise OperationError("bad_request", f"{name!r} is not an integer from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean, False if it is not there."""
        value = self.get(name, False)
        if not isinstance(value, bool):
            raise OperationError("bad_request", f"{name!r} is neither true nor false")
        return value

    def texts(self, name: str, *, most: int = 64) -> list[str]:
        """Return a list of at most `most` strings; [] if it is not there."""
        value = self.get(name, [])
        if not isinstance(value, list) or len(value) > most or not all(isinstance(item, str) for item in value):
            raise OperationError("bad_request", f"{name!r} is not a list of at most {most} strings")
        return value

    def object(self, name: str) -> Fields:
        """Return an object; an empty one if it is not there."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise OperationError("bad_request", f"{name!r} is not an object")
        return Fields(value)


class Message(NamedTuple):
    """A message that came: its `fields` if it is control, its `data` if it is bytes, which are lent from the payload."""

    kind: Kind
    fields: Fields
    data: memoryview


NO_FIELDS: Final = Fields()
NO_DATA: Final = memoryview(b"")


def encode(kind: Kind, fields: Mapping[str, Any]) -> bytes:
    """Return the payload of a control message."""
    return bytes((kind,)) + ENCODER.encode(fields).encode()


def encode_bytes(kind: Kind, data: bytes) -> bytes:
    """Return the payload of a message that is bytes."""
    return bytes((kind,)) + data


def decode(payload: bytes | memoryview) -> Message:
    """Return the message that a payload is; raise OperationError (bad_message) if it is none."""
    view = memoryview(payload)
    try:
        kind = Kind(view[0])
    except IndexError:
        raise OperationError("bad_message", "an empty message") from None
    except ValueError:
        raise OperationError("bad_message", f"no message has the type {view[0]:#04x}") from None
    if kind in BYTES:
        return Message(kind, NO_FIELDS, view[1:])
    return Message(kind, decode_fields(view[1:]), NO_DATA)


def decode_fields(body: bytes | memoryview) -> Fields:
    """Return the object that the body of a control message is; raise OperationError (bad_message)."""
    if len(body) > MAX_CONTROL:
        raise OperationError("bad_message", f"{len(body)} bytes of JSON, and {MAX_CONTROL} may be")
    try:
        value = DECODER.decode(str(body, "utf-8"))
        _check(value, MAX_DEPTH)
    except (ValueError, RecursionError) as error:  # UnicodeError and JSONDecodeError are ValueErrors
        raise OperationError("bad_message", f"no strict JSON: {_reason(error)}") from None
    if not isinstance(value, dict):
        raise OperationError("bad_message", "no JSON object")
    return Fields(value)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key comes twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _parse_int(digits: str) -> int:
    return int(_limit(digits))


def _parse_float(digits: str) -> float:
    value = float(_limit(digits))
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def _limit(digits: str) -> str:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return digits


def _check(value: Any, depth: int) -> None:
    """Raise ValueError for what is nested deeper than `depth`, and for a string that is no Unicode text."""
    if isinstance(value, str):
        value.encode()  # an escaped lone surrogate is no text
    elif isinstance(value, dict | list):
        if depth == 0:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check(item, depth - 1)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


# Made once: json.dumps and json.loads would make one of these for each message.
ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant, parse_int=_parse_int, parse_float=_parse_float
)
