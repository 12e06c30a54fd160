"""FrameFormat: what can be described, what is refused and why, and the two texts that give a format back."""

from __future__ import annotations

import copy
import pickle
import sys
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import formats
from vectors import INTEGER_FIELDS

from fastframe import FrameFormat
from fastframe._errors import FORMAT_FAULTS

MOST = sys.maxsize >> 1

# (text, what str() makes of it, what repr() makes of it)
TEXTS = [
    ("u32be", "u32be,max=16MiB", "FrameFormat('u32be', max_payload_length=16777216)"),
    ("u8", "u8,max=255", "FrameFormat('u8', max_payload_length=255)"),
    (" u16le , max=1KiB ", "u16le,max=1KiB", "FrameFormat('u16le', max_payload_length=1024)"),
    ("u16le,max=1025", "u16le,max=1025", "FrameFormat('u16le', max_payload_length=1025)"),
    ("u64be,max=3TiB", "u64be,max=3TiB", f"FrameFormat('u64be', max_payload_length={3 << 40})"),
    ("u32be,max=0", "u32be,max=0", "FrameFormat('u32be', max_payload_length=0)"),
    ("u32be,strip=4", "u32be,max=16MiB", "FrameFormat('u32be', max_payload_length=16777216)"),
    ("u8,strip=0", "u8,strip=0,max=255", "FrameFormat('u8', initial_bytes_to_strip=0, max_payload_length=255)"),
    (
        "u16le,max=9,adjust=-4,offset=2",
        "u16le,offset=2,adjust=-4,max=9",
        "FrameFormat('u16le', length_field_offset=2, length_adjustment=-4, max_payload_length=9)",
    ),
    (
        "u8,offset=2,leading=CAFE",
        "u8,offset=2,max=255,leading=cafe",
        r"FrameFormat('u8', length_field_offset=2, max_payload_length=255, leading=b'\xca\xfe')",
    ),
    ("u8,offset=2,leading=0000", "u8,offset=2,max=255", "FrameFormat('u8', length_field_offset=2, max_payload_length=255)"),
    ("u16be,adjust=1KiB", "u16be,adjust=1KiB,max=66559", None),
    ("u16be,adjust=-2KiB", "u16be,adjust=-2KiB,max=63487", None),
    ("varint", "varint,max=16MiB", "FrameFormat('varint', max_payload_length=16777216)"),
    ("varint,varint=2", "varint,max=16383,varint=2", "FrameFormat('varint', max_payload_length=16383, max_varint_length=2)"),
    ("varint,offset=3,strip=0", "varint,offset=3,strip=0,max=16MiB", None),
    ("netstring,max=99", "netstring,max=99", "FrameFormat('netstring', max_payload_length=99)"),
]


@pytest.mark.parametrize(("text", "short", "long"), TEXTS, ids=[text.strip() for text, _, _ in TEXTS])
def test_texts_give_the_format_back(text, short, long):
    fmt = FrameFormat.parse(text)
    assert str(fmt) == short
    assert repr(fmt) == (long or repr(fmt))
    assert FrameFormat.parse(short) == fmt == eval(repr(fmt))


@given(formats())
def test_every_format_comes_back_from_its_texts_and_copies(fmt):
    twins = [FrameFormat.parse(str(fmt)), eval(repr(fmt)), copy.copy(fmt), copy.deepcopy(fmt), pickle.loads(pickle.dumps(fmt))]
    assert all(twin == fmt and hash(twin) == hash(fmt) and repr(twin) == repr(fmt) for twin in twins)


