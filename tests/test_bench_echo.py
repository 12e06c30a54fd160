"""`fastframe bench echo` as a user runs it, with few servers and short turns."""

import sys

import pytest

from fastframe.bench import echo
from fastframe.bench.command import read_json
from fastframe.bench.echoes import ECHOES, Echo
from fastframe.bench.entry import BenchError, LeftOutError

WRONG = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
while True:
    peer = listener.accept()[0]
    while data := peer.recv(4096):
        try:
            peer.sendall(data.swapcase())
        except OSError:
            break
"""


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(echo, "TURN_NS", 200_000)


def wrong(kind):
    return Echo(kind, "answers wrongly", lambda: [sys.executable, "-c", WRONG])


def missing():
    raise LeftOutError("not here")


@pytest.mark.contenders
def test_servers_race_and_the_report_has_it_all(tmp_path, capsys):
    path, page = tmp_path / "echo.json", tmp_path / "benchmarks-echo.md"
    arguments = [
        "--only",
        "c,callback/asyncio,readexactly/asyncio",
        "--sizes",
        "64,1MiB",
        "--windows",
        "1,4",
        "--repetitions",
        "2",
    ]
    assert echo.main([*arguments, "--json", str(path), "--markdown", str(tmp_path)]) == 0
    (report,) = read_json(path)
    assert report["contenders"] == {"c": "native", "callback/asyncio": "ours", "readexactly/asyncio": "python"}
    cells = {(row["payload"], row["window"]) for row in report["echo"]}
    assert cells == {(64, 1), (64, 4), (1 << 20, 1), (1 << 20, 4)}
    assert len(report["echo"]) == 12
    for row in report["echo"]:
        assert row["frames"] >= 2 * row["window"]
        assert 0 < row["cpu_ns"]["lower"] <= row["cpu_ns"]["upper"]
        assert (row["latency_ns"] is None) == (row["window"] != 1)
        assert set(row["ratio"]) == (set(report["contenders"]) if row["contender"] == "callback/asyncio" else {"c"})
    assert report["bars"][0]["bar"] == "callback/asyncio, times C"
    assert "MALLOC_MMAP_THRESHOLD_=33554432" in report["settings"]["environment"]
    assert report["machine"]["cores"]
    out = capsys.readouterr().out
    assert "readexactly/asyncio" in out
    assert "1 MiB x4" in out
    assert "callback/asyncio, times C: median" in out
    assert "## Server's processor time" in page.read_text()


def test_the_servers_see_glibcs_settings_or_none(tmp_path, monkeypatch):
    code = WRONG.replace("swapcase", "strip").replace(
        "import socket", "import os, socket, pathlib; pathlib.Path(os.environ['SEEN']).write_text(repr(dict(os.environ)))"
    )
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setitem(ECHOES, "other", Echo("python", "", lambda: [sys.executable, "-c", code]))
    for option in ("steady", "plain"):
        assert echo.main(["--only", "c,other", "--sizes", "1", "--windows", "1", "--malloc", option]) == 0
        assert ("MALLOC_TRIM_THRESHOLD_" in (tmp_path / "seen").read_text()) == (option == "steady")


def test_who_is_missing_or_wrong_is_left_out_with_the_reason(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(ECHOES, "other", wrong("python"))
    monkeypatch.setitem(ECHOES, "absent", Echo("native", "", missing))
    path = tmp_path / "echo.json"
    assert echo.main(["--only", "c,other,absent", "--sizes", "64", "--windows", "2", "--json", str(path)]) == 0
    (report,) = read_json(path)
    assert report["left_out"] == ["absent: not here", "other, 64 B, window 2: an answer is not what was sent"]
    assert [row["contender"] for row in report["echo"]] == ["c"]
    assert "left out: absent: not here" in capsys.readouterr().out


def test_a_wrong_answer_of_ours_is_a_failure(capsys, monkeypatch):
    monkeypatch.setitem(ECHOES, "other", wrong("ours"))
    assert echo.main(["--only", "c,other", "--sizes", "64", "--windows", "2"]) == 1
    assert "fastframe bench echo: other, 64 B, window 2: an answer is not what was sent" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["python", "ours"])
def test_who_ends_in_the_middle_is_left_out_and_a_failure_if_it_is_ours(kind, capsys, monkeypatch):
    class Ended:
        def run(self, count):
            raise BenchError("the server has hung up")

    whole = echo.runner
    ended = iter([False, True])
    monkeypatch.setattr(echo, "runner", lambda *args: whole(*args)._replace(**({"client": Ended()} if next(ended) else {})))
    monkeypatch.setitem(ECHOES, "other", ECHOES["readexactly/asyncio"]._replace(kind=kind))
    assert echo.main(["--only", "c,other", "--sizes", "64", "--windows", "2"]) == (kind == "ours")
    out, err = capsys.readouterr()
    line = "other, 64 B, window 2: the server has hung up"
    assert (f"left out: {line}" in out, f"fastframe bench echo: {line}" in err) == (kind != "ours", kind == "ours")


def test_nobody_or_no_client_is_a_failure(capsys, monkeypatch):
    monkeypatch.setitem(ECHOES, "absent", Echo("native", "", missing))
    assert echo.main(["--only", "absent"]) == 1
    monkeypatch.setattr(echo, "c_program", lambda _: missing())
    assert echo.main(["--only", "c"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fastframe")]
    assert errors == ["fastframe bench echo: absent: not here", "fastframe bench echo: the client: not here"]


@pytest.mark.parametrize("arguments", [["--only", "nobody"], ["--sizes", "0"], ["--sizes", "17MiB"], ["--windows", "x"]])
def test_what_is_asked_wrongly_gets_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        echo.main(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_each_figure_has_a_name_of_its_own_and_each_line_a_figure_for_each_size():
    rows = [row(name, payload, window) for name in ("c", "callback/asyncio") for payload in (64, 1024) for window in (1, 64)]
    report = {"contenders": {"c": "native", "callback/asyncio": "ours"}, "echo": rows}
    figures = list(echo.figures(report))
    assert len({figure.name for figure in figures}) == len(figures) == 8 + 4
    assert figures[0] == ("64 B, window 1, c", "ns of the server's processor", (900, 1000, 1100), (0.9, 1, 1.1), "c", "less")
    bars, lines = echo.charts(report)
    assert [(bar.name, bar.kind, bar.value) for bar in bars.panels["64 B, window 1"]] == [
        ("c", "native", (0.9, 1, 1.1)),
        ("callback/asyncio", "ours", (0.9, 1, 1.1)),
    ]
    assert list(lines.panels) == ["window 1", "window 64"]
    assert [(line.name, line.x) for line in lines.panels["window 1"]] == [("c", [64, 1024]), ("callback/asyncio", [64, 1024])]


def row(contender, payload, window):
    spread = {"lower": 900.0, "median": 1000.0, "upper": 1100.0}
    ratio = {base: {"lower": 0.9, "median": 1.0, "upper": 1.1} for base in ("c", "callback/asyncio")}
    latency = {"median": spread, "slow": spread} if window == 1 else None
    return {
        "payload": payload, "window": window, "contender": contender, "cpu_ns": spread, "latency_ns": latency, "ratio": ratio,
    }  # fmt: skip
