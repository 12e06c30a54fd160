"""What every benchmark's command does with its options, its files and signals; with a family that measures nothing."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commanding import eventually

from fastframe.bench import command
from fastframe.bench.entry import BenchError
from fastframe.bench.family import Family, new_report
from fastframe.bench.machine import STEADY_MEMCPY


def made_up(measure=lambda args: new_report("nothing", quick=args.quick, settings={"asked": args.asked})):
    return Family(
        "nothing",
        "nothing at all",
        "Measure nothing.",
        "nothing --asked 1",
        "There is nothing to see.",
        lambda parser: parser.add_argument("--asked"),
        measure,
        lambda report: [],
        lambda report: [("what it is", ["", "a figure"], [["nothing", "0"]])],
        lambda report: iter(()),
        lambda report: [],
    )


def test_a_family_runs_and_everything_is_written_and_shown(tmp_path, capsys):
    path = tmp_path / "a.json"
    assert (
        command.run(made_up(), ["--quick", "--asked", "1", "--json", str(path), "--markdown", str(tmp_path / "new" / "pages")])
        == 0
    )
    (report,) = command.read_json(path)
    assert (report["benchmark"], report["quick"], report["settings"], report["bars"]) == ("nothing", True, {"asked": "1"}, [])
    out = capsys.readouterr().out
    assert "what it is" in out
    assert "asked:" in out
    page = (tmp_path / "new" / "pages" / "benchmarks-nothing.md").read_text()
    assert page.startswith(
        "# Benchmarks: nothing at all\n\nMade by `fastframe bench nothing --markdown`. There is nothing to see."
    )
    assert "| nothing | 0 |" in page


def test_a_file_that_cannot_be_written_is_a_failure_in_one_line_and_the_others_are_written(tmp_path, capsys):
    assert command.run(made_up(), ["--json", "/dev/full", "--markdown", str(tmp_path / "pages")]) == 1
    assert capsys.readouterr().err == "fastframe bench: --json /dev/full: No space left on device\n"
    assert (tmp_path / "pages" / "benchmarks-nothing.md").exists()


def test_what_cannot_be_written_is_a_failure_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / "file").touch()
    nowhere, folder, file = tmp_path / "none" / "file", tmp_path, tmp_path / "file"
    for option in ("--json", "--html"):
        assert command.run(made_up(None), [option, str(nowhere)]) == 1
        assert capsys.readouterr().err == f"fastframe bench: there is no folder {tmp_path / 'none'}\n"
        assert command.run(made_up(None), [option, str(folder)]) == 1
        assert capsys.readouterr().err == f"fastframe bench: {folder} is a folder\n"
    for option in ("--png", "--markdown"):
        assert command.run(made_up(None), [option, str(file)]) == 1
        assert capsys.readouterr().err == f"fastframe bench: {file} is no folder\n"


def test_a_folder_that_may_not_be_looked_into_is_a_failure_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    def closed(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(command, "against_file", closed)
    assert command.run(made_up(None), ["--json", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"fastframe bench: {tmp_path / 'file'}: Permission denied\n"


@pytest.mark.parametrize(("option", "package"), [("--html", "plotly"), ("--png", "matplotlib")])
def test_what_is_not_installed_is_said_before_anything_is_measured(option, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    family = made_up(lambda args: pytest.fail("it was measured"))
    assert command.run(family, [option, str(tmp_path / "there")]) == 1
    assert capsys.readouterr().err == f"fastframe bench: {package} is not installed (pip install 'fastframe[bench]')\n"


@pytest.mark.parametrize("error", [BenchError("not here"), OSError("not here")])
def test_what_cannot_be_measured_is_a_failure_in_one_line(error, capsys):
    def fail(args):
        raise error

    assert command.run(made_up(fail), []) == 1
    assert capsys.readouterr().err == "fastframe bench nothing: not here\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_unwinds_and_another_does_not_break_that_off(number, status, capsys):
    before = signal.getsignal(number)

    def measure(args):
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)

    with pytest.raises(SystemExit) as caught:
        command.run(made_up(measure), [])
    assert caught.value.code == status
    assert capsys.readouterr().err == f"fastframe bench: ended by {number.name}\n"
    assert signal.getsignal(number) == before


def test_a_signal_may_come_while_stderr_is_written_to(monkeypatch):
    class Signalled(io.RawIOBase):
        said = b""

        def writable(self):
            return True

        def write(self, data):
            first, self.said = not self.said, self.said + bytes(data)
            if first:
                signal.raise_signal(signal.SIGTERM)
            return len(data)

    raw = Signalled()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True))
    with pytest.raises(SystemExit) as caught:
        command.run(made_up(lambda _: print("on the way", file=sys.stderr)), [])
    assert caught.value.code == 143
    assert raw.said.endswith(b"on the way\nfastframe bench: ended by SIGTERM\n")


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with command.ended_by_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_a_signal_ends_leaves_no_server_and_no_file_behind(number, status, tmp_path):
    arguments = ["echo", "--quick", "--only", "c,sync", "--sizes", "64", "--repetitions", "1000"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastframe", "bench", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        said = process.stderr.readline()
        while said and "window" not in said:
            said = process.stderr.readline()
        children = started_by(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (status, "")
    assert err in ("fastframe bench: ended by SIGTERM\n", "fastframe: interrupted\n")
    assert children
    # One that was just being started is nobody's to end: it ends by itself, since its input has.
    eventually(lambda: not [pid for pid in children if os.path.exists(f"/proc/{pid}")])
    assert os.listdir(tmp_path) == []


def started_by(pid):
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        command.parse(made_up(), ["--help"])
    assert "example: fastframe bench nothing --asked 1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("stumble", "environment", "said"),
    [(1.1, "", False), (6.5, "", True), (6.5, f"A=1 {STEADY_MEMCPY}", False), (1.1, STEADY_MEMCPY, False)],
)
def test_copies_that_stumble_are_said_with_the_cure(stumble, environment, said, capsys):
    report = {**new_report("nothing", quick=True, settings={"environment": environment}), "bars": []}
    report["machine"]["memcpy_stumble"] = stumble
    report["left_out"].append("somebody: not here")
    command.print_report(made_up(), report)
    for text in (capsys.readouterr().out, command.markdown(made_up(), report)):
        assert "left out: somebody: not here" in text
        assert (f"{STEADY_MEMCPY} in the environment makes them steady" in text) == said


def test_why_nothing_is_judged_is_said(capsys):
    report = {**new_report("echo", quick=True, settings={}), "bars": []}
    report["machine"] = {"implementation": "python"}
    command.print_report(made_up(), report)
    assert "the pure one is held to none" in capsys.readouterr().out
    assert "\n- the bars are the compiled codec's: the pure one is held to none\n" in command.markdown(made_up(), report)
