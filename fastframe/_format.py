"""FrameFormat: what a frame looks like on the wire, validated once, so that the codecs need no second look.

    | leading bytes | length field | what the length speaks of      |
    | <-- length_field_offset -->  | <--- value + adjustment bytes ---> |
    | <------ header ------------> |

In goes a description, by keyword or as text; out comes a frozen value whose numbers fit each other, or a ValueError that
names the combination that no frame can satisfy.
"""

from __future__ import annotations

import operator
import re
import sys
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from . import _errors

DEFAULT_MAX_PAYLOAD_LENGTH: Final = 16 << 20  # as Netty's users mostly write; tokio-util 8 MiB, gRPC 4 MiB, Twisted 99999
MAX_HEADER_LENGTH: Final = 255  # decoders hold a header inline; no protocol known to us needs more than 30
MAX_LENGTH_ADJUSTMENT: Final = (1 << 31) - 1  # far beyond any header, and safe to add to 63 bits
MAX_VARINT_LENGTH: Final = 10  # bytes of 7 bits that hold 64; protobuf's bound
MAX_NETSTRING_DIGITS: Final = 20  # decimal digits of 2**64 - 1
MAX_UINT64: Final = (1 << 64) - 1
MAX_MEMORY: Final = sys.maxsize >> 1  # so that header and payload together stay a valid size

Kind = Literal["fixed", "varint", "netstring"]

_NAME = re.compile(r"([ui])(8|(?:16|24|32|40|48|56|64)(?=[lb]e$))(le|be)?")
_SIZE = re.compile(r"(\d{1,20})(KiB|MiB|GiB|TiB)?", re.ASCII)
_UNITS = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
_KEYS = {
    "offset": "length_field_offset",
    "adjust": "length_adjustment",
    "strip": "initial_bytes_to_strip",
    "max": "max_payload_length",
    "varint": "max_varint_length",
    "leading": "leading",
}


