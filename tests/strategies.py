"""What Hypothesis draws: formats, frames by a reference of our own, streams good and bad, cuts, and what a caller may do."""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from vectors import INTEGER_FIELDS

from fastframe import FrameFormat

_ADJUSTMENTS = st.integers(-12, 12) | st.sampled_from([-(1 << 31) + 1, -128, -127, 127, 128, (1 << 31) - 1])
_LIMITS = st.integers(0, 40) | st.sampled_from([127, 128, 300, 1 << 14, 1 << 31, (1 << 62) - 1])


@st.composite
def formats(draw: st.DrawFn) -> FrameFormat:
    """Any format that can be constructed."""
    length_field = draw(st.sampled_from([*INTEGER_FIELDS, "varint", "varint", "netstring", "netstring"]))
    settings: dict[str, Any] = {"max_payload_length": draw(_LIMITS)}
    if length_field != "netstring":
        offset = settings["length_field_offset"] = draw(st.integers(0, 4))
        strips = st.integers(0, offset if length_field == "varint" else offset + 12)
        settings["initial_bytes_to_strip"] = draw(st.none() | strips)
        settings["length_adjustment"] = draw(st.just(0) | _ADJUSTMENTS)
        settings["leading"] = draw(st.just(b"") | st.binary(min_size=offset, max_size=offset))
    if length_field == "varint":
        settings["max_varint_length"] = draw(st.integers(1, 10))
    try:
        return FrameFormat(length_field, **settings)
    except ValueError:
        assume(False)
        raise


def limits_in_reach(format: FrameFormat) -> bool:
    """Whether the least that a frame of this format carries is few enough bytes to draw."""
    return format.min_payload_length <= 300


def length_field(format: FrameFormat, value: int) -> bytes:
    """Return the length field that says `value`: the reference, as slow and plain as can be."""
    if format.kind == "netstring":
        return str(value).encode() + b":"
    if format.kind == "fixed":
        return value.to_bytes((format.header_length or 0) - format.length_field_offset, format.byteorder, signed=format.signed)
    groups = []
    while value > 127:
        groups.append(value % 128 + 128)
        value //= 128
    return bytes([*groups, value])


def frame(format: FrameFormat, leading: bytes, rest: bytes) -> tuple[bytes, bytes]:
    """Return payload and wire bytes of the frame that has `rest` behind its length field."""
    header = leading + length_field(format, len(rest) - format.length_adjustment)
    strip = format.initial_bytes_to_strip
    return (header + rest)[len(header) if strip is None else strip :], header + rest + b"," * format.trailer_length


@st.composite
def frames(draw: st.DrawFn, format: FrameFormat, *, over: bool = False) -> tuple[bytes, bytes]:
    """A payload and its wire bytes; with `over`, of a frame that is over the limit by little."""
    least = format.max_payload_length + 1 if over else format.min_payload_length
    most = least + 20 if over else min(format.max_payload_length, least + 40)
    length = draw(st.sampled_from([least, most]) | st.integers(least, most))  # the ends are where limits are wrong
    rest = draw(st.binary(min_size=length, max_size=length))
    offset = format.length_field_offset
    return frame(format, draw(st.binary(min_size=offset, max_size=offset)), rest)


@st.composite
def good_streams(draw: st.DrawFn, format: FrameFormat) -> list[tuple[bytes, bytes]]:
    return draw(st.lists(frames(format), max_size=6))


_EXTREMES = [b"\xff" * 12, b"\0" * 12, b"9" * 22, b"00:,", b"\x80\0", b"\x80" * 12, b"\xff" * 9 + b"\1", b"\xff" * 9 + b"\2"]


@st.composite
def streams(draw: st.DrawFn, format: FrameFormat) -> bytes:
    """Good frames, frames over the limit, extreme length fields, garbage; then perhaps a byte changed, or the end lost."""
    parts = [st.binary(max_size=24), st.sampled_from(_EXTREMES)]
    if limits_in_reach(format):
        parts += [frames(format).map(lambda both: both[1])] * 6
    if format.max_payload_length <= 300:
        try:
            length_field(format, format.max_payload_length + 21 - format.length_adjustment)
            parts.append(frames(format, over=True).map(lambda both: both[1]))
        except OverflowError:
            pass  # this length field cannot say more than the limit
    stream = bytearray(b"".join(draw(st.lists(st.one_of(parts), max_size=6))))
    if stream and draw(st.booleans()):
        stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255) | st.sampled_from(b"\x00\x80\xff:,0"))
    return bytes(stream[: draw(st.integers(0, len(stream)))] if draw(st.booleans()) else stream)


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces, some of them empty."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]


