"""Tables, page and pictures of saved files."""

import pytest
from made_up import FEW_BARS, made_up_family, made_up_report

from fastframe.bench import compare, redraw
from fastframe.bench.command import write_json


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two files, the second of which has a later report of the first one's family."""
    monkeypatch.setattr(redraw, "family", lambda name: made_up_family(name, [FEW_BARS]))
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    write_json(paths[0], [made_up_report(benchmark="echo", versions={"run": "first"}), made_up_report(benchmark="chat")])
    write_json(paths[1], [made_up_report(benchmark="echo", versions={"run": "second"})])
    return list(map(str, paths))


def test_saved_files_are_shown_and_drawn_again(files, tmp_path, capsys):
    html, folder = tmp_path / "page.html", tmp_path / "pictures"
    assert redraw.main([*files, "--html", str(html), "--png", str(folder), "--markdown", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.count("20.5") == 2
    assert ("first" in out, "second" in out) == (False, True)
    assert html.read_text().count("<section") == 2
    names = ["benchmarks-chat.md", "benchmarks-echo.md", "chat-few.png", "echo-few.png"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_file_that_cannot_be_read_is_a_failure_in_one_line(tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_text("{}")
    for path in (other, tmp_path / "nowhere.json"):
        assert redraw.main([str(path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("fastframe bench report: ")
        assert (str(path) in err, err.count("\n")) == (True, 1)


@pytest.mark.parametrize(
    "reports",
    ["[]", "null", "{}", "[3]", '{"benchmark": "echo"}', '[{"benchmark": ["echo"]}]', '[{"benchmark": "echo"}]', "[" * 9999],
)
def test_what_nobody_of_ours_wrote_is_a_failure_in_one_line(reports, tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_text(f'{{"fastframe_bench": 1, "reports": {reports}}}')
    for main, arguments in ((redraw.main, [str(other)]), (compare.main, [str(other), str(other)])):
        assert main(arguments) == 1
        err = capsys.readouterr().err
        assert (err.startswith("fastframe bench "), err.count("\n")) == (True, 1)
