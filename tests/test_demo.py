"""`fastframe demo` as a user runs it, with a small file and few sizes so that it takes seconds."""

import json
import os
import struct
import sys
import tarfile

import pytest

from fastframe.bench import demo, democommand, report, sweep
from fastframe.bench.entry import LeftOutError


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(demo, "SIZES", (1 << 10, 1 << 16))
    monkeypatch.setattr(demo, "CELL_SECONDS", 0.02)
    monkeypatch.setattr(demo, "command", lambda _: "a command")  # which has tests of its own


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3_000_000))
    return str(path)


def test_demo_prints_a_table_and_saves_a_picture_and_figures(short, path, tmp_path, capsys):
    picture, figures = tmp_path / "picture.png", tmp_path / "figures.json"
    assert demo.main(["--file", path, "--png", str(picture), "--json", str(figures)]) == 0
    out, err = capsys.readouterr()
    assert "sha256 right" in err
    assert "a command\n" in err
    assert "readexactly MB/s" in out
    assert [line.split()[:2] for line in out.splitlines() if "KiB" in line] == [["1", "KiB"], ["64", "KiB"]]
    png = picture.read_bytes()
    assert png.startswith(b"\x89PNG")
    assert min(struct.unpack(">II", png[16:24])) > 500
    rates = json.loads(figures.read_text())["rates"]
    assert set(rates) >= {"pure", "readexactly"}
    assert all(rate["megabytes_per_second"] > 0 for series in rates.values() for rate in series)


def test_demo_does_what_it_can_without_matplotlib_and_the_compiled_codec(short, path, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert demo.main(["--file", path, "--png", str(tmp_path / "picture.png")]) == 0
    out, err = capsys.readouterr()
    assert "matplotlib is not installed" in err
    assert "this is the pure one" in err
    assert "compiled" not in out


@pytest.mark.parametrize("what", ["missing", "empty", "."])
def test_demo_of_no_file_is_one_line_and_status_1(what, tmp_path, capsys):
    path = tmp_path / what
    if what == "empty":
        path.touch()
    assert demo.main(["--file", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_demo_of_a_picture_that_cannot_be_written_is_status_1(short, path, tmp_path, capsys):
    assert demo.main(["--file", path, "--png", str(tmp_path / "no" / "picture.png")]) == 1
    assert "cannot write the picture" in capsys.readouterr().err


def test_the_tar_of_the_standard_library_is_one_and_goes_away():
    with demo.standard_library_tar() as path:
        assert 10_000_000 < os.path.getsize(path) < 200_000_000
        with tarfile.open(path) as tar:
            names = tar.getnames()
        assert "stdlib/asyncio/__init__.py" in names
        assert not any("__pycache__" in name or "site-packages" in name for name in names)
    assert not os.path.exists(path)


def test_a_server_that_does_not_start_is_told(short, path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "ENVIRONMENTS", {way: {"FASTFRAME_IMPLEMENTATION": "nonsense"} for way in sweep.ENVIRONMENTS})
    assert demo.main(["--file", path]) == 1
    assert "did not start" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "text"), [(64, "64 B"), (1000, "1000 B"), (1 << 10, "1 KiB"), (3 << 20, "3 MiB"), (0, "0 B")])
def test_sizes_are_text(size, text):
    assert report.size_text(size) == text


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        ("it ran", 0, "it ran\n"),
        (LeftOutError("no sandbox here"), 0, "no command was run: no sandbox here\n"),
        (ValueError("a wrong digest"), 1, "fastframe: a wrong digest\n"),
    ],
)
def test_what_became_of_the_command_is_told(outcome, status, said, path, tmp_path, capsys, monkeypatch):
    def run(path):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(democommand, "run", run)
    monkeypatch.setattr(demo, "run", lambda path: {})
    monkeypatch.setattr(report, "print_rates", lambda *_: None)
    monkeypatch.setattr(demo.pictures, "draw_rates", lambda *_: None)
    assert demo.main(["--file", path, "--png", str(tmp_path / "picture.png")]) == status
    assert said in capsys.readouterr().err
