"""What the fuzzer's bytes mean: a format, a stream that grows in a tank, and calls that hand over pieces of it.

    | one byte for each setting of the format | operation | operation | ...

An operation is a byte that says which, and its arguments. Nearly all bytes mean something, and a change of one byte is a small
change of the case, so that what the fuzzer learnt stays true. Sizes are one byte too: the small ones, and those where buffers
end; so a frame of 300 KiB costs four bytes of input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from strategies import frame, length_field
from vectors import INTEGER_FIELDS

from fastframe import FrameFormat

_KIB = 1 << 10
_LIMITS = (16 << 20, *range(41), 127, 128, 300, 4 * _KIB, 64 * _KIB, 65 * _KIB, 300 * _KIB, 1 << 20, 1 << 31, (1 << 62) - 1)
_ADJUSTMENTS = (*range(13), *range(-12, 0), -127, 127, 128, -(1 << 31) + 1, (1 << 31) - 1)
SETTINGS: dict[str, tuple[Any, ...]] = {
    "length_field": (*INTEGER_FIELDS, "varint", "netstring"),
    "max_payload_length": _LIMITS,
    "length_field_offset": (0, 1, 2, 3, 4, 9, 60, 234, 247),
    "length_adjustment": _ADJUSTMENTS,
    "initial_bytes_to_strip": (None, *range(13), 60, 235, 248, 255),
    "max_varint_length": (10, *range(1, 10)),
    "on_oversize": ("raise", "skip"),
}
# The borders of pieces that are joined (4 KiB), of chunks (64 KiB) and of receive blocks (256 KiB), and a big frame.
_BORDERS = [size * _KIB + by for size in (1, 4, 64, 128, 256) for by in (-1, 0, 1)]
SIZES = (*range(240), *_BORDERS, 300 * _KIB)
MAX_REPEAT = 8 * _KIB  # more would be as many frames, and minutes of nothing new
MAX_STREAM = 1 << 20
PATTERN = bytes(range(251)) * 1300  # no power of two divides 251, so what is moved or lost shows

MAX_FRAMES = (None, None, None, None, None, 0, 1, 2)
CALLS: tuple[tuple[Any, ...], ...] = (
    ("feed", b"", None),
    ("feed", b"", 1),
    ("finish",),
    ("detach",),
    ("get_buffer",),
    ("get_buffer", 0),
    ("get_buffer", 1 << 20),
    ("buffer_updated", 0, 1),
    ("buffer_updated_batch", -1),
    ("feed_batch", "text"),
    ("buffer_updated", -1),
    ("buffer_updated", 1 << 80),
    ("feed", "text", None),
    ("feed", memoryview(b"abcdef")[::2], None),
    ("feed", b"", -1),
    ("feed", b"", 1 << 80),
)


class Case(NamedTuple):
    format: FrameFormat
    on_oversize: str
    operations: list[tuple[Any, ...]]


class Reader:
    """Read arguments; behind the end of the input all of them are zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def choice(self, table: tuple[Any, ...]) -> Any:
        return table[self.byte() % len(table)]

    def size(self) -> int:
        return SIZES[self.byte()]


def read_format(reader: Reader) -> tuple[FrameFormat, str] | None:
    """Return the format and what to do with an oversize frame, or None if no frame satisfies it."""
    settings = {name: reader.choice(table) for name, table in SETTINGS.items()}
    on_oversize = settings.pop("on_oversize")
    if settings["length_field"] == "netstring":
        settings = {name: settings[name] for name in ("length_field", "max_payload_length")}
    leading = PATTERN[7 : 7 + settings.get("length_field_offset", 0)]
    try:
        return FrameFormat(**settings, leading=leading), on_oversize
    except ValueError:
        return None


def read_case(data: bytes) -> Case | None:
    reader = Reader(data)
    described = read_format(reader)
    return described and Case(*described, list(_read_operations(reader, described[0])))


def _read_operations(reader: Reader, format: FrameFormat) -> Iterator[tuple[Any, ...]]:
    tank = bytearray()
    total = 0
    while reader:
        name = reader.choice(OPERATIONS)
        if name in _WRITERS:
            written = _WRITERS[name](reader, format)
            if total + len(written) <= MAX_STREAM:
                tank += written
                total += len(written)
        elif name == "call":
            yield "call", *reader.choice(CALLS)
        elif name in _SENDERS:
            how, max_frames, size = reader.byte(), reader.choice(MAX_FRAMES), reader.size() or len(tank)
            yield name, how, bytes(tank[:size]), *[max_frames] * _SENDERS[name]
            del tank[:size]
        else:
            yield (name,)


def _literal(reader: Reader, format: FrameFormat) -> bytes:
    return reader.take(reader.byte())


def _repeat(reader: Reader, format: FrameFormat) -> bytes:
    return bytes([reader.byte()]) * min(reader.size(), MAX_REPEAT)


def _frame(reader: Reader, format: FrameFormat) -> bytes:
    return good_frame(reader, format)[1]


def good_frame(reader: Reader, format: FrameFormat) -> tuple[bytes, bytes]:
    """Return payload and wire bytes of a frame, over the limit perhaps; none if the length field cannot say its length."""
    size, start = reader.size(), reader.byte()
    try:
        return frame(format, PATTERN[start : start + format.length_field_offset], PATTERN[start : start + size])
    except (OverflowError, ValueError):
        return b"", b""


def _announce(reader: Reader, format: FrameFormat) -> bytes:
    """Return the header of a frame that may be far longer than what will come."""
    length = max(0, (1 << reader.byte() % 64) + reader.byte() - 128)
    try:
        return bytes(format.length_field_offset) + length_field(format, length)
    except OverflowError:
        return b""


_WRITERS: dict[str, Callable[[Reader, FrameFormat], bytes]] = {
    "literal": _literal,
    "repeat": _repeat,
    "frame": _frame,
    "announce": _announce,
}
_SENDERS = {"feed": 1, "receive": 1, "feed_batch": 0, "receive_batch": 0}  # how many take `max_frames`
OPERATIONS = (
    *(
        "literal",
        "repeat",
        "frame",
        "announce",
        "feed",
        "receive",
        "call",
        "scribble",
        "release",
        "feed_batch",
        "receive_batch",
    ),
    *("literal", "frame", "frame", "feed", "feed", "receive", "receive"),  # again: these are what a stream is made of
)


def write_case(format: FrameFormat, on_oversize: str, *operations: tuple[Any, ...]) -> bytes:
    """Return the input that means a case whose settings are in the tables: the inverse of `read_case`, for seeds.

    An operation is its name and its arguments as bytes and numbers; `size()` makes a size a number.
    """
    values = {name: getattr(format, name, on_oversize) for name in SETTINGS}
    if values["initial_bytes_to_strip"] == format.header_length:
        values["initial_bytes_to_strip"] = None
    if values["max_payload_length"] not in _LIMITS:  # cut down to what the length field can say
        values["max_payload_length"] = 1 << 20
    data = bytearray(table.index(values[name]) for name, table in SETTINGS.items())
    for name, *arguments in operations:
        data.append(OPERATIONS.index(name))
        for argument in arguments:
            data += argument if isinstance(argument, bytes) else bytes([argument])
    return bytes(data)


def size(of: int) -> int:
    """Return the byte that says a size, or the next smaller one."""
    return max(at for at, value in enumerate(SIZES) if value <= of)