_MAX_FRAMES = st.none() | st.none() | st.integers(0, 3)
_RARE = st.sampled_from(
    [
        ("feed", "text", None),
        ("feed", memoryview(b"abcdef")[::2], None),
        ("feed", b"", -1),
        ("feed", b"", 1 << 80),
        ("feed_batch", "text"),
        ("feed_batch", b""),
        ("buffer_updated_batch", 0),
        ("buffer_updated_batch", -1),
        ("get_buffer",),
        ("get_buffer", 0),
        ("buffer_updated", -1),
        ("buffer_updated", 0, 1),
        ("buffer_updated", 1 << 80),
        ("finish",),
        ("detach",),
    ]
)


_KEEP = st.sampled_from(["nothing", "nothing", "view", "second view", "slice", "export", "object", "view of object"])


@st.composite
def _deliveries(draw: st.DrawFn, piece: bytes) -> tuple[Any, ...]:
    """A call that gives a decoder `piece`, by any door."""
    name = draw(st.sampled_from(["feed", "feed", "receive", "feed_batch", "receive_batch"]))
    return {
        "feed": lambda: (name, piece, draw(_MAX_FRAMES)),
        "feed_batch": lambda: (name, piece),
        "receive": lambda: (name, piece, draw(_MAX_FRAMES), draw(_KEEP)),
        "receive_batch": lambda: (name, piece, draw(_KEEP)),
    }[name]()


_ENDS = [
    ("feed", b"", None),
    ("feed_batch", b""),
    ("finish",),
    ("detach",),
    ("feed", b"\0", 1),
    ("feed_batch", b"\0"),
    ("get_buffer",),
    ("detach",),
]


@st.composite
def operations(draw: st.DrawFn, format: FrameFormat) -> list[tuple[Any, ...]]:
    """Calls of a decoder: mostly a stream in pieces, by any door, with other calls in between and behind."""
    calls: list[tuple[Any, ...]] = []
    for piece in draw(cut(draw(streams(format)))):
        calls.append(draw(_deliveries(piece)))
        if draw(st.integers(0, 9)) == 0:
            calls.append(draw(_RARE))
    return calls + draw(st.lists(st.sampled_from(_ENDS), max_size=4))


LARGE_FORMATS = [
    FrameFormat.parse(text)
    for text in (
        "u32be,max=400KiB",
        "u24le,offset=2,max=400KiB",
        "u32be,strip=0,max=400KiB",
        "u32be,strip=7,max=400KiB",
        "u32le,adjust=-4,max=400KiB",
        "varint,max=400KiB",
        "netstring,max=400KiB",
    )
]
_LARGE = st.sampled_from([1 << 16, 1 << 18, 400 << 10]).flatmap(lambda length: st.integers(length - 9, length))


@st.composite
def large_operations(draw: st.DrawFn, format: FrameFormat) -> list[tuple[Any, ...]]:
    """The same with a few large frames, so that their own memory is lent. Of their bytes only the lengths are drawn."""
    wire, places = b"", []
    for number in range(draw(st.integers(1, 3))):
        length = draw(_LARGE | st.integers(7, 400 << 10) | st.integers(7, 20) | st.just((400 << 10) + 1))
        last = len(wire)
        wire += frame(format, b"\1" * format.length_field_offset, bytes([97 + number]) * length)[1]
        places += [last + draw(st.integers(0, 20)), len(wire) - draw(st.integers(0, 3))]
    places += draw(st.lists(st.integers(0, len(wire)), max_size=4))
    places = sorted(min(place, len(wire)) for place in places)
    if draw(st.integers(0, 3)) == 0:
        wire = wire[:-1] + b"\xff"
    calls: list[tuple[Any, ...]] = []
    for start, stop in zip([0, *places], [*places, len(wire)], strict=True):
        calls.append(draw(_deliveries(wire[start:stop])))
        if draw(st.integers(0, 4)) == 0:
            calls.append(draw(_RARE | st.just(("scribble",))))
    return calls + draw(st.lists(st.sampled_from(_ENDS), max_size=4))
