"""The codec benchmark: it runs, compares like with like, and says plainly what it has to do without. Nothing here is timed."""

import importlib.util
import itertools
import json
import shutil
import sysconfig

import pytest

from fastframe.bench import codec, contenders, workloads

SMALL = {"stream_size": 2000, "turn_size": 1}  # one pass a turn


@pytest.fixture(scope="module")
def limit():
    if shutil.which((sysconfig.get_config_var("CC") or "none").split()[0]) is None or not importlib.util.find_spec(
        "setuptools"
    ):
        pytest.skip("no C compiler here")
    return contenders.load_limit()


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A machine without a compiler, wherever sysconfig says that Python's own was."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "gcc"))


@pytest.mark.parametrize("payload_length", [0, 1, 16, 1020, 1021, 5000])
def test_every_contender_gives_the_payloads_that_went_in(payload_length):
    work = workloads.workload(payload_length, 1024, 20_000)
    assert {len(payload) for payload in work.payloads} == {payload_length}
    for contender in contenders.find_contenders().decode.values():
        pieces = contender.cut(work)
        if pieces is not None:
            assert codec.decoded(contender.start(), pieces) == work.payloads


def test_every_contender_encodes_the_same():
    payloads = [b"", b"a", bytes(70_000)]
    for contender in contenders.find_contenders().encode.values():
        assert b"".join(contender.encode(payload) for payload in payloads) == workloads.frame(payloads)
        assert contender.encode_many(payloads) == workloads.frame(payloads)


def test_chunks_ignore_frames_and_pieces_do_not():
    work = workloads.workload(6, 32, 100)
    assert [len(chunk) for chunk in work.chunks] == [32, 32, 32, 4]
    assert [len(piece) for piece in work.pieces] == [30, 30, 30, 10]
    assert b"".join(work.chunks) == b"".join(work.pieces)
    assert work.padded is None


def test_padded_has_as_many_pieces_as_there_are_chunks():
    work = workloads.workload(50, 16, 200)
    assert len(work.pieces) == 4
    assert len(work.padded) == len(work.chunks) == 14
    assert [piece for piece in work.padded if piece] == work.pieces
    assert work.padded[-1]


def test_neighbouring_payloads_differ():
    payloads = workloads.some_payloads(16, 300)
    assert all(one != other for one, other in itertools.pairwise(payloads))


def test_limit(limit):
    payloads = [b"", b"a", bytes(range(256)) * 300, b""]
    stream = workloads.frame(payloads)
    assert limit.decode(stream) == payloads
    assert limit.decode(b"") == []
    assert limit.walk(stream) == 4
    assert limit.encode(payloads[2]) == workloads.frame(payloads[2:3])
    assert limit.encode_many(payloads) == stream
    assert limit.encode_many([]) == b""


def test_quick_run_writes_the_table_and_json(limit, capsys, tmp_path):
    path = tmp_path / "codec.json"
    assert codec.main(["--quick", "--json", str(path)], **SMALL) == 0
    printed = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["benchmark"] == "codec"
    assert report["machine"]["python"] in printed
    cells = {(row["payload"], row["chunk"]) for row in report["decode"]}
    assert cells == {(16, 65536), (1024, 65536), (65536, 65536)}
    assert {(row["payload"], row["batch"]) for row in report["encode"]} == {(n, b) for n in (16, 1024, 65536) for b in (1, 64)}
    assert {"limit", "limit by chunk", "pure"} <= {row["contender"] for row in report["decode"]}
    for row in report["decode"] + report["encode"]:
        assert 0 < row["ns"]["lower"] <= row["ns"]["median"] <= row["ns"]["upper"]
        assert row["ratio"]["limit"]["median"] > 0
        if row["contender"] == "limit":
            assert row["ratio"]["limit"] == {"lower": 1, "median": 1, "upper": 1}
    assert "64 KiB   64 KiB" in printed
    assert "decode: pure takes" in printed


def test_without_a_compiler_the_limit_is_left_out_in_one_line(no_compiler, capsys, tmp_path):
    with pytest.raises(contenders.LeftOutError, match=r"^limit: no C compiler .*gcc") as caught:
        contenders.load_limit()
    assert "\n" not in str(caught.value)
    path = tmp_path / "codec.json"
    assert codec.main(["--quick", "--json", str(path)], **SMALL) == 0
    captured = capsys.readouterr()
    assert captured.out.count("left out: limit: no C compiler") == 1
    assert "Traceback" not in captured.out + captured.err
    report = json.loads(path.read_text())
    assert len(report["left_out"]) >= 1
    assert "limit" not in {row["contender"] for row in report["decode"]}
    first = report["decode"][0]  # the base of the ratios, since there is no limit
    assert first["ratio"] == {first["contender"]: {"lower": 1, "median": 1, "upper": 1}}


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


def test_limit_is_compiled_outside_the_tree(limit):
    assert not list(contenders.LIMIT_SOURCE.parent.glob("*.so"))
