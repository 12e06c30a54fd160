"""Where the lines bend and why, made of figures of the same report."""

from chunk_report import KIB, made_up, row

from fastframe.bench.kneetables import facts_table, knee_of, knees_table, words_table


def test_a_knee_is_the_smallest_read_that_is_about_as_good_as_the_best():
    own = [row("x", 64, read, ns) for read, ns in ((64, 400.0), (256, 104.0), (KIB, 100.0), (4 * KIB, 130.0))]
    assert knee_of(own)["read"] == 256


def test_the_table_of_knees_says_what_other_reads_cost():
    own = [row("compiled", 64, read, ns) for read, ns in ((64, 400.0), (256, 104.0), (KIB, 100.0), (4 * KIB, 130.0))]
    _, heads, (cells,) = knees_table({"decode": own, "echo": [], "transfer": []})
    assert len(heads) == len(cells)
    assert cells[:2] == ["decode, compiled, 64 B", "64 B"]
    assert cells[3:] == ["256 B: 3.85x faster", "256 B", "0.62", "4 KiB: 1.25x the time"]


def test_facts_have_their_units():
    shown = dict(facts_table(made_up())[2])
    assert shown["a recv of 1 B from TCP"] == "0.10 us"
    assert shown["a recv of 1 MiB"] == "105 us, 10.00 GB/s"
    assert shown["caches for data"] == "L1 32 KiB, L2 512 KiB"
    assert shown["filling a block of 256 KiB, mapped anew"] == "0.10 us, 64 page faults"
    assert shown["a fresh socket's buffers, for receiving and sending"] == "2 and 1 B"
    assert shown["one recv of a flood brings, quartiles"] == "90 to 110 B, at most 120"


def test_it_is_said_why_lines_bend():
    words = [text for (text,) in words_table(made_up())[2]]
    assert any("Small reads. blocking: a read of 64 B of a frame of 1 MiB takes 1.00 us" in text for text in words)
    (large,) = [text for text in words if "echo, blocking: with reads of 4 MiB a frame of 1 MiB takes 1.00 times" in text]
    assert large.endswith("a bare recv runs at 10.0 GB/s with 1 MiB.")
    assert any("with 16 in a call 0.10" in text for text in words)
    assert any(
        "from chunks of 4 MiB takes 0.99 times what it takes from 256 KiB, and 5.0 page faults" in text for text in words
    )
