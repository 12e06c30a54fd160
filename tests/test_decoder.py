"""What decodes to what, by the rows of the contract, with every implementation; `test_agreement.py` compares them.

The rows about stopping, lent memory, costs, hints and misuse are in the modules `test_decoder_*.py`.
"""

from __future__ import annotations

import array
import copy
import ctypes
import mmap
import pickle
import sys
import tracemalloc

import pytest
from vectors import BAD_VECTORS, HEADERS, SKIP_VECTORS, VECTORS, drive, each, ways_to_cut

from fastframe import FrameError, FrameFormat, FrameTooLargeError, IncompleteFrameError, MisuseError

U8, U32 = FrameFormat("u8"), FrameFormat("u32be")
MOST = sys.maxsize >> 1  # of all limits
SECRET = bytes(range(0x41, 0x5D))  # 28 bytes, no three of which stand in any sentence


# Vectors


@each(VECTORS)
def test_a_stream_decodes_however_it_is_cut(codec, door, vector):
    fmt = FrameFormat.parse(vector.format)
    for pieces in ways_to_cut(vector.wire):
        assert drive(codec.Decoder(fmt), pieces, door) == (vector.payloads, None)


@each(BAD_VECTORS)
def test_a_bad_stream_fails_alike_however_it_is_cut(codec, door, vector):
    fmt = FrameFormat.parse(vector.format)
    for pieces in ways_to_cut(vector.wire):
        error = vector.error, vector.attributes, vector.text
        assert drive(codec.Decoder(fmt), pieces, door) == (vector.payloads, error)


@each([vector for vector in BAD_VECTORS if vector.error != "IncompleteFrameError"])
def test_a_bad_stream_fails_at_the_earliest_byte(codec, vector):
    """And at that byte however much follows."""
    earliest = []
    for most in range(1, len(vector.wire) + 1):
        decoder = codec.Decoder(FrameFormat.parse(vector.format))
        _, error = drive(decoder, [vector.wire[:most]], end=False)
        earliest += [most] if error else []
    assert earliest == list(range(earliest[0], len(vector.wire) + 1))
    decoder = codec.Decoder(FrameFormat.parse(vector.format))
    drive(decoder, [vector.wire[: earliest[0] - 1]], end=False)
    assert decoder.needed == 1


@each(VECTORS)
def test_trailing_bytes_stay_pending(codec, vector):
    for behind in (b"\x80", b"3", b"\0"):
        decoder = codec.Decoder(FrameFormat.parse(vector.format))
        payloads = decoder.feed(vector.wire + behind, len(vector.frames))
        assert (payloads, decoder.pending, decoder.detach()) == (vector.payloads, 1, behind)


@each(SKIP_VECTORS)
def test_a8_oversize_frames_are_skipped_however_cut(codec, door, vector):
    fmt = FrameFormat.parse(vector.format)
    for pieces in ways_to_cut(vector.wire):
        decoder = codec.Decoder(fmt, on_oversize="skip")
        assert drive(decoder, pieces, door) == (vector.payloads, None)
        assert decoder.skipped == vector.skipped


@each(VECTORS)
def test_a_corrupt_frame_never_raises_anything_else(codec, vector):
    """One byte changed, anywhere, to what breaks most."""
    fmt = FrameFormat.parse(vector.format)
    for at in range(min(len(vector.wire), 40)):
        for byte in b"\x00\x01\x7f\x80\xff0:,":
            wire = vector.wire[:at] + bytes([byte]) + vector.wire[at + 1 :]
            _, error = drive(codec.Decoder(fmt), [wire])
            assert error is None or error[0] in {kind.__name__ for kind in FrameError.__subclasses__()}


# A: what the others have


@pytest.mark.parametrize(("field", "length", "wire"), HEADERS)
def test_a1_every_byte_of_the_length_field_counts(codec, field, length, wire):
    if length > 1:
        fmt = FrameFormat(field, max_payload_length=1)
        _, (_, attributes, _) = drive(codec.Decoder(fmt), [bytes.fromhex(wire)])
        assert attributes == {"length": length, "limit": 1, "offset": 0}
    decoder = codec.Decoder(FrameFormat(field, max_payload_length=MOST))
    assert decoder.feed(bytes.fromhex(wire)) == []
    assert decoder.needed == length + (field == "netstring")