@dataclass(frozen=True, slots=True, repr=False)
class FrameFormat:
    """Describe a length-prefixed frame; immutable, hashable, comparable, and its repr builds an equal one.

    `length_field`: `u8`, `u16be` ... `u64le` in steps of 8 bits, the signed `i8`, `i16be` ... `i64le` (a negative value is
    corrupt), `varint` (protobuf's base 128, low group first; an over-long form is corrupt) or `netstring`
    (https://cr.yp.to/proto/netstrings.txt). The other fields count bytes, and have the names that Netty's
    LengthFieldBasedFrameDecoder gave them:

    `length_field_offset`: bytes before the length field. `leading`: what the encoder writes there, zeros unless given; a
    decoder does not look at them.
    `length_adjustment`: what to add to the field's value to get the bytes that follow the length field.
    `initial_bytes_to_strip`: leading bytes of a frame that are not handed out; None, the default, strips the whole header. A
    payload is what is left, on both sides: what a decoder hands out is what an encoder takes.
    `max_payload_length`: the most bytes that may follow the length field, when decoding and when encoding; never more than
    the length field can say.
    `max_varint_length`: the most bytes of a varint.

    Raise ValueError when no frame can satisfy the description, TypeError for a value of the wrong type.
    """

    length_field: str = "u32be"
    length_field_offset: int = field(default=0, kw_only=True)
    length_adjustment: int = field(default=0, kw_only=True)
    initial_bytes_to_strip: int | None = field(default=None, kw_only=True)
    max_payload_length: int = field(default=DEFAULT_MAX_PAYLOAD_LENGTH, kw_only=True)
    max_varint_length: int = field(default=MAX_VARINT_LENGTH, kw_only=True)
    leading: bytes = field(default=b"", kw_only=True)

    kind: Kind = field(init=False, compare=False)
    """How the length field is written: `fixed`, `varint` or `netstring`."""
    byteorder: Literal["big", "little"] = field(init=False, compare=False)
    signed: bool = field(init=False, compare=False)
    header_length: int | None = field(init=False, compare=False)
    """Bytes before the payload; None where it varies."""
    min_payload_length: int = field(init=False, compare=False)
    """The fewest bytes that may follow the length field."""
    trailer_length: int = field(init=False, compare=False)
    """Bytes after the payload that the length does not count: a netstring's comma."""
    payload_brings_header: bool = field(init=False, compare=False)
    """Whether less than the header is stripped: a payload begins with the rest of it, the length field or its end included."""

    def __post_init__(self) -> None:
        self._check_types()
        kind, width, max_value = self._resolve_length_field()
        if self.length_field_offset + width > MAX_HEADER_LENGTH:
            raise _errors.bad_format("header", self.length_field_offset + width, MAX_HEADER_LENGTH)
        header_length = self.length_field_offset + width if kind == "fixed" else None
        self._resolve_strip(kind, header_length)
        if not self.leading:
            self._set("leading", bytes(self.length_field_offset))
        elif len(self.leading) != self.length_field_offset:
            raise _errors.bad_format("leading-length", len(self.leading), self.length_field_offset)
        strip = self.initial_bytes_to_strip
        beyond_header = (strip or 0) - (header_length or 0) if kind == "fixed" else 0
        self._set("kind", kind)
        self._set("header_length", header_length)
        self._set("trailer_length", 1 if kind == "netstring" else 0)
        self._set("payload_brings_header", strip is not None and (header_length is None or strip < header_length))
        self._set("min_payload_length", max(0, self.length_adjustment, beyond_header))
        self._set("max_payload_length", min(self.max_payload_length, max_value + self.length_adjustment))
        if self.min_payload_length > self.max_payload_length:
            raise _errors.bad_format("impossible", self.min_payload_length, self.max_payload_length)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_types(self) -> None:
        for name, low, high in (
            ("length_field_offset", 0, MAX_HEADER_LENGTH),
            ("length_adjustment", -MAX_LENGTH_ADJUSTMENT, MAX_LENGTH_ADJUSTMENT),
            ("initial_bytes_to_strip", 0, MAX_HEADER_LENGTH),
            ("max_payload_length", 0, MAX_MEMORY),
            ("max_varint_length", 1, MAX_VARINT_LENGTH),
        ):
            value = getattr(self, name)
            if name == "initial_bytes_to_strip" and value is None:
                continue
            try:
                value = operator.index(value)
            except TypeError:
                raise _errors.bad_format_type("not-int", name, value) from None
            self._set(name, value)
            if not low <= value <= high:
                raise _errors.bad_format("range", name, low, high, value)
        if not isinstance(self.leading, bytes):
            raise _errors.bad_format_type("leading-type", self.leading)

    def _resolve_length_field(self) -> tuple[Kind, int, int]:
        """Return the kind, the most bytes that the length field takes, and the largest value that it can say."""
        self._set("byteorder", "big")
        self._set("signed", False)
        if self.length_field == "varint":
            return "varint", self.max_varint_length, min(MAX_UINT64, (1 << 7 * self.max_varint_length) - 1)
        if self.length_field == "netstring":
            for name, default in (("length_field_offset", 0), ("length_adjustment", 0), ("initial_bytes_to_strip", None)):
                if getattr(self, name) != default:
                    raise _errors.bad_format("netstring", name)
            return "netstring", MAX_NETSTRING_DIGITS + 1, MAX_UINT64
        match = _NAME.fullmatch(self.length_field) if isinstance(self.length_field, str) else None
        if match is None or (match[2] == "8" and match[3]):
            raise _errors.bad_format("name", self.length_field)
        self._set("byteorder", "little" if match[3] == "le" else "big")
        self._set("signed", match[1] == "i")
        bits = int(match[2])
        return "fixed", bits // 8, (1 << (bits - self.signed)) - 1

    def _resolve_strip(self, kind: Kind, header_length: int | None) -> None:
        strip = self.initial_bytes_to_strip
        if kind == "fixed" and strip is None:
            self._set("initial_bytes_to_strip", header_length)
        elif kind == "varint" and strip is not None and strip > self.length_field_offset:
            raise _errors.bad_format("varying-strip", kind, self.length_field_offset, strip)

    def __repr__(self) -> str:
        return f"FrameFormat({', '.join([repr(self.length_field), *self._settings(list(_KEYS.values()), '{}={!r}')])})"

    def __str__(self) -> str:
        return ",".join([self.length_field, *self._settings(list(_KEYS), "{}={}", _text)])

    def _settings(self, labels: list[str], layout: str, text: object = None) -> list[str]:
        """Return each setting that the length field alone does not tell, under its label."""
        usual: dict[str, object] = {each.name: each.default for each in fields(self) if each.init}
        usual["initial_bytes_to_strip"] = self.header_length
        usual["leading"] = bytes(self.length_field_offset)
        usual["max_payload_length"] = None  # always said: the limit is what people ask for
        settings = []
        for label, name in zip(labels, _KEYS.values(), strict=True):
            value = getattr(self, name)
            if value != usual[name]:
                settings.append(layout.format(label, text(value) if callable(text) else value))
        return settings

    @classmethod
    def parse(cls, text: str) -> FrameFormat:
        """Return the format that a text such as `u16le,offset=2,adjust=-4,strip=0,max=1MiB` names; `str` gives it back.

        After the length field come, in any order, `offset`, `adjust`, `strip`, `max` (bytes, or with KiB, MiB, GiB, TiB),
        `varint` (the most bytes of one) and `leading` (hexadecimal). Raise ValueError for anything else.
        """
        length_field, *items = [item.strip() for item in text.split(",")]
        settings: dict[str, int | bytes] = {}
        for item in items:
            key, _, value = item.partition("=")
            if key not in _KEYS or not value:
                raise _errors.bad_format("text-item", item, ", ".join(_KEYS))
            if _KEYS[key] in settings:
                raise _errors.bad_format("text-twice", key)
            settings[_KEYS[key]] = _parse_hex(value) if key == "leading" else _parse_size(value)
        return cls(length_field, **settings)  # type: ignore[arg-type]


def value_limits(format: FrameFormat) -> tuple[int, int]:
    """Return the least and the most that the length field of a good frame says."""
    return max(0, format.min_payload_length - format.length_adjustment), format.max_payload_length - format.length_adjustment


def is_plain(format: FrameFormat) -> bool:
    """Tell whether a header is an unsigned number of payload bytes and nothing else, as most are, and is stripped."""
    plain = (format.kind, format.signed, format.length_field_offset, format.length_adjustment) == ("fixed", False, 0, 0)
    return plain and format.initial_bytes_to_strip == format.header_length


def _text(value: int | bytes) -> str:
    if isinstance(value, bytes):
        return value.hex()
    for unit, size in _UNITS.items():
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


def _parse_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise _errors.bad_format("text-hex", text) from None


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text.removeprefix("-"))
    if match is None:
        raise _errors.bad_format("text-size", text)
    size = int(match[1]) * _UNITS.get(match[2], 1)
    return -size if text.startswith("-") else size
