"""The nursery: keepers are born, what a killed one leaves is ended, and all of it goes with the server."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commanding import Kept, alive, children, eventually, is_there, keeping, mark, nursing
from executing import permit

import fastframe
from fastframe.servers import nursery as nursery_module
from fastframe.servers.channel import Channel

# A server that runs one command, says so, and waits for its end.
SERVER = """
import signal, sys
{before}
from commanding import Kept, Nursery, children
nursery = Nursery()
kept = Kept(nursery)
kept.start("trap '' TERM; (setsid sleep 100 &); echo ready; sleep 100; sleep 100", **{variables})
kept.said()
print(nursery.process.pid, kept.pid, flush=True)
{after}
"""


@pytest.fixture
def nursery():
    with nursing() as nursery:
        yield nursery


def server(variables, before="", after="sys.stdin.read()"):
    """Start a server, which first says the numbers of its nursery and its keeper."""
    places = [str(Path(fastframe.__file__).parents[1]), str(Path(__file__).parent)]
    code = SERVER.format(before=f"sys.path[:0] = {places}\n{before}", variables=variables, after=after)
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_many_keepers_at_once_and_no_zombies(nursery):
    kept = [Kept(nursery, permit("/bin/sh", sandbox=False)) for _ in range(20)]
    assert len({one.pid for one in kept}) == 20
    for one in kept:
        one.start("exit 3")
    assert [one.ended().result["status"] for one in kept] == [3] * 20
    for one in kept:
        one.leave()
    eventually(lambda: not children(nursery.process.pid))


def test_it_ends_when_the_server_does_and_not_before_its_keepers():
    with nursing() as nursery:
        with keeping(nursery) as kept:
            nursery.leave()
            assert kept.run("exit 3").result["status"] == 3
            assert nursery.process.poll() is None
        assert nursery.wait() == 0


def test_a_terminal_and_systemd_signal_it_and_it_stays(nursery):
    assert os.getsid(nursery.process.pid) == nursery.process.pid
    with keeping(nursery) as kept:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(nursery.process.pid, number)
            os.kill(kept.pid, number)
        assert kept.run("exit 3").result["status"] == 3
    with keeping(nursery):
        pass


def test_what_a_killed_keeper_leaves_is_ended_and_the_others_go_on(nursery):
    marked = mark()
    with keeping(nursery) as other, keeping(nursery) as kept:
        other.start("read line; exit 3", stdin=(pipe := os.pipe())[0])
        kept.start("trap '' TERM; (setsid sleep 100 &); sleep 100 & kill -STOP $!; echo ready; sleep 100", **marked)
        kept.said()
        os.kill(kept.pid, signal.SIGKILL)
        assert kept.hear() is None
        eventually(lambda: not alive(marked))
        eventually(lambda: list(children(nursery.process.pid)) == [other.pid])
        os.close(pipe[1])
        assert other.ended().result["status"] == 3


def test_a_keeper_that_cannot_be_born_is_refused_and_the_next_one_is(nursery, monkeypatch):
    ours, its = Channel.pair()
    end, other = Channel.pair()
    with ours, its, end:
        monkeypatch.setattr(os, "fork", lambda: (_ for _ in ()).throw(BlockingIOError(errno.EAGAIN, "no more processes")))
        Channel(ours).send({"keeper": 0.5}, (other.fileno(),))
        other.close()
        keepers: set[int] = set()
        assert nursery_module._serve(Channel(its), keepers) == 0.5
        assert keepers == set()
        assert Channel(end).receive()[0] == {"refused": "no more processes", "errno": errno.EAGAIN}
        assert Channel(end).receive() is None


@pytest.mark.parametrize(
    "before", ["signal.signal(signal.SIGCHLD, signal.SIG_IGN)", "signal.pthread_sigmask(0, {*range(1, 65)} - {9, 19, 32, 33})"]
)
def test_a_server_that_ignores_or_blocks_signals(before):
    """Nor does a command find any of that."""
    marked = mark()
    after = (
        "kept.tell(end='cancelled'); print(kept.ended().result['reason']); kept.leave(); nursery.leave(); print(nursery.wait())"
    )
    with server(marked, before, after) as process:
        assert process.stdout.read().split()[2:] == ["cancelled", "0"]
    assert alive(marked) == []


def test_the_server_is_killed_and_all_the_others_end():
    marked = mark()
    with server(marked) as process:
        nursery, keeper = map(int, process.stdout.readline().split())
        eventually(lambda: len(alive(marked)) >= 2)
        process.kill()
    eventually(lambda: not is_there(nursery))
    assert not is_there(keeper)
    assert alive(marked) == []


def test_the_nursery_is_killed_and_its_keepers_go_on(nursery):
    with keeping(nursery) as kept:
        nursery.process.kill()
        assert nursery.wait() == -signal.SIGKILL
        with pytest.raises(BrokenPipeError):
            nursery.keeper(0.0)
        assert kept.run("exit 3").result["status"] == 3
    eventually(lambda: not is_there(kept.pid))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_commands_cannot_look_into_those_who_run_them(nursery):
    with keeping(nursery) as kept:
        for pid in (nursery.process.pid, kept.pid):
            assert kept.run(f"cat /proc/{pid}/environ").stderr


def test_the_server_is_killed_while_a_keeper_stands_still():
    marked = mark()
    before = "from fastframe.servers import nursery\n"
    before += "nursery.START = nursery.START.replace('nursery.main', 'nursery.STILL_SECONDS = 0.1; nursery.main')"
    with server(marked, before) as process:
        nursery, keeper = map(int, process.stdout.readline().split())
        os.kill(keeper, signal.SIGSTOP)
        process.kill()
    eventually(lambda: not is_there(nursery))
    assert not is_there(keeper)
    assert alive(marked) == []
