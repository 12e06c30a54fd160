"""The benchmarks' page: what reports say is text there, nothing is fetched, and in a browser it does what it should."""

import base64
import hashlib
import json
import re

import pytest
from chromium import chromium
from made_up import CHARTS, HOSTILE, KINDS, made_up_family, made_up_report

from fastframe.bench.page import page_html

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@pytest.fixture
def html(monkeypatch):
    """The page of two families, without the 5 MB of plotly.js."""
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "plotly")
    other = made_up_family("other", charts=())
    empty = made_up_report(bars=[], left_out=[], does={})
    return page_html([(made_up_family(), made_up_report()), (other, empty)])


def test_what_a_report_says_is_text(html):
    plotly, _ = SCRIPT.findall(html)  # there is no third one
    assert (plotly, HOSTILE in html, "&lt;/script&gt;&lt;script&gt;alert(1)" in html) == ("plotly", False, True)
    data = re.search(r'id="plots">(.*?)</script>', html, re.DOTALL)[1]
    assert "<" not in data
    plots = json.loads(data)
    assert len(plots) == sum(len(chart.panels) for chart in CHARTS)
    assert [trace["name"] for trace in plots[0]["traces"]] == list(KINDS)


def test_why_nothing_is_judged_is_said(monkeypatch):
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "plotly")
    pure = made_up_report(benchmark="echo", machine=made_up_report()["machine"] | {"implementation": "python"}, bars=[])
    page = page_html([(made_up_family(charts=()), pure)])
    assert "<p>the bars are the compiled codec&#x27;s: the pure one is held to none.</p>" in page


def test_everything_of_a_family_is_there(html):
    for part in (
        '<section id="madeup"><h2>madeup: what was made up</h2><p>There is <em>nothing</em> to <code>see</code>.</p>',
        '<a href="#madeup">madeup</a>',
        '<figure id="madeup-heat"><figcaption><h3>Heat</h3><p class="quiet">More is better.</p>',
        '<li class="missed">MISSED',
        "<li>2.00x ",
        '<tr class="native"><th scope="row">c</th><td>1,000 ±3 %</td><td>1 KiB</td></tr>',
        '<dt class="ours">compiled</dt><dd>does what compiled does</dd>',
        "<li>nobody: &lt;/script&gt;",
        "<dt>peer</dt><dd>1.2</dd>",
        "Measured on: A CPU, 2 cores",
        '<section id="other">',
        '<details class="table" open><summary><h3>ns a frame</h3></summary>',
    ):
        assert part in html


def test_the_browser_may_run_these_scripts_and_fetch_nothing(html):
    policy = re.search(r'Content-Security-Policy" content="(.*?)">', html)[1]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in SCRIPT.findall(html)]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert policy == f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    assert re.findall(r'(?:src|href)="(?!#)(.*?)"', html) == ["data:,"]
    assert "url(" not in html
    assert "@import" not in html


def test_a_page_of_nothing(monkeypatch):
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "plotly")
    assert "<main>" in page_html([])


# In Chromium


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(page_html([(made_up_family(), made_up_report())]), encoding="utf-8")
    with chromium(folder / "profile") as tab:
        tab.address = (folder / "page.html").as_uri()
        yield tab


def visit(tab, scheme, width=1300):
    """Go to the page, and return how many plots there are when all are drawn."""
    tab.show(scheme, width)
    tab.open(tab.address)
    return tab.evaluate("drawn.then(() => places.length)")


def complaints(tab):
    """Return what the browser had to say, and what it asked for besides the page itself."""
    found = []
    for event in tab.events:
        match event:
            case {"method": "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded"}:
                found.append(event["params"])
            case {"method": "Network.requestWillBeSent", "params": {"request": {"url": url}}}:
                found += [] if url == tab.address or url.startswith(("data:", "blob:")) else [url]
    return found


@pytest.mark.browser
@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_drawn_without_complaint(tab, scheme, width):
    assert visit(tab, scheme, width) == sum(len(chart.panels) for chart in CHARTS)
    assert tab.evaluate("places.every((place) => place.querySelector('.plot .main-svg, .main-svg .subplot'))")
    assert tab.evaluate("document.querySelectorAll('.trace.bars .point').length") == 8 * len(KINDS) + 2
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert is_dark(tab) == [scheme == "dark"] * 2
    assert complaints(tab) == []


def is_dark(tab):
    """Return whether the ground is dark, and whether the words of a plot are bright."""
    colours = tab.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(places[0].querySelector('.xtick text')).fill]"
    )
    ground, words = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    return [ground < 200, words > 500]


@pytest.mark.browser
def test_plots_change_their_colours_as_day_becomes_night(tab):
    visit(tab, "light")
    assert is_dark(tab) == [False, False]
    query = "matchMedia('(prefers-color-scheme: dark)')"
    tab.evaluate(f"void (window.night = new Promise((comes) => {query}.addEventListener('change', comes)))")
    tab.show("dark", 1300)
    tab.evaluate("night.then(() => drawn).then(() => true)")
    assert is_dark(tab) == [True, True]


@pytest.mark.browser
def test_the_key_hides_lines_and_heads_sort_tables(tab):
    visit(tab, "light")
    shown = "document.querySelectorAll('#madeup-lines .trace.scatter').length"
    assert tab.evaluate(shown) == 2 * len(KINDS)
    tab.evaluate("document.querySelector('#madeup-lines .key button').click()")
    assert tab.evaluate(shown) == 2 * len(KINDS) - 2
    tab.evaluate("document.querySelector('#madeup-lines .key button').dispatchEvent(new Event('dblclick'))")
    assert tab.evaluate(shown) == 2
    tab.evaluate("document.querySelector('#madeup-lines .key button').dispatchEvent(new Event('dblclick'))")
    assert tab.evaluate(shown) == 2 * len(KINDS)
    column = "[...document.querySelectorAll('tbody tr')].map((row) => row.cells[{}].textContent)"
    click = "document.querySelectorAll('thead th')[{}].click()"
    tab.evaluate(click.format(1))
    assert tab.evaluate(column.format(1)) == ["3", "20.5", "1,000 ±3 %"]
    tab.evaluate(click.format(1))
    assert tab.evaluate(column.format(1)) == ["1,000 ±3 %", "20.5", "3"]
    tab.evaluate(click.format(2))
    assert tab.evaluate(column.format(2)) == ["64 B", "1 KiB", HOSTILE]
    tab.evaluate(click.format(0))
    assert tab.evaluate(column.format(0)) == ["c", "go", "own"]
    assert complaints(tab) == []