def test_a4_what_stands_before_the_length_field_is_not_looked_at(codec):
    fmt = FrameFormat("u16be", length_field_offset=2, leading=b"\xca\xfe")
    assert codec.Decoder(fmt).feed(b"\x12\x34\0\1a") == [b"a"]


def test_a6_what_is_stripped_behind_the_header_is_not_looked_at(codec):
    assert codec.Decoder(FrameFormat("u8", initial_bytes_to_strip=3)).feed(b"\3xya\2xy") == [b"a", b""]


def test_a7_the_limit_is_inclusive_and_counts_what_follows_the_length_field(codec):
    fmt = FrameFormat("u8", length_adjustment=2, initial_bytes_to_strip=0, max_payload_length=5)
    assert codec.Decoder(fmt).feed(b"\3abcde") == [b"\3abcde"]
    with pytest.raises(FrameTooLargeError) as caught:
        codec.Decoder(fmt).feed(b"\4")
    assert (caught.value.length, caught.value.limit) == (6, 5)


def test_a7_the_default_limit_is_16_mib(codec):
    assert codec.Decoder(U32).feed((16 << 20).to_bytes(4)) == []
    with pytest.raises(FrameTooLargeError):
        codec.Decoder(U32).feed(((16 << 20) + 1).to_bytes(4))


@pytest.mark.parametrize("header", ["ff" * 8, "8000000000000005", "7fffffffffffffff", "0000000100000005"])
def test_a8_skips_a_frame_of_any_length_in_no_memory(codec, header):
    decoder = codec.Decoder(FrameFormat("u64be"), on_oversize="skip")
    decoder.feed(bytes.fromhex("0000000000000000" + header))
    tracemalloc.start()
    for _ in range(64):
        assert decoder.feed(bytes(1 << 20)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20
    length = int(header, 16)
    assert (decoder.skipped, decoder.pending, decoder.needed) == (1, 0, length - (64 << 20))
    with pytest.raises(IncompleteFrameError) as caught:
        decoder.finish()
    assert (caught.value.pending, caught.value.expected, caught.value.offset) == ((64 << 20) + 8, length + 8, 8)


def test_a8_each_skipped_frame_is_counted_once_when_its_header_is_read(codec):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=2), on_oversize="skip")
    counts = [(decoder.feed(bytes([byte])), decoder.skipped) for byte in b"\3abc\1a\4abcd"]
    assert counts == [([], 1)] * 5 + [([b"a"], 1)] + [([], 2)] * 5


def test_a8_a_good_frame_on_either_side_comes_out_of_the_same_call(codec):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=2), on_oversize="skip")
    assert decoder.feed(b"\1a\3abc\1b\3abc\1c", max_frames=2) == [b"a", b"b"]
    assert decoder.feed(b"") == [b"c"]


def test_a8_a_skipped_frame_counts_in_the_offset_of_an_error_behind_it(codec):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=2), on_oversize="skip")
    assert drive(decoder, [b"\1a\3ab", b"c\2a"])[1][1] == {"pending": 2, "expected": 3, "offset": 6}


def test_a8_another_word_is_refused(codec):
    with pytest.raises(ValueError, match="on_oversize must be 'raise' or 'skip', not 'drop'"):
        codec.Decoder(U8, "drop")


def test_a9_zero_length_frames_are_delivered(codec, door):
    assert door(codec.Decoder(U32), bytes(4 * 1000)) == [b""] * 1000


def memory_mapped(data):
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    return memory


class MyBytes(bytes):
    pass


