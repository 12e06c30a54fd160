"""The report on transfers to read: a table for each way of a file, empty cells where somebody is missing."""

import pytest

from fastframe.bench import bars, transfertables


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


def row(table, label, gb_s, chunk=0, direction="get", **ratio):
    name, _, digest = label.partition(" ")
    where = {"table": table, "direction": direction, "sink": "file", "chunk": chunk, "contender": name, "label": label}
    figures = {
        "digest": digest or "none",
        "gb_s": spread(gb_s),
        "ratio": {base: spread(value) for base, value in ratio.items()},
    }
    return (
        where
        | figures
        | {
            end: {"cpu_s_gib": spread(cpu), "peak": 20 << 20, "grown": grown << 20}
            for end, cpu, grown in (("server", 0.25, 1), ("client", 0.5, 40))
        }
    )


@pytest.fixture
def report():
    return {
        "machine": {"cpu": "a machine"},
        "versions": {},
        "settings": {"socat": "-u"},
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
    transfertables.print_transfer(report)
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
    page = transfertables.transfer_markdown(report)
    assert page.startswith("# Benchmarks: a file from one process to another\n")
    assert "| fastframe sha256 | 0.80 ±10 % | 2.00x | 1.25x | 0.25 | 0.50 | 20 | 20 |" in page
    assert page.count("\n## ") == len(transfertables.transfer_tables(report))


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
