"""The report on transfers to read: a table for each way of a file, empty cells where somebody is missing."""

import pytest

from fastframe.bench import bars, transfertables
from fastframe.bench.command import markdown, print_report
from fastframe.bench.transfer import FAMILY


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


def row(table, label, gb_s, chunk=0, direction="get", **ratio):
    name, _, digest = label.partition(" ")
    where = {"table": table, "direction": direction, "sink": "file", "chunk": chunk, "contender": name, "label": label}
    figures = {
        "digest": digest or "none",
        "bytes": 1 << 30,
        "ns": spread((1 << 30) / gb_s),
        "cpu_ns": spread(0.75e9),
        "ratio": {base: spread(value) for base, value in ratio.items()},
        "cpu_ratio": {base: spread(2) for base in ratio},
    }
    return (
        where
        | figures
        | {
            end: {"cpu_ns": spread(cpu * 1e9), "peak": 20 << 20, "grown": grown << 20}
            for end, cpu, grown in (("server", 0.25, 1), ("client", 0.5, 40))
        }
    )


@pytest.fixture
def report():
    return {
        "machine": {"cpu": "a machine"},
        "versions": {},
        "settings": {},
        "does": {"socat": "carries it"},
        "left_out": ["somebody: not here"],
        "contenders": {"sendfile": "base", "socat": "native", "loop": "python", "fastframe": "ours"},
        "bars": [],
        "transfer": [
            row("everybody", "sendfile", 2, sendfile=1, socat=0.5),
            row("everybody", "socat", 1, sendfile=2, socat=1),
            row("everybody", "fastframe", 1.9, sendfile=1.05, socat=0.53),
            row("everybody", "fastframe sha256", 0.5, sendfile=4, socat=2),
            row("everybody", "fastframe sha256", 0.8, direction="put", sendfile=2, socat=1.25),
            row("chunks", "sendfile", 2, 1024, sendfile=1),
            row("chunks", "loop", 0.2, 1024, sendfile=10),
            row("chunks", "sendfile", 2.1, 1 << 20, sendfile=1),
            row("digests", "fastframe md5", 0.6, sendfile=3),
        ],
    }


def test_everybody_has_a_line(report, capsys):
    print_report(FAMILY, report)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["left", "out:", "somebody:", "not", "here"] in lines
    assert ["get", "into", "a", "file"] in lines
    assert ["put", "into", "a", "file"] in lines
    assert ["get", "into", "a", "file,", "by", "digest"] in lines
    assert ["socat", "1.00", "±10", "%", "2.00x", "1.00x", "0.25", "0.50", "20", "20"] in lines
    assert ["fastframe", "md5", "0.60", "±10", "%", "3.00x", "0.25", "0.50", "20", "20"] in lines


def test_chunks_have_a_line_each_and_who_is_missing_an_empty_cell(report):
    tables = {title: (heads, lines) for title, heads, lines in transfertables.transfer_tables(report)}
    heads, lines = tables["get into a file, by size of a chunk: GB/s, and times sendfile"]
    assert heads == ["chunk", "sendfile", "loop"]
    assert lines == [["1 KiB", "2.00", "0.20, 10.0x"], ["1 MiB", "2.10", ""]]
    _, lines = tables["get into a file, by size of a chunk: processor time of both ends, s/GiB"]
    assert lines[0] == ["1 KiB", "0.75", "0.75"]


def test_a_page_has_the_same_tables(report):
    page = markdown(FAMILY, report)
    assert page.startswith("# Benchmarks: a file from one process to another\n")
    assert "| fastframe sha256 | 0.80 ±10 % | 2.00x | 1.25x | 0.25 | 0.50 | 20 | 20 |" in page
    assert page.count("\n## ") == len(transfertables.transfer_tables(report)) + 1
    assert "| *socat* | carries it |" in page


def test_ours_is_held_to_its_bars(report):
    verdicts = {verdict["bar"]: verdict for verdict in bars.transfer_verdicts(report)}
    assert verdicts["get, times os.sendfile"]["reached"]["worst"] == 1.05
    assert verdicts["get, times os.sendfile"]["passed"]
    socat = verdicts["with sha256, times socat"]
    assert socat["over"] == {"get, file": 2}
    assert socat["cells"] == 2
    memory = verdicts["MiB more than before all transfers"]
    assert memory["reached"]["worst"] == 40
    assert not memory["passed"]
    report["transfer"] = report["transfer"][:2]
    assert bars.transfer_verdicts(report) == []


def test_each_figure_has_a_name_of_its_own_and_its_time_is_that_of_a_gib(report):
    figures = {figure.name: figure for figure in transfertables.transfer_figures(report)}
    assert len(figures) == 2 * len(report["transfer"])
    figure = figures["1024 MiB, get into a file, socat"]
    assert figure.value.median == pytest.approx((1 << 30) / 1)
    assert (figure.ratio.median, figure.contender, figure.better) == (2, "socat", "less")
    assert figures["1024 MiB, get into a file, chunks of 1 KiB, loop, processors"].value.median == 0.75e9
    report["transfer"][1]["bytes"] = 1 << 29
    assert next(figure for figure in transfertables.transfer_figures(report) if "512" in figure.name).value.median > 2e9


def test_charts_are_of_rates_everybody_by_chunk_and_by_digest(report):
    everybody, chunk, digest = transfertables.transfer_charts(report)
    assert [chart.name for chart in (everybody, chunk, digest)] == ["everybody", "chunk", "digest"]
    assert list(everybody.panels) == ["get into a file", "put into a file"]
    assert [(bar.name, bar.kind) for bar in everybody.panels["get into a file"]] == [
        ("sendfile", "base"),
        ("socat", "native"),
        ("fastframe", "ours"),
        ("fastframe sha256", "ours"),
    ]
    value = everybody.panels["get into a file"][0].value
    assert value == pytest.approx((2 / 1.1, 2, 2 / 0.9))
    sendfile, loop = chunk.panels["get into a file"]
    assert (sendfile.x, loop.x) == ([1024, 1 << 20], [1024])
    assert [bar.name for bar in digest.panels["get into a file"]] == ["fastframe md5"]
    report["transfer"] = report["transfer"][:1]
    assert [chart.name for chart in transfertables.transfer_charts(report)] == ["everybody"]
