"""Both ends of what runs commands from another process: what is asked of each library, and asyncssh's ends as they are."""

import asyncio
import contextlib
import json
import subprocess
import sys
import types

import pytest

from fastframe.bench import otherexecs
from fastframe.bench.execends import Outcome
from fastframe.bench.processes import serving

SCRIPT = ["/bin/sh", "-c", "echo out; echo oops >&2; exit 3"]
FAILED = Outcome(3, len("out\n"), len("oops\n"))


def module(monkeypatch, name, **names):
    """Have `import name` find these names."""
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**names))


def test_each_that_needs_a_server_of_ours_has_one():
    assert set(otherexecs.SERVERS) <= set(otherexecs.WAYS)
    assert {"posix_spawn", "pipes", "subprocess", "asyncio"} < set(otherexecs.WAYS)


def test_openssh_is_started_for_each_command_beside_its_master(monkeypatch):
    @contextlib.contextmanager
    def pipes(_):
        yield lambda command: command

    monkeypatch.setattr(otherexecs, "pipes", pipes)
    with otherexecs.openssh("/tmp/control") as run:
        command = run(["echo", "two words"])
    assert command == ["/usr/bin/ssh", "-F", "none", "-S", "/tmp/control", "127.0.0.1", "echo 'two words'"]


def test_asyncssh_loses_neither_stderr_nor_status_nor_a_session_beside_another():
    pytest.importorskip("asyncssh")

    async def exchange(port):
        async with otherexecs.asyncssh_session(str(port), 2) as (one, other):
            return await asyncio.gather(one(SCRIPT), other(["/usr/bin/head", "-c", "300001", "/dev/zero"]))

    with serving([sys.executable, "-m", "fastframe.bench.otherexecs", "serve", "asyncssh"], {}) as server:
        found = asyncio.run(asyncio.wait_for(exchange(server.port), 20))
    assert found == [FAILED, Outcome(0, 300_001, 0)]


def test_a_stream_is_counted_to_its_end():
    pieces = iter([b"one", b"three", b"", b"not this"])

    class Stream:
        async def read(self, size):
            assert size == otherexecs.BLOCK
            return next(pieces)

    assert asyncio.run(otherexecs.size_of(Stream())) == 8


def test_ours_has_a_connection_for_each_task_and_shows_its_token(monkeypatch, tmp_path):
    (tmp_path / "tokens").write_text("bench secret\n")
    log = []

    class Running:
        def __init__(self):
            self.pieces = iter([[("stdout", b"ou"), ("stderr", b"oops\n")], [("stdout", b"t\n")], []])
            self.result = types.SimpleNamespace(returncode=3)

        async def read(self):
            return next(self.pieces)

    class Client:
        @contextlib.asynccontextmanager
        async def start(self, *command):
            log.append(command)
            yield Running()

    @contextlib.asynccontextmanager
    async def connect(host, port, *, token):
        log.append((host, port, token))
        yield Client()
        log.append("closed")

    module(monkeypatch, "fastframe.servers.exec_client", connect=connect)

    async def exchange():
        async with otherexecs.fastframe(f"99:{tmp_path / 'tokens'}", 2) as (one, other):
            assert one.args != other.args
            return await one(["/bin/true", "-x"])

    assert asyncio.run(exchange()) == FAILED
    connected = ("127.0.0.1", 99, ("bench", "secret"))
    assert log == [connected, connected, ("true", "-x"), "closed", "closed"]


def test_the_loop_that_execnet_runs_gives_all_that_came_out():
    sent = []

    class Channel:
        def __iter__(self):
            return iter([SCRIPT])

        def send(self, item):
            sent.append(item)

    exec(otherexecs.COMMAND_LOOP, {"channel": Channel()})
    assert sent == [(3, b"out\n", b"oops\n")]


def test_execnet_is_given_commands_and_its_gateway_is_ended(monkeypatch):
    log = []
    channel = types.SimpleNamespace(send=log.append, receive=lambda: (3, b"out\n", b"oops\n"))
    gateway = types.SimpleNamespace(remote_exec=lambda code: channel if code == otherexecs.COMMAND_LOOP else None)
    group = types.SimpleNamespace(makegateway=lambda kind: gateway, terminate=lambda timeout: log.append("ended"))
    module(monkeypatch, "execnet", Group=lambda: group)
    with otherexecs.execnet("") as run:
        assert run(SCRIPT) == FAILED
    assert log == [SCRIPT, "ended"]


def test_rpyc_gets_its_command_by_value_and_its_connection_is_closed(monkeypatch):
    log = []

    def run(command, **how):
        assert isinstance(command, tuple)
        log.append(how)
        return subprocess.run(command, check=False, **how)

    connection = types.SimpleNamespace(
        modules=types.SimpleNamespace(subprocess=types.SimpleNamespace(run=run)), close=lambda: log.append("closed")
    )
    asked = []
    module(monkeypatch, "rpyc.utils.classic", connect=lambda *where: asked.append(where) or connection)
    with otherexecs.rpyc("99") as remote:
        assert remote(SCRIPT) == FAILED
    assert asked == [("127.0.0.1", 99)]
    assert log == [{"stdin": subprocess.DEVNULL, "capture_output": True}, "closed"]


def test_rpycs_server_says_where_it_is_before_it_serves(monkeypatch, capsys):
    log = []

    class Server:
        port = 4711

        def __init__(self, service, *, hostname, port):
            log.append((service, hostname, port))

        def start(self):
            log.append(capsys.readouterr().out)

    module(monkeypatch, "rpyc.core", SlaveService="slave")
    module(monkeypatch, "rpyc.utils.server", ThreadedServer=Server)
    otherexecs.serve_rpyc()
    assert log == [("slave", "127.0.0.1", 0), "listening on 127.0.0.1:4711\n"]


def test_a_client_is_a_program_that_takes_jobs():
    command = [sys.executable, "-m", "fastframe.bench.otherexecs", "client", "subprocess", "", "1"]
    done = subprocess.run(command, input="[0]\n", capture_output=True, text=True, check=True)
    ready, answer = done.stdout.splitlines()
    assert ready == "ready"
    assert len(json.loads(answer)["runs"]) == 1