# (text, header_length, min_payload_length, max_payload_length, trailer_length, byteorder, signed)
DERIVED = [
    ("u8", 1, 0, 255, 0, "big", False),
    ("i8", 1, 0, 127, 0, "big", True),
    ("u16le", 2, 0, 65535, 0, "little", False),
    ("i24be,offset=3", 6, 0, (1 << 23) - 1, 0, "big", True),
    ("u32le,max=4GiB", 4, 0, (1 << 32) - 1, 0, "little", False),
    ("i32le,max=4GiB", 4, 0, (1 << 31) - 1, 0, "little", True),
    ("u8,adjust=5", 1, 5, 260, 0, "big", False),
    ("u8,adjust=-5", 1, 0, 250, 0, "big", False),
    ("u8,strip=4", 1, 3, 255, 0, "big", False),
    ("u8,strip=4,adjust=9", 1, 9, 264, 0, "big", False),
    ("varint,offset=2", None, 0, 16 << 20, 0, "big", False),
    ("varint,varint=1,adjust=2", None, 2, 129, 0, "big", False),
    ("netstring", None, 0, 16 << 20, 1, "big", False),
]


@pytest.mark.parametrize(("text", "header", "least", "most", "trailer", "order", "signed"), DERIVED)
def test_numbers_follow_from_the_description(text, header, least, most, trailer, order, signed):
    fmt = FrameFormat.parse(text)
    assert (fmt.header_length, fmt.min_payload_length, fmt.max_payload_length) == (header, least, most)
    assert (fmt.trailer_length, fmt.byteorder, fmt.signed) == (trailer, order, signed)
    assert fmt.kind == {"v": "varint", "n": "netstring"}.get(text[0], "fixed")


@pytest.mark.parametrize(
    ("text", "brings"),
    [
        ("u32be", False),
        ("u16le,offset=2,strip=3", True),
        ("u16le,offset=2,strip=4", False),
        ("u8,strip=9", False),
        ("u8,strip=0", True),
        ("varint,offset=2", False),
        ("varint,offset=2,strip=2", True),
        ("varint,strip=0", True),
        ("netstring", False),
    ],
)
def test_a_payload_brings_what_of_the_header_is_not_stripped(text, brings):
    assert FrameFormat.parse(text).payload_brings_header is brings


@pytest.mark.parametrize("name", INTEGER_FIELDS)
def test_a1_every_machine_integer_has_a_name(name):
    fmt = FrameFormat(name, max_payload_length=MOST)
    bits = fmt.header_length * 8 - fmt.signed
    assert (fmt.kind, fmt.max_payload_length) == ("fixed", min(MOST, (1 << bits) - 1))


def test_the_default_is_four_bytes_in_network_order_and_16_mib():
    assert FrameFormat() == FrameFormat("u32be", max_payload_length=16 << 20)


