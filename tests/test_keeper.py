"""A keeper and its commands: how they begin, how they end, what they find, and that nothing of them is left."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys

import pytest
from commanding import (
    LATE,
    PATIENCE,
    Kept,
    alive,
    children,
    eventually,
    is_there,
    keeping,
    mark,
    nursing,
    open_descriptors,
    programs,
)
from executing import permit

from fastframe.servers import confinement, keeper
from fastframe.servers import nursery as nursery_module
from fastframe.servers.channel import Channel
from fastframe.servers.keeper import Keeper, Run
from fastframe.servers.permits import Sandbox

MIB = 1 << 20
PYTHON = os.path.realpath(sys.executable)
SANDBOXES = [False] + ([True] if "seccomp" in confinement.active() else [])
# What can be done to stay when the program has ended, each once.
EVASIONS = {
    "a child": "sleep 100 &",
    "a session of its own": "setsid sleep 100 &",
    "an orphan": "(sleep 100 &)",
    "an orphan in a session of its own": "(setsid sh -c 'setsid sleep 100 &' &)",
    "a stopped one": "sleep 100 & kill -STOP $!",
    "one that signals do not reach": "(trap '' TERM HUP INT; exec sleep 100) &",
    "one that holds no output": "sleep 100 > /dev/null 2>&1 &",
}
# Each process of it lives as long as a fork takes.
HOPPING = (
    "import os, time\nend = time.monotonic() + 5\nwhile time.monotonic() < end:\n  if os.fork(): os._exit(0)\n  os.setsid()"
)
LEADERLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture(scope="module")
def nursery():
    with nursing() as nursery:
        yield nursery


@pytest.fixture(params=SANDBOXES, ids=["free", "sandboxed"][: len(SANDBOXES)])
def sandbox(request):
    return request.param


@pytest.fixture
def kept(nursery, sandbox):
    with keeping(nursery, permit("/bin/sh", sandbox=sandbox, grace=0.2, cpu=1000)) as kept:
        yield kept


@pytest.fixture
def free(nursery):
    with keeping(nursery, permit("/bin/sh", sandbox=False, grace=0.2)) as kept:
        yield kept


@contextlib.contextmanager
def limited(nursery, **limits):
    with keeping(nursery, permit("/bin/sh", sandbox=False, **limits)) as kept:
        yield kept


def python(kept, code, **options):
    return kept.run(PYTHON, "-I", "-c", code, program=PYTHON, **options)


def how(ended):
    return tuple(ended.result[name] for name in ("reason", "status", "signal", "limit"))


# How it ends.


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("echo out; echo err >&2", ("exited", 0, None, "")),
        ("echo out; echo err >&2; exit 255", ("exited", 255, None, "")),
        ("echo out; echo err >&2; kill -KILL $$", ("signaled", None, "KILL", "")),
        ("echo out; echo err >&2; kill -34 $$", ("signaled", None, "RTMIN", "")),
        ("echo out; echo err >&2; kill -36 $$", ("signaled", None, "36", "")),
    ],
)
def test_how_a_program_ended_and_what_it_wrote(kept, script, outcome):
    ended = kept.run(script)
    assert how(ended) == outcome
    assert ended[1:] == (b"out\n", b"err\n")
    assert (ended.result["left"], ended.result["denied"]) == (0, [])


def test_what_it_took(kept):
    ended = kept.run("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.05")
    assert 0.05 < ended.result["seconds"] < PATIENCE
    assert 0.001 < ended.result["user_seconds"] + ended.result["system_seconds"] < PATIENCE
    assert 100_000 < ended.result["peak_memory"] < 64 * MIB


def test_what_children_took_counts_too(free):
    busy = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
    alone, four = (free.run(script).result["user_seconds"] for script in (busy, f"for n in 1 2 3 4; do ({busy}) & done; wait"))
    assert four > 2 * alone


@pytest.mark.parametrize("sandboxed", SANDBOXES)
def test_nothing_is_left_whatever_it_does_to_stay(nursery, sandboxed):
    """All at the same time, since each is given a moment to end by itself."""
    with contextlib.ExitStack() as stack:
        running = {}
        for name, script in EVASIONS.items():
            kept = stack.enter_context(keeping(nursery, permit("/bin/sh", sandbox=sandboxed)))
            reading, writing = os.pipe()
            running[name] = kept, mark(), writing
            kept.start(f"{script}\nread line; exit 0", stdin=reading, **running[name][1])
        for name, (kept, marked, writing) in running.items():
            settled = (["sh", "sleep"], ["sh", "sh"]) if name == "a stopped one" else (["sh", "sleep"],)
            eventually(lambda marked=marked, settled=settled: programs(marked) in settled, name)
            os.close(writing)
            ended = kept.ended()
            assert (name, *how(ended), ended.result["left"]) == (name, "exited", 0, None, "", 1)
            assert (name, alive(marked), children(kept.pid)) == (name, [], {})


def test_who_ends_soon_after_the_program_is_not_killed(kept):
    ended = kept.run(LATE)
    assert (ended.stdout, ended.result["left"]) == (b"late\n", 0)


def test_nothing_is_left_that_goes_from_process_to_process(free):
    marked = mark()
    ended = python(free, HOPPING, **marked)
    assert ended.result["left"] > 0
    assert alive(marked) == []


def test_a_process_whose_first_thread_has_ended_takes_its_time_and_no_more(free):
    ended = python(free, LEADERLESS, seconds=0.2)
    assert how(ended) == ("timeout", None, "TERM", "")
    assert ended.result["seconds"] < PATIENCE


def test_its_time_is_over(kept):
    assert how(kept.run("trap 'echo bye; exit 3' TERM; while :; do sleep 0.01; done", seconds=0.5)) == ("timeout", 3, None, "")
    marked = mark()
    ended = kept.run("trap '' TERM; sleep 100 & sleep 100", seconds=0.5, **marked)
    assert how(ended)[:1] + how(ended)[2:] == ("timeout", "KILL", "")
    assert 0.7 <= ended.result["seconds"] < PATIENCE
    assert alive(marked) == []


def test_a_stopped_command_can_be_ended(kept):
    assert how(kept.run("trap 'exit 4' TERM; kill -STOP $$", seconds=0.5)) == ("timeout", 4, None, "")


def test_the_first_reason_counts(kept):
    kept.start("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    assert kept.said() == "ready\n"
    for reason in ("cancelled", "drained", "gone"):
        kept.tell(end=reason)
    assert kept.ended().result["reason"] == "cancelled"


def test_a_limit_that_the_server_watches_ends_it_at_once(kept):
    kept.start("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    assert kept.said() == "ready\n"
    kept.tell(end="limit", limit="output")
    ended = kept.ended()
    assert how(ended) == ("limit", None, "KILL", "output")


def test_a_signal_reaches_the_group_and_who_left_it_does_not_hear_it(kept):
    waiting = "trap 'echo $0; exit' USR1; echo ready; while :; do sleep 0.01; done"
    script = """
        sh -c "$1" child & child=$!
        setsid sh -c "$1" other &
        trap 'echo program' USR1
        echo ready
        while kill -0 $child; do sleep 0.01; done
    """
    kept.start("sh", "-c", script, "sh", waiting)
    said = ""
    while said.count("ready\n") < 3:
        said += kept.said()
    kept.tell(signal=int(signal.SIGUSR1))
    assert sorted(kept.ended().stdout.split()) == [b"child", b"program"]


def test_a_signal_when_the_program_has_ended_does_no_harm(kept):
    kept.start("sleep 0.1 &")
    for _ in range(10):
        kept.tell(signal=int(signal.SIGTERM))
    assert how(kept.ended())[0] in ("exited", "signaled")
    kept.tell(signal=int(signal.SIGTERM))
    kept.tell(end="cancelled")
    assert how(kept.run("exit 5")) == ("exited", 5, None, "")


# What it may take.


def test_memory_of_one_process(nursery):
    with limited(nursery, memory=64 * MIB) as kept:
        ended = python(kept, "x = b'x' * (200 << 20); import time; time.sleep(100)")
    assert how(ended) == ("limit", None, "KILL", "memory")
    assert ended.result["peak_memory"] > 64 * MIB


def test_memory_of_all_together(nursery):
    marked = mark()
    with limited(nursery, memory=64 * MIB) as kept:
        code = "import os; [os.fork() for _ in '12']; x = b'x' * (32 << 20); import time; time.sleep(100)"
        ended = python(kept, code, **marked)
    assert how(ended) == ("limit", None, "KILL", "memory")
    assert alive(marked) == []


def test_memory_that_is_shared_counts_once(nursery):
    code = "import os, time; x = b'x' * (32 << 20); [os.fork() for _ in '12']; time.sleep(0.2)"
    with limited(nursery, memory=64 * MIB) as kept:
        assert how(python(kept, code)) == ("exited", 0, None, "")


def test_processes(nursery):
    marked = mark()
    bomb = "i=0; while [ $i -lt 200 ]; do setsid sleep 100 & i=$((i+1)); done; wait"
    with limited(nursery, processes=20) as kept:
        ended = kept.run(bomb, **marked)
    assert how(ended) == ("limit", None, "KILL", "processes")
    assert alive(marked) == []


def test_a_limit_holds_in_the_time_of_grace(nursery):
    bomb = "trap 'i=0; while [ $i -lt 50 ]; do sleep 100 & i=$((i+1)); done' TERM; echo ready; while :; do sleep 0.01; done"
    with limited(nursery, processes=20, grace=PATIENCE) as kept:
        kept.start(bomb)
        kept.said()
        kept.tell(end="cancelled")
        ended = kept.ended()
    assert how(ended) == ("cancelled", None, "KILL", "")
    assert ended.result["seconds"] < PATIENCE


def test_who_has_not_left_its_group_is_killed_before_anybody_is_looked_for(monkeypatch):
    order = []
    monkeypatch.setattr(os, "killpg", lambda *killed: order.append(killed))
    ours, theirs = Channel.pair()
    with ours, theirs:
        kept = Keeper(Channel(ours))
        kept._run = Run(1234, 0.0)
        monkeypatch.setattr(kept._descendants, "kill", lambda _: order.append("look") or 0)
        kept._kill(kept._run)
    assert order == [(1234, signal.SIGKILL), "look"]


def test_processes_that_nobody_waits_for(nursery):
    with limited(nursery, processes=20) as kept:
        ended = python(kept, "import os, time; [os.fork() or os._exit(0) for _ in range(50)]; time.sleep(100)")
    assert how(ended) == ("limit", None, "KILL", "processes")


@pytest.mark.parametrize("script", ["while :; do :; done", "(while :; do :; done) & while :; do :; done"])
def test_processor_time(nursery, script):
    with limited(nursery, cpu=1) as kept:
        ended = kept.run(script)
    assert how(ended) == ("limit", None, "KILL", "cpu")
    assert 0.9 < ended.result["user_seconds"] + ended.result["system_seconds"] < 3


def test_processor_time_if_nobody_looks():
    run = Run(0, 0.0)
    run.status = int(signal.SIGXCPU)
    assert run.ending()["limit"] == "cpu"


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("exec head -c 2000 /dev/zero > {}", ("limit", None, "XFSZ", "file_size")),
        ("head -c 2000 /dev/zero > {}", ("limit", 153, None, "file_size")),
        ("head -c 1000 /dev/zero > {}", ("exited", 0, None, "")),
    ],
)
def test_file_size(nursery, tmp_path, script, outcome):
    with limited(nursery, file_size=1000) as kept:
        assert how(kept.run(script.format(tmp_path / "file"))) == outcome
    assert (tmp_path / "file").stat().st_size == 1000


# What it finds.


def test_one_keeper_runs_many(kept):
    kept.run("true")
    before = open_descriptors(kept.pid)
    for number in range(300):
        status = number % 128
        assert how(kept.run("sh", "-c", f"exit {status}")) == ("exited", status, None, "")
    assert open_descriptors(kept.pid) == before
    assert children(kept.pid) == {}


def test_arguments_and_environment_are_what_was_asked_for(kept):
    odd = ["", " ", "a b", "-n", "$HOME", "\n", "\\", "é\N{GRINNING FACE}", "\x01\x7f"]
    ended = kept.run("other name", "-c", 'printf \'[%s]\' "$0" "$@"', *odd, PATH="/usr/bin:/bin")
    assert ended.stdout.decode() == "".join(f"[{word}]" for word in odd)
    ended = kept.run("env", program="/usr/bin/env", PATH="/nowhere", ODD="é = \n")
    assert ended.stdout.decode() == "PATH=/nowhere\nODD=é = \n\n"


def test_directory_and_umask(nursery, tmp_path, sandbox):
    directory = tmp_path / "é"
    directory.mkdir()
    grants = Sandbox(read=("/bin/sh",), write=(str(directory),)) if sandbox else False
    with keeping(nursery, permit("/bin/sh", sandbox=grants, directory=str(directory), umask=0o027)) as kept:
        assert kept.run("pwd -P; > file").stdout.decode() == f"{directory}\n"
    assert (directory / "file").stat().st_mode & 0o777 == 0o640


def test_without_input_stdin_is_at_its_end(kept):
    assert kept.run("cat; readlink /proc/self/fd/0").stdout == b"/dev/null\n"


def test_input_from_a_pipe(kept):
    theirs, ours = os.pipe()
    kept.start("cat; echo over", stdin=theirs)
    os.write(ours, b"\0\xff")
    assert os.read(kept._outputs[0], 10) == b"\0\xff"
    os.close(ours)
    assert kept.ended().stdout == b"over\n"


def test_nothing_else_is_open(kept):
    assert kept.run("for n in $(seq 0 255); do [ -e /proc/$$/fd/$n ] && echo $n; done").stdout.split() == [b"0", b"1", b"2"]


def test_signals_are_as_a_program_expects_them(kept):
    _, blocked, _, ignored = kept.run("grep -E 'Sig(Blk|Ign)' /proc/self/status").stdout.split()
    assert (int(blocked, 16), int(ignored, 16) & ~(0b11 << 31)) == (0, 0)  # 32 and 33 are the C library's own


def test_limits_of_each_process(nursery):
    with limited(nursery, file_size=1 << 20, open_files=40) as kept:
        said = kept.run("ulimit -c; ulimit -f; ulimit -n; ulimit -H -c; ulimit -H -n").stdout
    assert said.split() == [b"0", b"2048", b"40", b"0", b"40"]


def test_its_session_is_its_own(kept):
    fields = kept.run("cat /proc/$$/stat").stdout.rpartition(b")")[2].split()
    assert fields[1] == b"%d" % kept.pid
    assert fields[2] == fields[3] != b"%d" % os.getsid(0)
    assert fields[4] == b"0"  # no terminal


# What cannot be started.


@pytest.mark.parametrize("name", ["gone", "text", "forbidden", "a directory"])
def test_what_cannot_be_started_leaves_the_keeper_usable(nursery, tmp_path, name):
    text, forbidden = tmp_path / "text", tmp_path / "forbidden"
    text.write_text("echo no interpreter is named\n")
    text.chmod(0o755)
    forbidden.write_text("#!/bin/sh\n")
    programs = {"gone": tmp_path / "gone", "text": text, "forbidden": forbidden, "a directory": tmp_path}
    errors = {"gone": errno.ENOENT, "text": errno.ENOEXEC}
    with limited(nursery) as kept:
        for _ in range(2):
            failed = kept.run("it", program=str(programs[name])).result["failed"]
            assert failed == errors.get(name, errno.EACCES)
        assert how(kept.run("exit 6")) == ("exited", 6, None, "")
        assert children(kept.pid) == {}


def test_arguments_that_the_kernel_does_not_take(free):
    resource.prlimit(free.pid, resource.RLIMIT_STACK, (256 * 1024, 1 << 30))
    ended = free.run("sh", "-c", "exit", *("a" for _ in range(16_000)))
    assert ended.result == {"failed": errno.E2BIG}
    assert how(free.run("exit 6")) == ("exited", 6, None, "")


@pytest.mark.parametrize("fields", [{"directory": "/nowhere/at/all"}, {"sandbox": Sandbox(read=("/nowhere/at/all",))}])
def test_a_permit_that_cannot_be_set_up(nursery, fields):
    if "sandbox" in fields and len(SANDBOXES) < 2:
        pytest.skip("no sandbox here")
    kept = Kept(nursery, permit("/bin/sh", **{"sandbox": False, **fields}))
    assert kept.first == {"refused": "/nowhere/at/all: No such file or directory"}
    assert kept.hear() is None
    kept.leave()


def test_a_program_whose_limits_are_not_ours_to_set(monkeypatch):
    """A setuid program is another user's."""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(resource, "prlimit", refuse)
    keeper._limit_one(1, {"cpu": 1, "memory": 1})


