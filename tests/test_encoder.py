"""The encoder's rows of the contract. Each runs with every implementation; `test_agreement.py` compares them."""

from __future__ import annotations

import array
import copy
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import formats, frame, frames, limits_in_reach
from vectors import HEADERS, VECTORS, drive, each

from fastframe import CorruptFrameError, FrameError, FrameFormat, FrameTooLargeError, MisuseError

U8, U32 = FrameFormat("u8"), FrameFormat("u32be")


@each(VECTORS)
def test_each_payload_encodes_to_its_frame(codec, vector):
    encoder = codec.Encoder(FrameFormat.parse(vector.format))
    assert [encoder.encode(payload) for payload in vector.payloads] == [wire for _, wire in vector.frames]
    assert encoder.encode_many(iter(vector.payloads)) == vector.wire


@each(VECTORS)
def test_every_way_to_encode_gives_the_same_bytes(codec, vector):
    """`header` and `encode_around` for gathered writes, `encode_into` for memory that the caller has."""
    encoder = codec.Encoder(FrameFormat.parse(vector.format))
    for payload, wire in vector.frames:
        assert encoder.header(len(payload)) + payload + b"," * encoder.format.trailer_length == wire
        header, trailer = encoder.encode_around(payload)
        assert (header + payload + trailer, len(trailer)) == (wire, encoder.format.trailer_length)
        room = bytearray(b"?" * (len(wire) + 4))
        assert encoder.encode_into(room, 2, payload) == len(wire)
        assert room == b"??" + wire + b"??"


@pytest.mark.parametrize(("field", "length", "wire"), HEADERS)
def test_a1_the_header_of_any_length_is_golden(codec, field, length, wire):
    assert codec.Encoder(FrameFormat(field, max_payload_length=sys.maxsize >> 1)).header(length) == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("u8", 0, 255),
        ("i8", 0, 127),
        ("u32be,max=9", 0, 9),
        ("u8,adjust=3", 3, 258),
        ("u8,adjust=-3", 0, 252),
        ("u16be,strip=5,max=9", 0, 6),
        ("u16be,strip=0,max=9", 2, 11),
        ("varint,varint=1", 0, 127),
        ("netstring,max=3", 0, 3),
    ],
)
def test_a7_the_encoder_takes_what_the_decoder_takes_and_nothing_else(codec, text, least, most):
    fmt = FrameFormat.parse(text)
    for length in (least, most):
        payload = bytes(length)
        if fmt.initial_bytes_to_strip == 0:
            payload = (length - 2).to_bytes(2) + payload[2:]
        assert drive(codec.Decoder(fmt), [codec.Encoder(fmt).encode(payload)]) == ([payload], None)
    for length, error in ((least - 1, CorruptFrameError), (most + 1, FrameTooLargeError)):
        if length >= 0:
            with pytest.raises(error):
                codec.Encoder(fmt).encode(bytes(length))
            with pytest.raises(error):
                codec.Encoder(fmt).header(length)


@pytest.mark.parametrize("length", [10, 1 << 32, 1 << 63, 1 << 64, 1 << 80])
def test_a7_an_error_names_length_and_limit_and_no_offset(codec, length):
    with pytest.raises(FrameTooLargeError) as caught:
        codec.Encoder(FrameFormat("u32be", max_payload_length=9)).header(length)
    assert vars(caught.value) == {"length": length, "limit": 9, "offset": None, "frames": [], "hint": None}
    assert str(caught.value) == f"a frame of {length} bytes is over the limit of 9"


