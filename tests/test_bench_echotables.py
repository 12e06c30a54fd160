"""The reports on echo servers to read: a row for each server, empty cells where one is missing, well-formed Markdown."""

import pytest

from fastframe.bench import echotables
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
        "settings": {"tls": "no"},
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


@pytest.fixture
def connections():
    figures = {kind: {"without": spread(1e5), "with": spread(2e5), "ratio": spread(2)} for kind in ("median", "slow", "cpu")}
    return report(connections=[{"contender": "callback/asyncio", "count": 10_000, "bytes": 1536.0, **figures}])


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


def test_connections_say_what_each_takes(connections, capsys):
    echotables.print_connections(connections)
    out = capsys.readouterr().out
    assert "10,000 idle connections, plain" in out
    (line,) = [line.split() for line in out.splitlines() if "callback" in line]
    assert line == ["callback/asyncio", "1.50", *["100", "200", "2.00x"] * 3]
    connections["settings"]["tls"] = "yes"
    assert "10,000 idle connections, over TLS" in echotables.connections_markdown(connections)
    assert echotables.connection_tables({**connections, "connections": []}) == []
