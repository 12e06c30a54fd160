"""`fastframe bench startup` as a user runs it, with few programs and turns."""

import pytest

from fastframe.bench import startup
from fastframe.bench.command import read_json
from fastframe.bench.starts import STARTS, Start

FAILS = Start("python", "fails", "import nothing_of_that_name")


def test_programs_start_in_turns_and_the_report_has_it_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(STARTS, "absent", FAILS)
    path = tmp_path / "startup.json"
    arguments = ["--only", "fastframe/pure,absent", "--repetitions", "2", "--json", str(path), "--markdown", str(tmp_path)]
    assert startup.main(arguments) == 0
    (report,) = read_json(path)
    assert report["contenders"] == {"python": "base", "fastframe/pure": "ours"}
    assert report["left_out"] == ["absent: it is not installed: No module named 'nothing_of_that_name'"]
    base, ours = report["startup"]
    assert ours["modules"] > base["modules"]
    assert ours["processor"]["ratio"]["lower"] > 1
    assert base["processor"]["ratio"] == {"lower": 1, "median": 1, "upper": 1}
    assert "fastframe/pure" in capsys.readouterr().out
    assert "| fastframe/pure |" in (tmp_path / "benchmarks-startup.md").read_text()
    figures = list(startup.figures(report))
    assert [figure.name for figure in figures] == [f"{n}, {p}" for n in report["contenders"] for p in ("processor", "wall")]
    assert figures[2].contender == "fastframe/pure"
    (chart,) = startup.charts(report)
    assert [bar.name for bar in chart.panels["import"]] == ["fastframe/pure"]


def test_one_of_ours_that_fails_is_a_failure(capsys, monkeypatch):
    monkeypatch.setitem(STARTS, "fastframe.aio", FAILS._replace(kind="ours"))
    assert startup.main(["--only", "fastframe.aio"]) == 1
    said = capsys.readouterr().err
    assert "fastframe bench startup: fastframe.aio: it is not installed" in said


def test_a_program_that_there_is_not_gets_status_2(capsys):
    with pytest.raises(SystemExit) as caught:
        startup.main(["--only", "nobody"])
    assert caught.value.code == 2
    assert "there is no 'nobody'" in capsys.readouterr().err
