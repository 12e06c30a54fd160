"""The codec benchmark: it runs, compares like with like, and says plainly what it has to do without. Nothing here is timed."""

import json

import pytest

from fastframe.bench import codec, contenders
from fastframe.bench.entry import DecodeContender, EncodeContender, LeftOutError
from fastframe.bench.workloads import frame, workload

SMALL = {"stream_size": 2000, "turn_size": 1, "linear_size": 8192}  # one pass a turn


@pytest.fixture
def no_limit(monkeypatch):
    def load_limit():
        raise LeftOutError("limit: none here")

    monkeypatch.setattr(contenders, "load_limit", load_limit)


@pytest.mark.contenders
def test_quick_run_writes_the_tables_and_json(capsys, tmp_path):
    path, page = tmp_path / "codec.json", tmp_path / "codec.md"
    assert codec.main(["--quick", "--json", str(path), "--markdown", str(page)], **SMALL) == 0
    printed = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["benchmark"] == "codec"
    assert report["machine"]["python"] in printed
    assert report["machine"]["python"] in page.read_text()
    assert set(report["peers"]) == {"msgpack", "hiredis", "picows", "Twisted"}
    for table in ("decode", "batch"):
        cells = {(row["payload"], row["chunk"]) for row in report[table]}
        assert cells == {(16, 65536), (1024, 65536), (65536, 65536)}
    assert {(row["payload"], row["batch"]) for row in report["encode"]} == {(n, b) for n in (16, 1024, 65536) for b in (1, 64)}
    for table in ("decode", "batch", "encode"):
        assert {row["contender"] for row in report[table]} == set(report["contenders"][table])
        for row in report[table]:
            assert 0 < row["ns"]["lower"] <= row["ns"]["median"] <= row["ns"]["upper"]
            if row["contender"] in row["ratio"]:
                assert row["ratio"][row["contender"]] == {"lower": 1, "median": 1, "upper": 1}
    assert len(report["linear"]) in (6, 12)
    assert "64 KiB  64 KiB" in printed
    for verdict in report["bars"]:
        assert verdict["bar"] in printed
        assert verdict["bar"] in page.read_text()


def test_our_own_are_compared_with_everybody_and_the_others_with_the_limits():
    def contender(kind):
        return EncodeContender(kind, lambda payload: frame([payload]), frame, frame)

    entered = {name: contender(kind) for name, kind in {"limit": "limit", "pure": "ours", "peer": "python"}.items()}
    compared = {row["contender"]: list(row["ratio"]) for row in codec.encode_rows(entered, 16, 1, 1)}
    assert compared == {"limit": ["limit"], "pure": ["limit", "pure", "peer"], "peer": ["limit"]}


def test_the_limits_and_our_own_are_timed_without_peers_first():
    asked = []

    def rows_of(contenders):
        asked.append(list(contenders))
        return [{"contender": name, "ratio": dict.fromkeys(contenders, len(asked))} for name in contenders]

    kinds = {"limit": "limit", "peer": "python", "pure": "ours"}
    entered = {name: DecodeContender(kind, None, None) for name, kind in kinds.items()}
    rows = codec.in_groups(entered, rows_of)
    assert asked == [["limit", "pure"], ["limit", "peer", "pure"]]
    assert [row["contender"] for row in rows] == ["limit", "peer", "pure"]
    assert rows[1]["ratio"] == {"limit": 2, "peer": 2, "pure": 2}
    assert rows[2]["ratio"] == {"limit": 1, "peer": 2, "pure": 1}


@pytest.mark.contenders
def test_without_the_limit_the_first_contender_is_the_base(no_limit, capsys, tmp_path):
    path = tmp_path / "codec.json"
    assert codec.main(["--quick", "--json", str(path)], **SMALL) == 0
    assert capsys.readouterr().out.count("left out: limit: none here") == 1
    report = json.loads(path.read_text())
    assert "limit" not in {row["contender"] for row in report["decode"]}
    first = report["decode"][0]["contender"]
    assert all(first in row["ratio"] for row in report["decode"])
    assert not any("limit" in verdict["bar"] or "walk" in verdict["bar"] for verdict in report["bars"])


def test_one_that_loses_a_payload_is_not_measured():
    losing = DecodeContender("python", lambda: lambda chunk: [], lambda workload: workload.chunks)
    with pytest.raises(RuntimeError, match="somebody does not give the payloads of 16 bytes"):
        codec.decode_rows({"somebody": losing}, workload(16, 1024, 100), 1)
    wrong = EncodeContender("python", bytes, b"".join, frame)
    with pytest.raises(RuntimeError, match="somebody does not give the frames of 16 bytes"):
        codec.encode_rows({"somebody": wrong}, 16, 1, 1)


def test_a_batch_may_be_a_count():
    assert codec.gives_back(len, [b"ab", b"c"], [b"1", b"2", b"3"])
    assert not codec.gives_back(len, [b"ab", b"c"], [b"1", b"2"])


def test_who_is_slow_makes_fewer_passes(monkeypatch):
    run = []
    monkeypatch.setattr(codec.time, "thread_time_ns", lambda: sum(run))
    for took, passes in ((1, 1000), (codec.TURN_NS // 100, 100), (codec.TURN_NS, 1), (9 * codec.TURN_NS, 1)):
        assert codec.passes_in_time(lambda passes, took=took: run.append(passes * took), 1000) == passes


@pytest.mark.contenders
def test_a_file_that_cannot_be_written_is_said_in_one_line(capsys, tmp_path):
    assert codec.main(["--quick", "--json", str(tmp_path / "none" / "codec.json")], **SMALL) == 1
    error = capsys.readouterr().err
    assert error.startswith("fastframe bench codec: ")
    assert error.count("\n") == 1


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        codec.main(["--help"])
    assert caught.value.code == 0
    assert "example: fastframe bench codec" in capsys.readouterr().out
