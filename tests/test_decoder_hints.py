"""What a decoder says of a stream that was bad from the start; the vectors named b12 show it however they are cut."""

from __future__ import annotations

import pytest
from vectors import drive, ways_to_cut

from fastframe import FrameFormat, FrameTooLargeError

U32 = FrameFormat("u32be")

STRANGERS = {
    "http": (b"GET / HTTP/1.1\r\n", 0x47455420, "it looks like an HTTP request"),
    "tls": (
        bytes.fromhex("1603010200010001fc0303"),
        0x16030102,
        "it looks like a TLS handshake record: the peer speaks TLS, this side does not",
    ),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", 0x5353482D, "it looks like an SSH banner"),
    "order": (b"\5\0\0\0hello", 0x05000000, "in the other byte order (little-endian) the length would be 5"),
}


@pytest.mark.parametrize(("wire", "length", "hint"), STRANGERS.values(), ids=STRANGERS)
def test_b12_a_batch_and_a_failed_decoder_say_it_too(codec, wire, length, hint):
    decoder = codec.Decoder(U32)
    for call in (decoder.feed_batch, decoder.feed, decoder.feed_batch):
        with pytest.raises(FrameTooLargeError) as caught:
            call(wire)
        assert (caught.value.hint, caught.value.frames) == (hint, [])


@pytest.mark.parametrize(("wire", "length", "hint"), STRANGERS.values(), ids=STRANGERS)
def test_b12_behind_a_good_frame_nothing_is_guessed(codec, door, wire, length, hint):
    text = f"a frame of {length} bytes is over the limit of 16777216 (frame at offset 4)"
    for pieces in ways_to_cut(b"\0\0\0\0" + wire):
        payloads, (_, attributes, said) = drive(codec.Decoder(U32), pieces, door)
        assert (payloads, attributes, said) == ([b""], {"length": length, "limit": 16 << 20, "offset": 4}, text)


def test_b12_a_stream_that_ends_inside_its_first_header_is_guessed_at_too(codec, door):
    for wire, hint in ((b"GET", "it looks like an HTTP request"), (b"GE", None), (b"\5\0\0", None), (b"\0\0\0\5hel", None)):
        for pieces in ways_to_cut(wire):
            _, (name, attributes, _) = drive(codec.Decoder(U32), pieces, door)
            assert (name, attributes.get("hint")) == ("IncompleteFrameError", hint)
