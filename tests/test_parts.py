import pytest
from vectors import frame

from fastframe import FrameError, FrameFormat, FrameTooLargeError
from fastframe._parts import GATHER_SIZE, batch_of, encode_joined_parts, encode_many_parts, encode_parts

LARGE = bytes(GATHER_SIZE)


def test_a_large_payload_stays_the_object_it_is(codec):
    header, payload = encode_parts(codec.Encoder(FrameFormat()), LARGE)
    assert payload is LARGE
    assert header + payload == frame(LARGE)


@pytest.mark.parametrize(
    "payload", [b"", LARGE[1:], bytearray(LARGE), memoryview(LARGE)], ids=["empty", "small", "mutable", "view"]
)
def test_what_is_small_or_might_change_is_copied(codec, payload):
    assert encode_parts(codec.Encoder(FrameFormat()), payload) == [frame(bytes(payload))]


@pytest.mark.parametrize("collect", [list, tuple, iter])
@pytest.mark.parametrize("payloads", [[], [b"a", b"b"], [b"a", LARGE, b"b"]], ids=["none", "small", "mixed"])
def test_many_parts_are_the_frames_in_order(codec, collect, payloads):
    assert b"".join(encode_many_parts(codec.Encoder(FrameFormat()), collect(payloads))) == b"".join(map(frame, payloads))


@pytest.mark.parametrize("collect", [list, iter])
def test_a_payload_over_the_limit_refuses_the_whole_batch(codec, collect):
    encoder = codec.Encoder(FrameFormat(max_payload_length=GATHER_SIZE))
    with pytest.raises(FrameTooLargeError):
        encode_many_parts(encoder, collect([b"good", LARGE, LARGE + b"x"]))


@pytest.mark.parametrize("payloads", [[], [b"a"], [b"a", b"", LARGE]], ids=["none", "one", "mixed"])
@pytest.mark.parametrize("text", ["u32be", "u16be,offset=2,leading=cafe,max=64KiB", "netstring", "u32le,adjust=-4,strip=0"])
def test_payloads_become_a_batch_whose_wire_is_what_the_encoder_writes(codec, payloads, text):
    fmt = FrameFormat.parse(text)
    payloads = [payload[: fmt.max_payload_length - 4] for payload in payloads]
    if fmt.initial_bytes_to_strip == 0:
        payloads = [(4 + len(payload)).to_bytes(4, "little") + payload for payload in payloads]
    batch = batch_of(fmt, payloads)
    assert list(batch) == payloads
    assert batch.wire == codec.Encoder(fmt).encode_many(payloads)


@pytest.mark.parametrize("text", ["u32be,strip=0", "u16le,offset=2,strip=1", "varint,offset=1,strip=1"])
def test_a_large_payload_that_brings_a_wrong_length_field_is_refused(codec, text):
    encoder = codec.Encoder(FrameFormat.parse(f"{text},max=1MiB"))
    wrong = b"\1\1\1\1" + bytes(2 * GATHER_SIZE)
    with pytest.raises(FrameError) as expected:
        encoder.encode(wrong)
    for call, argument in ((encode_parts, wrong), (encode_many_parts, [wrong])):
        with pytest.raises(FrameError) as caught:
            call(encoder, argument)
        assert str(caught.value) == str(expected.value)


def test_a_large_netstring_is_not_copied_and_has_its_comma(codec):
    payload = bytes(GATHER_SIZE)
    header, same, comma = encode_parts(codec.Encoder(FrameFormat("netstring")), payload)
    assert (header, same is payload, comma) == (b"%d:" % GATHER_SIZE, True, b",")


def test_of_the_pieces_of_a_payload_only_large_ones_that_cannot_change_stay_apart(codec):
    view, wide = memoryview(LARGE + b"x")[1:], memoryview(LARGE).cast("I")
    pieces = [b"head", LARGE, bytearray(LARGE), view, wide, b""]
    header, *parts, comma = encode_joined_parts(codec.Encoder(FrameFormat("netstring")), pieces)
    view.release()
    assert (
        header + b"".join(parts) + comma
        == b"%d:" % (4 * len(LARGE) + 4) + b"head" + 2 * LARGE + LARGE[1:] + b"x" + LARGE + comma
    )
    assert parts[1] is LARGE
    assert [type(part) for part in parts[2:]] == [bytes, memoryview, bytes]
    assert parts[3].obj is not None


def test_small_pieces_cost_one_part(codec):
    assert encode_joined_parts(codec.Encoder(FrameFormat()), (b"a", b"b")) == [frame(b"ab")]
