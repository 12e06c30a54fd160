"""The sweep of decoding: a row for each size, beside that of the fronts, of decoders that lose nothing."""

import pytest
from chunk_report import FACTS, KIB, MIB

from fastframe._memory import RECEIVE_BLOCK_SIZE
from fastframe._receive import READ_SIZE
from fastframe.bench import chunkdecode, chunks
from fastframe.bench.command import read_json


@pytest.fixture
def short_turns(monkeypatch):
    monkeypatch.setattr(chunks, "TURN_NS", 200_000)
    monkeypatch.setattr(chunks, "measured_facts", lambda: FACTS)


def test_decoding_has_a_row_for_each_size_of_chunks_beside_the_one_of_the_fronts(short_turns, tmp_path, capsys):
    path = tmp_path / "chunks.json"
    arguments = ["--sweeps", "decode", "--frames", "64,1KiB", "--reads", "64,4KiB", "--repetitions", "1", "--json", str(path)]
    assert chunks.main(arguments) == 0
    (report,) = read_json(path)
    cells = [(row["contender"], row["payload"], row["read"]) for row in report["decode"]]
    compiled = [cell for cell in cells if cell[0] == "compiled"]
    assert [cell[1:] for cell in compiled] == [(64, 64), (64, 4 * KIB), (KIB, 64), (KIB, 4 * KIB)]
    assert ("pure", 64, 64) in cells
    assert ("pure", KIB, 64) not in cells
    assert {row["ratio"]["median"] for row in report["decode"] if row["read"] == 4 * KIB} == {1}
    assert report["echo"] == report["transfer"] == report["batch"] == []
    assert "decode compiled" in report["does"]
    assert "where the lines bend" in capsys.readouterr().out


def test_a_decoder_that_loses_something_is_a_failure(short_turns, monkeypatch, capsys):
    monkeypatch.setattr(chunkdecode, "gives_back", lambda *_: False)
    assert chunks.main(["--sweeps", "decode", "--frames", "64", "--reads", "64"]) == 1
    assert "compiled does not give the payloads of 64 bytes" in capsys.readouterr().err


def test_the_base_is_what_the_fronts_read_or_the_nearest_to_it():
    assert chunkdecode.DEFAULT_READ == RECEIVE_BLOCK_SIZE == READ_SIZE
    assert chunkdecode.base_of(chunks.SIZES) == 256 * KIB
    assert chunkdecode.base_of([64, KIB]) == KIB
    assert chunkdecode.base_of([MIB, 4 * MIB]) == MIB
