"""How tables and figures are written: well-formed Markdown, a missed bar with its cells."""

import pytest

from fastframe.bench import tables


@pytest.fixture
def report():
    verdict = {
        "bar": "ours, times the limit",
        "at_most": {"worst": 1.25},
        "reached": {"median": 1.5, "worst": 2.0},
        "passed": False,
        "worst_cell": "16 B in chunks of 1 KiB",
        "over": {"16 B in chunks of 1 KiB": 2.0},
        "cells": 2,
    }
    return {"bars": [verdict]}


def test_one_cell_is_one_cell(report):
    (verdict,) = report["bars"]
    assert tables.verdict_text(verdict).endswith("; 2 cells")
    assert tables.verdict_text(verdict | {"cells": 1}).endswith("; 1 cell")


def test_a_missed_bar_names_its_cells(report, capsys):
    tables.print_verdicts(report)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "MISSED   ours, times the limit: median 1.50, worst 2.00 (at most 1.25), 16 B in chunks of 1 KiB; 2 cells",
        "       2.00  16 B in chunks of 1 KiB",
    ]
    line = tables.bars_table(report).splitlines()[-1]
    assert line == (
        "| ours, times the limit | 1.50 | 2.00 ≤ 1.25 | 16 B in chunks of 1 KiB | no: 16 B in chunks of 1 KiB 2.00 |"
    )


def test_figures_are_aligned_to_the_right():
    assert tables.table_text(["", "a", "b"], [["x", "1", "2"]]).splitlines() == [
        "|  | a | b |",
        "| --- | --- | ---: |",
        "| x | 1 | 2 |",
    ]


@pytest.mark.parametrize(("ns", "text"), [(4.44, "4.4"), (99.9, "99.9"), (123.4, "123"), (12_345, "12,345"), (1.26e6, "1.3M")])
def test_nanoseconds_and_their_spread(ns, text):
    assert tables.ns_text(ns) == text
    assert tables.spread_text({"lower": 0.9 * ns, "median": ns, "upper": 1.1 * ns}) == f"{text} ±10 %"


@pytest.mark.parametrize(("ratio", "text"), [(0.071, "0.07x"), (9.99, "9.99x"), (12.34, "12.3x"), (123.4, "123x")])
def test_ratios(ratio, text):
    assert tables.ratio_text(ratio) == text


def test_one_column_is_a_table_too():
    assert tables.table_text([""], [["a sentence"]]) == "|  |\n| --- |\n| a sentence |"
