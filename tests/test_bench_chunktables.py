"""The sweeps of chunk sizes to read and to look at: all sizes, and holes where nothing was measured."""

from chunk_report import KIB, MIB, made_up

from fastframe.bench import chunks


def test_tables_have_all_sizes_of_frames_and_of_reads():
    tables = {title: (heads, rows) for title, heads, rows in chunks.FAMILY.tables(made_up())}
    heads, rows = tables["Echo: GB of payload per second of the server's processor, blocking"]
    assert heads == ["frame", "64 B", "256 B", "256 KiB", "4 MiB", "spread"]
    assert rows[0] == ["64 B", *["0.64"] * 4, "±10 %"]
    _, rows = tables["Transfer: GB/s of payload, feed"]
    assert rows[1][:2] == ["1 MiB", ""]
    _, rows = tables["small frames by send_many, so many in a call: ns a frame"]
    assert rows == [["64 B", "900", "101", "100", "±10 %"]]
    assert all(all(isinstance(cell, str) for cell in line) for _, lines in tables.values() for line in lines)


def test_there_are_a_field_and_lines_for_each_sweep_and_holes_where_nothing_was_measured():
    charts = {chart.name: chart for chart in chunks.FAMILY.charts(made_up())}
    assert list(charts) == [f"{sweep}-{what}" for sweep in ("decode", "echo", "transfer") for what in ("field", "reads")]
    assert charts["echo-field"].panels["callback/asyncio"][0] == [0.64, 0.64, 0.64, None]
    assert charts["transfer-field"].panels["feed"][1][0] is None
    (line, _) = charts["decode-reads"].panels["compiled"]
    assert (line.name, line.x) == ("frames of 64 B", [64, 256, 256 * KIB, 4 * MIB])


def test_a_report_without_a_sweep_shows_the_rest():
    report = made_up() | {"decode": [], "echo": [], "batch": []}
    assert {title.partition(":")[0] for title, _, rows in chunks.FAMILY.tables(report) if rows} >= {"Transfer", "transfer"}
    assert [chart.name for chart in chunks.FAMILY.charts(report)] == ["transfer-field", "transfer-reads"]
