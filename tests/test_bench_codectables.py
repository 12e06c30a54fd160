"""What is shown of the codec's report: a row for each contender, empty cells where one takes no part, all figures and lines."""

import pytest

from fastframe.bench import codectables

KINDS = {"limit": "limit", "limit by chunk": "limit", "ours": "ours", "a peer": "python", "walk": "limit"}


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


def row(contender, ns, payload=16, *, ratio, **cell):
    return {
        "contender": contender,
        "payload": payload,
        **cell,
        "ns": spread(ns),
        "ratio": {name: spread(times) for name, times in ratio.items()},
    }


@pytest.fixture
def report():
    decode = []
    for chunk in (1024, 65536):
        decode += [
            row("limit", 12.34, chunk=chunk, ratio={"limit": 1}),
            row("ours", 24.68, chunk=chunk, ratio={"limit": 2, "ours": 1, "a peer": 0.02}),
            row("a peer", 1.2e6, chunk=chunk, ratio={"limit": 100}),
            row("limit by chunk", 20, 1 << 20, chunk=chunk, ratio={"limit": 1.5}),
            row("ours", 30, 1 << 20, chunk=chunk, ratio={"limit": 2.5, "limit by chunk": 1.5, "a peer": 0.5}),
        ]
    linear = {"shape": "tiny", "bytes": 2 << 20, "chunks": 1, "contender": "ours", "way": "feed", "ns": spread(5e6)}
    return {
        "contenders": KINDS,
        "decode": decode,
        "batch": [row("ours", 6, chunk=65536, ratio={"walk": 3}), row("walk", 2, chunk=65536, ratio={"walk": 1})],
        "encode": [row("limit", 20, batch=64, ratio={"limit": 1}), row("ours", 40, batch=64, ratio={"limit": 2})],
        "linear": [{**linear, "ratio": {"half": spread(2)}}],
    }


def test_a_table_of_each_chunk_has_a_row_for_each_contender(report):
    tables = {title: (heads, rows) for title, heads, rows in codectables.codec_tables(report)}
    assert len(tables) == 9
    assert tables["decode, in chunks of 1 KiB: ns a frame"] == (
        ["", "16 B", "1 MiB"],
        [
            ["limit", "12.3 ±10 %", ""],
            ["limit by chunk", "", "20.0 ±10 %"],
            ["ours", "24.7 ±10 %", "30.0 ±10 %"],
            ["a peer", "1.2M ±10 %", ""],
        ],
    )
    assert tables["decode, in chunks of 64 KiB: times what the others take"][1] == [
        ["ours / limit", "2.00x", "2.50x"],
        ["ours / limit by chunk", "", "1.50x"],
        ["ours / a peer", "0.02x", "0.50x"],
    ]
    assert tables["encode, 64 a call: ns a frame"][1] == [["limit", "20.0 ±10 %"], ["ours", "40.0 ±10 %"]]
    assert tables["twice the bytes"][1] == [["ours feed", "tiny", "2", "1", "5,000 ±10 %", "2.00x"]]


def test_what_was_not_measured_has_no_table(report):
    report |= {"batch": [], "linear": []}
    titles = [title for title, _, _ in codectables.codec_tables(report)]
    assert not any("feed_batch" in title or "twice" in title for title in titles)


def test_each_figure_has_a_name_of_its_own_and_the_ratio_to_the_limit(report):
    figures = {figure.name: figure for figure in codectables.codec_figures(report)}
    assert len(figures) == 10 + 2 + 2 + 1
    assert figures["decode, 16 B in chunks of 1 KiB, ours"].ratio.median == 2
    assert figures["feed_batch, 16 B in chunks of 64 KiB, walk"].ratio is None  # the first of that table is another one
    assert figures["encode, 16 B, 64 a call, ours"].value.median == 40
    twice = figures["2 MiB, frames tiny, ours feed"]
    assert (twice.value.median, twice.unit, twice.ratio.median) == (5, "ms", 2)
    assert {figure.contender for figure in figures.values()} == set(KINDS)


def test_charts_show_chunks_of_64_kib(report):
    bars, times, objects = codectables.codec_charts(report)
    assert list(bars.panels) == ["16 B", "1 MiB"]
    assert [(bar.name, bar.kind, bar.value.median) for bar in bars.panels["16 B"]] == [
        ("limit", "limit", 12.34),
        ("ours", "ours", 24.68),
        ("a peer", "python", 1.2e6),
    ]
    assert list(times.panels) == ["decode, in chunks of 64 KiB", "encode, 64 a call"]
    (ours,) = [line for line in times.panels["decode, in chunks of 64 KiB"] if line.name == "ours"]
    assert (ours.x, [value.median for value in ours.y]) == ([16, 1 << 20], [2, 2.5])
    assert [line.name for line in objects.panels["feed"]] == ["limit", "limit by chunk", "ours"]
    assert [line.name for line in objects.panels["feed_batch"]] == ["ours", "walk"]


def test_charts_show_another_chunk_where_there_are_none_of_64_kib(report):
    report["decode"] = [each for each in report["decode"] if each["chunk"] == 1024]
    for each in report["batch"]:
        each["chunk"] = 1024
    assert codectables.codec_charts(report)[0].title.endswith("in chunks of 1 KiB")