@pytest.mark.parametrize(
    ("text", "payload", "reason", "value"),
    [
        ("u16be,strip=0", b"\0\4abc", "mismatch", 3),
        ("u16be,strip=0", b"\3\0abc", "mismatch", 3),
        ("u16le,strip=0", b"\0\3abc", "mismatch", 3),
        ("u16be,strip=1", b"\4abc", "mismatch", 3),
        ("u16be,strip=0,adjust=-2", b"\0\3abc", "mismatch", 5),
        ("u8,offset=2,strip=1", b"x\4abc", "mismatch", 3),
        ("varint,strip=0", b"\4abc", "mismatch", 3),
        ("varint,strip=0", b"\x83\0abc", "mismatch", 3),
        ("varint,offset=1,strip=0", b"x\4abc", "mismatch", 3),
        ("varint,strip=0,varint=2", b"\x80\x80\1", "varint-too-long", 2),
        ("varint,strip=0", b"", "varint-too-long", 10),
        ("varint,strip=0", b"\x80", "varint-too-long", 10),
        ("varint,offset=3,strip=1", b"\0", "varint-too-long", 10),
        ("u16be,strip=0", b"\0", "below-minimum", -1),
        ("u16be,strip=0", b"", "below-minimum", -2),
        ("u8,adjust=2", b"a", "below-minimum", 1),
        ("u8,offset=2,strip=0", b"ab", "below-minimum", -1),
    ],
)
def test_a6_a_payload_that_the_format_cannot_carry_is_refused(codec, text, payload, reason, value):
    encoder = codec.Encoder(FrameFormat.parse(text))
    room = bytearray(40)
    for call in (
        lambda: encoder.encode(payload),
        lambda: encoder.encode_many([payload]),
        lambda: encoder.encode_around(payload),
        lambda: encoder.encode_into(room, 0, payload),
    ):
        with pytest.raises(CorruptFrameError) as caught:
            call()
        assert (caught.value.reason, caught.value.value) == (reason, value)
    assert room == bytes(40)


def test_a6_what_the_payload_brings_before_the_length_field_is_kept(codec):
    """The leading bytes are written where they are stripped, and nowhere else."""
    encoder = codec.Encoder(FrameFormat("u8", length_field_offset=3, initial_bytes_to_strip=1, leading=b"\1\2\3"))
    assert encoder.encode(b"xy\3abc") == b"\1xy\3abc"


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview, lambda data: array.array("H", data)])
@pytest.mark.parametrize("text", ["u32be", "u32be,strip=0"])
def test_a10_takes_any_contiguous_buffer(codec, container, text):
    encoder = codec.Encoder(FrameFormat.parse(text))
    data = b"abcd" if text == "u32be" else b"\0\0\0\4abcd"
    payload, room = container(data), bytearray(8)
    assert encoder.encode(payload) == encoder.encode_many([payload]) == b"\0\0\0\4abcd"
    assert encoder.encode_around(payload) == (b"\0\0\0\4"[: 8 - len(data)], b"")
    assert encoder.encode_into(memoryview(room).cast("I"), 0, payload) == 8
    assert room == b"\0\0\0\4abcd"


@pytest.mark.parametrize(
    ("payload", "error"),
    [("abc", TypeError), (None, TypeError), (3, TypeError), ([b"a"], TypeError), (memoryview(b"abcd")[::2], BufferError)],
)
def test_a10_refuses_what_is_no_contiguous_buffer(codec, payload, error):
    encoder = codec.Encoder(U32)
    room = bytearray(9)
    says = "a bytes-like object is required, not|a contiguous buffer is required, and this one has gaps|a writable buffer"
    for call in (
        lambda: encoder.encode(payload),
        lambda: encoder.encode_many([payload]),
        lambda: encoder.encode_around(payload),
        lambda: encoder.encode_into(room, 0, payload),
    ):
        with pytest.raises(error, match=says):
            call()
    with pytest.raises(error, match=says):
        encoder.encode_into(payload, 0, b"")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda encoder: pickle.loads(pickle.dumps(encoder))])
def test_a12_an_encoder_is_copied(codec, duplicate):
    encoder = codec.Encoder(FrameFormat("u16le", length_field_offset=1, leading=b"x"))
    double = duplicate(encoder)
    assert type(double) is codec.Encoder
    assert (double.format, double.encode(b"a")) == (encoder.format, b"x\1\0a")


def test_a13_the_repr_says_the_format(codec):
    assert repr(codec.Encoder(U8)) == "<Encoder u8,max=255>"


