"""However a stream is cut, wherever one stops and whatever goes wrong: every payload and every byte comes out once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cut, formats, good_streams, limits_in_reach, streams
from vectors import VECTORS, by_buffer, by_feed, describe, drive, each

from fastframe import FrameError, FrameFormat, FrameTooLargeError, MisuseError

U8 = FrameFormat("u8")


@given(st.data())
def test_b1_cuts_change_nothing(codec, data):
    fmt = data.draw(formats(), "format")
    stream = data.draw(streams(fmt), "stream")
    on_oversize = data.draw(st.sampled_from(["raise", "skip"]))
    outcomes = []
    for pieces in ([stream], [bytes([byte]) for byte in stream], data.draw(cut(stream), "pieces")):
        for door in (by_feed, by_buffer):
            decoder = codec.Decoder(fmt, on_oversize)
            payloads, error = drive(decoder, pieces, door)
            outcomes.append((payloads, error, decoder.skipped, decoder.pending if error is None else None))
    assert outcomes == [outcomes[0]] * 6


@given(st.data())
def test_b1_good_frames_come_out_as_they_went_in(codec, data):
    """By a reference that shares no code with the library."""
    fmt = data.draw(formats().filter(limits_in_reach), "format")
    frames = data.draw(good_streams(fmt), "frames")
    pieces = data.draw(cut(b"".join(wire for _, wire in frames)), "pieces")
    assert drive(codec.Decoder(fmt), pieces) == ([payload for payload, _ in frames], None)


@given(st.data())
def test_b2_stopping_early_repeats_and_loses_nothing(codec, data):
    """Whatever `max_frames` says in each call, and wherever the consumer stops: payloads and tail are the stream."""
    fmt = data.draw(formats(), "format")
    stream = data.draw(streams(fmt), "stream")
    expected, error = drive(codec.Decoder(fmt), [stream], end=False)
    decoder, payloads, seen = codec.Decoder(fmt), [], None
    try:
        for piece in data.draw(cut(stream), "pieces"):
            most = data.draw(st.integers(0, 3))
            got = decoder.feed(piece, most)
            assert len(got) <= most
            payloads += got
        while decoder.needed == 0:
            payloads += decoder.feed(b"", 1)
    except FrameError as failure:
        payloads += failure.frames
        seen = describe(failure)
    assert (payloads, seen) == (expected, error)


@given(st.data())
def test_b2_detach_hands_over_every_byte_behind_the_last_payload(codec, data):
    fmt = data.draw(formats(), "format")
    decoder, payloads, given_bytes = codec.Decoder(fmt), [], b""
    try:
        for piece in data.draw(cut(data.draw(streams(fmt), "stream")), "pieces"):
            given_bytes += piece
            payloads += decoder.feed(piece, data.draw(st.integers(0, 2)))
    except FrameError as error:
        payloads += error.frames
    pending, tail = decoder.pending, decoder.detach()
    decoded = len(given_bytes) - pending
    assert tail == given_bytes[decoded:]
    assert drive(codec.Decoder(fmt), [given_bytes[:decoded]]) == (payloads, None)


def test_b2_an_error_delivers_the_payloads_before_it_once(codec):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=2))
    with pytest.raises(FrameTooLargeError) as first:
        decoder.feed(b"\1a\2bc\3def\1g")
    with pytest.raises(FrameTooLargeError) as again:
        decoder.feed(b"\1h")
    assert (first.value.frames, first.value.offset) == ([b"a", b"bc"], 5)
    assert (again.value.frames, again.value.offset) == ([], 5)
    assert (decoder.pending, decoder.detach()) == (6, b"\3def\1g")


def test_b2_an_error_behind_the_last_wanted_frame_waits(codec):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=2))
    assert decoder.feed(b"\1a\3def", max_frames=1) == [b"a"]
    assert decoder.pending == 4
    with pytest.raises(FrameTooLargeError) as caught:
        decoder.feed(b"", max_frames=1)
    assert caught.value.frames == []


def test_b2_max_frames_zero_only_stores(codec, door):
    decoder = codec.Decoder(U8)
    assert [door(decoder, piece, 0) for piece in (b"\1", b"", b"a\2b", b"c")] == [[]] * 4
    assert (decoder.pending, decoder.needed) == (5, 0)
    with pytest.raises(MisuseError, match="5 bytes are held that were not decoded yet"):
        decoder.finish()
    assert decoder.feed(b"", 1) == [b"a"]
    assert decoder.feed(b"\0", 1) == [b"bc"]
    assert decoder.feed(b"", 9) == [b""]
    decoder.finish()


@pytest.mark.parametrize("max_frames", [-1, -(1 << 80)])
def test_b2_a_negative_max_frames_is_refused_before_a_byte_is_taken(codec, door, max_frames):
    decoder = codec.Decoder(U8)
    with pytest.raises(ValueError, match="max_frames must be None or at least 0, not -"):
        door(decoder, b"\1a", max_frames)
    assert decoder.pending == 0


@each(VECTORS)
def test_b3_the_end_is_clean_at_frame_boundaries_only(codec, vector):
    wire, boundary = vector.wire, 0
    for _, frame in vector.frames:
        for stop in range(boundary, boundary + len(frame)):
            _, error = drive(codec.Decoder(FrameFormat.parse(vector.format)), [wire[:stop]])
            if stop == boundary:
                assert error is None
                continue
            name, attributes, _ = error
            assert (name, attributes["offset"], attributes["pending"]) == ("IncompleteFrameError", boundary, stop - boundary)
            assert stop - boundary < attributes["expected"] <= len(frame)
        boundary += len(frame)


@given(st.data())
def test_b3_needed_is_never_zero_and_never_too_much(codec, data):
    """A reader that reads exactly `needed` bytes each time stops at each frame's end, and never asks past it."""
    fmt = data.draw(formats().filter(limits_in_reach), "format")
    decoder = codec.Decoder(fmt)
    for payload, wire in data.draw(good_streams(fmt), "frames"):
        at, got = 0, []
        while at < len(wire):
            assert 0 < decoder.needed <= len(wire) - at
            assert decoder.pending == at
            stop = at + decoder.needed
            got += decoder.feed(wire[at:stop])
            at = stop
        assert got == [payload]
