"""Streams as data, written by hand and not by our encoder, and the few lines that run a decoder over them.

A `Vector` is a format and frames, each a payload and its wire bytes. It is used in both directions. A `BadVector` ends in an
error. A name begins with the row of the contract that the vector shows.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

HELLO = b"HELLO, WORLD"


def frame(payload: bytes) -> bytes:
    """Return a u32be frame, made without our encoder."""
    return len(payload).to_bytes(4, "big") + payload


class Vector(NamedTuple):
    name: str
    format: str
    frames: list[tuple[bytes, bytes]]

    @property
    def payloads(self) -> list[bytes]:
        return [payload for payload, _ in self.frames]

    @property
    def wire(self) -> bytes:
        return b"".join(wire for _, wire in self.frames)


class BadVector(NamedTuple):
    name: str
    format: str
    wire: bytes
    payloads: list[bytes]
    error: str
    attributes: dict[str, Any]
    text: str


# One line for each machine integer: the field that says 0, the one that says 3, and the longest that one or two bytes say.
_INTEGER_TABLE = """
u8     00               03               7f                i8     00               03               7f
u16be  0000             0003             0102              i16be  0000             0003             0102
u16le  0000             0300             0201              i16le  0000             0300             0201
u24be  000000           000003           000102            i24be  000000           000003           000102
u24le  000000           030000           020100            i24le  000000           030000           020100
u32be  00000000         00000003         00000102          i32be  00000000         00000003         00000102
u32le  00000000         03000000         02010000          i32le  00000000         03000000         02010000
u40be  0000000000       0000000003       0000000102        i40be  0000000000       0000000003       0000000102
u40le  0000000000       0300000000       0201000000        i40le  0000000000       0300000000       0201000000
u48be  000000000000     000000000003     000000000102      i48be  000000000000     000000000003     000000000102
u48le  000000000000     030000000000     020100000000      i48le  000000000000     030000000000     020100000000
u56be  00000000000000   00000000000003   00000000000102    i56be  00000000000000   00000000000003   00000000000102
u56le  00000000000000   03000000000000   02010000000000    i56le  00000000000000   03000000000000   02010000000000
u64be  0000000000000000 0000000000000003 0000000000000102  i64be  0000000000000000 0000000000000003 0000000000000102
u64le  0000000000000000 0300000000000000 0201000000000000  i64le  0000000000000000 0300000000000000 0201000000000000
"""


def _integer_vector(name: str, zero: str, three: str, long: str) -> Vector:
    payloads = [b"", b"abc", b"x" * (127 if name.endswith("8") else 0x0102)]
    fields = [bytes.fromhex(field) for field in (zero, three, long)]
    return Vector(f"a1-{name}", name, [(payload, field + payload) for payload, field in zip(payloads, fields, strict=True)])


_INTEGERS = _INTEGER_TABLE.split()
INTEGER_FIELDS = _INTEGERS[::4]

# What the largest fields look like, where every byte differs: (length field, length, the field's bytes).
HEADERS = [
    ("u8", 0x81, "81"),
    ("i8", 0x71, "71"),
    ("u16be", 0x8182, "8182"),
    ("u16le", 0x8182, "8281"),
    ("u24be", 0x818283, "818283"),
    ("u24le", 0x818283, "838281"),
    ("u32be", 0x81828384, "81828384"),
    ("u32le", 0x81828384, "84838281"),
    ("i32le", 0x71828384, "84838271"),
    ("u40be", 0x8182838485, "8182838485"),
    ("u40le", 0x8182838485, "8584838281"),
    ("u48be", 0x818283848586, "818283848586"),
    ("u48le", 0x818283848586, "868584838281"),
    ("u56be", 0x81828384858687, "81828384858687"),
    ("u56le", 0x81828384858687, "87868584838281"),
    ("u64be", 0x3182838485868788, "3182838485868788"),
    ("u64le", 0x3182838485868788, "8887868584838231"),
    ("i64le", 0x3182838485868788, "8887868584838231"),
    ("varint", 0x7F, "7f"),
    ("varint", 0x80, "8001"),
    ("varint", 300, "ac02"),
    ("varint", 0x3FFF, "ff7f"),
    ("varint", 0x4000, "808001"),
    ("varint", (1 << 62) - 1, "ffffffffffffffff3f"),
    ("netstring", 4_611_686_018_427_387_903, b"4611686018427387903:".hex()),
]


def _vector(name: str, format: str, *frames: tuple[bytes, str | bytes]) -> Vector:
    return Vector(name, format, [(p, bytes.fromhex(wire) if isinstance(wire, str) else wire) for p, wire in frames])


_HELLO = HELLO.hex()
VECTORS = [
    *(_integer_vector(*_INTEGERS[at : at + 4]) for at in range(0, len(_INTEGERS), 4)),
    _vector("a2-one-byte", "varint", (b"", "00"), (b"abc", "03 616263"), (b"x" * 127, b"\x7f" + b"x" * 127)),
    _vector("a2-two-bytes", "varint", (b"x" * 128, b"\x80\x01" + b"x" * 128), (b"x" * 300, b"\xac\x02" + b"x" * 300)),
    _vector("a2-leading", "varint,offset=2,leading=cafe", (b"abc", "cafe 03 616263"), (b"", "cafe 00")),
    _vector("a2-strip-part", "varint,offset=2,leading=cafe,strip=1", (b"\xfe\x03abc", "cafe 03 616263")),
    _vector("a2-strip-none", "varint,strip=0", (b"\x03abc", "03 616263"), (b"\x00", "00")),
    _vector("a2-strip-leading", "varint,offset=1,strip=1", (b"\x80\x01" + b"x" * 128, b"\0\x80\x01" + b"x" * 128)),
    _vector("a2-adjust", "varint,adjust=-1", (b"", "01"), (b"x" * 127, b"\x80\x01" + b"x" * 127)),
    _vector("a3-netstring", "netstring", (b"", b"0:,"), (b"hello world!", b"12:hello world!,"), (b",", b"1:,,")),
    _vector("a3-netstring-digits", "netstring", (b"7:,0:,", b"6:7:,0:,,"), (b"x" * 100, b"100:" + b"x" * 100 + b",")),
    # The drawings of Netty's LengthFieldBasedFrameDecoder, whose parameters have the same names.
    _vector("a4-netty-offset-2", "u24be,offset=2,leading=cafe", (HELLO, "cafe 00000c" + _HELLO)),
    _vector("a5-netty-whole-message", "u16be,adjust=-2,strip=0", (b"\0\x0e" + HELLO, "000e" + _HELLO)),
    _vector("a5-netty-header-behind", "u24be,adjust=2,strip=0", (b"\0\0\x0c\xca\xfe" + HELLO, "00000c cafe" + _HELLO)),
    _vector("a5-netty-between", "u16be,offset=1,adjust=1,leading=ca", (b"\xfe" + HELLO, "ca 000c fe" + _HELLO)),
    _vector("a5-netty-whole-between", "u16be,offset=1,adjust=-3,leading=ca", (b"\xfe" + HELLO, "ca 0010 fe" + _HELLO)),
    _vector("a6-netty-strip-0", "u16be,strip=0", (b"\0\x0c" + HELLO, "000c" + _HELLO), (b"\0\0", "0000")),
    _vector("a6-netty-strip-2", "u16be,strip=2", (HELLO, "000c" + _HELLO)),
    _vector("a4-strip-offset", "u16le,offset=3,strip=3,leading=010203", (b"\x03\0abc", "010203 0300 616263")),
    _vector("a4-strip-inside-offset", "u8,offset=3,strip=2,leading=010203", (b"\x03\x03abc", "010203 03 616263")),
    _vector("a5-includes-itself", "u32le,adjust=-4", (b"", "04000000"), (b"abc", "07000000 616263")),
    _vector("a5-adjust-up", "u8,adjust=3", (b"abc", "00 616263"), (b"abcd", "01 61626364")),
    _vector("a5-signed-adjust-down", "i16le,offset=2,adjust=-4", (b"", "0000 0400"), (b"a", "0000 0500 61")),
    _vector("a6-strip-inside-field", "u32be,strip=3", (b"\x03abc", "00000003 616263"), (b"\0", "00000000")),
    _vector("a6-strip-more", "u8,strip=3", (b"", "02 0000"), (b"abc", "05 0000 616263")),
    _vector("a6-strip-more-and-adjust", "u16be,adjust=-2,strip=6", (b"abc", "0009 00000000 616263"), (b"", "0006 00000000")),
]


def _incomplete(name: str, format: str, wire: str, pending: int, expected: int) -> BadVector:
    text = f"the stream ended after {pending} of at least {expected} bytes of a frame (frame at offset 0)"
    attributes = {"pending": pending, "expected": expected, "offset": 0}
    return BadVector(name, format, bytes.fromhex(wire), [], "IncompleteFrameError", attributes, text)


def _corrupt(name: str, format: str, wire: str | bytes, reason: str, value: int | None, text: str, *good: bytes) -> BadVector:
    """`wire` begins with frames of one byte of header that carry the `good` payloads."""
    wire = bytes.fromhex(wire) if isinstance(wire, str) else wire
    offset = sum(map(len, good)) + len(good)
    attributes = {"reason": reason, "value": value, "offset": offset}
    return BadVector(name, format, wire, list(good), "CorruptFrameError", attributes, f"{text} (frame at offset {offset})")


def _too_large(name: str, format: str, wire: str | bytes, length: int, limit: int = 16 << 20, *good: bytes) -> BadVector:
    wire = bytes.fromhex(wire) if isinstance(wire, str) else wire
    offset = sum(map(len, good)) + len(good)
    text = f"a frame of {length} bytes is over the limit of {limit} (frame at offset {offset})"
    attributes = {"length": length, "limit": limit, "offset": offset}
    return BadVector(name, format, wire, list(good), "FrameTooLargeError", attributes, text)


def _looks(vector: BadVector, hint: str) -> BadVector:
    """Return the vector with what the error adds about a stream that was bad from the start."""
    return vector._replace(attributes={**vector.attributes, "hint": hint}, text=f"{vector.text}; {hint}")


def _other_order(vector: BadVector, length: int) -> BadVector:
    return _looks(vector, f"in the other byte order (little-endian) the length would be {length}")


_HTTP, _TLS, _SSH = b"GET / HTTP/1.1\r\n", bytes.fromhex("1603010200010001fc0303"), b"SSH-2.0-OpenSSH_9.2\r\n"
_TOO_LONG = "the varint does not end within {} bytes"
_OVER_LONG = "the varint is over-long: its last byte is zero"
_DIGIT = "byte 0x{} stands in a netstring's length, which is decimal digits and a colon"
_COMMA = "byte 0x{} stands where a netstring ends with a comma"
_NEGATIVE = "the length field says {}, which is less than zero"
_LEAST_I64 = -(1 << 63)
_BELOW_HEADER = "the length field says {}, too little to cover what it counts"
_BELOW_MINIMUM = "{} bytes after the length field are fewer than this format needs"
_OVERFLOW = "the length does not fit 64 bits"
_ZERO = "the netstring's length has a leading zero"
_HTTP_HINT = "it looks like an HTTP request"
_TLS_HINT = "it looks like a TLS handshake record: the peer speaks TLS, this side does not"
_SSH_HINT = "it looks like an SSH banner"
_DIGITS = "the netstring's length has more than 20 digits"

BAD_VECTORS = [
    _incomplete("b3-header-only", "u32be", "00000009", 4, 13),
    _incomplete("b3-payload-begun", "u32be", "00000009 6162", 6, 13),
    _incomplete("b3-header-begun", "u32be", "000000", 3, 4),
    _incomplete("b3-varint-begun", "varint", "80", 1, 2),
    _incomplete("b3-netstring-no-comma", "netstring", b"3:abc".hex(), 5, 6),
    _incomplete("b3-netstring-digits", "netstring", b"12".hex(), 2, 3),
    _incomplete("b3-leading-begun", "varint,offset=3", "0102", 2, 4),
    _incomplete("b3-strip-more", "u8,strip=3", "05 00", 2, 6),
    _corrupt("a1-negative-i32le", "i32le", "ffffffff", "negative", -1, _NEGATIVE.format(-1)),
    _corrupt("a1-negative-i8", "i8", "02 6162 80 00", "negative", -128, _NEGATIVE.format(-128), b"ab"),
    _other_order(_corrupt("a1-negative-i24be", "i24be", "800000", "negative", -(1 << 23), _NEGATIVE.format(-(1 << 23))), 128),
    _other_order(
        _corrupt("a1-negative-i64be", "i64be", "80" + "00" * 7, "negative", _LEAST_I64, _NEGATIVE.format(_LEAST_I64)), 128
    ),
    _corrupt("a2-too-long-at-the-bar", "varint,varint=4", "80808080 01", "varint-too-long", 4, _TOO_LONG.format(4)),
    _corrupt("a2-too-long", "varint", "03 616263" + "80" * 10, "varint-too-long", 10, _TOO_LONG.format(10), b"abc"),
    _corrupt("a2-over-long", "varint", "8000", "varint-over-long", None, _OVER_LONG),
    _corrupt("a2-over-long-deep", "varint", "8180808000", "varint-over-long", None, _OVER_LONG),
    _corrupt("a2-overflow", "varint", "ff" * 9 + "02", "overflow", None, _OVERFLOW),
    _corrupt("a2-overflow-down-to-3", "varint", "83" + "80" * 8 + "02 616263", "overflow", None, _OVERFLOW),
    _corrupt("a3-leading-zero", "netstring", b"05:hello,", "netstring-leading-zero", None, _ZERO),
    _corrupt("a3-two-zeros", "netstring", b"00:,", "netstring-leading-zero", None, _ZERO),
    _corrupt("a3-sign", "netstring", b"+5:hello,", "netstring-digit", 0x2B, _DIGIT.format("2b")),
    _corrupt("a3-minus", "netstring", b"-5:hello,", "netstring-digit", 0x2D, _DIGIT.format("2d")),
    _corrupt("a3-space", "netstring", b" 5:hello,", "netstring-digit", 0x20, _DIGIT.format("20")),
    _corrupt("a3-space-behind", "netstring", b"5 :hello,", "netstring-digit", 0x20, _DIGIT.format("20")),
    _corrupt("a3-no-digit", "netstring", b":,", "netstring-digit", 0x3A, _DIGIT.format("3a")),
    _corrupt("a3-underscore", "netstring", b"1_0:helloworld,", "netstring-digit", 0x5F, _DIGIT.format("5f")),
    _corrupt("a3-no-comma", "netstring", b"5:hello5:hello,", "netstring-comma", 0x35, _COMMA.format("35")),
    _corrupt("a3-empty-no-comma", "netstring", b"0:;", "netstring-comma", 0x3B, _COMMA.format("3b")),
    _corrupt("a3-too-many-digits", "netstring", b"1" * 21 + b":", "netstring-too-long", 20, _DIGITS),
    _corrupt("a3-digits-overflow", "netstring", b"18446744073709551616:", "overflow", None, _OVERFLOW),
    _corrupt("a3-no-room-for-comma", "netstring", b"18446744073709551615:", "overflow", None, _OVERFLOW),
    _other_order(_corrupt("a5-below-header", "u16be,adjust=-2", "0001", "below-header", 1, _BELOW_HEADER.format(1)), 254),
    _corrupt("a5-below-header-u64", "u64be,adjust=-8", "00" * 7 + "07", "below-header", 7, _BELOW_HEADER.format(7)),
    _corrupt("a5-overflow", "u64be,adjust=1", "ff" * 8, "overflow", None, _OVERFLOW),
    _corrupt("a6-below-minimum", "u8,strip=3", "01 00", "below-minimum", 1, _BELOW_MINIMUM.format(1)),
    _too_large("a7-no-overflow-down", "u64be,adjust=-8", "ff" * 8, (1 << 64) - 9),
    _too_large("a7-u64-7fff", "u64be", "7f" + "ff" * 7, (1 << 63) - 1),
    _too_large("a7-u64-8000-and-5", "u64be", "80" + "00" * 6 + "05" + "61" * 5, (1 << 63) + 5),
    _too_large("a7-u64-ffff", "u64be", "ff" * 8, (1 << 64) - 1),
    _too_large("a7-u64-2-to-32-and-5", "u64be", "00000001 00000005" + "61" * 5, (1 << 32) + 5),
    _too_large("a7-varint-2-to-32", "varint", "8080808010", 1 << 32),
    _too_large("a7-varint-2-to-64", "varint", "ff" * 9 + "01", (1 << 64) - 1),
    _too_large("a7-varint-behind-a-good-one", "varint,max=3", "02 6162 04 61626364 01 61", 4, 3, b"ab"),
    _too_large("a7-netstring", "netstring,max=9", b"10:helloworld,", 10, 9),
    _too_large("a7-netstring-20-digits", "netstring", b"18446744073709551614:", (1 << 64) - 2),
    _too_large("a8-then-a-good-one", "u8,max=3", "02 6162 04 61626364 01 61", 4, 3, b"ab"),
    _looks(_too_large("b12-http", "u32be", _HTTP, int.from_bytes(b"GET ")), _HTTP_HINT),
    _looks(_too_large("b12-tls", "u32be", _TLS, 0x16030102), _TLS_HINT),
    _looks(_too_large("b12-ssh", "u32be", _SSH, int.from_bytes(b"SSH-")), _SSH_HINT),
    _other_order(_too_large("b12-other-order", "u32be", "09000000" + "61" * 9, 9 << 24), 9),
]


class SkipVector(NamedTuple):
    name: str
    format: str
    wire: bytes
    payloads: list[bytes]
    skipped: int


SKIP_VECTORS = [
    SkipVector("a8-good-one-behind", "u8,max=3", b"\x02ab\x04abcd\x01a", [b"ab", b"a"], 1),
    SkipVector("a8-good-one-before", "u8,max=3", b"\x02ab\x04abcd", [b"ab"], 1),
    SkipVector("a8-several", "u16le,max=1", b"\x02\0ab\x03\0abc\x01\0a\x02\0cd\0\0", [b"a", b""], 3),
    SkipVector("a8-strip", "u8,max=5,strip=3", b"\x06abcdef\x03abc", [b"c"], 1),
    SkipVector("a8-carried", "u8,max=3,strip=0", b"\x04abcd\x01a", [b"\x01a"], 1),
    SkipVector("a8-varint", "varint,max=3,offset=1", b"\0\x80\x01" + b"x" * 128 + b"\0\x01a", [b"a"], 1),
    SkipVector("a8-netstring", "netstring,max=3", b"4:,:,:,3:abc,", [b"abc"], 1),
]


def each(vectors: list[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test with all of `vectors`, and say which it failed with. To run each as a test of its own, and others between
    them, cost more than what they test did.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(test)
        fixtures = [parameter for name, parameter in signature.parameters.items() if name != "vector"]

        @functools.wraps(test)
        def run(**values: Any) -> None:
            for vector in vectors:
                try:
                    test(vector=vector, **values)
                except BaseException as error:
                    error.add_note(f"The vector is {vector.name}.")
                    raise

        run.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]  # what pytest reads
        return run

    return decorate


def ways_to_cut(wire: bytes) -> Iterator[list[bytes]]:
    """Yield the wire whole, byte by byte, and cut in two at every point."""
    yield [wire]
    yield [wire[at : at + 1] for at in range(len(wire))]
    yield from ([wire[:at], wire[at:]] for at in range(1, len(wire)))


def by_feed(decoder: Any, chunk: bytes, max_frames: int | None = None) -> list[bytes]:
    return decoder.feed(chunk, max_frames)


def by_buffer(decoder: Any, chunk: bytes, max_frames: int | None = None) -> list[bytes]:
    decoder.get_buffer()[: len(chunk)] = chunk
    return decoder.buffer_updated(len(chunk), max_frames)


def describe(error: BaseException) -> tuple[str, dict[str, Any], str]:
    """Return all that an error says, apart from the payloads that it delivers."""
    attributes = {name: value for name, value in vars(error).items() if name != "frames" and (name, value) != ("hint", None)}
    return type(error).__name__, attributes, str(error)


def drive(decoder: Any, pieces: list[bytes], door: Any = by_feed, end: bool = True) -> tuple[list[bytes], Any]:
    """Give the pieces and the end of the stream; return every payload that came out, and the error as `describe` says it."""
    payloads: list[bytes] = []
    try:
        for piece in pieces:
            payloads += door(decoder, piece)
        if end:
            decoder.finish()
    except ValueError as error:
        return payloads + error.frames, describe(error)
    return payloads, None
