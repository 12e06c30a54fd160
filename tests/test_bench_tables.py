"""The report to read: columns under their heads, empty cells where somebody takes no part, Markdown that is well-formed."""

import pytest

from fastframe.bench import tables


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


def row(contender, ns, chunk=1024, payload=16, **ratio):
    ratios = {name: spread(value) for name, value in ratio.items()}
    return {"contender": contender, "payload": payload, "chunk": chunk, "ns": spread(ns), "ratio": ratios}


@pytest.fixture
def report():
    encode = [{**row("ours", 40, limit=2), "batch": 64}, {**row("limit", 20), "batch": 64}]
    for each in encode:
        del each["chunk"]
    verdict = {
        "bar": "ours, times the limit",
        "at_most": {"worst": 1.25},
        "reached": {"median": 1.5, "worst": 2.0},
        "passed": False,
        "worst_cell": "16 B in chunks of 1 KiB",
        "over": {"16 B in chunks of 1 KiB": 2.0},
        "cells": 2,
    }
    return {
        "machine": {"cpu": "a machine", "memcpy_stumble": 1, "glibc_tunables": ""},
        "peers": {"a peer": "1.2"},
        "left_out": ["somebody: not here"],
        "contenders": {
            "decode": {"limit": "limit", "limit by chunk": "limit", "ours": "ours", "a peer": "python"},
            "batch": {},
            "encode": {"limit": "limit", "ours": "ours"},
        },
        "decode": [row("limit", 12.34), row("ours", 24.68, limit=2, **{"a peer": 0.02}), row("a peer", 1.2e6)],
        "batch": [],
        "encode": encode,
        "linear": [
            {
                "shape": "tiny",
                "bytes": 2 << 20,
                "chunks": 1,
                "contender": "ours",
                "way": "feed",
                "ns": spread(5e6),
                "ratio": {"half": spread(2)},
            }
        ],
        "bars": [verdict],
    }


def test_columns_stand_under_their_heads(report, capsys):
    tables.print_heading(report, "decode")
    assert tables.print_row(report, "decode", report["decode"]) == report["decode"]
    *_, head, line = capsys.readouterr().out.splitlines()
    assert head == "payload   chunk   limit   chunk    ours         a peer"
    assert line == "   16 B   1 KiB    12.3            24.7  2.00x    1.2M"


def test_a_table_without_contenders_is_not_shown(report, capsys):
    tables.print_heading(report, "batch")
    tables.print_row(report, "batch", [])
    assert capsys.readouterr().out == ""


def test_the_machine_and_who_is_missing_are_said(report, capsys):
    tables.print_machine(report)
    printed = capsys.readouterr().out
    assert "a machine" in printed
    assert "a peer:           1.2\n" in printed
    assert "left out: somebody: not here" in printed
    assert "rep_movsb" not in printed
    report["machine"]["memcpy_stumble"] = 9.0
    tables.print_machine(report)
    assert "rep_movsb" in capsys.readouterr().out


def test_a_missed_bar_names_its_cells(report, capsys):
    tables.print_verdicts(report)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "MISSED   ours, times the limit: median 1.50, worst 2.00 (at most 1.25), 16 B in chunks of 1 KiB; 2 cells",
        "      2.00x  16 B in chunks of 1 KiB",
    ]


def test_markdown_has_everything(report):
    page = tables.markdown(report)
    lines = page.splitlines()
    assert "| payload | chunk | limit | limit by chunk | ours | a peer |" in lines
    assert "| 16 B | 1 KiB | 12.3 ±10 % |  | 24.7 ±10 % | 1.2M ±10 % |" in lines
    assert "What ours takes, times what each of the others does:" in lines
    assert "| 16 B | 1 KiB | 2.00 |  | 0.02 |" in lines
    assert "| 16 B | 64 | 20.0 ±10 % | 40.0 ±10 % |" in lines
    assert "| tiny | 2 MiB in 1 chunk | ours feed | 5.0 | 2.00 |" in lines
    assert "- left out: somebody: not here" in lines
    assert "| a peer | 1.2 |" in lines
    assert "feed_batch" not in page
    (bar,) = [line for line in lines if line.startswith("| ours, times the limit")]
    assert "no: 16 B in chunks of 1 KiB 2.00" in bar


def test_tables_are_well_formed(report):
    page = tables.markdown(report)
    assert page.endswith("|\n")
    for block in page.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
            assert set(block.splitlines()[1]) <= set("|-: ")
