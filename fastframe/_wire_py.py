"""What a frame looks like as bytes, in pure Python: length fields read and written, good frames found in a chunk.

The finders know good frames only. One is given a chunk and yields, frame after frame, where the payload starts, where it
stops, and where the frame does; at the first frame that is not whole or not good it returns. Telling which of the two it is,
and why, is the decoder's.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator
from typing import Final

from ._errors import CorruptFrameError
from ._format import MAX_NETSTRING_DIGITS, MAX_UINT64, FrameFormat, value_limits

COMMA, COLON, ZERO, NINE = b",:09"

Finder = Callable[[bytes, int, int], Iterator[tuple[int, int, int]]]

_STRUCT_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}


# One of each for a format: for a decoder of its own it would cost two kilobytes.
@functools.lru_cache(maxsize=256)
def loader(format: FrameFormat) -> Callable[[bytes, int], tuple[int]]:
    """Return what reads the length field of the frame that begins at a position: `(value,) = load(data, pos)`."""
    width = (format.header_length or 0) - format.length_field_offset
    order = ">" if format.byteorder == "big" else "<"
    if width in _STRUCT_CODES:
        code = _STRUCT_CODES[width].lower() if format.signed else _STRUCT_CODES[width]
        return struct.Struct(f"{order}{format.length_field_offset}x{code}").unpack_from
    offset, byteorder, signed = format.length_field_offset, format.byteorder, format.signed

    def load(data: bytes, pos: int) -> tuple[int]:
        return (int.from_bytes(data[pos + offset : pos + offset + width], byteorder, signed=signed),)

    return load


def storer(format: FrameFormat) -> Callable[[int], bytes]:
    """Return what writes a value that fits as a length field."""
    if format.kind == "varint":
        return store_varint
    if format.kind == "netstring":
        return b"%d:".__mod__
    width, byteorder = (format.header_length or 0) - format.length_field_offset, format.byteorder
    if width in _STRUCT_CODES:
        return struct.Struct((">" if byteorder == "big" else "<") + _STRUCT_CODES[width]).pack
    return lambda value: value.to_bytes(width, byteorder)


def store_varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def varint_length(data: bytes | memoryview, start: int, limit: int) -> int:
    """Return how many bytes the varint at `start` takes."""
    for length, byte in enumerate(data[start : start + limit], 1):
        if byte < 0x80:
            return length
    raise CorruptFrameError("varint-too-long", limit)


def wanted(format: FrameFormat, received: int) -> int:
    """Return how many more bytes a header surely has, given how many came. One at a time where its length varies."""
    if format.header_length is not None:
        return format.header_length - received
    return max(1, format.length_field_offset + 1 - received)


def read_header(format: FrameFormat, header: bytes) -> int | None:
    """Return how many bytes follow the length field, None while `header` is not whole.

    It is asked at each byte of a header that varies in length, so that what is corrupt is refused as soon as that shows.
    """
    value = read_value(format, header)
    if value is None:
        return None
    length = value + format.length_adjustment
    if value < 0:
        raise CorruptFrameError("negative", value)
    if length < 0:
        raise CorruptFrameError("below-header", value)
    if value > MAX_UINT64 or length + format.trailer_length > MAX_UINT64:
        raise CorruptFrameError("overflow")
    if length < format.min_payload_length:
        raise CorruptFrameError("below-minimum", length)
    return length


def read_value(format: FrameFormat, header: bytes) -> int | None:
    """Return what the length field says, None if it is not whole yet."""
    field = header[format.length_field_offset :]
    if format.kind == "fixed":
        return loader(format)(header, 0)[0] if len(header) == format.header_length else None
    if not field:
        return None
    return read_varint(format, field) if format.kind == "varint" else read_digits(field)


def read_varint(format: FrameFormat, field: bytes) -> int | None:
    if field[-1] >= 0x80:
        if len(field) == format.max_varint_length:
            raise CorruptFrameError("varint-too-long", len(field))
        return None
    if field[-1] == 0 and len(field) > 1:
        raise CorruptFrameError("varint-over-long")
    return sum((byte & 0x7F) << 7 * at for at, byte in enumerate(field))


def read_digits(field: bytes) -> int | None:
    byte = field[-1]
    if byte == COLON and len(field) > 1:
        return int(field[:-1])
    if not ZERO <= byte <= NINE:
        raise CorruptFrameError("netstring-digit", byte)
    if len(field) > 1 and field[0] == ZERO:
        raise CorruptFrameError("netstring-leading-zero")
    if len(field) > MAX_NETSTRING_DIGITS:
        raise CorruptFrameError("netstring-too-long", MAX_NETSTRING_DIGITS)
    return None


@functools.lru_cache(maxsize=256)
def finder(format: FrameFormat) -> Finder:
    """Return what finds good frames in a chunk: `for start, stop, pos in find(data, pos, end)`."""
    return {"fixed": fixed_finder, "varint": varint_finder, "netstring": netstring_finder}[format.kind](format)


def fixed_finder(format: FrameFormat) -> Finder:
    header_length, strip = format.header_length or 0, format.initial_bytes_to_strip or 0
    load, (min_value, max_value) = loader(format), value_limits(format)
    beyond = header_length + format.length_adjustment

    def find(data: bytes, pos: int, end: int) -> Iterator[tuple[int, int, int]]:
        while pos <= end - header_length:
            (value,) = load(data, pos)
            stop = pos + beyond + value
            if stop > end or not min_value <= value <= max_value:
                return
            yield pos + strip, stop, stop
            pos = stop

    return find


def varint_finder(format: FrameFormat) -> Finder:
    offset, strip, longest = format.length_field_offset, format.initial_bytes_to_strip, format.max_varint_length
    min_value, max_value = value_limits(format)

    def find(data: bytes, pos: int, end: int) -> Iterator[tuple[int, int, int]]:
        while True:
            value = shift = byte = payload = 0
            for payload in range(pos + offset + 1, min(end, pos + offset + longest) + 1):
                byte = data[payload - 1]
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
            else:
                return
            if (byte == 0 and shift) or not min_value <= value <= max_value:
                return
            stop = payload + value + format.length_adjustment
            if stop > end:
                return
            yield payload if strip is None else pos + strip, stop, stop
            pos = stop

    return find


def netstring_finder(format: FrameFormat) -> Finder:
    def find(data: bytes, pos: int, end: int) -> Iterator[tuple[int, int, int]]:
        while True:
            colon = data.find(b":", pos, pos + MAX_NETSTRING_DIGITS + 1)
            digits = data[pos:colon]
            if colon == -1 or not digits.isdigit() or (digits[0] == ZERO and len(digits) > 1):
                return
            stop = colon + 1 + int(digits)
            if stop >= end or int(digits) > format.max_payload_length or data[stop] != COMMA:
                return
            yield colon + 1, stop, stop + 1
            pos = stop + 1

    return find
