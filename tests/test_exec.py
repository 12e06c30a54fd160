"""The exec server end to end: real commands, in their sandbox unless a test says otherwise, and a client at the socket."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from commanding import LATE, alive, mark, programs
from executing import executing, permit, served, until
from sessions import PATIENCE, TOKEN, played, speaking, where

from fastframe import aio
from fastframe.servers import arguments, exec_client, keepers
from fastframe.servers import exec as server_module
from fastframe.servers.credentials import Keyring
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Kind
from fastframe.servers.permits import Form, Permit, Permits, Sandbox

MIB = 1 << 20
PYTHON = os.path.realpath(sys.executable)
HERE_I_WAS = "fastframe-here-i-was"
PLENTY = 4 * MIB  # of output: more than pipes and sockets hold


def sh(**fields) -> Permit:
    return permit("/bin/sh", **fields)


async def fails(awaitable) -> str:
    with pytest.raises(OperationError) as info:
        await awaitable
    return info.value.code


# What it runs, and what comes back.


@played
async def test_what_a_command_writes_comes_back_apart_and_untouched():
    everything = bytes(range(256))
    async with executing(sh()) as client:
        done = await client.run("it", "-c", "cat; echo no newline at the end >&2; printf x >&2; exit 7", stdin=everything)
    assert (done.stdout, done.stderr) == (everything, b"no newline at the end\nx")
    result = done.result
    assert (result.reason, result.status, result.signal, result.limit) == ("exited", 7, None, "")
    assert (result.stdin, result.stdout, result.stderr) == (256, 256, 23)
    assert result.seconds > 0
    assert result.peak_memory > 0
    assert result.user_seconds + result.system_seconds > 0


@played
async def test_much_on_stderr_before_anything_on_stdout():
    async with executing(sh()) as client:
        done = await client.run("it", "-c", "head -c 200000 /dev/zero >&2; echo done")
    assert (len(done.stderr), done.stdout) == (200_000, b"done\n")


@played
async def test_output_comes_while_the_command_runs_and_input_while_it_writes():
    async with executing(permit("/bin/cat")) as client, client.start("it") as command:
        for number in range(3):
            await command.write(b"%d" % number)
            assert [bytes(data) for _, data in await command.read()] == [b"%d" % number]
        await command.write_eof()
        assert (await command.wait()).status == 0


@played
async def test_large_input_and_output_pass_each_other():
    data = os.urandom(PLENTY)
    async with executing(permit("/bin/cat")) as client:
        done = await client.run("it", stdin=data)
    assert done.stdout == data
    assert done.result.stdin == PLENTY


@played
async def test_input_that_nobody_reads_does_no_harm():
    async with executing(sh()) as client:
        done = await client.run("it", "-c", "exec <&-; echo not interested; sleep 0.05", stdin=b"x" * PLENTY)
        assert (done.stdout, done.result.status) == (b"not interested\n", 0)
        assert (await client.run("it", "-c", "echo next")).stdout == b"next\n"


@played
async def test_a_command_without_input_finds_an_empty_stdin():
    async with executing(permit("/bin/cat")) as client:
        assert (await client.run("it")).stdout == b""


@played
async def test_a_command_that_closes_its_outputs_is_waited_for():
    async with executing(sh()) as client:
        done = await client.run("it", "-c", "exec >&- 2>&-; sleep 0.2; exit 3")
    assert done.result.status == 3
    assert done.result.seconds >= 0.2


@played
async def test_a_command_waits_for_a_reader_that_does_not_read():
    async with executing(permit("/usr/bin/yes", "yes"), sh()) as client, client.start("yes") as command:
        await command.read()
        written = [-1, 0]

        def stands_still() -> bool:
            written[:] = written[1], _written_by("/usr/bin/yes")
            return written[0] == written[1] > 0

        await until(stands_still)
        assert written[1] < 8 * MIB
        await command.cancel()
        assert (await command.wait()).reason == "cancelled"


def _written_by(program: str) -> int:
    """Return how many bytes processes of that program have written."""
    total = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and os.readlink(entry / "exe") == program:
                total += int(re.search(r"^wchar: (\d+)", (entry / "io").read_text(), re.MULTILINE)[1])
    return total


# How it ends.


@played
async def test_a_program_that_a_signal_ends():
    async with executing(sh()) as client:
        result = (await client.run("it", "-c", "kill -SEGV $$")).result
    assert (result.reason, result.status, result.signal, result.shell_status) == ("signaled", None, "SEGV", 139)


@played
async def test_signals_reach_the_program_while_it_takes_no_input():
    async with (
        executing(sh()) as client,
        client.start("it", "-c", 'trap "echo usr1; exit 5" USR1; echo ready; while :; do :; done') as command,
    ):
        await command.read()
        await command.signal("USR1")
        assert await command.read() == [("stdout", b"usr1\n")]
        assert (await command.wait()).status == 5


@played
async def test_a_cancelled_command_may_say_goodbye():
    async with (
        executing(sh()) as client,
        client.start("it", "-c", 'trap "echo bye; exit 0" TERM; echo ready; while :; do :; done') as command,
    ):
        await command.read()
        await command.cancel()
        assert b"".join([bytes(data) async for _, data in command]) == b"bye\n"
        assert (command.result.reason, command.result.status) == ("cancelled", 0)


@played
async def test_a_command_that_does_not_want_to_end_is_killed_after_its_grace():
    async with (
        executing(sh(grace=0.2)) as client,
        client.start("it", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.01; done') as command,
    ):
        await command.read()
        await command.cancel()
        result = await command.wait()
    assert (result.reason, result.signal) == ("cancelled", "KILL")


@pytest.mark.parametrize(("most", "asked"), [(0.1, None), (60, 0.1)], ids=["the list's", "the client's"])
@played
async def test_a_command_has_so_much_time(most, asked):
    async with executing(sh(timeout=most)) as client, client.start("it", "-c", "exec sleep 60", timeout=asked) as command:
        assert command.timeout == 0.1
        result = await command.wait()
    assert (result.reason, result.signal) == ("timeout", "TERM")


@played
async def test_what_a_cancelled_program_leaves_has_the_rest_of_its_grace():
    child = "trap 'sleep 0.5; echo cleaned; exit' TERM; echo ready; while :; do :; done"
    async with executing(sh(grace=30)) as client, client.start("it", "-c", f'sh -c "{child}" & wait') as command:
        await command.read()
        await command.cancel()
        assert b"".join([bytes(data) async for stream, data in command if stream == "stdout"]) == b"cleaned\n"
        assert (command.result.reason, command.result.left) == ("cancelled", 0)


@played
async def test_what_a_program_leaves_behind_ends_with_it_and_does_not_hold_the_answer():
    left = "setsid sh -c 'trap \"\" TERM HUP; sleep 300 & exec setsid sleep 300' & sleep 300 & read line; echo started"
    marked = mark()
    async with executing(sh(environment=marked, timeout=200)) as client, client.start("it", "-c", left) as command:
        await until(lambda: programs(marked).count("sleep") == 3)
        done = await command.communicate(b"\n")
    assert (done.stdout, done.result.reason, done.result.status) == (b"started\n", "exited", 0)
    assert done.result.left == 3


@played
async def test_what_ends_soon_after_the_program_may_finish():
    async with executing(sh()) as client:
        done = await client.run("it", "-c", f"{LATE} echo early")
    assert (done.stdout, done.result.left) == (b"early\nlate\n", 0)


@played
async def test_the_client_goes_and_so_does_the_command(tmp_path):
    pid = tmp_path / "pid"
    async with served(sh(sandbox=False, grace=0.2)) as server:
        async with exec_client.connect(**where(server)) as client:
            running = asyncio.create_task(
                client.run("it", "-c", f"trap '' TERM; (setsid sleep 61 & echo $!) > {pid}; sleep 61")
            )
            await until(lambda: pid.exists() and pid.read_text())
            running.cancel()
            await asyncio.wait((running,))
        await until(lambda: not os.path.exists(f"/proc/{pid.read_text().strip()}"))


# What it may take: named in the result.

HOG = "import time; held = [bytearray(1 << 20) for _ in range(400)]; time.sleep(60)"
BOMB = "import os, time\nfor _ in range(100):\n    if not os.fork(): time.sleep(60)\ntime.sleep(60)"
SPIN = "import os\nos.fork()\nwhile True: pass"


@pytest.mark.parametrize(
    ("program", "limits", "name"),
    [
        (HOG, {"memory": 64 * MIB}, "memory"),
        (BOMB, {"processes": 20}, "processes"),
        (SPIN, {"cpu": 1}, "cpu"),
        ("import time\nwhile True: print('x' * 1000, flush=True)", {"output": 100_000}, "output"),
    ],
    ids=["memory", "processes", "cpu", "output"],
)
@played
async def test_what_takes_too_much_is_ended_and_named(program, limits, name):
    sandbox = Sandbox(read=(PYTHON, sys.base_prefix))
    async with executing(permit(PYTHON, sandbox=sandbox, **limits)) as client:
        done = await client.run("it", "-I", "-c", program)
    assert (done.result.reason, done.result.limit, done.result.signal) == ("limit", name, "KILL")
    assert len(done.stdout) <= 100_000


@pytest.mark.parametrize("command", ["exec head -c 2000000 /dev/zero > big", "head -c 2000000 /dev/zero > big"])
@played
async def test_a_file_that_gets_too_long_is_named(tmp_path, command):
    sandbox = Sandbox(write=(str(tmp_path),))
    async with executing(sh(sandbox=sandbox, directory=str(tmp_path), file_size=MIB)) as client:
        result = (await client.run("it", "-c", command)).result
    assert (result.reason, result.limit) == ("limit", "file_size")
    assert (tmp_path / "big").stat().st_size == MIB


@pytest.mark.parametrize(
    ("command", "denied"),
    [
        ("cat /etc/passwd", ("read",)),
        (f"echo > /tmp/{HERE_I_WAS}", ("write",)),
        ("exec 3<>/dev/tcp/127.0.0.1/9", ("network",)),
        ("exec 3<>/dev/udp/127.0.0.1/9; cat /etc/hostname", ("network", "read")),
        ("cat", ()),
    ],
)
@played
async def test_what_the_sandbox_refuses_is_named(command, denied):
    environment = {"SHELL": "/bin/bash"}  # or it looks for that in /etc/passwd
    async with executing(permit("/bin/bash", environment=environment)) as client:
        result = (await client.run("it", "-c", command)).result
    assert result.denied == denied
    assert (result.reason, bool(result.status)) == ("exited", bool(denied))
    assert HERE_I_WAS not in os.listdir("/tmp")


@played
async def test_the_operator_reads_which_files_were_refused(tmp_path, caplog):
    odd = tmp_path / "od\nd"
    odd.write_text("secret")
    with caplog.at_level(logging.INFO):
        async with executing(sh()) as client:
            done = await client.run("it", "-c", f"cat /etc/passwd; echo > /tmp/{HERE_I_WAS}; cat '{odd}' /etc/passwd")
    assert "refused" not in vars(exec_client.Result)["__dataclass_fields__"]
    assert done.result.denied == ("read", "write")
    (line,) = [record.fields for record in caplog.records if record.msg == "operation"]
    assert line["refused"] == f"read /etc/passwd, write /tmp, read {odd}"


@played
async def test_without_a_sandbox_all_is_there():
    async with executing(permit("/bin/cat", sandbox=False)) as client:
        done = await client.run("it", "/etc/passwd")
    assert done.stdout.startswith(b"root:")
    assert done.result.denied == ()


# Who asks for what.


@pytest.mark.parametrize(
    ("name", "given", "code"),
    [
        ("other", (), "not_allowed"),
        ("../bin/sh", (), "not_allowed"),
        ("it", ("-c", "id"), "not_allowed"),
        ("it", ("a;id",), "not_allowed"),
        ("it", ("a\nb",), "not_allowed"),
        ("it", ("a" * 5000,), "too_large"),
        ("it", ("a",) * 20_000, "too_large"),
    ],
)
@played
async def test_what_the_list_does_not_allow_is_refused_and_the_next_command_runs(name, given, code):
    echo = permit("/bin/echo", forms=(Form((re.compile("[a-z]+"),)),))
    async with executing(echo) as client:
        assert await fails(client.run(name, *given)) == code
        assert (await client.run("it", "hello")).stdout == b"hello\n"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"arguments": ["a\0b"]}, "bad_request"),
        ({"arguments": "abc"}, "bad_request"),
        ({"arguments": [1]}, "bad_request"),
        ({"arguments": ["x" * 61_440]}, "too_large"),
        ({"environment": {"LD_PRELOAD": "/tmp/x.so"}}, "not_allowed"),
        ({"environment": {"LANG": "a\0b"}}, "bad_request"),
        ({"environment": ["LANG"]}, "bad_request"),
        ({"timeout_ms": 0}, "bad_request"),
        ({"timeout_ms": "1"}, "bad_request"),
        ({"no_input": 1}, "bad_request"),
    ],
)
@played
async def test_requests_that_no_client_of_ours_would_send(fields, code):
    echo = permit("/bin/echo", accepted=frozenset({"LANG"}))
    async with served(echo) as server, speaking(server, greeted=True) as peer:
        await peer.say(Kind.OPEN, **{"operation": "exec", "name": "it", **fields})
        await peer.hears(Kind.ERROR, code=code)
        await peer.say(Kind.OPEN, operation="exec", name="it", arguments=["still here"], no_input=True)
        await peer.hears(Kind.OPENED)
        assert await peer.hear() == (Kind.DATA, b"still here\n")
        await peer.hears(Kind.RESULT, status=0)


@pytest.mark.parametrize(
    "body",
    [b'{"operation":"exec","name":"it","arguments":["\xff"]}', b'{"operation":"exec","name":"it","arguments":["\\ud800"]}'],
    ids=["no UTF-8", "a lone surrogate"],
)
@played
async def test_arguments_that_are_no_text_end_the_connection(body):
    async with served(permit("/bin/echo")) as server, speaking(server, greeted=True) as peer:
        await peer.say(Kind.OPEN, body)
        await peer.hears(Kind.ERROR, code="bad_message")
        assert await peer.ended()


@played
async def test_a_mebibyte_of_arguments_ends_the_connection():
    async with served(permit("/bin/echo")) as server, speaking(server, greeted=True) as peer:
        await peer.say(Kind.OPEN, operation="exec", name="it", arguments=["x" * (MIB - 100)])
        error = await peer.hears(Kind.ERROR, code="bad_message")
        assert "65536 may be" in error["message"]
        assert await peer.ended()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.OPEN, {"operation": "exec", "name": "it"}),
        (Kind.SIGNAL, {"signal": "STKFLT"}),
        (Kind.SIGNAL, {"signal": ["TERM"]}),
        (Kind.SIGNAL, {}),
        (Kind.HELLO, {}),
    ],
)
@played
async def test_what_has_no_place_while_a_command_runs_ends_it_and_the_connection(kind, fields):
    async with served(permit("/bin/cat")) as server, speaking(server, greeted=True) as peer:
        await peer.say(Kind.OPEN, operation="exec", name="it")
        await peer.hears(Kind.OPENED)
        await peer.say(kind, **fields)
        await peer.hears(Kind.ERROR, code="bad_message")
        assert await peer.ended()


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.END])
@played
async def test_a_command_without_input_is_granted_none(kind):
    async with served(permit("/bin/sleep")) as server, speaking(server, greeted=True) as peer:
        await peer.say(Kind.OPEN, operation="exec", name="it", arguments=["60"], no_input=True)
        await peer.hears(Kind.OPENED, credit=0)
        await peer.say(kind)
        await peer.hears(Kind.ERROR, code="bad_message")
        assert await peer.ended()


@played
async def test_more_input_than_was_granted_ends_the_connection():
    async with served(permit("/bin/sleep")) as server, speaking(server, greeted=True) as peer:
        await peer.say(Kind.OPEN, operation="exec", name="it", arguments=["60"])
        credit = (await peer.hears(Kind.OPENED))["credit"]
        await peer.say(Kind.DATA, bytes(credit))
        granted = (await peer.hears(Kind.CREDIT))["credit"]  # what the pipe took
        await peer.say(Kind.DATA, bytes(granted + 1))
        await peer.hears(Kind.ERROR, code="bad_message")
        assert await peer.ended()


@played
async def test_only_as_many_at_once_as_the_list_says():
    async with served(permit("/bin/cat", at_once=1)) as server:
        first, second = await exec_client.connect(**where(server)), await exec_client.connect(**where(server))
        async with first.start("it") as command:
            assert await fails(second.run("it")) == "busy"
            await command.write_eof()
            await command.wait()
        assert (await second.run("it")).result.status == 0
        await first.close()
        await second.close()


@played
async def test_a_program_that_has_gone_is_not_started_and_the_operator_hears_why(tmp_path, caplog):
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    async with executing(permit(str(program))) as client:
        assert (await client.run("it")).result.status == 0
        program.unlink()
        with caplog.at_level(logging.ERROR):
            assert await fails(client.run("it")) == "not_started"
    assert [record.fields["reason"] for record in caplog.records if record.msg == "not started"] == [
        "No such file or directory"
    ]


@played
async def test_every_decision_is_one_line(caplog):
    echo = permit("/bin/echo", forms=(Form((re.compile("[a-z ]+"),)),))
    with caplog.at_level(logging.INFO):
        async with executing(echo) as client:
            await client.run("it", "two words")
            await fails(client.run("it", "\x1b[2J"))
            await fails(client.run("other"))
    lines = [record.fields for record in caplog.records if record.msg == "operation"]
    told = [(line["name"], line["arguments"], line["user"], line["outcome"], line.get("status")) for line in lines]
    user = f"uid:{os.geteuid()}"
    assert told == [
        ("it", "'two words'", user, "done", 0),
        ("it", "'\x1b[2J'", user, "not_allowed", None),
        ("other", "", user, "not_allowed", None),
    ]


@played
async def test_a_keeper_that_stands_still_is_one_error_and_one_line(monkeypatch, caplog):
    marked = mark()
    with caplog.at_level(logging.INFO):
        async with executing(sh(environment=marked, grace=0.1)) as client:
            async with client.start("it", "-c", "echo $PPID; sleep 100; sleep 100") as command:
                pid = int(bytes((await command.read())[0][1]))
                os.kill(pid, signal.SIGSTOP)
                monkeypatch.setattr(keepers, "STILL_SECONDS", 0.1)
                await command.cancel()
                assert await fails(command.wait()) == "internal"
            assert alive(marked) == []
            monkeypatch.undo()
            assert (await client.run("it", "-c", "exit 3")).result.status == 3
    lines = [record.fields for record in caplog.records if record.msg == "operation"]
    assert [(line["outcome"], line.get("status")) for line in lines] == [("internal", None), ("done", 3)]
    assert [record.fields["command"] for record in caplog.records if record.msg == "keeper lost"] == ["it"]


@played
async def test_a_line_says_what_was_wrong_with_a_command_and_nothing_else(caplog, tmp_path):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.INFO):
        async with executing(sh()) as client:
            await client.run("it", "-c", f"cat {tmp_path}/file; echo x > {tmp_path}/x; setsid sleep 60 & exit 3")
            await client.run("it", "-c", "exit 0")
    lines = [record.fields for record in caplog.records if record.msg == "operation"]
    keys = {"reason", "status", "signal", "limit", "denied", "left"}
    assert [{key: value for key, value in line.items() if key in keys} for line in lines] == [
        {"reason": "exited", "status": 3, "denied": "read,write", "left": 1},
        {"reason": "exited", "status": 0},
    ]


# Who may connect.


@played
async def test_tcp_without_tokens_or_certificates_is_refused():
    sockets = aio.bind("127.0.0.1", 0)
    with pytest.raises(arguments.UsageError, match="nothing tells who a client is"):
        await server_module.serve(Permits({}), sockets=sockets, ssl=None, limits=aio.Limits())
    for listener in sockets:
        listener.close()


@played
async def test_a_token_lets_in_and_a_wrong_or_replayed_one_does_not():
    alone = permit("/bin/echo", users=frozenset({"alice"}))
    async with served(alone, tcp=True, keyring=Keyring({"alice": TOKEN})) as server:
        async with exec_client.connect(**where(server), token=("alice", TOKEN)) as client:
            assert (await client.run("it", "in")).stdout == b"in\n"
        async with speaking(server) as first:
            welcome = await first.greet()
            await first.authenticate(welcome)
            await first.hears(Kind.AUTHENTICATED)
        async with speaking(server) as replay:
            await replay.greet()
            await replay.authenticate(welcome)  # proves the knowledge of the token, for another nonce
            await replay.hears(Kind.ERROR, code="unauthenticated")
            assert await replay.ended()
        began = time.monotonic()
        async with speaking(server) as guess:
            await guess.authenticate(await guess.greet(), token="f" * 64)
            await guess.hears(Kind.ERROR, code="unauthenticated")
        assert time.monotonic() - began >= 0.3  # the source waits after a wrong one


@played
async def test_another_user_of_the_machine_is_nobody(monkeypatch):
    monkeypatch.setattr("fastframe.servers.service.user_of", lambda _: "uid:12345")
    async with executing(permit("/bin/echo")) as client:
        assert await fails(client.run("it")) == "not_allowed"


def test_a_pause_of_a_reader_is_no_reason_to_cut_it():
    parser = argparse.ArgumentParser()
    arguments.add_server_options(parser, server_module.LIMITS)
    assert arguments.limits(parser.parse_args([])).write_timeout is None
    assert arguments.limits(parser.parse_args(["--write-timeout", "5"])).write_timeout == 5


# The end of the server.


@played
async def test_a_drain_ends_commands_in_time_to_tell_so():
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(served(sh(grace=PATIENCE)))
        client = await stack.enter_async_context(exec_client.connect(**where(server)))
        async with client.start("it", "-c", "trap 'echo bye; exit 4' TERM; echo ready; while :; do :; done") as command:
            await command.read()
            closing = asyncio.create_task(server.close(PATIENCE + keepers.DRAIN_SECONDS + 0.2))
            assert b"".join([bytes(data) async for _, data in command]) == b"bye\n"
            assert (command.result.reason, command.result.status) == ("drained", 4)
        assert await fails(client.run("it", "-c", "true")) == "going_away"
        await client.close()
        await closing
