"""Pictures: they are there, as wide as they should be and not too heavy, and nothing lies on anything else."""

import struct

import matplotlib as mpl
import pytest
from made_up import BARS, FEW_BARS, HEAT, LINES, made_up_report

from fastframe.bench import pictures


def check(path):
    png = path.read_bytes()
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height > 250) == (1300, True)
    assert len(png) < 120_000


@pytest.mark.parametrize("chart", [LINES, FEW_BARS, HEAT], ids=lambda chart: chart.name)
def test_a_chart_becomes_a_picture(chart, tmp_path):
    pictures.draw(chart, made_up_report(), tmp_path / "chart.png")
    check(tmp_path / "chart.png")


def test_nothing_overlaps_and_nothing_is_cut_off(tmp_path):
    with mpl.rc_context(pictures.STYLE):
        figure = pictures.draw_bars(BARS, "a footer")
        pictures.save(figure, tmp_path / "chart.png")
        panels = [axis.get_tightbbox() for axis in figure.axes]
        (key,) = figure.legends
        boxes = [*(each.get_window_extent() for each in (*figure.texts, key)), *panels]
    check(tmp_path / "chart.png")
    for at, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[:at]), (at, box)
    for axis in figure.axes:
        assert all(text.get_window_extent().x1 <= axis.bbox.x1 + 1 for text in axis.texts)


def test_a_picture_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        pictures.draw(FEW_BARS, made_up_report(), tmp_path / "nowhere" / "chart.png")
