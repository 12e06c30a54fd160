"""Tables on a terminal: no wider than it is, figures whole and numbers beside their units, with rich and without."""

import importlib.util
import os
import re
import shutil
import sys

import pytest

from fastframe.bench.report import broken_head, parts, print_table

HEADS = ["server", "64 B x1", "99 % ms", "lost at 30,000/s"]
ROWS = [["callback/asyncio", "1.00x", "5.1", "0.0 %"], ["[bold]c[/] :bug:", "12.5x", "16.7", "7.9 %"]]


@pytest.fixture(params=["rich", "plain"])
def on_terminal(request, monkeypatch, capsys):
    """Return what gives the lines that a table is on a terminal of so many columns."""
    if request.param == "plain":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    def lines(columns):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
        print_table(HEADS, ROWS, "a table")
        return re.sub("\x1b\\[[0-9]*m", "", capsys.readouterr().out).splitlines()

    return lines


def test_where_there_is_room_a_table_is_in_one_piece(on_terminal):
    lines = on_terminal(80)
    assert [lines[1], *(line.split() for line in lines[-2:])] == ["a table", *(" ".join(row).split() for row in ROWS)]


def test_columns_without_room_come_below_beside_the_first_again(on_terminal):
    lines = on_terminal(36)
    assert max(map(len, lines)) <= 36
    assert "a table, continued" in lines
    text = " ".join(" ".join(lines).split())
    assert all(text.count(cell) == 1 for row in ROWS for cell in row[1:])
    assert text.count("asyncio") > 1


def test_a_pipe_has_it_in_one_piece(capsys):
    print_table(HEADS, ROWS * 9, "a table")
    assert len(capsys.readouterr().out.splitlines()) == 3 + 18


@pytest.mark.parametrize(
    ("head", "broken"),
    [
        ("64 B x64", "64 B\nx64"),
        ("64 KiB", "64 KiB"),
        ("99 % ms", "99 %\nms"),
        ("lost at 30,000/s", "lost at\n30,000/s"),
        ("of one core/s", "of one\ncore/s"),
        ("KiB", "KiB"),
    ],
)
def test_a_head_is_broken_where_no_number_loses_its_unit(head, broken):
    assert broken_head(head, ["1"]) == broken
    assert broken_head(head, [head]) == head


def test_each_part_has_the_first_column_and_another_however_wide():
    assert list(parts([10, 5, 5, 5], 24)) == [[0, 1, 2], [0, 3]]
    assert list(parts([100, 50], 10)) == [[0, 1]]
    assert list(parts([5], 10)) == [[0]]
