"""`fastframe bench exec` as a user runs it, with the shortest turns; what it leaves behind, also when it is ended: nothing."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from commanding import alive, eventually, mark

from fastframe.bench import exec as command
from fastframe.bench import execs
from fastframe.bench.command import parse, read_json
from fastframe.bench.entry import BenchError, LeftOutError
from fastframe.bench.exec import Turn
from fastframe.bench.execends import Answer


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(command, "QUICK", command.QUICK._replace(seconds=0.01))


TINY = ["--quick", "--turns", "2", "--at-once", "2", "--size", "300KiB"]


class Wrong:
    """One that fails, or what is worse takes no time."""

    def __init__(self, error=None):
        self.error = error

    def do(self, job):
        if self.error:
            raise BenchError(self.error)
        return Answer(1, [1])


def enter(monkeypatch, name, kind, runner, **changes):
    start = lambda *_: contextlib.nullcontext(runner)  # noqa: E731
    monkeypatch.setitem(execs.CONTENDERS, name, execs.Contender(kind, start, "", **changes))


def failing_start(error):
    def start(*_):
        raise error

    return start


@pytest.mark.contenders
def test_they_take_turns_and_the_report_has_it_all(tmp_path, capsys):
    path, page = tmp_path / "exec.json", tmp_path / "benchmarks-exec.md"
    assert command.main([*TINY, "--only", "pipes,subprocess", "--json", str(path), "--markdown", str(tmp_path)]) == 0
    (report,) = read_json(path)
    assert report["contenders"] == {"posix_spawn": "base", "pipes": "base", "subprocess": "local"}
    assert report["settings"]["turns"] == "2 of 0.01 s"
    everybody = ["posix_spawn", "pipes", "subprocess"]
    assert [(row["table"], row["contender"]) for row in report["exec"]] == [
        *(("one", name) for name in everybody),
        *(("several", name) for name in everybody),
        ("output", "pipes"),
    ]
    for row in report["exec"]:
        assert 0 < row["ns"]["lower"] <= row["ns"]["upper"] < 1e9
        assert row["runs"] >= 2
        assert row["cpu_ns"]["lower"] >= 0
        assert row["ratio"][row["contender"] if row["contender"] != "subprocess" else "pipes"]["median"] > 0
    assert "true, 2 at once" in capsys.readouterr().out
    assert "## 300 KiB of output" in page.read_text()


@pytest.mark.contenders
def test_who_is_missing_or_wrong_is_left_out_with_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(execs.CONTENDERS, "absent", execs.Contender("remote", failing_start(LeftOutError("not here")), ""))
    monkeypatch.setitem(execs.CONTENDERS, "alone", execs.Contender("remote", failing_start(BenchError("no server")), ""))
    enter(monkeypatch, "failing", "remote", Wrong("it is full"))
    path = tmp_path / "exec.json"
    assert command.main([*TINY, "--only", "absent,alone,failing", "--json", str(path)]) == 0
    (report,) = read_json(path)
    assert report["left_out"] == [
        "absent: not here",
        "alone: no server",
        "failing, true, 1 at once: it is full",
        "failing, true, 2 at once: it is full",
    ]
    assert "left out: absent: not here" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["base", "ours"])
def test_a_failure_of_ours_or_of_the_base_is_a_failure(kind, monkeypatch, capsys):
    enter(monkeypatch, "mine", kind, Wrong("it is torn"))
    assert command.main([*TINY, "--only", "mine"]) == 1
    assert "fastframe bench exec: mine, true, 1 at once: it is torn" in capsys.readouterr().err


def test_a_base_that_does_not_start_is_a_failure(monkeypatch, capsys):
    monkeypatch.setitem(execs.CONTENDERS, "posix_spawn", execs.Contender("base", failing_start(LeftOutError("none")), ""))
    assert command.main([*TINY, "--only", "posix_spawn"]) == 1
    assert "fastframe bench exec: posix_spawn: none" in capsys.readouterr().err


def test_a_median_is_of_runs_one_after_another_and_a_rate_of_the_whole():
    took = {"posix_spawn": [Turn(Answer(100, [10, 20, 70]), 60)], "pipes": [Turn(Answer(300, [40, 40, 220]), 90)]}
    one = {row["contender"]: row for row in command.rows(command.Heat("one", command.Job(1), list(took)), took)}
    assert (one["posix_spawn"]["ns"]["median"], one["pipes"]["ns"]["median"]) == (20, 40)
    assert one["pipes"]["ratio"]["posix_spawn"]["median"] == 2
    assert (one["pipes"]["slow"], one["pipes"]["runs"]) == (220, 3)
    assert one["pipes"]["cpu_ns"]["median"] == 30
    several = command.rows(command.Heat("several", command.Job(1, 8), list(took)), took)
    assert [row["ns"]["median"] for row in several] == [100 / 3, 100]
    assert several[1]["ratio"]["posix_spawn"]["median"] == 3


@pytest.mark.contenders
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, 130, "fastframe: interrupted\n"), (signal.SIGTERM, 143, "fastframe bench: ended by SIGTERM\n")],
)
def test_ended_by_a_signal_it_leaves_no_file_and_no_process(number, status, said, tmp_path):
    marked = mark()
    environment = os.environ | {"TMPDIR": str(tmp_path)} | marked
    arguments = [sys.executable, "-m", "fastframe", "bench", "exec", "--only", "openssh", "--at-once", "2"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stderr:
            if line.startswith("true, "):
                break
        assert len(alive(marked)) > 2
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (status, "", said)
    assert not list(tmp_path.iterdir())
    eventually(lambda: not alive(marked))


@pytest.mark.parametrize("arguments", [["--only", "nobody"], ["--size", "1TB"], ["--turns", "0"], ["--at-once", "x"]])
def test_what_is_asked_wrongly_gets_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_quick_is_smaller():
    quick, full = (command.extent(parse(command.FAMILY, arguments)) for arguments in (["--quick"], []))
    assert quick.size < full.size
    assert quick.turns < full.turns
    assert quick.seconds < full.seconds
