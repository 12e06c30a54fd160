"""`fastframe bench chunks` as a user runs it: real ends, figures with names, and what is asked wrongly."""

import pytest
from chunk_report import FACTS, KIB, MIB, made_up

from fastframe.bench import chunkecho, chunks
from fastframe.bench.command import read_json


def test_each_figure_has_a_name_of_its_own():
    report = made_up()
    figures = list(chunks.figures(report))
    assert len({figure.name for figure in figures}) == len(figures) == sum(map(len, (report[sweep] for sweep in chunks.SWEEPS)))
    assert figures[0].name == "decode, 64 B, reads of 64 B, compiled"
    assert figures[-1].name == "batch, 64 B, 256 in a call, send_many"
    assert figures[0].ratio == (0.9, 1, 1.1)


@pytest.mark.parametrize("arguments", [["--sweeps", "nothing"], ["--frames", "0"], ["--reads", "17MiB"]])
def test_what_is_asked_wrongly_gets_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        chunks.main(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.contenders
def test_real_ends_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(chunks, "QUICK_TURN_NS", 1_000_000)
    monkeypatch.setattr(chunks, "QUICK_BATCHES", (1, 16))
    monkeypatch.setattr(chunks, "measured_facts", lambda: FACTS)
    path = tmp_path / "chunks.json"
    sizes = ["--frames", "64,64KiB", "--reads", "4KiB,1MiB", "--sweeps", "echo,transfer,batch"]
    assert chunks.main(["--quick", *sizes, "--repetitions", "2", "--json", str(path), "--markdown", str(tmp_path)]) == 0
    (report,) = read_json(path)
    ways = [name for name in chunkecho.WAYS if f"echo {name}" in report["contenders"]]
    assert {(row["contender"], row["payload"], row["read"]) for row in report["echo"]} == {
        (way, payload, read)
        for way in ways
        for payload in (64, 64 * KIB)
        for read in (4 * KIB, MIB)
        if read <= chunkecho.WAYS[way].most
    }
    assert {row["contender"] for row in report["transfer"]} == {"get_buffer", "feed"}
    assert all(row["sender_ns"]["median"] > 0 < row["receiver_ns"]["median"] for row in report["transfer"])
    assert [(row["payload"], row["batch"]) for row in report["batch"]] == [(64, 1), (64, 16), (KIB, 1), (KIB, 16)]
    assert "## Where the lines bend" in (tmp_path / "benchmarks-chunks.md").read_text()
