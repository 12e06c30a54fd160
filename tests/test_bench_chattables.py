"""What the chat benchmark's report shows: bars, tables, figures and charts, of rows as they are saved."""

import json

import pytest

from fastframe.bench import bars, chattables

MS = 1_000_000
NAMES = {"c": "base", "fastframe/asyncio": "ours"}
SETTINGS = {"members": 2, "texts_a_second": 10}


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


def talk_row(name, late, ms):
    kinds = {kind: spread(times * ms * MS) for kind, times in (("median", 0.5), ("slow", 1), ("slowest", 2))}
    row = {"table": "talk", "contender": name, "rate": spread(20 / late), "late": spread(late), "cpu_ns": spread(5400.0)}
    memory = {"memory": 3 << 20, "each": 2048.0}
    return row | {"ratio": {"c": spread(0.57)}, "client_ns": spread(4500.0)} | kinds | memory


def slow_row(name, cut):
    row = {"table": "slow", "contender": name, "members": 2, "longest": 12, "cut": cut, "grown": 1 << 20}
    return row | {"slow": MS, "slowest": 2 * MS}


def most_row(name):
    busy = {"server_busy": spread(0.5), "client_busy": spread(0.25)}
    return {"table": "most", "contender": name, "rate": spread(250_000)} | busy


def report_of(*rows):
    report = {"chat": rows, "contenders": NAMES, "settings": SETTINGS}
    return json.loads(json.dumps(report))


def test_a_room_that_talks():
    report = report_of(talk_row("c", 1, 10), talk_row("fastframe/asyncio", 2, 200))
    late, slow = bars.chat_verdicts(report)
    assert (late["bar"], late["reached"]["worst"], late["passed"]) == ("20 deliveries/s, times the time", 2, False)
    assert (slow["reached"]["worst"], slow["passed"]) == (200, False)
    ((title, heads, lines),) = chattables.tables(report)
    assert title == "what a delivery takes"
    assert len(heads) == len(lines[0]) == len(lines[1])
    expected = ["10", "5.40 ±10 %", "0.57x", "4.50", "100.0", "200.0 ±10 %", "400.0", "3.0", "2.0"]
    assert lines[1] == ["fastframe/asyncio", *expected]


@pytest.mark.parametrize(
    ("cut", "text", "passed"), [([4.0, 6.0], "4.0 to 6.0", True), ([4.0], "4.0 to 4.0", False), ([], "not in 12", False)]
)
def test_when_slow_members_are_cut(cut, text, passed):
    report = report_of(slow_row("fastframe/asyncio", cut))
    (verdict,) = bars.chat_verdicts(report)
    assert (verdict["bar"], verdict["passed"]) == ("s until a slow member is cut", passed)
    ((title, heads, (line,)),) = chattables.tables(report)
    assert title == "2 members who do not take anything"
    assert line == ["fastframe/asyncio", f"{len(cut)} of 2", text, "1.0", "2.0", "1.0"]
    assert len(heads) == len(line)


def test_the_most():
    ((title, heads, (line,)),) = chattables.tables(report_of(most_row("c")))
    assert (title, line) == ("the most with 99 % in 100 ms", ["c", "250,000 ±10 %", "50 %", "25 %"])
    assert len(heads) == len(line)


def test_each_figure_has_a_name_of_its_own():
    rows = [talk_row("c", 1, 10), talk_row("fastframe/asyncio", 1, 10), slow_row("c", []), slow_row("fastframe/asyncio", [7.5])]
    figures = list(chattables.figures(report_of(*rows, most_row("c"))))
    assert len({figure.name for figure in figures}) == len(figures) == 2 * 2 + 1 + 1
    cpu, times = (tuple(spread(median).values()) for median in (5400, 0.57))
    assert figures[0] == ("a delivery, c", "ns of the server's processor", cpu, times, "c", "less")
    assert figures[4].value == (7.5, 7.5, 7.5)
    assert figures[5].better == "more"


def test_charts_are_of_what_there_is():
    processor, wait = chattables.charts(report_of(talk_row("c", 1, 10), talk_row("fastframe/asyncio", 1, 50)))
    assert [(bar.name, bar.kind, bar.value.median) for bar in processor.panels[""]] == [
        ("c", "base", 5.4),
        ("fastframe/asyncio", "ours", 5.4),
    ]
    assert "2 members, 10 texts a second" in processor.title
    assert [bar.value.median for bar in wait.panels[""]] == [10, 50]
    assert wait.marks == {"100 ms": 100}
    (most,) = chattables.charts(report_of(most_row("c")))
    assert most.panels[""][0].value.median == 250_000
    assert chattables.charts(report_of(slow_row("c", []))) == []
