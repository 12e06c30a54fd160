"""The tutorials' exec servers: clients that speak the tutorials' bytes, and the inputs that broke the originals."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from executing import permit, until
from serving import FASTFRAME, connect, serving
from sessions import played
from threaded import PATIENCE, against, received, scripted
from wires import read_all, reset

from fastframe import aio
from fastframe.servers import tutorial_answers, tutorial_exec, tutorial_exec_client, tutorial_streams
from fastframe.servers.permits import Permits
from fastframe.servers.tutorial_answers import Json, Plain, Struct

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are kept by Linux's means")
SHELL = permit("/bin/sh", "sh", sandbox=False, timeout=30)
EVERYTHING = (SHELL, permit("/bin/echo", "echo"), permit("/bin/true", "true"), permit("/usr/bin/seq", "seq"))


@contextlib.asynccontextmanager
async def served(answer, *permits, path=None, **limits):
    sockets = aio.bind("127.0.0.1", 0) if path is None else aio.bind(path=path)
    listed = Permits({permit.name: permit for permit in permits or EVERYTHING}, frozenset({os.geteuid()}))
    async with await tutorial_exec.serve(answer, listed, sockets=sockets, ssl=None, limits=aio.Limits(**limits)) as server:
        yield server


def talked(answer, *permits, **limits):
    return against(functools.partial(served, answer, *permits, **limits))


def struct_answer(raw: socket.socket) -> bytes:
    (length,) = struct.unpack("i", received(raw, 4))
    return received(raw, length)


def json_answer(raw: socket.socket) -> tuple[dict, bytes]:
    (length,) = struct.unpack("i", received(raw, 4))
    header = json.loads(received(raw, length))
    return header, received(raw, header["total_size"])


def ask(raw: socket.socket, request: bytes) -> bytes:
    raw.sendall(request)
    return struct_answer(raw)


@talked(Plain)
def test_the_rest_of_a_long_answer_is_the_next_one(address):
    with connect(address) as raw:
        raw.sendall(b"seq 400")
        first = raw.recv(1024)
        raw.sendall(b"echo next\n")
        expected = "".join(f"{number}\n" for number in range(1, 401)).encode() + b"next\n"
        assert first == expected[:1024]
        assert received(raw, len(expected) - 1024) == expected[1024:]


@talked(Plain)
def test_a_command_without_output_hangs_no_client(address):
    with connect(address) as raw:
        raw.sendall(b"true")
        assert raw.recv(1024) == b"(no output)\n"
        raw.sendall(b"sh -c 'echo error >&2'")
        assert raw.recv(1024) == b"error\n"


@talked(Struct)
def test_stdout_and_then_stderr_stand_behind_their_length(address):
    with connect(address) as raw, connect(address) as other:
        assert ask(raw, b"sh -c 'echo error >&2; echo output'") == b"output\nerror\n"
        assert ask(other, b"true") == b""
        assert ask(raw, b"echo a 'b  c' ; ls $HOME *") == b"a b  c ; ls $HOME *\n"  # no shell
        raw.sendall(b"q")
        assert read_all(raw) == b""
        assert ask(other, b"echo on") == b"on\n"


@pytest.fixture
def long_quiet(monkeypatch):
    """Have a request that does not end in a line feed last too long for a test."""
    monkeypatch.setattr(tutorial_streams, "QUIET_SECONDS", 2 * PATIENCE)


def test_a_command_of_2_kb_is_one_command(monkeypatch):
    text = b"a" * 1015 + b"; sh -c 'echo CUT'; " + b"b" * 1000

    @talked(Struct)
    def test(address):
        with connect(address) as raw:
            assert ask(raw, b'echo "' + text + b'"') == text + b"\n"
            monkeypatch.setattr(tutorial_streams, "QUIET_SECONDS", 2 * PATIENCE)
            raw.sendall(b'echo "' + text[:1017])
            time.sleep(0.05)  # the rest is on its way
            assert ask(raw, text[1017:] + b'"\n') == text + b"\n"

    test()


def test_a_request_that_is_too_long_is_refused_and_no_part_of_it_is_run(long_quiet):
    @talked(Struct)
    def test(address):
        with connect(address) as raw:
            assert b"too_large" in ask(raw, b"echo " + b"a" * 70_000 + b"; echo tail\n")
            assert ask(raw, b"echo next\n") == b"next\n"

    test()


@talked(Struct)
def test_two_lines_that_came_together_are_two_requests(address):
    with connect(address) as raw:
        raw.sendall(b"echo one\r\n\n \necho two\n\nq\n")
        assert (struct_answer(raw), struct_answer(raw), read_all(raw)) == (b"one\n", b"two\n", b"")


@talked(Struct)
def test_200_kb_on_stderr_hold_nothing_up(address):
    with connect(address) as raw:
        answer = ask(raw, b"sh -c 'head -c 200000 /dev/zero >&2; head -c 200001 /dev/zero | tr \\\\0 x'")
        assert answer == b"x" * 200_001 + bytes(200_000)


@talked(Struct)
def test_what_cannot_be_run_is_answered(address):
    refused = {
        b"nothing": b"not_allowed",
        b"\n": b"bad_request",
        b"\n" * 1000: b"bad_request",  # one answer
        b"echo 'open\n": b"bad_request",
        b"echo \xff\n": b"bad_request",
        b"echo a\0b\n": b"bad_request",
    }
    with connect(address) as raw:
        for request, code in refused.items():
            assert code in ask(raw, request)
        assert ask(raw, b"echo next\n") == b"next\n"


@talked(Struct, SHELL, permit("/bin/sh", "brief", sandbox=False, timeout=1), permit("/usr/bin/yes", "yes", output=100_000))
def test_what_ends_a_command_is_told_behind_its_output(address):
    with connect(address) as raw:
        assert ask(raw, b"brief -c 'echo begun; exec sleep 60'") == b"begun\nfastframe: the command was ended: timeout\n"
        assert ask(raw, b"sh -c 'kill -KILL $$'") == b"fastframe: the command was ended: signal KILL\n"
        answer = ask(raw, b"yes")
        assert answer == b"y\n" * 50_000 + b"fastframe: the command was ended: limit output\n"


def test_an_answer_that_comes_as_a_whole_has_a_limit(monkeypatch):
    monkeypatch.setattr(Struct, "most", 300_000)
    monkeypatch.setattr(tutorial_answers, "IN_MEMORY", 1000)

    @talked(Struct, permit("/usr/bin/yes", "yes"))
    def test(address):
        with connect(address) as raw:
            assert ask(raw, b"yes") == b"y\n" * 150_000 + b"fastframe: the command was ended: limit output\n"

    test()


def test_a_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(tutorial_answers, "IN_MEMORY", 10)

    class Full(tempfile.SpooledTemporaryFile):
        def write(self, data):
            if self.tell() + len(data) > 100:
                raise OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(tutorial_answers.tempfile, "SpooledTemporaryFile", Full)

    @talked(Struct)
    def test(address):
        with connect(address) as raw:
            assert ask(raw, b"seq 1000") == b"fastframe: the output: the server's disk is full (disk_full)\n"
            assert ask(raw, b"echo next") == b"next\n"

    test()


@talked(Json)
def test_an_answer_is_described_before_it_comes(address):
    with connect(address) as raw:
        raw.sendall(b"sh -c 'echo error >&2; echo output; exit 3'")
        header, body = json_answer(raw)
        assert body == b"output\nerror\n"
        assert header == {"total_size": 13, "md5": hashlib.md5(body).hexdigest(), "filename": "sh", "status": 3}
        raw.sendall(b"seq 300000")
        header, body = json_answer(raw)
        assert body == "".join(f"{number}\n" for number in range(1, 300_001)).encode()
        assert header["md5"] == hashlib.md5(body).hexdigest()
        raw.sendall(b"nothing")
        header, body = json_answer(raw)
        assert b"not_allowed" in body
        assert (header["filename"], header["status"]) == ("", None)


@talked(Json)
def test_the_document_shows_a_real_description(address):
    with connect(address) as raw:
        raw.sendall(b"echo hello world\n")
        header, _ = json_answer(raw)
    shown = (Path(__file__).parent.parent / "docs/tutorial.md").read_text()
    assert f"\n               {json.dumps(header)}\n" in shown


@pytest.mark.parametrize(("answer", "leave"), [(Plain, reset), (Struct, socket.socket.close)])
def test_a_client_that_vanishes_leaves_nothing_behind(answer, leave, tmp_path):
    pid = tmp_path / "pid"

    @played
    async def test():
        async with served(answer, linger_timeout=0.1) as server:
            descriptors = len(os.listdir("/proc/self/fd"))
            raw = connect(server.addresses[0])
            raw.sendall(f"sh -c 'echo $$ > {pid}; head -c 500000 /dev/zero; exec sleep 60'\n".encode())
            await until(lambda: pid.exists() and pid.read_text())
            leave(raw)
            await until(lambda: not os.path.exists(f"/proc/{int(pid.read_text())}"))
            await until(lambda: not server.connections)
            await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 2)  # the keeper's, and its nursery's

    test()


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
def test_a_client_that_vanishes_behind_what_is_not_read_yet_leaves_nothing_behind(leave, tmp_path):
    pid = tmp_path / "pid"

    @played
    async def test():
        async with served(Struct, linger_timeout=0.1) as server:
            raw = connect(server.addresses[0])
            raw.sendall(f"sh -c 'echo $$ > {pid}; exec sleep 60'\n".encode())
            await until(lambda: pid.exists() and pid.read_text())
            await asyncio.to_thread(raw.sendall, bytes(8 * tutorial_streams.BLOCK))
            leave(raw)
            await until(lambda: not os.path.exists(f"/proc/{int(pid.read_text())}"))
            await until(lambda: not server.connections)

    test()


@talked(Struct)
def test_a_client_that_ends_its_direction_gets_its_answer(address):
    with connect(address) as raw:
        raw.sendall(b"echo last")
        raw.shutdown(socket.SHUT_WR)
        assert read_all(raw) == struct.pack("i", 5) + b"last\n"


@played
async def test_a_server_that_closes_ends_its_commands():
    patient = permit("/bin/sh", "sh", sandbox=False, grace=PATIENCE)  # so that it is told at once
    async with served(Plain, patient, linger_timeout=0.1) as server:
        reader, writer = await asyncio.open_connection(*server.addresses[0].split(":"))
        writer.write(b"sh -c 'echo begun; exec sleep 60'\n")
        assert await reader.readline() == b"begun\n"
        idle, idle_writer = await asyncio.open_connection(*server.addresses[0].split(":"))
        await server.close(grace=PATIENCE)
        assert await reader.read() == b"fastframe: the command was ended: drained\n"
        assert await idle.read() == b""
        writer.close()
        idle_writer.close()


@played
async def test_over_a_unix_socket_the_list_says_who_may(tmp_path):
    async with served(Struct, permit("/bin/true", "true", users=frozenset({"uid:12345"})), path=str(tmp_path / "s")) as server:
        with connect(server.addresses[0]) as raw:
            assert b"not_allowed" in await asyncio.to_thread(ask, raw, b"true\n")


@talked(Struct, permit("/bin/true", "true", users=frozenset({"alice"})), permit("/bin/echo", "echo"))
def test_what_is_for_some_is_for_nobody_whom_nothing_tells_apart(address):
    with connect(address) as raw:
        assert b"not_allowed" in ask(raw, b"true\n")
        assert ask(raw, b"echo x\n") == b"x\n"


def test_both_ends_as_commands(tmp_path):
    config = tmp_path / "exec.toml"
    config.write_text('[commands.echo]\nprogram = "/bin/echo"\narguments = "any"\n[commands.false]\nprogram = "/bin/false"\n')
    config.chmod(0o600)
    command = [*FASTFRAME, "serve", "tutorial", "exec-json", "--port", "0", "--config", str(config), "--allow-root"]
    with serving(command=command) as server:
        client = [*FASTFRAME, "tutorial", "exec-json", "--address", server.address]
        given = subprocess.run([*client, "echo a b", "false"], capture_output=True, timeout=30, check=False)
        status, _, log = server.end()
    assert (given.returncode, given.stdout, given.stderr) == (1, b"a b\n", b"")
    assert status == 0
    assert 'name=echo arguments="a b"' in log


def test_the_clients_of_the_other_two(capsysbinary):
    def run(client, address):
        assert client(["--address", address, "seq 400", "true", "echo 'a  b'"]) == 0
        return capsysbinary.readouterr().out

    numbers = "".join(f"{number}\n" for number in range(1, 401)).encode()

    @talked(Plain)
    def test_plain(address):  # three times recv(): the first two have the first answer, and there may be no more than that
        assert run(tutorial_exec_client.client_exec_plain, address).startswith(numbers)

    @talked(Struct)
    def test_struct(address):
        assert run(tutorial_exec_client.client_exec_struct, address) == numbers + b"a  b\n"

    test_plain()
    test_struct()


def test_the_json_client_notices_what_is_not_as_it_was_described():
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [*FASTFRAME, "tutorial", "exec-json", "--address", address, "x"]
    header = json.dumps({"total_size": 4, "md5": "12345", "filename": "a.txt"}).encode()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with listener, process as client, listener.accept()[0] as raw:
        assert raw.recv(1024) == b"x\n"
        raw.sendall(struct.pack("i", len(header)) + header + b"data")
        stdout, stderr = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stdout) == (1, b"data")
    assert b"its MD5 is another" in stderr


@pytest.mark.parametrize(
    "description",
    [b"[" * 60_000, b'{"total_size": 1e999, "md5": ""}', b'{"total_size": -1, "md5": ""}', b'{"md5": ""}', b"[]", b"\xff"],
)
def test_the_json_client_takes_nothing_else_for_a_description(description, capfd):
    def answer(raw):
        assert raw.recv(1024) == b"x\n"
        raw.sendall(struct.pack("i", len(description)) + description)

    with scripted(answer) as address:
        assert tutorial_exec_client.client_exec_json(["--address", address, "x"]) == 1
    assert "is no description" in capfd.readouterr().err