@given(st.data())
def test_b5_every_format_round_trips(codec, data):
    """And gives the bytes of a reference that shares no code with the library, as far as the format says them."""
    fmt = data.draw(formats().filter(limits_in_reach), "format")
    payload, wire = data.draw(frames(fmt), "frame")
    encoder = codec.Encoder(fmt)
    encoded = encoder.encode(payload)
    assert drive(codec.Decoder(fmt), [encoded]) == ([payload], None)
    strip = len(wire) - len(payload) - fmt.trailer_length
    assert encoded[strip:] == wire[strip:]
    assert encoded[:strip] == encoder.header(len(payload))
    offset = fmt.length_field_offset
    field_end = min(strip, fmt.header_length or strip)
    assert encoded[:strip] == fmt.leading[:strip] + wire[offset:field_end] + bytes(strip - max(field_end, min(offset, strip)))


@given(st.data())
def test_b5_the_encoder_never_emits_what_the_decoder_refuses(codec, data):
    """Whatever bytes it is given."""
    fmt = data.draw(formats(), "format")
    payload = data.draw(st.binary(max_size=48) | frames(fmt).map(max) if limits_in_reach(fmt) else st.binary(max_size=48))
    try:
        encoded = codec.Encoder(fmt).encode(payload)
    except FrameError:
        return
    assert drive(codec.Decoder(fmt), [encoded]) == ([payload], None)


def test_encode_many_takes_any_iterable_and_is_all_or_nothing(codec):
    encoder = codec.Encoder(FrameFormat("u8", max_payload_length=2))
    assert encoder.encode_many([]) == b""
    assert encoder.encode_many(payload for payload in (b"a", bytearray(b"bc"), b"")) == b"\1a\2bc\0"
    with pytest.raises(FrameTooLargeError):
        encoder.encode_many([b"a", b"bcd"])
    for payloads in (b"abc", "abc", 3):
        with pytest.raises(TypeError):
            encoder.encode_many(payloads)


@pytest.mark.parametrize(("text", "wire"), [("u8", b"\2\1a\2\1b"), ("u8,strip=0", b"\1a\1b"), ("varint,strip=0", b"\1a\1b")])
@pytest.mark.parametrize("view", [lambda buffer: buffer, memoryview], ids=["bytearray", "memoryview"])
def test_encode_many_takes_each_payload_as_it_was_when_it_was_yielded(codec, text, wire, view):
    """A generator may read into one buffer again and again."""

    def payloads():
        buffer = bytearray(2)
        for content in (b"\1a", b"\1b"):
            buffer[:] = content
            yield view(buffer)

    assert codec.Encoder(FrameFormat.parse(text)).encode_many(payloads()) == wire


def test_encode_many_never_emits_a_length_field_that_was_changed_behind_its_back(codec):
    encoder = codec.Encoder(FrameFormat("varint", initial_bytes_to_strip=0, length_adjustment=-16383))

    def payloads():
        reused = bytearray(b"\xff\x7f")
        yield reused
        reused[:] = b"\5\0"

    try:
        wire = encoder.encode_many(payloads())
    except CorruptFrameError:
        return
    assert wire == b"\xff\x7f"


@pytest.mark.parametrize(
    ("offset", "says"),
    [
        (-1, "offset must be from 0 to the buffer's 8 bytes, not -1"),
        (9, "offset must be from 0 to the buffer's 8 bytes, not 9"),
        (1 << 80, "offset must be from 0 to the buffer's 8 bytes, not "),
        (5, "a frame of 4 bytes does not fit the 3 bytes from that offset on"),
        (8, "a frame of 4 bytes does not fit the 0 bytes from that offset on"),
    ],
)
def test_encode_into_writes_nothing_if_the_frame_does_not_fit(codec, offset, says):
    room = bytearray(8)
    with pytest.raises(ValueError, match=says):
        codec.Encoder(U8).encode_into(room, offset, b"abc")
    assert room == bytes(8)


def test_encode_into_fits_to_the_byte(codec):
    room = bytearray(8)
    assert codec.Encoder(U8).encode_into(room, 4, b"abc") == 4
    assert room == bytes(4) + b"\3abc"


