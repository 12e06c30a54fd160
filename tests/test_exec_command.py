"""`fastframe exec`, beside servers that say what they are told to; as a process where that makes a difference."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time

import pytest
from filing import MIB, gone
from scripts import ENDED, ended, opened, playing, stdin
from serving import FASTFRAME, poll
from sessions import PATIENCE

from fastframe.__main__ import main
from fastframe.servers import exec_command
from fastframe.servers.exec_client import result_of
from fastframe.servers.messages import Fields, Kind


@contextlib.contextmanager
def started(address, *words, **options):
    """Start the command as a process; kill it in the end if it still runs."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen([*FASTFRAME, "exec", address, *words], **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def run(capfdbinary):
    """Run a command of a server that plays `script`; return status, stdout and stderr."""

    def run(script, *words):
        with playing(script) as address:
            status = main(["exec", address, *words])
        captured = capfdbinary.readouterr()
        return status, captured.out, captured.err.decode()

    return run


def ending(*output, **fields):
    """Return a script of a command that reads all of stdin, writes `output`, and ends so."""

    async def script(peer):
        await opened(peer)
        await stdin(peer)
        for kind, data in output:
            await peer.say(kind, data)
        sizes = {
            name: sum(len(data) for kind, data in output if kind is of)
            for name, of in (("stdout", Kind.DATA), ("stderr", Kind.DATA_STDERR))
        }
        await ended(peer, **{**sizes, **fields})

    return script


def test_what_is_asked(run):
    async def script(peer):
        await opened(
            peer,
            name="grep",
            arguments=["--json", "-n", ""],
            environment={"A": "b=c", "D": ""},
            timeout_ms=2500,
            operation="exec",
        )
        await ended(peer, status=7)

    words = ["--env", "A=b=c", "--env=D=", "--time-limit", "2.5", "-n", "--", "grep", "--json", "-n", ""]
    assert run(script, *words) == (7, b"", "")


def test_output_is_as_it_came():
    output = [(Kind.DATA, bytes(range(256))), (Kind.DATA_STDERR, b"oh\xff\r"), (Kind.DATA, b"x\n")]
    with playing(ending(*output)) as address, started(address, "cat") as process:
        assert process.communicate(timeout=PATIENCE) == (bytes(range(256)) + b"x\n", b"oh\xff\r")
        assert process.returncode == 0


