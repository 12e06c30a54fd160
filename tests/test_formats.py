"""The presets: what real programs said, decoded and encoded back; and what is said of each format."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import logging
import logging.handlers
import pickle
import re
import socket
import ssl
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from golden import GOLDEN
from vectors import by_buffer, by_feed, drive, each, ways_to_cut

from fastframe import FrameFormat, FrameTooLargeError, formats

LIVE = {"tls-record", "python-logging"}  # these have no golden bytes: the real one speaks in a test below
NAMES = list(formats.BY_NAME)
SOURCE = Path(formats.__file__)
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("door", [by_feed, by_buffer])
@each(GOLDEN)
def test_b13_real_bytes_decode_however_they_are_cut(codec, vector, door):
    fmt = FrameFormat.parse(vector.format)
    for pieces in ways_to_cut(vector.wire):
        assert drive(codec.Decoder(fmt), pieces, door) == (vector.payloads, None)


@each(GOLDEN)
def test_b13_payloads_encode_to_the_real_bytes(codec, vector):
    encoder = codec.Encoder(FrameFormat.parse(vector.format))
    assert [encoder.encode(payload) for payload in vector.payloads] == [wire for _, wire in vector.frames]
    assert encoder.encode_many(vector.payloads) == vector.wire


def test_b13_every_format_has_golden_bytes_or_is_tested_live():
    assert {vector.name.partition(":")[0] for vector in GOLDEN} | LIVE == set(NAMES)


def test_b13_tls_records_of_the_ssl_module(codec):
    """A client's hello, and the alert of a server that has no certificate to answer it with."""
    hello, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(answer, hello, server_hostname="example.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    wire = hello.read()
    hello.write(wire)
    with pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(hello, answer, server_side=True).do_handshake()
    wire += answer.read()
    records = codec.Decoder(formats.TLS_RECORD).feed(wire)
    assert [record[0] for record in records] == [22, 21]  # handshake, alert
    assert codec.Encoder(formats.TLS_RECORD).encode_many(records) == wire


def test_b13_multiprocessing_takes_our_frames_and_we_take_its(codec):
    ours, theirs = socket.socketpair()
    with ours, Connection(theirs.detach()) as connection:
        sent = [{"answer": 42}, "x" * 20_000, None]  # longer than 16 KiB: header and object go in two writes
        for value in sent:
            connection.send(value)
        decoder, payloads = codec.Decoder(formats.MULTIPROCESSING), []
        while len(payloads) < len(sent):
            payloads += decoder.feed(ours.recv(4096))
        decoder.finish()
        assert [pickle.loads(payload) for payload in payloads] == sent

        ours.sendall(codec.Encoder(formats.MULTIPROCESSING).encode_many([pickle.dumps(sent[0]), b"raw"]))
        assert (connection.recv(), connection.recv_bytes()) == (sent[0], b"raw")


def test_b13_records_of_the_logging_module(codec):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        handler = logging.handlers.SocketHandler(*listener.getsockname())
        for message in ("first", "second"):
            handler.emit(logging.LogRecord("fastframe", logging.INFO, "", 0, message, None, None))
        handler.close()
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as stream:
            wire = stream.read()
    payloads = codec.Decoder(formats.PYTHON_LOGGING).feed(wire)
    assert [pickle.loads(payload)["msg"] for payload in payloads] == ["first", "second"]
    assert codec.Encoder(formats.PYTHON_LOGGING).encode_many(payloads) == wire


def test_a_frame_over_the_limit_is_refused(codec):
    refused = set()
    for name, fmt in formats.BY_NAME.items():
        length = fmt.max_payload_length + 1
        wider = dataclasses.replace(fmt, initial_bytes_to_strip=None, max_payload_length=length)
        if wider.max_payload_length == length:  # otherwise the length field cannot say it
            with pytest.raises(FrameTooLargeError) as caught:
                codec.Decoder(fmt).feed(codec.Encoder(wider).header(length))
            assert (caught.value.length, caught.value.limit) == (length, fmt.max_payload_length)
            refused.add(name)
    assert {"kafka", "postgresql", "tls-record", "mongodb", "modbus-tcp", "netstring"} <= refused


@pytest.mark.parametrize("name", NAMES)
def test_a_format_comes_back_from_its_texts(name):
    fmt = formats.BY_NAME[name]
    assert FrameFormat.parse(str(fmt)) == fmt == eval(repr(fmt))


def test_by_name_has_every_constant_and_cannot_change():
    constants = {name: value for name, value in vars(formats).items() if isinstance(value, FrameFormat)}
    assert {name.lower().replace("_", "-"): value for name, value in constants.items()} == formats.BY_NAME
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in NAMES)
    with pytest.raises(TypeError):
        formats.BY_NAME["mine"] = FrameFormat()


def test_every_format_is_drawn_and_names_its_source():
    body = ast.parse(SOURCE.read_text(encoding="utf-8")).body
    texts = {
        node.target.id.lower().replace("_", "-"): ast.literal_eval(text.value)
        for node, text in itertools.pairwise(body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(text, ast.Expr)
    }
    for name in NAMES:
        assert re.search(r"`[^`]* \| [^`]*`", texts[name]), f"{name} is not drawn"
        assert re.search(r"https://|RFC \d+", texts[name]), f"{name} names no source"


def test_the_readme_names_every_format():
    section = README.partition("### Formats of real protocols\n")[2].partition("\n#")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", section)) >= set(NAMES)
