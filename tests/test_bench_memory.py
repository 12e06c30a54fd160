"""`fastframe bench memory` as a user runs it, with few decoders and connections; and what is shown of a report."""

import pytest

from fastframe.bench import memory
from fastframe.bench.command import parse, read_json
from fastframe.bench.decoders import DECODERS
from fastframe.bench.memory import entered


@pytest.mark.contenders
@pytest.mark.parametrize("options", [[], ["--tls"]])
def test_decoders_and_connections_are_measured(options, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "TURN_NS", 100_000)
    path = tmp_path / "memory.json"
    arguments = ["--count", "150", "--repetitions", "2", "--only", "compiled,callback/asyncio,readexactly/asyncio"]
    assert memory.main([*arguments, "--json", str(path), "--markdown", str(tmp_path), *options]) == 0
    (report,) = read_json(path)
    assert report["contenders"] == {"compiled": "ours", "callback/asyncio": "ours", "readexactly/asyncio": "python"}
    assert list(report["does"]) == list(report["contenders"])
    assert [row["state"] for row in report["decoders"]] == [
        "idle",
        "one frame",
        "16 MiB announced",
        "after 1 MiB",
        "a frame later",
    ]
    row = report["connections"][0]
    assert row["contender"] == "callback/asyncio"
    sizes = [(after - before) / 150 for before, after in zip(*row["memory"].values(), strict=True)]
    assert len(sizes) == 2
    assert row["bytes"]["median"] == sum(sizes) / 2
    assert row["slow"]["with"]["median"] > 0
    assert row["cpu"]["ratio"]["median"] > 0
    bars = [verdict["bar"] for verdict in report["bars"]]
    assert ("KiB an idle connection" in bars) == (not options)
    assert bars[-1] == "99 % of the echoes, times without idle connections"
    assert report["left_out"] == []
    assert f"150 idle connections, {'over TLS' if options else 'plain'}" in capsys.readouterr().out
    assert "callback/asyncio" in (tmp_path / "benchmarks-memory.md").read_text()


def test_nobody_is_a_failure_in_one_line(capsys):
    assert memory.main(["--only", "c", "--tls"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fastframe")]
    assert line == "fastframe bench memory: c: it has no TLS here; callback, batch, stream, readexactly have"


def test_names_are_of_decoders_and_of_servers():
    assert entered(["compiled", "by hand"]) == (["compiled", "by hand/rolling", "by hand/direct"], [])
    assert entered(["callback/asyncio"]) == ([], ["callback/asyncio"])
    assert entered(["picows"]) == (["picows"], ["picows/asyncio", "picows/uvloop"])
    with pytest.raises(ValueError, match="there is no 'nobody'"):
        entered(["nobody"])


def test_default_servers_are_some_that_there_are():
    for names in (memory.SERVERS, memory.QUICK_SERVERS):
        assert entered(names)[1]
    assert not set(DECODERS) & set(memory.SERVERS)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "21 of about 50 ms of the processor, in 3 rounds"),
        (["--quick"], "6 of about 10 ms of the processor, in 3 rounds"),
        (["--repetitions", "4"], "6 of about 50 ms of the processor, in 3 rounds"),
        (["--repetitions", "1"], "1 of about 50 ms of the processor, in 1 round"),
    ],
)
def test_turns_are_shared_out_among_rounds(options, text):
    assert memory.text(memory.effort_of(parse(memory.FAMILY, options))) == text


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


@pytest.fixture
def report():
    timed = {kind: {"without": spread(1e5), "with": spread(2e5), "ratio": spread(2)} for kind in ("median", "slow", "cpu")}
    return {
        "settings": {"tls": "no"},
        "contenders": {"compiled": "ours", "msgpack": "compiled", "callback/asyncio": "ours"},
        "decoders": [
            {"contender": name, "state": state, "count": 10, "bytes": spread(size)}
            for name, size in (("compiled", 0), ("msgpack", 1000))
            for state in ("idle", "large")
        ],
        "connections": [{"contender": "callback/asyncio", "count": 10_000, "bytes": spread(1536), **timed}],
    }


def test_each_figure_has_a_name_of_its_own(report):
    figures = list(memory.figures(report))
    assert [figure.name for figure in figures] == [
        *("compiled, idle", "compiled, large", "msgpack, idle", "msgpack, large"),
        *(f"10,000 connections, callback/asyncio, {what}" for what in ("memory", "slow", "cpu")),
    ]
    assert figures[2].value == (900, 1000, 1100)
    assert figures[-1].ratio == (1.8, 2, 2.2)
    assert figures[-1].contender == "callback/asyncio"


def test_a_panel_for_each_state_and_a_bar_for_each_server(report):
    decoders, servers = memory.charts(report)
    assert list(decoders.panels) == ["idle", "large"]
    assert [(bar.name, bar.kind, bar.value.median) for bar in decoders.panels["idle"]] == [
        ("compiled", "ours", 1),
        ("msgpack", "compiled", 1000),
    ]
    assert [(bar.name, bar.value) for bar in servers.panels[""]] == [("callback/asyncio", pytest.approx((1.35, 1.5, 1.65)))]
    assert servers.marks == {"at most, ours": 4}
    assert memory.charts(report | {"decoders": [], "connections": []}) == []
