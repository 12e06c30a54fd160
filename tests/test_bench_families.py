"""All families, one after the other: made-up ones that measure nothing."""

import pytest

from fastframe.bench import command, families
from fastframe.bench.entry import BenchError
from fastframe.bench.family import Family, new_report


def made_up(name, measure):
    nothing = lambda _: []  # noqa: E731
    return Family(name, f"the {name}", "", "", "", lambda parser: None, measure, nothing, nothing, nothing, nothing)


@pytest.fixture
def measured(monkeypatch):
    """Yield the names of the families that were measured, and whether quickly; the one called udp cannot be."""
    log = []
    monkeypatch.setattr(families, "NAMES", ("codec", "echo", "udp", "startup"))

    def measure(name, args):
        log.append((name, args.quick))
        if name == "udp":
            raise BenchError("not here")
        return new_report(name, quick=args.quick, settings={})

    monkeypatch.setattr(families, "family", lambda name: made_up(name, lambda args: measure(name, args)))
    return log


def test_every_family_is_there_and_is_called_so():
    for name in families.NAMES:
        assert families.family(name).name == name
    with pytest.raises(BenchError, match="there is no family 'sys'"):
        families.family("sys")


def test_all_are_measured_in_turn_and_one_that_cannot_be_holds_nobody_up(measured, tmp_path, capsys):
    path = tmp_path / "all.json"
    assert families.main(["--json", str(tmp_path / "none" / "all.json")]) == 1
    assert not measured
    assert families.main(["--quick", "--json", str(path)]) == 1
    assert measured == [(name, True) for name in families.NAMES]
    assert [report["benchmark"] for report in command.read_json(path)] == [name for name in families.NAMES if name != "udp"]
    assert "fastframe bench udp: not here" in capsys.readouterr().err


def test_some_are_measured_and_success_is_said(measured, tmp_path):
    assert families.main(["--only", "startup,codec", "--markdown", str(tmp_path)]) == 0
    assert measured == [("codec", False), ("startup", False)]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["benchmarks-codec.md", "benchmarks-startup.md"]


def test_what_was_measured_is_written_before_the_next_one_is(measured, tmp_path, monkeypatch):
    path = tmp_path / "all.json"

    def power_cut(args):
        assert [report["benchmark"] for report in command.read_json(path)] == ["codec"]
        raise KeyboardInterrupt

    whole = families.family
    monkeypatch.setattr(families, "family", lambda name: made_up(name, power_cut) if name == "echo" else whole(name))
    with pytest.raises(KeyboardInterrupt):
        families.main(["--only", "codec,echo", "--json", str(path)])


def test_a_family_that_there_is_not(measured, capsys):
    with pytest.raises(SystemExit) as caught:
        families.main(["--only", "codec,nonsense"])
    assert caught.value.code == 2
    assert "there is no 'nonsense'; there are codec, echo, udp, startup" in capsys.readouterr().err