def test_encode_into_refuses_read_only_memory(codec):
    with pytest.raises(BufferError, match="a writable buffer is required, and this one is read-only"):
        codec.Encoder(U8).encode_into(bytes(8), 0, b"abc")


@pytest.mark.parametrize("start", range(8))
@pytest.mark.parametrize("field", ["u8", "u32be", "netstring"])
def test_encode_into_takes_a_payload_that_overlaps_its_place(codec, field, start):
    encoder = codec.Encoder(FrameFormat(field))
    room = bytearray(b"abcdefghijkl")
    payload = bytes(room[start : start + 4])
    length = encoder.encode_into(room, 2, memoryview(room)[start : start + 4])
    assert room[2 : 2 + length] == encoder.encode(payload)


@pytest.mark.parametrize(("length", "error"), [(-1, ValueError), (-(1 << 80), ValueError), (1.5, TypeError), (None, TypeError)])
def test_header_refuses_what_is_no_length(codec, length, error):
    with pytest.raises(error):
        codec.Encoder(U8).header(length)


def test_header_is_what_stands_before_the_payload(codec):
    header = {text: codec.Encoder(FrameFormat.parse(text)).header(9) for text in ("u32be,strip=0", "u8,strip=3", "netstring")}
    assert header == {"u32be,strip=0": b"", "u8,strip=3": b"\x0b\0\0", "netstring": b"9:"}


@pytest.mark.parametrize("text", ["u8,strip=0", "varint,strip=0", "varint,offset=2,strip=1", "varint", "netstring"])
def test_header_refuses_every_length_over_the_limit(codec, text):
    """Whether the payload brings its length field or not."""
    fmt = FrameFormat.parse(f"{text},max=9")
    with pytest.raises(FrameTooLargeError):
        codec.Encoder(fmt).header(100)


@pytest.mark.parametrize("value", [None, "u32be", object])
def test_b11_an_encoder_needs_a_format(codec, value):
    with pytest.raises(TypeError, match="a FrameFormat is required, not"):
        codec.Encoder(value)


def test_b11_a_subclass_that_forgets_to_initialise_is_refused(codec):
    class Forgetful(codec.Encoder):
        def __init__(self):
            pass

    with pytest.raises((AttributeError, MisuseError, TypeError)):
        Forgetful().encode(b"")


INITIALISED_TWICE = """
import importlib, sys
from fastframe import FrameFormat
encoder = importlib.import_module(sys.argv[1]).Encoder(FrameFormat("u8"))
def payloads():
    yield from [b"a"] * 2000
    encoder.__init__(FrameFormat("u64be", length_field_offset=247))
for _ in range(20):
    try:
        encoder.encode_many(payloads())
        encoder.__init__(FrameFormat("u8"))
    except Exception:
        pass
"""


def test_b11_an_encoder_initialised_again_while_it_encodes_does_not_crash(codec):
    command = [sys.executable, "-c", INITIALISED_TWICE, codec.__name__]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_reference_agrees_with_the_vectors():
    """So that what the properties compare with is itself right."""
    for vector in VECTORS:
        fmt = FrameFormat.parse(vector.format)
        for payload, wire in vector.frames:
            header = wire.index(b":") + 1 if fmt.kind == "netstring" else fmt.header_length
            if header is not None:
                rest = wire[header : len(wire) - fmt.trailer_length]
                assert frame(fmt, wire[: fmt.length_field_offset], rest) == (payload, wire)


@pytest.mark.parametrize("text", ["u32be", "varint", "netstring", "u32be,offset=2"])
def test_small_payloads_are_encoded_together_or_not_at_all(codec, text):
    encoder = codec.Encoder(FrameFormat.parse(text))
    assert encoder.encode_small([b"a", b"bc"], 3) == encoder.encode_many([b"a", b"bc"])
    assert encoder.encode_small([], 3) == b""
    assert encoder.encode_small([b"a", b"bcd"], 3) is None
    assert encoder.encode_small([b"a", bytearray(b"b")], 3) is None
