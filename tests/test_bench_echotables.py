"""The reports on echo servers to read: a row for each server, empty cells where one is missing, well-formed Markdown."""

import pytest

from fastframe.bench.command import markdown, print_report
from fastframe.bench.echo import FAMILY as ECHO


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


def row(contender, window, us, **ratio):
    latency = {"median": spread(20_000), "slow": spread(1_234_567)} if window == 1 else None
    ratios = {name: spread(value) for name, value in ratio.items()}
    figures = {"cpu_ns": spread(1000 * us), "wall_ns": spread(2000), "latency_ns": latency, "ratio": ratios}
    return {"contender": contender, "payload": 1024, "window": window, **figures}


def report(**changes):
    return {
        "machine": {"cpu": "a machine", "glibc_tunables": ""},
        "versions": {"a loop": "1.2"},
        "settings": {"cores_used": "one"},
        "left_out": ["somebody: not here"],
        "contenders": {"c": "native", "callback/asyncio": "ours"},
        "does": {"c": "one recv, one send"},
        "bars": [],
        **changes,
    }


@pytest.fixture
def echo():
    rows = [row("c", 1, 12.3, c=1), row("c", 64, 0.333, c=1), row("callback/asyncio", 1, 123.4, c=10.03)]
    return report(echo=rows)


def test_echo_has_a_row_for_each_server_and_a_column_for_each_cell(echo, capsys):
    print_report(ECHO, echo)
    lines = capsys.readouterr().out.splitlines()
    assert "left out: somebody: not here" in lines
    assert not any("glibc_tunables" in line for line in lines)
    words = [line.split() for line in lines]
    assert ["server", "1", "KiB", "x1", "1", "KiB", "x64"] in words
    assert ["c", "12.3", "±10", "%", "0.33", "±10", "%"] in words
    ours = [line[1:] for line in words if line[:1] == ["callback/asyncio"]]
    assert ours == [["123", "±10", "%"], ["10.0x"], ["500,000"], ["20,", "1,235"]]


def test_echo_as_a_page_has_the_spread(echo):
    page = markdown(ECHO, echo)
    assert "| c | 12.3 ±10 % | 0.33 ±10 % |" in page
    assert "- left out: somebody: not here" in page
    assert "## The bars" not in page
    assert "| *c* | one recv, one send |" in page
    table = page.split("times c")[1].split("##")[0]
    assert {line.count("|") for line in table.splitlines() if line} == {4}
