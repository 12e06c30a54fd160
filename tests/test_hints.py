"""What a refused header is taken for, and what is no reason to guess."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import formats as any_format

from fastframe import FrameError, FrameFormat, formats
from fastframe._hints import LOOKS, MIN_GUESS, hint

TLS = "it looks like a TLS handshake record: the peer speaks TLS, this side does not"
ALERT = "it looks like a TLS alert: the peer speaks TLS, this side does not"
REQUEST = "it looks like an HTTP request"
PROXY = "it looks like a PROXY protocol header: a load balancer stands in front and tells the client's address"
GREETING = "it looks like the greeting of an SMTP or FTP server"
REDIS = "it looks like a Redis command"
REPLY = "it looks like the reply of a Redis or POP3 server"

# (what a peer sends first, what it is taken for)
FIRST_BYTES = [
    (bytes.fromhex("1603010200010001fc0303"), TLS),
    (bytes.fromhex("16030000c6010000c20303"), TLS),
    (bytes.fromhex("16030300c6010000c20303"), TLS),
    (bytes.fromhex("1503030002022800000000"), ALERT),
    (b"CONNECT example.com:443 HTTP/1.1\r\n", REQUEST),
    (b"DELETE /1 HTTP/1.1\r\n", REQUEST),
    (b"GET / HTTP/1.1\r\n", REQUEST),
    (b"HEAD / HTTP/1.1\r\n", REQUEST),
    (b"OPTIONS * HTTP/1.1\r\n", REQUEST),
    (b"PATCH /1 HTTP/1.1\r\n", REQUEST),
    (b"POST /1 HTTP/1.1\r\n", REQUEST),
    (b"PUT /1 HTTP/1.1\r\n", REQUEST),
    (b"TRACE / HTTP/1.1\r\n", REQUEST),
    (b"HTTP/1.1 400 Bad Request\r\n", "it looks like an HTTP response"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "it looks like an HTTP/2 connection preface"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "it looks like an SSH banner"),
    (b"220 mail.example.com ESMTP\r\n", GREETING),
    (b"220-Welcome\r\n", GREETING),
    (b"*1\r\n$4\r\nPING\r\n", REDIS),
    (b"*9\r\n$4\r\nMGET\r\n", REDIS),
    (b"PING\r\nPING\r\n", REDIS),
    (b"+OK\r\n+OK\r\n+OK", REPLY),
    (b"-ERR unknown command\r\n", REPLY),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", PROXY),
    (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", PROXY),
]
IDS = [repr(first[:8]) for first, _ in FIRST_BYTES]

# Headers of 3 to 20 bytes, the length first, in the middle and last, either way round.
SHAPES = ["u24be", "u32be", "u32le", "i32be", "u64be", "u64le", "u16be,offset=3", "u32be,offset=5", "u32le,offset=16"]


@pytest.mark.parametrize(("first", "says"), FIRST_BYTES, ids=IDS)
def test_b12_another_protocol_is_named_whatever_the_header_looks_like(first, says):
    for fmt in map(FrameFormat.parse, SHAPES):
        assert hint(fmt, first[: fmt.header_length]) == says, fmt


@pytest.mark.parametrize(("first", "says"), FIRST_BYTES, ids=IDS)
def test_b12_it_takes_three_bytes_to_name_a_protocol(first, says):
    for length in range(len(first)):
        assert hint(FrameFormat("varint"), first[:length]) == (says if length >= MIN_GUESS else None)


def test_b12_every_first_byte_of_the_table_is_shown_above():
    assert {f"it looks like {what}" for _, what in LOOKS} == {says for _, says in FIRST_BYTES}
    assert all(len(start) >= MIN_GUESS for start, _ in LOOKS)


@pytest.mark.parametrize("first", [first for first, _ in FIRST_BYTES], ids=IDS)
def test_b12_the_decoder_has_read_enough_when_it_refuses(codec, first):
    """Not in a netstring, which may stop at the first byte, nor where such a length is fine."""
    fmt = FrameFormat("u32be")
    with pytest.raises(FrameError):
        codec.Decoder(fmt).feed(first[: fmt.header_length])
    assert hint(fmt, first[: fmt.header_length])


# (format, header, length in the other order)
OTHER_ORDER = [
    ("u32be", "05000000", "in the other byte order (little-endian) the length would be 5"),
    ("u32le", "00000005", "in the other byte order (big-endian) the length would be 5"),
    ("u16be,max=1KiB", "0900", "in the other byte order (little-endian) the length would be 9"),
    ("i32be", "ff000000", "in the other byte order (little-endian) the length would be 255"),
    ("u64be", "0001000000000000", "in the other byte order (little-endian) the length would be 256"),
    ("u32be,offset=1,adjust=-4", "51 18000000", "in the other byte order (little-endian) the length would be 20"),
    ("u16le,offset=2,adjust=-4,strip=0,max=99", "0100 0008", "in the other byte order (big-endian) the length would be 4"),
    ("u24be,adjust=6,max=16390", "120000", "in the other byte order (little-endian) the length would be 24"),
]


@pytest.mark.parametrize(("text", "header", "says"), OTHER_ORDER)
def test_b12_the_other_byte_order_is_named_if_it_gives_a_length_that_fits(text, header, says):
    assert hint(FrameFormat.parse(text), bytes.fromhex(header)) == says


# (format, header, why it says nothing)
NO_HINT = [
    ("u32be", "00000005", "the length is fine as it is written"),
    ("u16be", "0105", "so is this one, both ways"),
    ("u32be", "ff0000ff", "too large both ways"),
    ("u32be", "050000", "the header is not complete"),
    ("u32be", "", "there is no header"),
    ("u8", "ff", "one byte has no order"),
    ("u8,max=9", "ff", "one byte has no order"),
    ("i16be", "80ff", "negative both ways"),
    ("i16le,adjust=300,max=1KiB", "7fff", "too large one way, negative the other, though what follows would not be"),
    ("u16be,adjust=-4,max=9", "0300", "too little to cover the header in the other order"),
    ("u16be,max=1KiB", "4745", "two letters may be a length"),
    ("u16be,max=512", "1603", "two bytes of TLS may be one too"),
    ("varint", "ffffff", "a varint has one order"),
    ("netstring", "78", "a netstring has no order"),
    ("u32be", "16030505", "there is no such version of TLS"),
    ("u32be", b"get ".hex(), "HTTP's methods are upper case"),
]


@pytest.mark.parametrize(("text", "header", "why"), NO_HINT)
def test_b12_nothing_is_said_without_a_reason(text, header, why):
    assert hint(FrameFormat.parse(text), bytes.fromhex(header)) is None, why


def test_b12_another_protocol_goes_before_the_other_order():
    fmt = FrameFormat("u32be", max_payload_length=1 << 30)
    assert hint(fmt, b"PRI ") == "it looks like an HTTP/2 connection preface"
    assert hint(formats.POSTGRESQL_STARTUP, bytes.fromhex("16030100")) == TLS


@given(any_format(), st.binary(max_size=300))
def test_b12_any_header_of_any_format_gives_a_clause_or_nothing(fmt, header):
    says = hint(fmt, header)
    assert says is None or says.startswith(("it looks like ", "in the other byte order ("))


@given(any_format(), st.data())
def test_b12_what_an_encoder_writes_is_never_said_to_be_in_the_other_order(codec, fmt, data):
    assume(fmt.kind == "fixed" and fmt.initial_bytes_to_strip >= fmt.header_length)
    encoder = codec.Encoder(fmt)
    beyond = fmt.initial_bytes_to_strip - fmt.header_length
    length = data.draw(st.integers(fmt.min_payload_length - beyond, fmt.max_payload_length - beyond))
    header = encoder.header(length)[: fmt.header_length]
    assert not (hint(fmt, header) or "").startswith("in the other")