# Who goes.


def test_the_server_goes_and_so_do_command_and_keeper(nursery, sandbox):
    marked = mark()
    with keeping(nursery, permit("/bin/sh", sandbox=sandbox, grace=0.2)) as kept:
        kept.start(
            "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 100; sleep 100' &); echo ready; sleep 100; sleep 100", **marked
        )
        assert kept.said() == "ready\n"
        eventually(lambda: len(alive(marked)) >= 3)
    eventually(lambda: not is_there(kept.pid))
    assert alive(marked) == []


def test_an_idle_keeper_goes_with_the_server(nursery):
    with limited(nursery) as kept:
        kept.run("true")
    eventually(lambda: not is_there(kept.pid))


def test_a_server_that_goes_before_it_has_said_anything(nursery):
    before = children(nursery.process.pid).keys()
    nursery.keeper(0.0).close()
    eventually(lambda: children(nursery.process.pid).keys() <= before)


def test_it_looks_at_the_clock_however_many_processes_end(monkeypatch):
    """Who forks without end has them end as fast as they can be waited for."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    monkeypatch.setattr(os, "wait4", lambda *_: (1, 0, usage))
    ours, theirs = Channel.pair()
    with ours, theirs:
        assert Keeper(Channel(ours))._reap(Run(2, 0.0))


def test_it_waits_for_the_dead_while_it_kills(monkeypatch):
    """A bomb leaves thousands, and to look at them all takes longer than to wait for them."""
    order = []
    run = Run(2, 0.0)
    run.status = 0
    monkeypatch.setattr(os, "wait4", lambda *_: order.append("wait") or (0, 0, None))
    ours, theirs = Channel.pair()
    with ours, theirs:
        kept = Keeper(Channel(ours))
        monkeypatch.setattr(kept._descendants, "look", lambda: order.append("look") or [])
        kept._kill(run)
    assert order == ["wait", "look"]


def test_a_new_command_may_have_the_number_of_who_was_seen_elsewhere(monkeypatch):
    monkeypatch.setattr(keeper, "_limit_one", lambda *_: None)
    ours, theirs = Channel.pair()
    with ours, theirs:
        kept = Keeper(Channel(ours))
        kept._permit = {"limits": {}}
        kept._spawn = lambda *_, **__: 1234
        kept._descendants._strangers = {1234}
        kept._start({"program": "/bin/sh", "argv": [], "environment": {}, "seconds": 1}, [])
        assert not kept._descendants._strangers


@pytest.mark.skipif(not SANDBOXES[1:], reason="there is no thread that could wait")
def test_a_finaliser_opens_a_file_in_the_thread_that_starts_commands(monkeypatch):
    """It waits there for an answer, as whatever is in the sandbox does."""
    code = """
import gc, os
class Opens:
    def __init__(self): self.itself = self
    def __del__(self):
        with open("/proc/self/stat", "rb") as file: file.read()
def spawn(*args, _spawn=os.posix_spawn, **options):
    Opens()
    gc.collect()
    return _spawn(*args, **options)
os.posix_spawn = spawn
nursery.main"""
    monkeypatch.setattr(nursery_module, "START", nursery_module.START.replace("nursery.main", code.lstrip()))
    with nursing() as nursery, keeping(nursery, permit("/bin/sh")) as kept:
        assert kept.run("exit 3").result["status"] == 3
