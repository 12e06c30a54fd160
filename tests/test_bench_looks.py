"""Who has which colours, marker and dashes; figures and ticks as text."""

import pytest
from made_up import BARS, FEW_BARS, HEAT, KINDS, LINES, made_up_report

from fastframe.bench import looks
from fastframe.bench.charts import Axis, Bar, Bars, Heat, Line, Lines
from fastframe.bench.measure import Spread


def test_everybody_can_be_told_from_everybody():
    found = looks.looks(LINES, made_up_report())
    assert list(found) == list(KINDS)
    assert len(set(found.values())) == len(found)


def test_looks_are_the_same_in_every_chart_of_a_report():
    some = Bars("", "", Axis(""), {"": [Bar("twisted", "python", Spread(1, 1, 1))]})
    assert looks.looks(some, made_up_report()) == {"twisted": looks.looks(LINES, made_up_report())["twisted"]}


def test_the_ways_of_one_stem_differ_by_their_dashes_alone():
    found = looks.looks_of(KINDS)
    assert found["callback/uvloop"] == found["callback/asyncio"]._replace(dash=1)
    assert found["batch/asyncio"].shade != found["callback/asyncio"].shade


def test_many_of_a_kind_are_still_different():
    many = dict.fromkeys(map(str, range(20)), "python")
    assert len({(look.shade, look.marker, look.dash) for look in looks.looks_of(many).values()}) == 20


def test_all_kinds_have_a_name_and_the_colours_are_colours():
    assert looks.KINDS.keys() == looks.SHADES.keys()
    for shades in looks.SHADES.values():
        assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for pair in shades for colour in pair)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.012"), (0.7, "0.70"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
)
def test_figures_are_text(value, text):
    assert looks.figure_text(value) == text


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (1, 1000, 5, [1, 10, 100, 1000]),
        (0.9, 40, 6, [1, 2, 5, 10, 20]),
        (18, 90, 6, [20, 30, 40, 50, 60, 80]),
        (1, 1e8, 4, [1, 1e3, 1e6]),
    ],
)
def test_ticks_are_round_and_not_too_many(low, high, most, ticks):
    assert looks.log_ticks(low, high, most) == pytest.approx(ticks)


def test_ticks_of_sizes_are_each_so_many_times_the_one_before():
    sizes = [64 << at for at in range(17)]
    assert looks.some_sizes(sizes, 7) == [64, 1 << 10, 16 << 10, 256 << 10, 4 << 20]
    assert looks.some_sizes(sizes[:3], 7) == sizes[:3]


@pytest.mark.parametrize(("value", "start"), [(1, 0.5), (10.4, 5), (3, 2), (680, 200), (0.03, 0.02)])
def test_a_logarithmic_axis_begins_well_below_the_least_bar(value, start):
    assert looks.below(value) == pytest.approx(start)


def test_an_axis_has_room_for_figures_and_for_marks():
    (bars,) = FEW_BARS.panels.values()
    start, end = looks.bar_range(bars, FEW_BARS, 0.5)
    assert (start, end) == (0, pytest.approx(2 * 0.84))
    start, end = looks.bar_range(BARS.panels["panel 1"], BARS, 0.2)
    assert start < 0.9
    assert end > 1200


def test_a_chart_of_nobody_is_not_drawn():
    nobody = [Bars("", "", Axis(""), {}), Bars("", "", Axis(""), {"": []})]
    assert looks.drawable([*nobody, FEW_BARS, HEAT]) == [FEW_BARS, HEAT]


def test_charts_of_others_than_contenders_have_looks_of_their_own():
    sizes = Lines(
        "", "", Axis(""), Axis(""), {"": [Line(f"frames of {size}", "ours", [1], [Spread(1, 1, 1)]) for size in "abcd"]}
    )
    assert [look.dash for look in looks.looks(sizes, made_up_report()).values()] == [0] * 4


def test_names_stand_beside_all_panels_only_if_they_are_the_same():
    assert looks.one_list(BARS) == list(KINDS)
    own = [Bar("own", "ours", Spread(1, 1, 1)), Bar("c", "native", Spread(1, 1, 1))]
    assert looks.one_list(Bars("", "", Axis(""), {"a": own[:1], "b": own})) == ["own", "c"]
    assert looks.one_list(Bars("", "", Axis(""), {"a": own[:1], "b": own[1:]})) is None


def test_cells_that_are_far_apart_are_coloured_by_their_logarithms():
    found = looks.colouring(HEAT)
    assert found == (64, 3 * (4 << 20), True)
    assert [found.is_bright(value) for value in (64, 1 << 10, 1 << 20)] == [False, False, True]
    near = looks.colouring(Heat("", "", Axis(""), Axis(""), [1, 2], [1], "", {"": [[10, 20]]}))
    assert [near.is_bright(value) for value in (10, 14, 15, 20)] == [False, False, True, True]


def test_the_footer_says_where_it_was_measured():
    assert looks.footer(made_up_report()) == (
        "A CPU, 2 cores · Linux 6 · CPython 3.11 · fastframe 0.1.0 (cython) · 2026-11-22 · quick run"
    )
    assert "quick" not in looks.footer(made_up_report(quick=False))


def test_bars_whose_scale_is_logarithmic_say_so():
    assert looks.label_text(Axis("us a message", "log")) == "us a message, logarithmic"
    assert looks.label_text(Axis("GB/s")) == "GB/s"
