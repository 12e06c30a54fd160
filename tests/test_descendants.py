"""Who descends from a process, what they take, and that none gets away."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commanding import PATIENCE, alive, end, eventually, mark, programs

from fastframe.servers import descendants
from fastframe.servers.descendants import PAGE, Descendants, Process

MIB = 1 << 20
# Its first thread ends, and the process lives on: /proc calls it a zombie.
LEADERLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(100,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@contextlib.contextmanager
def shell(script, *more):
    """Run a script that says "ready" and then has to live; yield its number, and end all of it."""
    marked = mark()
    with subprocess.Popen(
        ["/bin/sh", "-c", f"{script}\necho ready; exec sleep 100", "sh", *more],
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **marked},
    ) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            end(marked)


def pids(found):
    return sorted(process.pid for process in found.look() if not process.is_dead)


def test_children_and_theirs_are_found_and_the_root_is_not():
    with shell("sleep 100 & setsid sleep 100 & sh -c 'sleep 100 & exec sleep 100' &") as root:
        found = Descendants(root)
        eventually(lambda: len(pids(found)) == 4)
        assert root not in pids(found)
        assert os.getpid() not in pids(found)
        assert {root, *pids(found)} <= {*pids(Descendants(os.getpid()))}


def test_the_spared_are_not_looked_at_nor_what_descends_from_them():
    with shell("sh -c 'sleep 100 & wait' & sleep 100 &") as root:
        found = Descendants(root)
        eventually(lambda: len(pids(found)) == 3)
        (spared,) = (process.parent for process in found.look() if process.parent != root)
        (left,) = pids(Descendants(root, {spared}))
        assert left in set(pids(found)) - {spared}


def test_a_zombie_has_a_number_and_nobody_kills_it(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with shell('read line < "$1" &', str(fifo)) as root:
        eventually(lambda: Path(f"/proc/{root}/comm").read_text() == "sleep\n")  # which waits for nobody
        fifo.write_text("over\n")
        found = Descendants(root)
        eventually(lambda: [process.is_dead for process in found.look()] == [True])
        assert found.kill() == 0


def test_who_kills_waits_for_the_dead_before_each_look():
    with shell("sleep 100 & sleep 100 &") as root:
        reaped = []
        assert Descendants(root).kill(lambda: reaped.append(1)) == 2
        assert len(reaped) == 2


def test_who_is_born_later_is_found_by_the_next_look(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with shell("echo ready; while read line; do sleep 100 & done < $1", str(fifo)) as root, fifo.open("w", buffering=1) as more:
        found = Descendants(root)
        for number in range(3):
            eventually(lambda number=number: len(pids(found)) == number)
            more.write("one more\n")


def test_a_number_that_is_used_again(monkeypatch):
    table = {1: 0, 10: 1, 11: 10, 20: 1}
    monkeypatch.setattr(os, "listdir", lambda path: ["self", *map(str, table)])
    monkeypatch.setattr(descendants, "_read", lambda pid: Process(pid, table[pid], False, 0.0, 0) if pid in table else None)
    found = Descendants(10)
    assert pids(found) == [11]
    del table[20]
    assert pids(found) == [11]
    table[20] = 11
    assert pids(found) == [11, 20]
    table[30] = 1
    assert pids(found) == [11, 20]
    table[30] = 10  # between two looks
    found.forget_strangers()
    assert pids(found) == [11, 20, 30]


def test_whose_parent_has_just_ended_is_found_when_it_has_another(monkeypatch):
    table = {1: 0, 10: 1, 12: 11}
    monkeypatch.setattr(os, "listdir", lambda path: map(str, table))
    monkeypatch.setattr(descendants, "_read", lambda pid: Process(pid, table[pid], False, 0.0, 0) if pid in table else None)
    found = Descendants(10)
    assert pids(found) == []
    table[12] = 10
    assert pids(found) == [12]


def test_what_they_take():
    with shell("sh -c 'while :; do :; done' & sleep 100 &") as root:
        found = Descendants(root)
        eventually(lambda: max((process.seconds for process in found.look()), default=0) >= 0.05)
        assert all(PAGE <= process.resident < 16 * MIB for process in found.look())


def test_memory_that_is_shared_counts_once():
    code = """
import mmap, os, sys
shared = mmap.mmap(-1, 64 << 20)
shared.write(bytes(64 << 20))
child = os.fork()
shared.find(b"x", 0)
print(flush=True)
sys.stdin.read()
child and os.waitpid(child, 0)
"""
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        process.stdout.readline(), process.stdout.readline()
        found = [one for one in Descendants(os.getpid()).look() if process.pid in (one.pid, one.parent)]
        assert len(found) == 2
        assert sum(one.resident for one in found) > 128 * MIB
        assert 64 * MIB < sum(map(descendants.proportional, found)) < 96 * MIB
        process.stdin.close()
        process.wait(PATIENCE)
    assert [descendants.proportional(one) for one in found] == [one.resident for one in found]  # when they have ended


@pytest.mark.parametrize("name", ["sleep) Z 1 (", "(", "a b\n)"])
def test_a_name_that_looks_like_other_fields(name, tmp_path):
    (tmp_path / name).symlink_to("/bin/sleep")
    with shell('cd "$1"; "./$2" 100 &', str(tmp_path), name) as root:
        eventually(lambda: [process.parent for process in Descendants(root).look()] == [root])


def test_a_signal_reaches_each_wherever_it_went():
    with shell("sleep 100 & setsid sleep 100 & (setsid sh -c 'sleep 100 & wait' &) & wait $!") as root:
        found = Descendants(root)
        found.signal(signal.SIGTERM, 0)
        eventually(lambda: not pids(found))


@pytest.mark.parametrize(
    "script",
    [
        "sleep 100 &",
        "setsid sleep 100 &",
        "(trap '' TERM HUP INT; exec sleep 100) &",
        "sleep 100 & kill -STOP $!",
        "i=0; while [ $i -lt 60 ]; do sleep 100 & i=$((i+1)); done",
    ],
)
def test_killing(script):
    with shell(script) as root:
        found = Descendants(root)
        eventually(lambda: pids(found))
        there = len(pids(found))
        assert found.kill() == there
        eventually(lambda: not pids(found))
        assert found.kill() == 0


def test_a_process_whose_first_thread_has_ended_lives():
    with shell(f'{sys.executable} -I -c "$1" &', LEADERLESS) as root:
        found = Descendants(root)
        eventually(lambda: pids(found))
        (pid,) = pids(found)
        eventually(lambda: "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text())
        assert pids(found) == [pid]
        assert found.kill() == 1
        eventually(lambda: not pids(found))


def test_an_end_is_over_when_nothing_runs_and_ends_the_root_too():
    """Whichever sessions they are in, and if the root stands still."""
    marked = mark()
    script = "trap '' TERM; setsid sleep 100 & sleep 100 & echo ready; read line"
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=marked) as process:
        assert process.stdout.readline() == b"ready\n"
        eventually(lambda: programs(marked) == ["sh", "sleep", "sleep"])
        os.kill(process.pid, signal.SIGSTOP)
        Descendants(process.pid).end()
        assert alive(marked) in ([], [process.pid])
        assert process.wait(PATIENCE) == -signal.SIGKILL
