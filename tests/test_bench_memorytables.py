"""The report on memory to read: a row for each decoder and for each server, and no table without any."""

import pytest

from fastframe.bench.memorytables import memory_tables


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


@pytest.fixture
def report():
    figures = {kind: {"without": spread(1e5), "with": spread(2e5), "ratio": spread(2)} for kind in ("median", "slow", "cpu")}
    return {
        "settings": {"tls": "no"},
        "decoders": [
            {"contender": name, "state": state, "bytes": spread(size)}
            for name, size in (("one", 0), ("two", 12345))
            for state in ("idle", "large")
        ],
        "connections": [{"contender": "callback/asyncio", "count": 10_000, "bytes": spread(1536), **figures}],
    }


def test_decoders_have_a_column_for_each_state(report):
    title, heads, rows = memory_tables(report)[0]
    assert (title, heads) == ("bytes a decoder", ["decoder", "idle", "large"])
    assert rows == [["one", "0", "0"], ["two", "12,345 ±10 %", "12,345 ±10 %"]]


def test_connections_say_what_each_takes(report):
    _, memory, echo = memory_tables(report)
    title = "10,000 idle connections, plain: memory of the server"
    assert memory == (title, ["server", "KiB each"], [["callback/asyncio", "1.50 ±10 %"]])
    title, heads, (row,) = echo
    assert title == "10,000 idle connections, plain: an echo without and with them, us"
    assert len(heads) == len(row)
    assert row == ["callback/asyncio", *["100", "200", "2.00x"] * 3]
    report["settings"]["tls"] = "yes"
    assert "10,000 idle connections, over TLS" in memory_tables(report)[1][0]


def test_nothing_measured_is_no_table(report):
    assert memory_tables(report | {"decoders": [], "connections": []}) == []