ENDS = {
    "a status": ({"status": 3}, 3, ""),
    "a signal": ({"reason": "signaled", "status": None, "signal": "SEGV"}, 139, "killed by SIGSEGV"),
    "a signal without a name": ({"reason": "signaled", "status": None, "signal": "35"}, 163, "killed by signal 35"),
    "no time": ({"reason": "timeout", "status": None, "signal": "TERM"}, 124, "killed by SIGTERM: timeout after 60 s"),
    "no time, and a status": ({"reason": "timeout", "status": 1}, 124, "timeout after 60 s"),
    "memory": (
        {"reason": "limit", "limit": "memory", "status": None, "signal": "KILL"},
        137,
        "killed by SIGKILL: over its memory limit",
    ),
    "a limit it survived": ({"reason": "limit", "limit": "cpu"}, 255, "over its processor time limit"),
    "cancelled, and content": ({"reason": "cancelled"}, 255, "cancelled"),
    "drained": ({"reason": "drained", "status": 9}, 9, "the server is ending"),
    "denied": ({"denied": ["network", "read"]}, 0, "the sandbox refused: network, read"),
    "left": ({"left": 2}, 0, "processes that it left behind, and that were killed: 2"),
    "something new": ({"reason": "evil\x1b[2J", "status": 4}, 4, "evil\\x1b[2J"),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_it_ended(case):
    fields, status, remark = ENDS[case]
    result = result_of(Fields(ENDED, **fields))
    assert exec_command.exit_status(result) == status
    assert exec_command.remarks(result, 60.0) == [remark] * bool(remark)


def test_remarks_begin_a_line_behind_all_output(run):
    output = [(Kind.DATA_STDERR, b"no line end"), (Kind.DATA, b"data")]
    script = ending(*output, reason="signaled", status=None, signal="KILL", left=1)
    status, out, err = run(script, "ls")
    assert (status, out) == (137, b"data")
    assert err.splitlines() == [
        "no line end",
        "fastframe: killed by SIGKILL",
        "fastframe: processes that it left behind, and that were killed: 1",
    ]
    assert run(script, "--quiet", "ls") == (137, b"data", "no line end")
    status, _, err = run(script, "--json", "ls")
    said = json.loads(err.splitlines()[1])
    assert said == {**{key: ENDED[key] for key in ENDED if key != "unknown"}, **said}
    assert (status, said["signal"], said["left"], said["denied"], said["stdout"]) == (137, "KILL", 1, [], 4)


def test_encodings_are_decoded_across_pieces(run):
    text = "中文 grüße"
    data = text.encode("gb18030")
    output = [
        (Kind.DATA, data[:1]),
        (Kind.DATA_STDERR, data[:3]),
        (Kind.DATA, data[1:] + b"\x81"),
        (Kind.DATA_STDERR, data[3:]),
    ]
    status, out, err = run(ending(*output), "--encoding", "gb18030", "cat")
    assert (status, out.decode(), err) == (0, f"{text}\ufffd", text)


def test_input_goes_to_the_command_and_its_end():
    data = os.urandom(3 * MIB)

    async def script(peer):
        await opened(peer, credit=MIB)
        came = b""
        for size in range(MIB, 3 * MIB + 1, MIB):
            came = await stdin(peer, came, until=size)
            await peer.say(Kind.CREDIT, credit=MIB)
        assert await stdin(peer, came) == data
        await peer.say(Kind.DATA, b"done")
        await ended(peer, stdout=4)

    with playing(script) as address, started(address, "cat", stdin=subprocess.PIPE) as process:
        assert process.communicate(data, timeout=PATIENCE) == (b"done", b"")


def test_a_dialogue():
    async def script(peer):
        await opened(peer)
        await peer.say(Kind.DATA, b"?")
        assert await stdin(peer, until=1) == b"!"
        await peer.say(Kind.DATA, b".")
        await ended(peer, stdout=2)

    with playing(script) as address, started(address, "bc", stdin=subprocess.PIPE) as process:
        assert process.stdout.read(1) == b"?"
        process.stdin.write(b"!")
        process.stdin.flush()
        assert process.stdout.read(1) == b"."
        assert process.wait(PATIENCE) == 0  # although its input is still open


def test_input_that_cannot_be_read_cancels_the_command():
    async def script(peer):
        await opened(peer)
        await peer.hears(Kind.CANCEL)
        await ended(peer, reason="cancelled", status=None, signal="TERM")

    unreadable = os.open(os.devnull, os.O_WRONLY)
    with playing(script) as address, started(address, "cat", stdin=unreadable) as process:
        os.close(unreadable)
        assert process.communicate(timeout=PATIENCE) == (b"", b"fastframe: standard input: Bad file descriptor\n")
        assert process.returncode == 255


async def refuses(peer):
    await peer.hears(Kind.OPEN)
    await peer.say(Kind.ERROR, code="not_allowed", message="no \x1b")


async def fails(peer):
    await opened(peer)
    await peer.say(Kind.ERROR, code="internal", message="")


async def leaves(peer):
    await opened(peer)


async def lies(peer):
    await opened(peer)
    await peer.say(Kind.DATA, b"four")
    await ended(peer, stdout=3)


async def is_silent(peer):
    await peer.hears(Kind.OPEN)
    await gone(peer)


FAILURES = {
    "refused": (refuses, "no \\x1b (not_allowed)"),
    "failed": (fails, "the server failed; its log has more (internal)"),
    "gone": (leaves, "the server hung up"),
    "not what was sent": (lies, "4 bytes of stdout came, 3 were sent (wrong_size)"),
    "no answer": (is_silent, "no answer within 1 s"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_are_a_line_and_status_255(run, case):
    script, text = FAILURES[case]
    status, _, err = run(script, "-n", "--timeout", "1" if case == "no answer" else "30", "ls")
    assert (status, err) == (255, f"fastframe: {text}\n")


def test_a_command_may_take_longer_than_an_answer(run):
    async def script(peer):
        await opened(peer)
        await asyncio.sleep(1.1)
        await ended(peer)

    assert run(script, "-n", "--timeout", "1", "sleep") == (0, b"", "")


WRONG = {
    "no command": (["h:1"], "say which command to run"),
    "no command behind --": (["h:1", "--"], "say which command to run"),
    "options of the command": (["h:1", "ls", "-l"], "put -- before ls"),
    "an option that nobody has": (["h:1", "--long", "ls"], "unrecognized arguments: --long"),
    "options that both have": (["h:1", "ls", "--json"], "put -- before ls"),
    "-- within the command": (["h:1", "grep", "--", "-x"], "put -- before grep"),
    "a variable without a value": (["h:1", "--env", "A", "ls"], "'A' is not NAME=VALUE"),
    "a variable without a name": (["h:1", "--env", "=A", "ls"], "'=A' is not NAME=VALUE"),
    "no encoding": (["h:1", "--encoding", "nonsense", "ls"], "'nonsense' is no encoding of text"),
    "an encoding of no text": (["h:1", "--encoding", "hex", "ls"], "'hex' is no encoding of text"),
    "no time": (["h:1", "--time-limit", "0", "ls"], "'0' is not a number of seconds above 0"),
    "an argument that is not UTF-8": (["h:1", "--", "ls", "\udcff"], "is not UTF-8"),
    "a variable with a zero byte": (["h:1", "--env", "A=\0", "ls"], "has a zero byte"),
    "too much": (["h:1", "--", "ls", "x" * 70_000], "65536 may be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_asked_wrongly_is_status_2(case, capsys):
    words, text = WRONG[case]
    with pytest.raises(SystemExit) as info:
        main(["exec", *words])
    assert info.value.code == 2
    assert text in capsys.readouterr().err


def test_a_file_with_more_than_one_token(tmp_path, capsys):
    (tmp_path / "tokens").write_text("".join(f"{name} {'0' * 64}\n" for name in ("alice", "bob")))
    (tmp_path / "tokens").chmod(0o600)
    assert main(["exec", "h:1", "--token", str(tmp_path / "tokens"), "ls"]) == 2
    assert "has 2 tokens, and a client is one" in capsys.readouterr().err


async def patient(peer):
    """Play a command that says what it is told, until it is told with KILL, or hears no more."""
    await opened(peer)
    await peer.say(Kind.DATA, b"ready\n")
    sent = 6
    with contextlib.suppress(ConnectionError, EOFError):
        while True:
            kind, body = await peer.hear()
            said = f"{kind.name} {body.get('signal', '')}\n".encode()
            await peer.say(Kind.DATA, said)
            sent += len(said)
            if kind is Kind.CANCEL:
                return sent
    return sent


async def cancelled(peer):
    sent = await patient(peer)
    await ended(peer, reason="cancelled", status=None, signal="TERM", stdout=sent)


async def stubborn(peer):
    await patient(peer)
    await gone(peer)


def send(process, number, answer):
    """Send a signal twice, as timeout(1) does, and hear of it once; wait until it may come again."""
    process.send_signal(number)
    process.send_signal(number)
    assert process.stdout.readline().decode() == answer
    time.sleep(exec_command.ONCE_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_cancel_the_command(number):
    with playing(cancelled) as address, started(address, "-n", "sleep") as process:
        assert process.stdout.readline() == b"ready\n"
        send(process, number, "CANCEL \n")
        assert process.communicate(timeout=PATIENCE) == (b"", b"fastframe: killed by SIGTERM: cancelled\n")
        assert process.returncode == 143


def test_an_interrupt_is_passed_on_the_second_cancels_the_third_cuts():
    with playing(stubborn) as address, started(address, "-n", "sleep") as process:
        assert process.stdout.readline() == b"ready\n"
        send(process, signal.SIGINT, "SIGNAL INT\n")
        send(process, signal.SIGINT, "CANCEL \n")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == (b"", b"fastframe: interrupted\n")
        assert process.returncode == 130


def test_a_signal_that_is_ignored_stays_so():
    with playing(cancelled) as address:
        previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup(1) does
        try:
            with started(address, "-n", "sleep") as process:
                assert process.stdout.readline() == b"ready\n"
                process.send_signal(signal.SIGHUP)
                send(process, signal.SIGINT, "SIGNAL INT\n")
                send(process, signal.SIGINT, "CANCEL \n")
                assert process.wait(PATIENCE) == 143
        finally:
            signal.signal(signal.SIGHUP, previous)


async def endless(peer):
    """Play a command that writes until it is cancelled."""
    await opened(peer)
    hearing = asyncio.create_task(peer.hears(Kind.CANCEL))
    peer.sent = 0
    while not hearing.done():
        await peer.say(Kind.DATA, b"x" * 65_535 + b"\n")
        peer.sent += 65_536
        await asyncio.sleep(0)
    await hearing
    await ended(peer, reason="cancelled", status=None, signal="TERM", stdout=peer.sent)


def test_output_that_nobody_reads_any_more_cancels_the_command():
    with playing(endless) as address, started(address, "-n", "yes") as process:
        assert process.stdout.read(1) == b"x"
        process.stdout.close()
        assert process.wait(PATIENCE) == 1
        assert process.stderr.read() == b""


def test_output_that_nobody_reads_for_a_while_holds_the_command_and_no_signal():
    peers = []

    async def script(peer):
        peers.append(peer)
        await endless(peer)

    with playing(script) as address, started(address, "-n", "yes", bufsize=0) as process:
        assert process.stdout.read(1) == b"x"
        seen = []

        def has_stopped():
            seen.append(peers[0].sent)
            return len(seen) > 10 and len(set(seen[-10:])) == 1

        poll(has_stopped)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
        assert len(out) + 1 == peers[0].sent < 64 * MIB
        assert err == b"fastframe: killed by SIGTERM: cancelled\n"
