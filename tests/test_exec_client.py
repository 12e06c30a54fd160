"""The client of the exec server, beside servers that say what they are told to."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from filing import MIB, gone
from scripts import ENDED, ended, opened, scripted, stdin
from sessions import PATIENCE, played

from fastframe.servers import exec_client, messages, session
from fastframe.servers.errors import OperationError
from fastframe.servers.exec_client import Finished, Result
from fastframe.servers.messages import Fields, Kind


async def fails(awaitable) -> str:
    with pytest.raises(OperationError) as info:
        await awaitable
    return info.value.code


def saying(*messages):
    """Return a script that opens a command, says the messages, and waits for the client to leave."""

    async def script(peer):
        await opened(peer)
        for kind, body, fields in messages:
            await peer.say(kind, body, **fields)
        await gone(peer)

    return script


@played
async def test_run_gives_stdin_and_returns_both_outputs_and_the_result():
    async def script(peer):
        await opened(peer, name="sort", arguments=["-r", "grüße"], environment={"LANG": "C"}, timeout_ms=1501)
        assert await stdin(peer) == b"abc"
        for kind, body in ((Kind.DATA, b"c"), (Kind.DATA_STDERR, b"no"), (Kind.DATA, b""), (Kind.DATA, b"ba")):
            await peer.stream.send(bytes([kind]) + body)
        await ended(peer, status=3, stdin=3, stdout=3, stderr=2, denied=["network"], left=2)

    async with scripted(script) as client:
        done = await client.run("sort", "-r", "grüße", stdin=b"abc", environment={"LANG": "C"}, timeout=1.5001)
    result = Result("exited", 3, None, "", ("network",), 2, 3, 3, 2, 0.25, 0.0, 4096, 1.5)
    assert done == Finished(result, b"cba", b"no")
    assert (result.returncode, result.shell_status) == (3, 3)


@played
async def test_commands_follow_each_other():
    async def script(peer):
        for number in range(3):
            await opened(peer, name=f"command {number}")
            await stdin(peer)
            await ended(peer)

    async with scripted(script) as client:
        assert [(await client.run(f"command {number}")).result.status for number in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "returncode", "shell_status"),
    [("KILL", -9, 137), ("INT", -2, 130), ("35", -35, 163), ("OTHERWHERE", -127, 255), ("1000", -127, 255)],
)
def test_signals_as_statuses(name, returncode, shell_status):
    result = exec_client.result_of(Fields(ENDED, status=None, signal=name))
    assert (result.returncode, result.shell_status) == (returncode, shell_status)


NO_RESULTS = [
    {"status": None},
    {"signal": "TERM"},
    {"status": 256},
    {"status": True},
    {"status": None, "signal": 9},
    {"reason": None},
    {"reason": "x" * 17},
    {"limit": 1},
    {"denied": [1]},
    {"left": -1},
    {"stdin": 1.5},
    {"peak_memory": 1 << 63},
    {"seconds": "1"},
    {"user_seconds": -1},
    {"system_seconds": True},
]


@pytest.mark.parametrize("wrong", NO_RESULTS, ids=str)
def test_what_is_no_result_is_refused(wrong):
    with pytest.raises(OperationError):
        exec_client.result_of(Fields(ENDED, **wrong))


@pytest.mark.parametrize("name", [name for name in ENDED if name not in ("unknown", "status", "signal", "denied")])
def test_a_result_has_all_its_fields(name):
    with pytest.raises(OperationError):
        exec_client.result_of(Fields({key: value for key, value in ENDED.items() if key != name}))


NO_REQUESTS = {
    "a name with a zero byte": (("l\0s",), "bad_request"),
    "an argument that is not UTF-8": (("ls", ["\udcff"]), "bad_request"),
    "a variable with a zero byte": (("ls", [], {"A": "\0"}), "bad_request"),
    "a variable's name that is not UTF-8": (("ls", [], {"\ud800": ""}), "bad_request"),
    "too many arguments": (("ls", ["x" * 100] * 700), "too_large"),
    "no time": (("ls", [], {}, 0), "bad_request"),
    "endless time": (("ls", [], {}, float("inf")), "bad_request"),
    "a time that is none": (("ls", [], {}, float("nan")), "bad_request"),
}


@pytest.mark.parametrize("case", NO_REQUESTS)
def test_what_cannot_be_sent_is_refused(case):
    arguments, code = NO_REQUESTS[case]
    with pytest.raises(OperationError) as info:
        exec_client.request(*arguments)
    assert info.value.code == code
    str(info.value).encode()


def test_the_largest_request():
    empty = len(messages.encode(Kind.OPEN, {"operation": "exec", **exec_client.request("ls", [""])}))
    asked = exec_client.request("ls", ["x" * (messages.MAX_CONTROL - empty)])
    assert len(messages.encode(Kind.OPEN, {"operation": "exec", **asked})) == messages.MAX_CONTROL


@played
async def test_a_request_that_is_refused_here_leaves_the_session_as_it_was():
    async def script(peer):
        await opened(peer, name="ls")
        await stdin(peer)
        await ended(peer)

    async with scripted(script) as client:
        assert await fails(client.run("ls", "\0")) == "bad_request"
        await client.run("ls")


@played
async def test_a_refusal_of_the_server_leaves_the_session_as_it_was():
    async def script(peer):
        await peer.hears(Kind.OPEN)
        await peer.say(Kind.ERROR, code="not_allowed", message="no")
        await opened(peer)
        await peer.say(Kind.ERROR, code="not_started", message="no")
        await stdin(peer)  # of the second
        await opened(peer)
        await stdin(peer)
        await ended(peer)

    async with scripted(script) as client:
        assert await fails(client.run("ls")) == "not_allowed"
        assert await fails(client.run("ls")) == "not_started"
        await client.run("ls")


@played
async def test_no_more_is_written_than_there_is_credit_for():
    async def script(peer):
        await opened(peer, credit=10)
        assert await stdin(peer, until=10) == b"x" * 10
        with pytest.raises(TimeoutError):
            await peer.stream.recv(0.05)
        await peer.say(Kind.CREDIT, credit=2 * MIB)
        data = await stdin(peer, b"x" * 10, until=2 * MIB + 10)
        await peer.say(Kind.CREDIT, credit=1)
        assert await stdin(peer, data) == b"x" * (2 * MIB + 10) + b"y"
        await ended(peer)

    async with scripted(script) as client, client.start("cat") as command:
        await command.write(bytearray(b"x" * 10))
        await command.write(memoryview(b"x" * 2 * MIB + b"y"))
        await command.write_eof()
        await command.write_eof()
        with pytest.raises(ValueError, match="after write_eof"):
            await command.write(b"")
        with pytest.raises(ValueError, match="after write_eof"):
            await command.communicate(b"more")
        assert (await command.communicate()).result.status == 0


@played
async def test_run_sends_and_collects_at_the_same_time():
    size = 100_000

    async def script(peer):
        await opened(peer, credit=1)
        data = b""
        for at in range(0, size, 1000):
            data = await stdin(peer, data, until=1 + at)
            await peer.say(Kind.DATA, b"o" * 1000)
            await peer.say(Kind.CREDIT, credit=1000)
        assert len(await stdin(peer, data)) == size
        await ended(peer, stdout=size)

    async with scripted(script) as client:
        done = await client.run("cat", stdin=b"i" * size)
    assert done.stdout == b"o" * size


@played
async def test_output_comes_piece_by_piece_as_it_was_sent():
    async def script(peer):
        await opened(peer)
        await peer.say(Kind.DATA, b"one")
        await stdin(peer, until=3)
        for kind, body in ((Kind.DATA_STDERR, b"two"), (Kind.DATA, b""), (Kind.DATA, b"three"), (Kind.DATA, b"four")):
            await peer.stream.send(bytes([kind]) + body)
        await ended(peer, stdout=12, stderr=3)

    async with scripted(script) as client, client.start("bc") as command:
        assert command.timeout == 60
        pieces = []
        async for stream, data in command:
            pieces.append((stream, bytes(data)))
            if data == b"one":
                await command.write(b"got")
        assert pieces == [("stdout", b"one"), ("stderr", b"two"), ("stdout", b"three"), ("stdout", b"four")]
        assert command.result.stdout == 12
        assert await command.read() == []
        await command.write(b"too late")
        await command.write_eof()
        await command.signal("INT")
        await command.cancel()


@played
async def test_who_writes_hears_credit_that_comes_behind_output_nobody_has_read():
    async def script(peer):
        await opened(peer, credit=0)
        await peer.say(Kind.DATA, b"early")
        await peer.say(Kind.CREDIT, credit=2)
        assert await stdin(peer) == b"ok"
        await ended(peer, stdout=5)

    async with scripted(script) as client, client.start("cat") as command:
        await command.write(b"ok")
        await command.write_eof()
        assert [bytes(data) async for _, data in command] == [b"early"]


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.DATA_STDERR])
@played
async def test_who_writes_puts_no_more_output_aside_than_a_bound(kind):
    count = 100
    sent = asyncio.Event()

    async def script(peer):
        await opened(peer, credit=0)
        for _ in range(count):
            await peer.say(kind, bytes(MIB // 4))
        sent.set()
        await peer.say(Kind.CREDIT, credit=2)
        await stdin(peer)
        await ended(peer, **{"stdout" if kind is Kind.DATA else "stderr": count * MIB // 4})

    async with scripted(script) as client, client.start("cat") as command:
        writing = asyncio.create_task(command.write(b"ok"))
        await asyncio.wait((asyncio.create_task(sent.wait()), writing), timeout=0.3)
        assert not sent.is_set()
        assert not writing.done()
        size = 0
        while size < count * MIB // 4:
            _, data = await anext(command)
            size += len(data)
        await writing
        await command.write_eof()
        assert await command.read() == []


@played
async def test_a_reader_and_a_writer_at_the_same_time():
    total = 3 * MIB

    async def script(peer):
        await opened(peer, credit=1)
        came = 0
        while came < total:
            _, body = await peer.hear()
            came += len(body)
            await peer.say(Kind.DATA, body)
            await peer.say(Kind.CREDIT, credit=50_000)
        await peer.hears(Kind.END, size=total)
        await ended(peer, stdout=total)

    async def write(command):
        for _ in range(total // MIB):
            await command.write(bytes(MIB))
        await command.write_eof()

    async with scripted(script) as client, client.start("cat") as command:
        writing = asyncio.create_task(write(command))
        assert sum([len(data) async for _, data in command]) == total
        await writing


@played
async def test_a_writer_hears_that_the_command_has_ended():
    async def script(peer):
        await opened(peer, credit=1)
        await peer.say(Kind.DATA, b"last words")
        await ended(peer, stdout=10)

    async with scripted(script) as client, client.start("true") as command:
        await command.write(bytes(MIB))
        assert command.result.status == 0
        assert (await command.communicate(b"too late")).stdout == b"last words"


@played
async def test_signals_and_cancel_while_output_is_waited_for():
    async def script(peer):
        await opened(peer)
        await peer.hears(Kind.SIGNAL, signal="USR1")
        await peer.say(Kind.DATA, b"caught")
        await peer.hears(Kind.CANCEL)
        await ended(peer, reason="cancelled", status=None, signal="TERM", stdout=6)

    async with scripted(script) as client, client.start("sleep") as command:
        reading = asyncio.create_task(command.read())
        await command.signal("USR1")
        assert await reading == [("stdout", b"caught")]
        with pytest.raises(ValueError, match="USR1"):
            await command.signal("SEGV")
        await command.cancel()
        result = await command.wait()
        assert (result.reason, result.returncode) == ("cancelled", -15)


@pytest.mark.parametrize("leaves", ["at its end", "with an error"])
@played
async def test_who_leaves_early_cancels_the_command_and_may_start_another(leaves):
    async def script(peer):
        await opened(peer)
        await peer.say(Kind.DATA, b"a")
        await peer.hears(Kind.CANCEL)
        await peer.say(Kind.DATA_STDERR, b"b")
        await peer.say(Kind.CREDIT, credit=1)
        await ended(peer, reason="cancelled", stdout=1, stderr=1)
        await opened(peer)
        await stdin(peer)
        await ended(peer)

    async with scripted(script) as client:
        with contextlib.suppress(KeyError):
            async with client.start("sleep") as command:
                await command.read()
                if leaves == "with an error":
                    raise KeyError
        assert (await client.run("true")).result.status == 0


@played
async def test_a_server_that_does_not_answer_a_cancel_is_cut(monkeypatch):
    monkeypatch.setattr(session, "CANCEL_SECONDS", 0.05)
    async with scripted(saying()) as client:
        async with client.start("sleep"):
            pass
        with pytest.raises(ConnectionAbortedError):
            await client.run("true")


@played
async def test_cancelling_the_task_cuts_the_connection():
    begun = asyncio.Event()

    async def script(peer):
        await opened(peer)
        begun.set()
        await gone(peer)

    async with scripted(script) as client:
        running = asyncio.create_task(client.run("sleep"))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@played
async def test_more_output_than_the_limit_cancels_the_command():
    async def script(peer):
        await opened(peer)
        await stdin(peer)
        await peer.say(Kind.DATA, bytes(60))
        await peer.say(Kind.DATA_STDERR, bytes(41))
        await peer.hears(Kind.CANCEL)
        await ended(peer, reason="cancelled", stdout=60, stderr=41)
        await opened(peer)
        await stdin(peer)
        await peer.say(Kind.DATA, bytes(100))
        await ended(peer, stdout=100)

    async with scripted(script) as client:
        assert await fails(client.run("yes", limit=100)) == "too_large"
        assert len((await client.run("yes", limit=100)).stdout) == 100


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@played
async def test_output_that_is_not_as_long_as_the_server_says(stream, size):
    kind = Kind.DATA if stream == "stdout" else Kind.DATA_STDERR
    async with scripted(saying((kind, b"four", {}), (Kind.RESULT, b"", {**ENDED, stream: size}))) as client:
        async with asyncio.timeout(PATIENCE):
            assert await fails(client.run("echo")) == "wrong_size"


@pytest.mark.parametrize("kind", [Kind.OPENED, Kind.END, Kind.WELCOME])
@played
async def test_what_has_no_place_ends_the_connection(kind, monkeypatch):
    monkeypatch.setattr(session, "CANCEL_SECONDS", 0.05)
    async with scripted(saying((kind, b"", {"size": 0}))) as client:
        assert await fails(client.run("echo")) == "bad_message"


@pytest.mark.parametrize("fields", [{"credit": -1, "timeout_ms": 1}, {"credit": 1}, {"credit": "1", "timeout_ms": 1}], ids=str)
@played
async def test_what_is_no_opening_is_refused(fields, monkeypatch):
    monkeypatch.setattr(session, "CANCEL_SECONDS", 0.05)

    async def script(peer):
        await peer.opened("exec", **fields)
        await gone(peer)

    async with scripted(script) as client:
        assert await fails(client.run("echo")) == "bad_request"


@played
async def test_an_error_is_raised_to_the_reader_and_to_the_writer():
    async def script(peer):
        await opened(peer, credit=0)
        await peer.say(Kind.ERROR, code="internal", message="")

    async with scripted(script) as client:
        async with client.start("cat") as command:
            codes = await asyncio.gather(fails(command.read()), fails(command.write(b"x")))
        assert codes == ["internal", "internal"]


@played
async def test_a_lost_connection_is_raised_behind_what_came():
    async def script(peer):
        await opened(peer)
        await peer.say(Kind.DATA, b"half")

    async with scripted(script) as client:
        with contextlib.suppress(*session.GONE):
            async with client.start("cat") as command:
                assert await command.read() == [("stdout", b"half")]
                with pytest.raises(session.GONE):
                    await command.read()
