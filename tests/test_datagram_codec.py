"""One frame a datagram: what is exactly that, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import formats, frames, limits_in_reach
from vectors import VECTORS, describe, each, frame

from fastframe import CorruptFrameError, FrameError, FrameFormat, FrameTooLargeError, IncompleteFrameError, _datagram_codec
from fastframe._singly import MAX_DATAGRAM

U32 = FrameFormat("u32be")


@pytest.fixture(scope="module")
def make(codec):
    """Make a `DatagramCodec` on that implementation of the codec."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_datagram_codec, "Decoder", codec.Decoder)
        patch.setattr(_datagram_codec, "Encoder", codec.Encoder)
        yield _datagram_codec.DatagramCodec


@each(VECTORS)
def test_a_frame_of_any_format_is_a_datagram(make, vector):
    codec = make(FrameFormat.parse(vector.format))
    for payload, wire in vector.frames:
        assert codec.decode(wire) == payload
        assert codec.decode(memoryview(bytearray(wire))) == payload
        assert codec.decode(codec.encode(payload)) == payload


def test_the_bytes_as_drawn(make):
    codec = make()
    assert codec.encode(b"hello") == b"\0\0\0\5hello"
    assert codec.decode(b"\0\0\0\5hello") == b"hello"
    assert codec.decode(codec.encode(b"")) == b""


@pytest.mark.parametrize(
    ("datagram", "error"),
    [
        (b"", IncompleteFrameError(0, 4, offset=0)),
        (b"\xff", IncompleteFrameError(1, 4, offset=0)),
        (frame(b"hello")[:-1], IncompleteFrameError(8, 9, offset=0)),
        (frame(b"hello") + b"!", CorruptFrameError("not-alone", 1, offset=0)),
        (frame(b"hello") + frame(b"hello"), CorruptFrameError("not-alone", 9, offset=0)),
        (frame(b"hello") + b"\xff" * 40, CorruptFrameError("not-alone", 40, offset=0)),
        (b"bye.", FrameTooLargeError(0x6279652E, MAX_DATAGRAM - 4, offset=0)),
        (b"\xff" * 2000, FrameTooLargeError(0xFFFFFFFF, MAX_DATAGRAM - 4, offset=0)),
    ],
)
def test_what_is_not_one_frame_is_refused_each_time_alike_and_forgotten(make, datagram, error):
    codec = make()
    for _ in range(2):
        with pytest.raises(FrameError) as caught:
            codec.decode(datagram)
        assert describe(caught.value) == describe(error)
        assert caught.value.frames == []
        assert codec.decode(frame(b"good")) == b"good"


def test_bytes_behind_the_frame_are_told():
    assert str(CorruptFrameError("not-alone", 3)) == "3 bytes stand behind the frame, and a datagram carries one alone"


@pytest.mark.parametrize(
    "text", ["u32be", "u16be", "u8", "u64le,offset=3", "varint", "varint,offset=2", "netstring", "u32be,adjust=-4"]
)
def test_the_longest_datagram_and_one_byte_more(make, text):
    codec = make(FrameFormat.parse(text))
    strip, header_length = codec.format.initial_bytes_to_strip, codec.format.header_length or 0
    longest = bytes(codec.format.max_payload_length - max(0, (strip or 0) - header_length))
    assert len(codec.encode(longest)) <= MAX_DATAGRAM
    assert codec.decode(codec.encode(longest)) == longest
    if text not in ("u8", "u16be"):
        assert len(codec.encode(longest)) >= MAX_DATAGRAM - 1
    with pytest.raises(FrameTooLargeError):
        codec.encode(longest + b"x")


def test_a_lower_limit_stays(make):
    assert make(FrameFormat("u32be", max_payload_length=9)).format == FrameFormat("u32be", max_payload_length=9)


def test_a_format_of_which_no_frame_fits_a_datagram_is_refused(make):
    with pytest.raises(ValueError, match="no frame fits"):
        make(FrameFormat("u32be", length_adjustment=70_000))


@given(data=st.data())
def test_one_frame_is_decoded_and_any_part_or_more_of_it_is_refused(make, data):
    fmt = data.draw(formats())
    assume(limits_in_reach(fmt))
    payload, wire = data.draw(frames(fmt))
    codec = make(fmt)
    assert codec.decode(wire) == payload
    assert len(codec.encode(payload)) == len(wire)
    cut = data.draw(st.integers(0, len(wire) - 1))
    more = data.draw(st.binary(min_size=1, max_size=8))
    for bad in (wire[:cut], wire + more, wire + wire):
        with pytest.raises(FrameError):
            codec.decode(bad)
        assert codec.decode(wire) == payload


@given(st.binary(max_size=64))
def test_what_is_decoded_is_what_is_encoded(make, datagram):
    codec = make(FrameFormat("u8"))
    try:
        payload = codec.decode(datagram)
    except FrameError:
        return
    assert codec.encode(payload) == datagram
