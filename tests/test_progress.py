"""Progress: what is shown where, that a line is written over whole, and that no name steers a terminal."""

from __future__ import annotations

import importlib.util
import io
import sys

import pytest

from fastframe.servers import progress
from fastframe.servers.progress import Bar, Lines, Pace

HOSTILE = "a\x1b[2J\r\n\u202egnp.exe"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set: `clock[0]`."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (101_900, "99.5 KiB"),
        (102_399, "100 KiB"),
        (1_023_999, "1.0 MiB"),
        (10 << 30, "10.0 GiB"),
        ((1 << 63) - 1, "8.0 EiB"),
    ],
)
def test_a_size_in_three_digits(size, text):
    assert progress.size_text(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (2.6, "0:03"), (59.7, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_a_time(seconds, text):
    assert progress.time_text(seconds) == text


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [("name", 4, "name"), ("a-long-name", 5, "…name"), ("日本語", 6, "日本語"), ("日本語", 5, "…本語"), ("日本語", 4, "…語")],
)
def test_a_name_has_room_in_its_cells(text, most, short):
    assert progress.shorten(text, most) == short
    assert progress.cells(short) <= most


def test_accents_that_combine_take_no_cell():
    assert progress.cells("e\u0301") == 1


def test_the_rate_is_that_of_what_came_in_the_last_seconds(clock):
    pace = Pace()
    pace.note(1_000_000)  # was there already
    assert pace.rate == 0.0
    clock[0] = 1.0
    pace.note(1_000_500)
    assert pace.rate == 500.0
    for second in range(2, 10):
        clock[0] = float(second)
        pace.note(1_000_500)
    assert pace.rate == 0.0


def test_no_rate_before_it_says_anything(clock):
    pace = Pace()
    pace.note(0)
    clock[0] = 0.1
    pace.note(1000)
    assert pace.rate == 0.0


def test_the_line_of_a_bar(clock):
    pace = Pace()
    pace.note(0)
    clock[0] = 2.0
    pace.note(3 << 20)
    line = progress.bar_line("big", 3 << 20, 12 << 20, pace)
    assert line == "big  25% [#####               ] 3.0 MiB of 12.0 MiB, 1.5 MiB/s, 0:06 left"


def test_an_empty_file_is_done():
    assert "100% [####################]" in progress.bar_line("empty", 0, 0, _still())


def test_a_bar_writes_over_what_it_wrote(wide):
    stream = io.StringIO()
    bar = Bar(stream)
    report = bar.begin("big")
    report(1, 1000)
    first = stream.getvalue()
    assert first.startswith("\rbig   0% [")
    bar.say("big  done")
    _, blank, rest = stream.getvalue()[len(first) :].split("\r")
    assert blank == " " * (len(first) - 1)
    assert rest == "big  done\n"
    bar.clear()
    assert stream.getvalue().endswith("done\n")


def test_a_bar_does_not_reach_the_last_cell(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    stream = io.StringIO()
    Bar(stream).begin("a-name-that-is-long-enough")(5, 10)
    assert len(stream.getvalue()) == 1 + 29


def test_a_bar_escapes_names(wide):
    stream = io.StringIO()
    Bar(stream).begin(HOSTILE)(5, 10)
    assert "\\x1b[2J\\r\\n\\u202egnp.exe" in stream.getvalue()
    assert stream.getvalue().count("\r") == 1
    assert stream.getvalue()[1:].isprintable()


def test_nothing_but_lines_where_there_is_no_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.display() as display:
        assert display.begin("big") is None
        display.say("big  done")
    assert stream.getvalue() == "big  done\n"


def test_quiet_tells_complaints_only(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.display(quiet=True) as display:
        assert display.begin("big") is None
        display.say("big  done")
        display.complain("big failed")
    assert stream.getvalue() == "big failed\n"


def test_a_plain_bar_without_rich(monkeypatch, wide):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with progress.display() as display:
        assert isinstance(display, Bar)
        display.begin("big")(1, 2)
    assert terminal.getvalue().rpartition("\r")[2] == ""  # the cursor is where the next line begins


@pytest.mark.parametrize("kind", ["say", "complain"])
def test_richs_bar_where_it_is_installed(monkeypatch, wide, kind):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with progress.display() as display:
        report = display.begin(HOSTILE + "[red]")
        report(512, 1024)
        report(1024, 1024)
        display._bars.refresh()
        getattr(display, kind)("big  [bold]done[/bold] :smile: " + "x" * 100)
    shown = terminal.getvalue()
    assert "big  [bold]done[/bold] :smile: " + "x" * 100 + "\n" in shown  # whole, whatever the width
    assert "\\r\\n\\u202egnp.exe[red]" in shown
    assert "\u202e" not in shown
    assert "\x1b[2J" not in shown
    assert "1.0 KiB of 1.0 KiB" in shown


def _still() -> Pace:
    pace = Pace()
    pace.note(0)
    return pace


def test_lines_are_flushed(monkeypatch):
    flushed = []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "flush", lambda: flushed.append(stream.getvalue()))
    Lines(stream).say("one")
    assert flushed == ["one\n"]
