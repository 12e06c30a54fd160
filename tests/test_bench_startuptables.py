"""The report on starting to read: a row for each program, empty cells where nothing can be told."""

from fastframe.bench.startuptables import HEADS, startup_tables


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


def test_a_row_for_each_program():
    took = {"ns": spread(2e7), "over": spread(-4e5), "ratio": spread(2)}
    row = {"contender": "a program", "modules": 12, "peak": 3 << 20, "processor": took, "wall": took}
    ((title, heads, rows),) = startup_tables({"startup": [row, row | {"modules": None, "peak": None}]})
    assert (title, heads) == ("start-up", HEADS)
    assert rows[0] == ["a program", "20.0 ±10 %", "-0.4", "2.00x", "20.0 ±10 %", "-0.4", "12", "3.0"]
    assert rows[1][-2:] == ["", ""]
