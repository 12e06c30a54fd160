"""The page of the benchmarks: one HTML file with everything in it, interactive plots and tables, that asks the network nothing.

From the top: which families there are; then of each what it measures, its charts, what was reached of what should be, its
tables, who takes part, and where all that was measured. Whatever comes from a report is escaped: it is data, not markup. A
policy in the page's head lets the browser run these very scripts (by their digests) and fetch nothing at all.

plotly.js (4.8 MB) draws; `page.js` hands it the plots, `page.css` is the looks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .bars import not_judged
from .charts import Bars, Heat, Lines
from .command import about
from .looks import KINDS, MARK, SHADES, Look, drawable, footer, looks, shown
from .plots import DASHES, colour_of, plots
from .tables import ratio_text, verdict_text

if TYPE_CHECKING:
    from .charts import Chart
    from .family import Family, Report, Table

FOLDER: Final = Path(__file__).parent
# The markers of plots.SYMBOLS, for the key: paths around (17, 6).
PATHS: Final = (
    "M13 6a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    "M13.5 2.5h7v7h-7z",
    "M17 1.5l4.5 8h-9z",
    "M17 1l4.5 5l-4.5 5l-4.5 -5z",
    "M17 10.5l4.5 -8h-9z",
    "M15.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
)
Plots = list[dict[str, Any]]


def page_html(results: Sequence[tuple[Family, Report]]) -> str:
    """Return the page; raise ModuleNotFoundError without plotly."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415  an extra

    data: Plots = []
    sections = "".join(section(family, report, data) for family, report in results)
    scripts = [get_plotlyjs(), (FOLDER / "page.js").read_text(encoding="utf-8")]
    links = "".join(f'<a href="#{escape(family.name)}">{escape(family.name)}</a>' for family, _ in results)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>fastframe benchmarks</title>
