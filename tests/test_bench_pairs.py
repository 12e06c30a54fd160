"""What a transfer took both ends, as the kernel says: also of processes that they have started, and only of this transfer."""

import os
import subprocess
import sys
import time

import pytest

from fastframe.bench import pairs
from fastframe.bench.entry import BenchError

JOB = pairs.Job("get", "file", "source", 10)
WORKS_IN_A_CHILD = """
import subprocess, sys
code = "input(); data = bytearray(30_000_000); [None for _ in range(3_000_000)]; print(flush=True); input()"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
for line in sys.stdin:
    child.stdin.write(b"\\n")
    child.stdin.flush()
    if child.stdout.readline():
        print(line, end="", flush=True)
"""
ANSWERS = """
import sys
for line in sys.stdin:
    print({!r}, flush=True)
"""


def talk(code):
    return pairs.talking([sys.executable, "-c", code], {})


def test_an_end_is_a_process_and_those_that_it_has_started():
    with talk(WORKS_IN_A_CHILD) as (process, complaints):
        while len(pairs.family(process.pid)) < 2:
            os.sched_yield()
        end = pairs.End(process.pid)
        end.begin()
        pairs.exchange(process, "work", "work", complaints)
        use = end.use()
        assert use.cpu_ns > 10e6
        assert 25e6 < use.grown < use.peak < 200e6
        end.begin()
        again = end.use()
        assert again.cpu_ns < use.cpu_ns
        assert again.grown > 25e6  # more than at the beginning of all


def test_a_peak_of_before_is_forgotten():
    data = b"x" * 50_000_000  # so much that it is given back at once
    before = pairs.peak(os.getpid())
    del data
    assert pairs.peak(os.getpid()) > before - 1e6  # the kernel counts roughly
    pairs.forget_peak(os.getpid())
    assert 1e6 < pairs.peak(os.getpid()) < before - 40e6


def test_one_that_has_ended_used_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    end = pairs.End(process.pid)
    end.begin()
    assert end.use() == pairs.Use(0, 0, 0)


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
