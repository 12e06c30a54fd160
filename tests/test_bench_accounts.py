"""What processes used, as the kernel says: also of those that they have started, and only from the beginning on."""

import os
import subprocess
import sys

from fastframe.bench import accounts, pairs

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


def test_an_end_is_a_process_and_those_that_it_has_started():
    with pairs.talking([sys.executable, "-c", WORKS_IN_A_CHILD], {}) as (process, complaints):
        while len(accounts.tree(process.pid)) < 2:
            os.sched_yield()
        end = accounts.End(process.pid)
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
    before = accounts.peak(os.getpid())
    del data
    assert accounts.peak(os.getpid()) > before - 1e6  # the kernel counts roughly
    accounts.forget_peak(os.getpid())
    assert 1e6 < accounts.peak(os.getpid()) < before - 40e6


def test_one_that_has_ended_used_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    end = accounts.End(process.pid)
    end.begin()
    assert end.use() == accounts.Use(0, 0, 0)


def test_ticks_are_also_of_what_has_ended():
    before = accounts.children(os.getpid())
    burn = "import time\nwhile time.process_time() < 0.1: pass"
    outer = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint(flush=True)\ninput()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", outer], stdin=pipe, stdout=pipe) as process:
        started = [pid for pid in accounts.children(os.getpid()) if pid not in before]
        assert started == [process.pid]
        process.stdout.readline()
        assert 100e6 <= accounts.cpu_ns_of_all(started) < 10e9
        process.communicate(b"\n")
    assert accounts.cpu_ns_of_all(started) == 0
