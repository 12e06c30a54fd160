"""The adapters of other projects' decoders: each gives the payloads back, or is left out with a reason in one line."""

import re
import sys

import msgpack
import pytest

from fastframe.bench import peers, workloads
from fastframe.bench.entry import Contenders, decoded

MODULES = {"msgpack": "msgpack", "hiredis": "hiredis", "picows": "picows", "Twisted": "twisted.protocols.basic"}
PEERS = pytest.mark.parametrize(("name", "start", "wire"), [(name, start, wire) for name, _, start, wire in peers.PEERS])


def found_peers():
    found = Contenders({}, {}, {}, {}, [])
    peers.add_peers(found)
    return found


@PEERS
@pytest.mark.parametrize("payload_length", [0, 1, 125, 126, 255, 256, 5000, 65535, 65536, 300_000])
@pytest.mark.parametrize("chunk_size", [100, 1024, 70_000])
def test_payloads_come_back(name, start, wire, payload_length, chunk_size):
    work = workloads.workload(payload_length, chunk_size, 1000)
    feed = start()
    for _ in range(2):  # a benchmark goes on with the same decoder
        assert decoded(feed, workloads.cut(wire(work.payloads), chunk_size)) == work.payloads


@PEERS
def test_payloads_of_different_lengths_come_back_byte_by_byte(name, start, wire):
    payloads = [b"", b"a", bytes(range(256)), b"", b"bc"]
    assert decoded(start(), workloads.cut(wire(payloads), 1)) == payloads


def test_the_wire_of_msgpack_is_what_it_packs():
    payloads = [bytes(length) for length in (0, 255, 256, 65535, 65536)]
    assert peers.msgpack_wire(payloads) == b"".join(map(msgpack.packb, payloads))
    encoder = peers.msgpack_encoder()
    assert encoder.encode_many(payloads) == encoder.wire(payloads)


def test_all_take_part_here_with_their_versions():
    found = found_peers()
    assert found.left_out == []
    assert list(found.decode) == list(found.versions) == list(MODULES)
    assert all(version[0].isdigit() for version in found.versions.values())
    assert list(found.encode) == ["msgpack"]


@pytest.mark.parametrize(("name", "module"), MODULES.items())
def test_one_that_is_not_installed_is_left_out_in_one_line(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    found = found_peers()
    assert found.left_out == [f"{name}: {module} is not installed; the extra `bench` brings it"]
    assert name not in found.decode
    assert name not in found.versions


def broken():
    raise AttributeError("no such\nmethod")


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (broken, r"^msgpack: \d\S+ fails with AttributeError: no such method$"),
        (lambda: lambda chunk: [], r"^msgpack: \d\S+ does not give the payloads that went in$"),
    ],
)
def test_one_that_cannot_be_driven_is_left_out_in_one_line(start, reason, monkeypatch):
    monkeypatch.setattr(peers, "PEERS", (("msgpack", "compiled", start, peers.msgpack_wire),))
    found = found_peers()
    assert not found.decode
    (said,) = found.left_out
    assert re.match(reason, said)