WIRE = b"\0\0\0\4abcd\0\0\0\0"  # a whole number of machine words
CONTAINERS = {
    "bytes": bytes,
    "subclass": MyBytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "slice": lambda wire: memoryview(b"x" + wire + b"x")[1:-1],
    "array": lambda wire: array.array("I", wire),
    "mmap": memory_mapped,
    "ctypes": (ctypes.c_int32 * 3).from_buffer_copy,
    "two-dimensional": lambda wire: memoryview(wire).cast("B", (3, 4)),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_a10_takes_any_contiguous_buffer(codec, container):
    payloads = codec.Decoder(U32).feed(container(WIRE))
    assert payloads == [b"abcd", b""]
    assert [type(payload) for payload in payloads] == [bytes, bytes]


@pytest.mark.parametrize("chunk", ["\0\0\0\0", None, 4, [0, 0], object()])
def test_a10_refuses_what_is_no_buffer(codec, chunk):
    decoder = codec.Decoder(U32)
    with pytest.raises(TypeError, match=f"a bytes-like object is required, not '{type(chunk).__name__}'"):
        decoder.feed(chunk)
    assert decoder.feed(WIRE) == [b"abcd", b""]


@pytest.mark.parametrize("chunk", [memoryview(WIRE)[::2], memoryview(WIRE)[::-1]])
def test_a10_refuses_a_buffer_with_gaps(codec, chunk):
    with pytest.raises(BufferError, match="a contiguous buffer is required, and this one has gaps"):
        codec.Decoder(U32).feed(chunk)


@pytest.mark.parametrize("max_frames", [None, 0, 1])
@pytest.mark.parametrize("wire", [b"\1a\2bc\2d", b"\1a\3abc\1b"])
def test_a10_the_chunk_is_not_kept(codec, wire, max_frames):
    """A caller may change it, and resize it, as soon as the call is over: after an error too."""
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=2))
    chunk = bytearray(wire)
    payloads, error = drive(decoder, [chunk], lambda decoder, chunk: decoder.feed(chunk, max_frames), end=False)
    chunk[:] = b"?" * len(chunk)
    chunk.clear()
    assert b"?" not in b"".join(payloads)
    assert b"?" not in decoder.detach()
    assert (error is not None) == (wire[2:] == b"\3abc\1b" and max_frames is None)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a12_a_decoder_is_not_copied(codec, duplicate):
    with pytest.raises(TypeError, match="a Decoder cannot be copied or pickled"):
        duplicate(codec.Decoder(U8))


def test_a13_the_repr_says_state_and_numbers(codec):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=9), on_oversize="skip")
    says = "<Decoder u8,max=9: {}, pending={}, needed={}, offset={}, skipped={}>"
    assert repr(decoder) == says.format("header", 0, 1, 0, 0)
    decoder.feed(b"\1a\3b")
    assert repr(decoder) == says.format("payload", 2, 2, 2, 0)
    decoder.feed(b"cd\xffa")
    assert repr(decoder) == says.format("skip", 0, 254, 6, 1)
    with pytest.raises(IncompleteFrameError):
        decoder.finish()
    assert repr(decoder) == says.format("failed", 0, 0, 6, 1)
    finished, detached = codec.Decoder(FrameFormat("varint")), codec.Decoder(FrameFormat("netstring", max_payload_length=9))
    finished.finish()
    assert repr(finished) == "<Decoder varint,max=16MiB: finished, pending=0, needed=0, offset=0, skipped=0>"
    detached.feed(b"1")
    detached.detach()
    assert repr(detached) == "<Decoder netstring,max=9: detached, pending=0, needed=0, offset=0, skipped=0>"


@pytest.mark.parametrize("most", [None, 0, 1])
@pytest.mark.parametrize("behind", [b"", b"\x1c" + SECRET[:9], b"\xff" + SECRET])
def test_a13_neither_repr_nor_error_shows_a_payload(codec, behind, most):
    decoder = codec.Decoder(FrameFormat("u8", max_payload_length=28))
    errors = []
    for call in (lambda: decoder.feed(b"\x1c" + SECRET + behind, most), decoder.finish, decoder.finish):
        try:
            call()
        except (FrameError, MisuseError) as error:
            errors.append(error)
    says = "".join([repr(decoder), str(decoder), *map(str, errors), *map(repr, errors)])
    assert not any(SECRET[at : at + 3].decode() in says for at in range(len(SECRET) - 2))
