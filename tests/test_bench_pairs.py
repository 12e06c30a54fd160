"""A transfer takes account of both ends, and a client is heard to its last word."""

import os
import sys
import time

import pytest

from fastframe.bench import pairs
from fastframe.bench.entry import BenchError

JOB = pairs.Job("get", "file", "source", 10)
ANSWERS = """
import sys
for line in sys.stdin:
    print({!r}, flush=True)
"""


def talk(code):
    return pairs.talking([sys.executable, "-c", code], {})


def test_a_pair_takes_account_of_both():
    class Client:
        pid = os.getpid()

        def transfer(self, job):
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass
            return job.size

    with talk("input()") as (process, _):
        turn = pairs.Pair(process.pid, Client()).run(JOB)
    assert turn.ns == JOB.size
    assert turn.client.cpu_ns > 19e6
    assert turn.server.cpu_ns < 1e9
    assert turn.client.peak > 1e6


def test_a_client_says_how_long_it_took_or_what_went_wrong():
    with talk(ANSWERS.format('{"ns": 17}')) as talking:
        assert pairs.PythonClient(*talking).transfer(JOB) == 17
    with (
        talk(ANSWERS.format('{"error": "no such file"}')) as talking,
        pytest.raises(BenchError, match=r"^no such file$"),
    ):
        pairs.PythonClient(*talking).transfer(JOB)


def test_one_that_ends_is_heard_with_its_last_word():
    with talk("raise SystemExit('first\\nlast')") as talking, pytest.raises(BenchError, match=r"^last$"):
        pairs.PythonClient(*talking).transfer(JOB)
    with talk("pass") as talking, pytest.raises(BenchError, match=r"^the client has ended$"):
        pairs.PythonClient(*talking).transfer(JOB)


def test_the_last_line_of_an_answer_counts_and_patience_ends(monkeypatch):
    code = "import sys; input(); print('> one\\nlast', end='', flush=True); print(' word', flush=True); input(); input()"
    with talk(code) as (process, complaints):
        assert pairs.exchange(process, "go", "last", complaints) == "last word"
        monkeypatch.setattr(pairs, "PATIENCE", 0.05)
        with pytest.raises(BenchError, match=r"not done after 0.05 s"):
            pairs.PythonClient(process, complaints).transfer(JOB)


def test_who_sends_has_the_source_and_who_receives_the_copy(tmp_path):
    folders = pairs.Folders(tmp_path / "served", tmp_path / "own")
    assert folders.source(JOB) == tmp_path / "served" / "source"
    assert folders.copy(JOB) == tmp_path / "own" / "received"
    put = JOB._replace(direction="put")
    assert folders.source(put) == tmp_path / "own" / "source"
    assert folders.copy(put) == tmp_path / "served" / "received"