<link rel="icon" href="data:,">
<style>{colours()}{(FOLDER / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>fastframe benchmarks</h1>
<p class="quiet">{escape(footer(results[0][1])) if results else ""}</p>
</header>
<nav aria-label="families">{links}</nav>
<main>
{sections}
</main>
<script type="application/json" id="plots">{script_json(data)}</script>
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


def policy(scripts: Sequence[str]) -> str:
    """Return what the browser may do: run these scripts, style as plotly likes, save a picture of a plot; nothing else."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def script_json(data: object) -> str:
    """Return JSON in which nothing ends the script element, nor begins a comment of HTML."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def colours() -> str:
    """Return the contenders' colours as properties of the style sheet, by day and by night."""

    def properties(at: int) -> str:
        shades = {f"--{kind}-{number}": pair[at] for kind, pairs in SHADES.items() for number, pair in enumerate(pairs)}
        return "".join(f"{name}:{colour};" for name, colour in shades.items()) + f"--mark:{MARK[at]};"

    return f":root{{{properties(0)}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{properties(1)}}}}}\n"


# A family


def section(family: Family, report: Report, data: Plots) -> str:
    """Return all of a family, and put what its plots show into `data`."""
    parts = [
        f"<h2>{escape(family.name)}: {escape(family.summary)}</h2><p>{prose(family.introduction)}</p>",
        *(chart_html(chart, report, f"{family.name}-{chart.name}", data) for chart in drawable(family.charts(report))),
        verdicts_html(report),
        *(table_html(table, report["contenders"], at == 0) for at, table in enumerate(family.tables(report))),
        takers_html(report),
        machine_html(report),
    ]
    return f'<section id="{escape(family.name)}">{"".join(parts)}</section>\n'


def prose(text: str) -> str:
    """Return words in which *emphasis* and `code` are written as in Markdown, where they are shown as well."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", re.sub(r"\*(\w[^*]*)\*", r"<em>\1</em>", escape(text)))


def verdicts_html(report: Report) -> str:
    if not report["bars"]:
        return f"<p>{escape(reason)}.</p>" if (reason := not_judged(report)) else ""
    lines = []
    for verdict in report["bars"]:
        over = "".join(f"<li>{ratio_text(ratio)} {escape(cell)}</li>" for cell, ratio in verdict["over"].items())
        more = f"<details><summary>the {len(verdict['over'])} above that</summary><ul>{over}</ul></details>" if over else ""
        state = "reached" if verdict["passed"] else "missed"
        lines.append(f'<li class="{state}">{escape(verdict_text(verdict))}{more}</li>')
    return f'<h3>What was reached of what should be</h3><ul class="verdicts">{"".join(lines)}</ul>'


def table_html(table: Table, contenders: Mapping[str, str], is_open: bool) -> str:
    """Return a table, folded away or not; a click on a head sorts it."""
    title, heads, rows = table
    head = "".join(f'<th scope="col"><button type="button">{escape(each) or "&nbsp;"}</button></th>' for each in heads)
    body = "".join(
        f'<tr class="{escape(contenders.get(row[0], ""))}"><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<details class="table"{" open" if is_open else ""}><summary><h3>{escape(title)}</h3></summary>'
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>'
    )


def takers_html(report: Report) -> str:
    """Return who takes part and who does not."""
    kinds, does = report["contenders"], report["does"]
    lines = "".join(
        f'<dt class="{escape(kinds.get(name, ""))}">{escape(name)}</dt><dd>{prose(does[name])}</dd>' for name in does
    )
    out = "".join(f"<li>{escape(reason)}</li>" for reason in report["left_out"])
    return (f"<h3>Who takes part</h3><dl>{lines}</dl>" if lines else "") + (f"<h3>Left out</h3><ul>{out}</ul>" if out else "")


def machine_html(report: Report) -> str:
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in about(report))
    return f"<details><summary>Measured on: {escape(footer(report))}</summary><dl>{lines}</dl></details>"


# A chart


def chart_html(chart: Chart, report: Report, name: str, data: Plots) -> str:
    """Return a chart: its words, its key and the places where the script puts its plots."""
    panels = plots(chart, report)
    places = []
    for panel in panels:
        head = f"<h4>{escape(panel.title)}</h4>" if panel.title else ""
        place = f'<div class="plot" data-plot="{len(data)}" style="height:{panel.height}px"></div>'
        places.append(f'<div class="panel">{head}{place}</div>')
        data.append({"traces": panel.traces, "layout": panel.layout})
    words = f'<h3>{escape(chart.title)}</h3><p class="quiet">{prose(chart.note)}</p>'
    keys = "".join(f"<li>{each}</li>" for each in key(chart, report))
    wide, least = " wide" if isinstance(chart, Heat) else "", max(panel.width for panel in panels)
    return (
        f'<figure id="{escape(name)}"><figcaption>{words}</figcaption><ul class="key">{keys}</ul>'
        f'<div class="panels{wide}" style="--least:{least}px">{"".join(places)}</div></figure>'
    )


def key(chart: Chart, report: Report) -> Iterator[str]:
    """Yield what the colours mean; of lines a button for each, to show or hide it."""
    match chart:
        case Lines():
            for name, look in looks(chart, report).items():
                text = escape(name)
                yield f'<button type="button" aria-pressed="true" data-name="{text}">{swatch(look)}{text}</button>'
        case Bars():
            for kind in dict.fromkeys(kind for _, kind in shown(chart)):
                yield svg(f'<path d="M0 1h34v10h-34z" fill="var(--{kind}-0)"/>') + escape(KINDS[kind])
            for at, text in enumerate(chart.marks):
                yield svg(stroke("var(--mark)", DASHES[1 + at % (len(DASHES) - 1)])) + escape(text)


def swatch(look: Look) -> str:
    colour = colour_of(look)
    return svg(stroke(colour, DASHES[look.dash]) + f'<path d="{PATHS[look.marker]}" fill="{colour}"/>')


def stroke(colour: str, dash: str) -> str:
    dashes = "" if dash == "solid" else f' stroke-dasharray="{dash.replace("px", "")}"'
    return f'<path d="M0 6h34" stroke="{colour}" stroke-width="2"{dashes}/>'


def svg(inside: str) -> str:
    return f'<svg viewBox="0 0 34 12" aria-hidden="true">{inside}</svg>'
