"""Who competes: everybody gives the same payloads and frames, and who is missing is named with the reason."""

import sys

import pytest

from fastframe.bench import codec, contenders, workloads
from fastframe.bench.entry import decoded


@pytest.fixture(scope="module")
def found():
    return contenders.find_contenders()


@pytest.mark.parametrize("payload_length", [0, 1, 16, 1020, 1021, 5000])
def test_every_contender_gives_the_payloads_that_went_in(found, payload_length):
    work = workloads.workload(payload_length, 1024, 20_000)
    assert {len(payload) for payload in work.payloads} == {payload_length}
    for contender in found.decode.values():
        pieces = contender.cut(work)
        if pieces is not None:
            assert decoded(contender.start(), pieces) == work.payloads


@pytest.mark.parametrize("payload_length", [1, 16, 1020, 1021, 5000])
def test_every_batch_has_the_payloads_that_went_in(found, payload_length):
    work = workloads.workload(payload_length, 1024, 20_000)
    for contender in found.batch.values():
        pieces = contender.cut(work)
        if pieces is not None:
            assert codec.gives_back(contender.start(), pieces, work.payloads)
            assert not codec.gives_back(contender.start(), pieces, work.payloads[1:])


def test_every_contender_encodes_what_its_wire_says(found):
    payloads = [b"", b"a", bytes(70_000)]
    for contender in found.encode.values():
        assert b"".join(contender.encode(payload) for payload in payloads) == contender.wire(payloads)
        assert contender.encode_many(payloads) == contender.wire(payloads)


def test_kinds_and_order(found):
    kinds = {name: contender.kind for name, contender in found.decode.items()}
    assert kinds["pure"] == "ours"
    assert {name for name, kind in kinds.items() if kind == "python"} == {
        "Twisted",
        "asyncio streams",
        "by hand, rolling",
        "by hand, direct",
    }
    if "limit" in kinds:
        assert [next(iter(table)) for table in (found.decode, found.batch, found.encode)] == ["limit", "walk", "limit"]


def test_everybody_says_what_it_does_in_a_line(found):
    does = found.does()
    assert list(does) == list(found.kinds())
    assert all(text and "\n" not in text and not text.endswith(".") for text in does.values())
    assert "Unpacker" in does["msgpack"]
    assert "Packer" in does["msgpack"]
    assert ("Python" in does["pure"], "Cython" in does["pure"]) == (True, False)


def test_without_the_extension_the_pure_codec_competes_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastframe._codec_c", None)
    left_out = []
    assert list(contenders.find_codecs(left_out)) == ["pure"]
    assert len(left_out) == 1
    assert left_out[0].startswith("compiled: ")
