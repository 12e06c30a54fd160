"""`fastframe bench transfer` as a user runs it, with a small file; what it leaves behind, also when it is ended: nothing."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from commanding import alive, eventually, mark

from fastframe.bench import transfer, transfers
from fastframe.bench.accounts import Use
from fastframe.bench.command import parse, read_json
from fastframe.bench.entry import BenchError, LeftOutError
from fastframe.bench.pairs import Turn

TINY = ["--size", "300KiB", "--chunks", "4KiB,1MiB", "--repetitions", "2"]


class Wrong:
    """One that says that it has carried what it has not."""

    def __init__(self, error=None):
        self.error = error

    def run(self, job):
        if self.error:
            raise BenchError(self.error)
        return Turn(1, Use(1, 1, 1), Use(1, 1, 1))


class Tired:
    """One that does its warm-up and a turn, and no more."""

    def __init__(self):
        self.left = 2

    def run(self, job):
        if not self.left:
            raise BenchError("the third is too much")
        self.left -= 1
        return Turn(1, Use(1, 1, 1), Use(1, 1, 1))


def enter(monkeypatch, name, kind, runner, **changes):
    start = lambda *_: contextlib.nullcontext(runner)  # noqa: E731
    monkeypatch.setitem(transfers.CONTENDERS, name, transfers.Contender(kind, start, "", **changes))


def missing(*_):
    raise LeftOutError("not here")


@pytest.mark.contenders
def test_they_take_turns_and_the_report_has_it_all(tmp_path, capsys):
    path, page, place = tmp_path / "transfer.json", tmp_path / "benchmarks-transfer.md", tmp_path / "place"
    place.mkdir()
    arguments = [*TINY, "--only", "socat,loop", "--dir", str(place), "--json", str(path), "--markdown", str(tmp_path)]
    assert transfer.main(arguments) == 0
    (report,) = read_json(path)
    assert report["contenders"]["sendfile"] == "base"
    assert report["settings"]["file"] == f"300 KiB in {place}"
    rows = [row for row in report["transfer"] if row["label"] == "loop"]
    assert {(row["direction"], row["sink"], row["chunk"]) for row in rows} == {
        (direction, sink, chunk) for direction in ("get", "put") for sink in ("file", "null") for chunk in (4096, 1 << 20)
    }
    for row in report["transfer"]:
        assert 0 < row["ns"]["lower"] <= row["ns"]["upper"]
        assert row["bytes"] == 300 << 10
        assert row["ratio"]["sendfile"]["median"] > 0
        assert row["server"]["cpu_ns"]["median"] > 0
        assert row["cpu_ratio"]["sendfile"]["median"] > 0
    assert set(report["does"]) == {"sendfile", "socat", "loop"}
    assert not list(place.iterdir())
    assert "put and forget, by size of a chunk" in capsys.readouterr().out
    assert "## Get into a file" in page.read_text()


@pytest.mark.contenders
def test_who_is_missing_or_wrong_is_left_out_with_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(transfers.CONTENDERS, "absent", transfers.Contender("python", missing, ""))
    enter(monkeypatch, "liar", "python", Wrong())
    enter(monkeypatch, "failing", "python", Wrong("it is full"), ways=(("put", "file"),))
    path = tmp_path / "transfer.json"
    arguments = [*TINY, "--only", "absent,liar,failing", "--dir", str(tmp_path), "--json", str(path)]
    assert transfer.main(arguments) == 0
    (report,) = read_json(path)
    assert report["left_out"] == [
        "absent: not here",
        "liar, everybody: get, file: none of 307200 bytes arrived",
        "liar, everybody: put, file: none of 307200 bytes arrived",
        "failing, everybody: put, file: it is full",
    ]
    assert "left out: absent: not here" in capsys.readouterr().out


def test_who_fails_in_a_later_turn_is_left_out_of_the_cell(tmp_path, monkeypatch):
    enter(monkeypatch, "tired", "python", Tired(), ways=(("put", "null"),))
    path = tmp_path / "transfer.json"
    assert transfer.main([*TINY, "--only", "tired", "--dir", str(tmp_path), "--json", str(path)]) == 0
    (report,) = read_json(path)
    assert report["left_out"] == ["tired, everybody: put, null: the third is too much"]
    assert {row["label"] for row in report["transfer"]} == {"sendfile"}


def test_a_failure_of_ours_is_a_failure(tmp_path, monkeypatch, capsys):
    enter(monkeypatch, "mine", "ours", Wrong("it is torn"), chunked=True, digests=("none", "md5"))
    assert transfer.main([*TINY, "--only", "mine", "--dir", str(tmp_path)]) == 1
    assert "fastframe bench transfer: mine, everybody: get, file: it is torn" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_is_sent_with_each_digest_and_chunk_that_a_contender_knows(monkeypatch):
    enter(monkeypatch, "mine", "ours", None, chunked=True, digests=("none", "md5", "sha256"))
    heats = list(transfer.heats(["sendfile", "socat", "loop", "mine"], 100, [1024]))
    labels = {(heat.table, heat.direction, heat.sink): list(heat.entries) for heat in heats}
    assert labels["everybody", "get", "file"] == ["sendfile", "socat", "mine", "mine sha256"]
    assert labels["chunks", "get", "file"] == ["sendfile", "loop", "mine", "mine sha256"]
    assert labels["chunks", "get", "null"] == ["sendfile", "loop"]
    assert labels["digests", "put", "file"] == ["sendfile", "socat", "mine", "mine md5", "mine sha256"]
    assert ("digests", "put", "null") not in labels
    jobs = [job for heat in heats for _, job in heat.entries.values()]
    assert {job.chunk for job in jobs} == {0, 1024}
    assert {job.size for job in jobs} == {100}


@pytest.mark.contenders
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, 130, "fastframe: interrupted\n"), (signal.SIGTERM, 143, "fastframe bench: ended by SIGTERM\n")],
)
def test_ended_by_a_signal_it_leaves_no_file_and_no_process(number, status, said, tmp_path):
    arguments = ["transfer", "--size", "50MiB", "--dir", str(tmp_path), "--only", "loop", "--chunks", "1"]
    marked = mark()
    with subprocess.Popen(
        [sys.executable, "-m", "fastframe", "bench", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | marked,
    ) as process:
        for line in process.stderr:
            if line.startswith("chunks: "):
                break
        assert list(tmp_path.rglob("source"))
        assert len(alive(marked)) > 1
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (status, "", said)
    assert not list(tmp_path.iterdir())
    eventually(lambda: not alive(marked))


def test_a_base_that_does_not_start_is_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(transfers.CONTENDERS, "sendfile", transfers.Contender("base", missing, ""))
    assert transfer.main([*TINY, "--only", "sendfile", "--dir", str(tmp_path)]) == 1
    assert "fastframe bench transfer: sendfile: not here" in capsys.readouterr().err


def test_no_room_is_said_in_one_line(tmp_path, capsys):
    assert transfer.main(["--size", "99999999GiB", "--dir", str(tmp_path)]) == 1
    assert "MiB in" in capsys.readouterr().err
    assert transfer.main(["--size", "1KiB", "--dir", str(tmp_path / "nowhere")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--only", "nobody"], ["--size", "0"], ["--size", "1TB"], ["--chunks", "x"]])
def test_what_is_asked_wrongly_gets_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        transfer.main(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_sizes_have_units_and_quick_is_smaller():
    def extent(*arguments):
        return transfer.extent(parse(transfer.FAMILY, arguments))

    sizes = [extent("--size", text).size for text in ("7", "16KiB", "300MiB", "2GiB")]
    assert sizes == [7, 16 << 10, 300 << 20, 2 << 30]
    quick, full = extent("--quick"), extent()
    assert quick.size < full.size == 128 << 20
    assert set(quick.chunks) < set(full.chunks)
    assert quick.repetitions < full.repetitions
