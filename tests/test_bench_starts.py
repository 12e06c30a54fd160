"""Programs of the start-up benchmark: their time is found, whether they end or listen; who fails says why in a line."""

import sys
import time

import pytest

from fastframe.bench import starts
from fastframe.bench.entry import BenchError
from fastframe.bench.starts import STARTS, Start

BUSY = Start("python", "", "import time\nwhile time.process_time() < 0.2: pass")
LISTENS = Start("python", "", "import time\nprint('a word')\nprint('up now')\ntime.sleep(50)", "up")
DEAF = Start("python", "", "print('never')", "up")
FAILS = Start("python", "", "import nothing_of_that_name")


def test_a_program_that_ends_has_its_processor_time():
    took = starts.run_once(BUSY)
    assert 0.2e9 <= took.processor <= took.wall


def test_a_program_that_listens_is_ended_when_it_says_so():
    began = time.monotonic()
    took = starts.run_once(LISTENS)
    assert took.processor > 0
    assert time.monotonic() - began < 40
    found = starts.facts(LISTENS)
    assert found["modules"] is None
    assert found["peak"] > 1 << 20


def test_the_facts_are_of_the_program_and_not_of_this_one():
    found = starts.facts(STARTS["python"])
    assert 10 < found["modules"] < 60
    assert 4 << 20 < found["peak"] < 20 << 20
    assert starts.facts(Start("python", "", "kept = b'x' * (30 << 20)"))["peak"] > 34 << 20


@pytest.mark.parametrize(("start", "reason"), [(DEAF, "ended with status"), (FAILS, "No module named 'nothing_of_that_name'")])
def test_who_fails_says_why(start, reason):
    with pytest.raises(BenchError, match=reason):
        starts.facts(start)
    with pytest.raises(BenchError, match="it ended with status"):
        starts.run_once(start)


@pytest.mark.parametrize("name", [name for name, start in STARTS.items() if start.kind in ("base", "ours")])
def test_ours_start(name):
    assert starts.facts(STARTS[name])["peak"] > 0


def test_what_is_around_a_program_is_the_same_for_all(monkeypatch):
    monkeypatch.setenv("FASTFRAME_IMPLEMENTATION", "nonsense")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    around = starts.environment(STARTS["fastframe.aio"])
    assert not {"FASTFRAME_IMPLEMENTATION", "PYTHONDONTWRITEBYTECODE"} & set(around)
    assert starts.environment(STARTS["fastframe/pure"]) == around | {"FASTFRAME_IMPLEMENTATION": "python"}
    assert any(entry.endswith("-packages") for entry in around["PYTHONPATH"].split(":")) == any(
        entry.endswith("-packages") for entry in sys.path
    )
