"""What plotly is given: plotly itself says whether it knows every property; texts of reports are no markup."""

import json
import re

import pytest
from made_up import BARS, CHARTS, HEAT, HOSTILE, KINDS, LINES, made_up_report

from fastframe.bench import plots


def test_plotly_takes_all_of_it():
    import plotly.graph_objects as go  # noqa: PLC0415  a second, which other tests need not wait for

    for chart in CHARTS:
        found = plots.plots(chart, made_up_report())
        assert [plot.title for plot in found] == list(chart.panels)
        for plot in found:
            text = json.dumps([plot.traces, plot.layout], allow_nan=False)
            traces, layout = json.loads(re.sub(r"var\(--[\w-]+\)", "#123456", text))
            go.Figure(traces, layout)


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_nothing_that_plotly_takes_for_markup_comes_from_a_report(chart):
    def texts(data):
        if isinstance(data, dict):
            # A trace's name is shown nowhere: it is what the key of the page knows it by.
            for key, each in data.items():
                yield from texts(each) if key != "name" else ()
        elif isinstance(data, list):
            for each in data:
                yield from texts(each)
        elif isinstance(data, str):
            yield data

    for plot in plots.plots(chart, made_up_report()):
        for text in texts([plot.traces, plot.layout]):
            assert not re.search(r"<(?!/?b>|br>)|hovertemplate", text), text


def test_a_line_has_its_spread_and_says_it():
    first, second = plots.plots(LINES, made_up_report())
    trace = first.traces[0]
    assert trace["error_y"]["array"][0] == pytest.approx(8 * 0.2)
    assert trace["hovertext"][1] == "<b>limit</b>, 256 B<br>16.0 ns a frame<br>quartiles 14.4 to 19.2"
    assert first.layout["yaxis"]["range"] == second.layout["yaxis"]["range"]
    assert first.layout["xaxis"]["ticktext"][:3] == ["64 B", "1 KiB", "16 KiB"]
    assert [trace["name"] for trace in first.traces] == list(KINDS)


def test_bars_keep_their_order_and_have_their_figures_behind_their_whiskers():
    plot = plots.plots(BARS, made_up_report())[1]
    bars, figures = plot.traces
    assert bars["x"] == [2.0 * at**3 for at in range(1, 11)]
    assert figures["x"] == pytest.approx([2.4 * at**3 for at in range(1, 11)])
    assert figures["text"][:2] == [" 2.00", " <b>16.0</b>"]
    names = plot.layout["yaxis"]["categoryarray"]
    assert names == bars["y"] == figures["y"]
    assert names[-1].count("<br>") == 2
    assert len(plot.layout["shapes"]) == 2


def test_each_cell_has_its_figure_in_black_or_in_white():
    plot = plots.plots(HEAT, made_up_report())[0]
    field, white, black = plot.traces
    assert field["z"][1][0] is None
    assert (white["text"][0], black["text"][-1]) == ("64.0", "4,194,304")
    assert len(white["text"]) + len(black["text"]) == sum(cell is not None for row in HEAT.panels["a"] for cell in row)
    assert field["hovertext"][0][1] == "<b>256 MB/s</b><br>64 B payload<br>256 B bytes a read"


def test_a_hostile_name_is_a_name():
    trace = next(trace for trace in plots.plots(LINES, made_up_report())[0].traces if trace["name"] == HOSTILE)
    assert trace["hovertext"][0].startswith("<b>&lt;/script&gt;")
