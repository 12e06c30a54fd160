"""The report on commands to read: a table for each job, the bases' ratios at the end of each line."""

import pytest

from fastframe.bench import exectables
from fastframe.bench.command import markdown, print_report
from fastframe.bench.exec import FAMILY


def row(table, name, ns, at_once=1, size=0, **ratio):
    spread = lambda median: {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}  # noqa: E731
    where = {"table": table, "contender": name, "at_once": at_once, "bytes": size, "runs": 100, "slow": 3 * ns}
    return where | {"ns": spread(ns), "cpu_ns": spread(2 * ns), "ratio": {base: spread(value) for base, value in ratio.items()}}


@pytest.fixture
def report():
    return {
        "machine": {"cpu": "a machine"},
        "versions": {},
        "settings": {},
        "does": {"openssh": "sshd as it comes"},
        "left_out": ["rpyc: not here"],
        "contenders": {"posix_spawn": "base", "pipes": "base", "openssh": "remote"},
        "bars": [],
        "exec": [
            row("one", "posix_spawn", 1e6, posix_spawn=1, pipes=0.5),
            row("one", "openssh", 7e6, posix_spawn=7.1, pipes=3.5),
            row("several", "posix_spawn", 5e5, 8, posix_spawn=1),
            row("several", "openssh", 4e6, 8, posix_spawn=8),
            row("output", "pipes", 5e8, size=1 << 30, pipes=1),
        ],
    }


def test_each_job_has_a_table(report, capsys):
    print_report(FAMILY, report)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["left", "out:", "rpyc:", "not", "here"] in lines
    assert ["openssh", "7.00", "±10", "%", "21.00", "14.00", "7.10x", "3.50x"] in lines
    assert ["true,", "8", "at", "once"] in lines
    assert ["posix_spawn", "2,000", "±10", "%", "1.5", "1.00", "1.00x"] in lines
    assert ["1024", "MiB", "of", "output"] in lines
    assert ["pipes", "2,147", "±10", "%", "1.00", "1.00x"] in lines


def test_a_page_has_the_same_tables(report):
    page = markdown(FAMILY, report)
    assert page.startswith("# Benchmarks: commands\n")
    assert "| openssh | 250 ±10 % | 12.0 | 8.00 | 8.00x |" in page
    assert page.count("\n## ") == 4
    assert "| *openssh* | sshd as it comes |" in page


def test_each_figure_has_a_name_of_its_own(report):
    figures = {figure.name: figure for figure in exectables.exec_figures(report)}
    assert len(figures) == 2 * len(report["exec"])
    figure = figures["true, 8 at once, openssh"]
    assert (figure.value.median, figure.ratio.median, figure.contender) == (4e6, 8, "openssh")
    assert figures["1024 MiB of output, pipes, processors"].value.median == 1e9


def test_charts_are_of_times_one_after_another_and_of_rates(report):
    one, several, output = exectables.exec_charts(report)
    assert [(bar.name, bar.kind) for bar in one.panels[""]] == [("posix_spawn", "base"), ("openssh", "remote")]
    assert one.panels[""][1].value == pytest.approx((6.3, 7, 7.7))
    assert several.panels[""][1].value == pytest.approx((250 / 1.1, 250, 250 / 0.9))
    assert output.panels[""][0].value.median == pytest.approx(2147.5, abs=0.1)
    assert "Less is better" in one.note
    assert (one.marks, several.marks) == ({}, {"fastframe/plain: 600/s": 600, "fastframe/sandbox: 300/s": 300})
    assert "More is better" in several.note
    report["exec"] = report["exec"][:1]
    assert len(exectables.exec_charts(report)) == 1