# (fault, its text or settings, a part of the sentence)
REFUSED = [
    *(("name", {"length_field": name}, "no length field is called") for name in ("u12be", "u16", "u8be", "U8", "u72be", "", 4)),
    ("name", {"length_field": "u32be\n"}, "no length field is called"),
    ("not-int", {"length_field_offset": 1.0}, "length_field_offset must be an integer, not 1.0"),
    ("not-int", {"max_payload_length": "9"}, "max_payload_length must be an integer, not '9'"),
    ("not-int", {"length_adjustment": None}, "length_adjustment must be an integer, not None"),
    ("range", {"length_field_offset": -1}, "length_field_offset must be from 0 to 255, not -1"),
    ("range", {"length_field_offset": 256}, "length_field_offset must be from 0 to 255, not 256"),
    ("range", {"initial_bytes_to_strip": -1}, "initial_bytes_to_strip must be from 0 to 255"),
    ("range", {"max_payload_length": -1}, "max_payload_length must be from 0 to"),
    ("range", {"max_payload_length": MOST + 1}, "max_payload_length must be from 0 to"),
    ("range", {"length_adjustment": 1 << 31}, "length_adjustment must be from -2147483647 to 2147483647"),
    ("range", {"length_adjustment": -(1 << 31)}, "length_adjustment must be from -2147483647 to 2147483647"),
    ("range", {"max_varint_length": 0}, "max_varint_length must be from 1 to 10"),
    ("range", {"max_varint_length": 11}, "max_varint_length must be from 1 to 10"),
    ("leading-type", {"leading": "ab", "length_field_offset": 2}, "leading must be bytes, not 'ab'"),
    ("leading-type", {"leading": bytearray(2), "length_field_offset": 2}, "leading must be bytes"),
    ("leading-length", {"leading": b"abc", "length_field_offset": 2}, "leading has 3 bytes"),
    ("leading-length", {"leading": b"a"}, "leading has 1 bytes, and length_field_offset leaves room for 0"),
    ("header", {"length_field_offset": 252}, "the length field ends at byte 256"),
    ("header", "varint,offset=246", "the length field ends at byte 256"),
    ("varying-strip", "varint,offset=2,strip=3", "a varint header varies in length"),
    ("netstring", "netstring,offset=1", "leave length_field_offset out"),
    ("netstring", "netstring,adjust=1", "leave length_adjustment out"),
    ("netstring", "netstring,strip=0", "leave initial_bytes_to_strip out"),
    ("impossible", "u8,adjust=9,max=8", "at least 9 bytes must follow the length field, and at most 8 may"),
    ("impossible", "u8,strip=10,max=8", "no frame fits this format"),
    ("impossible", "u8,adjust=-256", "no frame fits this format"),
    ("text-item", "u8,limit=3", "'limit=3' is not one of offset, adjust, strip, max, varint, leading"),
    ("text-item", "u8,max", "'max' is not one of"),
    ("text-item", "u8,max=", "'max=' is not one of"),
    ("text-item", "u8,", "'' is not one of"),
    ("text-twice", "u8,max=1,max=1", "'max' is given twice"),
    *(
        ("text-size", f"u8,max={size}", "is not a number of bytes such as")
        for size in ("1MB", "1.5KiB", "--1", "1 KiB", "0x9", "٣")
    ),
    ("text-hex", "u8,offset=1,leading=xy", "'xy' is not bytes in hexadecimal"),
]


@pytest.mark.parametrize(("fault", "description", "says"), REFUSED)
def test_what_no_frame_can_satisfy_is_refused_with_a_reason(fault, description, says):
    wrong_type = FORMAT_FAULTS[fault] in (FORMAT_FAULTS["not-int"], FORMAT_FAULTS["leading-type"])
    with pytest.raises(TypeError if wrong_type else ValueError) as caught:
        FrameFormat.parse(description) if isinstance(description, str) else FrameFormat(**description)
    assert says in str(caught.value)


def test_every_reason_is_shown_above():
    assert {fault for fault, _, _ in REFUSED} == set(FORMAT_FAULTS)


@given(st.text(max_size=30) | st.text("u8int1632beladjstrpomxvgh,=-0KMGTiB", max_size=30))
def test_any_text_is_a_format_or_a_value_error(text):
    try:
        fmt = FrameFormat.parse(text)
    except ValueError:
        return
    assert FrameFormat.parse(str(fmt)) == fmt


def test_a_format_cannot_change():
    fmt = FrameFormat("u8")
    with pytest.raises(FrozenInstanceError):
        fmt.max_payload_length = 1
    with pytest.raises((AttributeError, TypeError)):
        fmt.added = 1


def test_formats_that_say_the_same_are_equal():
    same = {FrameFormat("u8"), FrameFormat("u8", initial_bytes_to_strip=1), FrameFormat("u8", max_payload_length=10**6)}
    assert len(same | {FrameFormat("u8", length_field_offset=1), FrameFormat("i8")}) == 3


class Number:
    """Counts as an integer, as NumPy's do, and compares with nothing."""

    def __index__(self):
        return 3


def test_whatever_counts_as_an_integer_is_one():
    fmt = FrameFormat("u8", length_field_offset=Number(), max_payload_length=True)
    assert (fmt.length_field_offset, type(fmt.max_payload_length)) == (3, int)
    assert FrameFormat.parse(str(fmt)) == fmt
