"""What there is to be drawn: data that stays as it is; every kind and scale of it is among what the drawing is tested with."""

import dataclasses
import typing

import pytest
from made_up import CHARTS

from fastframe.bench import charts


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_a_chart_stays_as_it_is(chart):
    with pytest.raises(dataclasses.FrozenInstanceError):
        chart.title = "another"
    with pytest.raises(dataclasses.FrozenInstanceError):
        chart.x.scale = "log"


def test_marks_of_one_chart_are_no_other_ones():
    one, other = (charts.Bars(name, "", charts.Axis("s"), {}) for name in ("one", "other"))
    assert one.marks == other.marks == {}
    assert one.marks is not other.marks


def test_every_kind_and_scale_of_charts_is_drawn_in_the_tests():
    assert {type(chart) for chart in CHARTS} == set(typing.get_args(charts.Chart))
    axes = [axis for chart in CHARTS for axis in (chart.x, getattr(chart, "y", chart.x))]
    assert {axis.scale for axis in axes} == set(typing.get_args(charts.Scale))
