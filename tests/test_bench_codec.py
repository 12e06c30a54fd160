"""The codec benchmark: it runs, compares like with like, and says plainly what it has to do without. Nothing here is timed."""

import pytest

from fastframe.bench import codec, contenders
from fastframe.bench.command import read_json
from fastframe.bench.entry import BenchError, DecodeContender, EncodeContender, LeftOutError
from fastframe.bench.workloads import frame, workload

ONE_PASS = codec.Effort(turns=2, turn_ns=1, turn_size=1)


@pytest.fixture
def small(monkeypatch):
    sizes = {
        "STREAM_SIZE": 2000,
        "QUICK_PAYLOADS": (16, 1024, 65536),
        "QUICK_LINEAR_SIZE": 8192,
        "LINEAR_SIZE": 8192,
        "QUICK_CALL": 65536,
    }
    for name, value in {**sizes, "QUICK": ONE_PASS, "FULL": ONE_PASS}.items():
        monkeypatch.setattr(codec, name, value)


@pytest.fixture
def no_limit(monkeypatch):
    def load_limit():
        raise LeftOutError("limit: none here")

    monkeypatch.setattr(contenders, "load_limit", load_limit)


@pytest.mark.contenders
def test_quick_run_writes_the_tables_and_json(small, capsys, tmp_path):
    path = tmp_path / "codec.json"
    assert codec.main(["--quick", "--json", str(path), "--markdown", str(tmp_path)]) == 0
    printed, said = capsys.readouterr()
    page = (tmp_path / "benchmarks-codec.md").read_text()
    (report,) = read_json(path)
    assert report["benchmark"] == "codec"
    assert set(report["versions"]) == {"msgpack", "hiredis", "picows", "Twisted"}
    assert report["settings"]["turns"] == 2
    for table in ("decode", "batch"):
        assert {(row["payload"], row["chunk"]) for row in report[table]} == {(n, 65536) for n in codec.QUICK_PAYLOADS}
    cells = {(n, b) for n in codec.QUICK_PAYLOADS for b in (1, 64)} - {(65536, 64)}
    assert {(row["payload"], row["batch"]) for row in report["encode"]} == cells
    rows = report["decode"] + report["batch"] + report["encode"]
    assert {row["contender"] for row in rows} == set(report["contenders"]) == set(report["does"])
    for row in rows:
        assert 0 < row["ns"]["lower"] <= row["ns"]["median"] <= row["ns"]["upper"]
        if row["contender"] in row["ratio"]:
            assert row["ratio"][row["contender"]] == {"lower": 1, "median": 1, "upper": 1}
    assert len(report["linear"]) in (6, 12)
    assert "decode, 1 KiB in chunks of 64 KiB" in said
    for text in ("decode, in chunks of 64 KiB: ns a frame", *(verdict["bar"] for verdict in report["bars"])):
        assert text in printed
        assert text in page.replace("## Decode", "## decode")


def test_sizes_chunks_and_turns_can_be_chosen(small, no_limit, tmp_path):
    path = tmp_path / "codec.json"
    arguments = ["--sizes", "100", "--chunks", "1KiB,4KiB", "--repetitions", "1", "--json", str(path)]
    assert codec.main(arguments) == 0
    (report,) = read_json(path)
    assert {(row["payload"], row["chunk"]) for row in report["decode"]} == {(100, 1024), (100, 4096)}
    assert report["settings"]["turns"] == 1


def test_our_own_are_compared_with_everybody_and_the_others_with_the_limits():
    def contender(kind):
        return EncodeContender(kind, "", lambda payload: frame([payload]), frame, frame)

    entered = {name: contender(kind) for name, kind in {"limit": "limit", "pure": "ours", "peer": "python"}.items()}
    compared = {row["contender"]: list(row["ratio"]) for row in codec.encode_rows(entered, 16, 1, ONE_PASS)}
    assert compared == {"limit": ["limit"], "pure": ["limit", "pure", "peer"], "peer": ["limit"]}


def test_the_limits_and_our_own_are_timed_without_peers_first():
    asked = []

    def rows_of(contenders):
        asked.append(list(contenders))
        return [{"contender": name, "ratio": dict.fromkeys(contenders, len(asked))} for name in contenders]

    kinds = {"limit": "limit", "peer": "python", "pure": "ours"}
    entered = {name: DecodeContender(kind, "", None, None) for name, kind in kinds.items()}
    rows = codec.in_groups(entered, rows_of)
    assert asked == [["limit", "pure"], ["limit", "peer", "pure"]]
    assert [row["contender"] for row in rows] == ["limit", "peer", "pure"]
    assert rows[1]["ratio"] == {"limit": 2, "peer": 2, "pure": 2}
    assert rows[2]["ratio"] == {"limit": 1, "peer": 2, "pure": 1}


@pytest.mark.contenders
def test_without_the_limit_the_first_contender_is_the_base(small, no_limit, capsys, tmp_path):
    path = tmp_path / "codec.json"
    assert codec.main(["--quick", "--json", str(path)]) == 0
    assert capsys.readouterr().out.count("left out: limit: none here") == 1
    (report,) = read_json(path)
    assert "limit" not in {row["contender"] for row in report["decode"]}
    first = report["decode"][0]["contender"]
    assert all(first in row["ratio"] for row in report["decode"])
    assert not any("limit" in verdict["bar"] or "walk" in verdict["bar"] for verdict in report["bars"])


def test_one_that_loses_a_payload_is_not_measured():
    losing = DecodeContender("python", "", lambda: lambda chunk: [], lambda workload: workload.chunks)
    with pytest.raises(BenchError, match="somebody does not give the payloads of 16 bytes"):
        codec.decode_rows({"somebody": losing}, workload(16, 1024, 100), ONE_PASS)
    wrong = EncodeContender("python", "", bytes, b"".join, frame)
    with pytest.raises(BenchError, match="somebody does not give the frames of 16 bytes"):
        codec.encode_rows({"somebody": wrong}, 16, 1, ONE_PASS)


def test_a_batch_may_be_a_count():
    assert codec.gives_back(len, [b"ab", b"c"], [b"1", b"2", b"3"])
    assert not codec.gives_back(len, [b"ab", b"c"], [b"1", b"2"])


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        codec.main(["--help"])
    assert caught.value.code == 0
    assert "example: fastframe bench codec" in capsys.readouterr().out
