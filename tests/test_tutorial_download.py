"""The tutorial's download: a client that speaks the original bytes, what the original could not do, and the command."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import aiofastnet
import pytest
import uvloop
from filing import descriptors
from serving import FASTFRAME, connect, poll, serving
from threaded import PATIENCE, received, scripted, threaded

from fastframe import aio
from fastframe.servers import tutorial_download, tutorial_streams
from fastframe.servers.errors import OperationError
from fastframe.servers.root import Root
from fastframe.servers.tutorial_download import Downloads

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop, aiofastnet.loop_factory()]
DOCUMENT = Path(__file__).parent.parent / "docs" / "tutorial.md"
BIG = bytes(range(256)) * 20_000


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Have a name end after a shorter silence: no client here sends one in pieces."""
    monkeypatch.setattr(tutorial_streams, "QUIET_SECONDS", 0.01)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"seventeen bytes!!")
    (root / "empty").touch()
    (root / "big").write_bytes(BIG)
    (root / "sub" / "grüß dich").write_bytes(b"0123456789")
    (root / "out").symlink_to("/etc/passwd")
    (root / ".fastframe-uploads").mkdir()
    (root / ".fastframe-uploads" / "part").touch()
    os.mkfifo(root / "fifo")
    (tmp_path / "secret").touch()
    return root


@contextlib.contextmanager
def served(root, patience=PATIENCE, new_loop=LOOPS[0], where=None):
    async def start():
        handler = Downloads(opened, patience)
        sockets = aio.bind(**(where or {"host": "127.0.0.1", "port": 0}))
        return await tutorial_streams.serve(handler, sockets=sockets, ssl=None, limits=aio.Limits())

    with Root(root, hidden=(".fastframe-uploads",)) as opened, threaded(start, new_loop) as server:
        yield server.addresses[0]


def fetched(connection: socket.socket, name: bytes, ack: bytes = b"ack") -> bytes:
    """Do what the tutorial's client does, but count its bytes."""
    connection.sendall(name)
    assert connection.recv(1024) == b"000001"
    connection.sendall(ack)
    size = int(connection.recv(1024))
    connection.sendall(ack)
    data = received(connection, size)
    assert received(connection, 32) == hashlib.md5(data).hexdigest().encode()
    return data


def rest(connection: socket.socket) -> bytes:
    return received(connection, 1 << 30)


def test_the_bytes_as_drawn(root):
    with served(root) as address, connect(address) as connection:
        heard = []
        for said in (b"a.txt", b"ok", b"ok"):
            connection.sendall(said)
            heard.append(connection.recv(1024).decode())
        heard[2] += received(connection, 17 + 32 - len(heard[2])).decode()
    drawn = f"server         | {heard[0]} |        | {heard[1]} |      | 17 bytes | {heard[2][17:]} |"
    assert drawn in DOCUMENT.read_text(encoding="utf-8")


# The server


@pytest.mark.parametrize("new_loop", LOOPS)
def test_files_one_after_the_other(root, new_loop):
    with served(root, new_loop=new_loop) as address, connect(address) as connection:
        assert fetched(connection, b"a.txt") == b"seventeen bytes!!"
        assert fetched(connection, b"big", b"\0") == BIG
        assert fetched(connection, b"empty") == b""
        assert fetched(connection, "sub/grüß dich".encode()) == b"0123456789"
        assert fetched(connection, b"a.txt\n") == b"seventeen bytes!!"
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == b""


@pytest.mark.parametrize("family", ["::1", "unix"])
def test_other_families(root, tmp_path, family):
    where = {"path": str(tmp_path / "socket")} if family == "unix" else {"host": family, "port": 0}
    with served(root, where=where) as address, connect(address) as connection:
        assert fetched(connection, b"big") == BIG


NO_FILES = [
    b"nothing",
    b"../secret",
    b"sub/../../secret",
    b"/etc/passwd",
    b"out",
    b"sub",
    b"fifo",
    b".",
    b"\n",
    b"\xff",
    b"a.txt\0",
    b"a" * 5000,
    b".fastframe-uploads/part",
    b"a.txtack",  # the name and the ack together
]


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_beneath_the_root_is_missing_and_another_name_may_follow(root, name):
    with served(root) as address, connect(address) as connection:
        connection.sendall(name)
        assert connection.recv(1024) == b"000000"
        assert fetched(connection, b"a.txt") == b"seventeen bytes!!"


def test_a_file_that_cannot_be_opened_now_is_not_called_missing(root, monkeypatch, caplog):
    def fail(*_):
        raise OperationError("busy")

    monkeypatch.setattr(Root, "open_file", fail)
    with served(root) as address, connect(address) as connection:
        connection.sendall(b"a.txt")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(6) == b""
    assert "download failed" in caplog.text


def test_acks_that_do_not_come_are_not_waited_for_without_end(root):
    with served(root, patience=0.02) as address, connect(address) as connection:
        connection.sendall(b"a.txt")
        digest = hashlib.md5(b"seventeen bytes!!").hexdigest().encode()
        assert rest(connection) == b"000001" + b"17" + b"seventeen bytes!!" + digest


def test_acks_that_come_together_are_one_and_no_name(root):
    with served(root, patience=0.02) as address, connect(address) as connection:
        connection.sendall(b"a.txt")
        assert connection.recv(1024) == b"000001"
        connection.sendall(b"ackack")
        assert received(connection, 2 + 17 + 32)[:19] == b"17seventeen bytes!!"
        connection.sendall(b"a late ack")
        assert rest(connection) == b""


def test_whoever_can_send_no_ack_gets_the_file_at_once(root):
    with served(root, patience=1e6) as address, connect(address) as connection:
        connection.sendall(b"a.txt")
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection)[:25] == b"000001" + b"17" + b"seventeen bytes!!"


def test_a_client_that_does_not_read_delays_nobody(root):
    with served(root) as address, connect(address) as slow, connect(address) as other:
        slow.sendall(b"big")
        assert slow.recv(6) == b"000001"
        assert fetched(other, b"big") == BIG
        slow.sendall(b"ok")
        size = slow.recv(100)
        slow.sendall(b"ok")
        assert fetched(other, b"a.txt") == b"seventeen bytes!!"
        assert (size, received(slow, len(BIG))) == (b"%d" % len(BIG), BIG)


def test_a_client_that_leaves_ends_nothing_but_its_own_and_leaves_no_file_open(root):
    with served(root) as address:
        for count in range(3):
            with connect(address) as connection:
                connection.sendall(b"big")
                assert connection.recv(6) == b"000001"
                if count:
                    connection.sendall(b"ok")
                    assert connection.recv(100) == b"%d" % len(BIG)
                if count == 2:
                    connection.sendall(b"ok")
                    assert received(connection, 100) == BIG[:100]
        with connect(address) as connection:
            assert fetched(connection, b"a.txt") == b"seventeen bytes!!"
        poll(lambda: not any(str(root) + "/" in name for name in descriptors()))


def test_no_file_stays_open_whenever_its_client_is_gone(root):
    class Gone:
        """A connection that breaks when so many pieces were sent."""

        peername = "127.0.0.1:40000"

        def __init__(self, left):
            self.left = left

        async def recv_request(self, most):
            return b"a.txt"

        async def recv(self):
            return b"ack"

        async def sendall(self, data):
            self.left -= 1
            if self.left < 0:
                raise ConnectionResetError

    with Root(root) as opened:
        for left in range(4):
            with pytest.raises(ConnectionResetError):
                asyncio.run(Downloads(opened)(Gone(left)))
            assert not any(name.endswith("a.txt") for name in descriptors())


def test_a_file_that_shrinks_is_cut_off_without_a_digest(root, caplog):
    with served(root) as address, connect(address) as connection:
        connection.sendall(b"big")
        assert connection.recv(6) == b"000001"
        connection.sendall(b"ok")
        assert connection.recv(100) == b"%d" % len(BIG)
        os.truncate(root / "big", 1000)
        connection.sendall(b"ok")
        with contextlib.suppress(ConnectionResetError):
            assert len(rest(connection)) < len(BIG)
    assert "download failed" in caplog.text


# The command


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory to be in."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def download(address, *arguments):
    return tutorial_download.client_download(["--address", address, "--timeout", str(PATIENCE), *arguments])


def answer(flag=b"000001", size=b"17", data=b"seventeen bytes!!", digest=None):
    """Return a script for a server: what it says each time that the client has said something, all but the size in dribbles."""
    md5 = hashlib.md5(data).hexdigest().encode() if digest is None else digest

    def script(connection):
        for part, step in ((flag, 1), (size, len(size)), (data + md5, 1)):
            if not connection.recv(1024) or not part:  # a close with an ack unread would be a reset
                return
            for at in range(0, len(part), step):
                connection.sendall(part[at : at + step])

    return script


def test_the_command_fetches_a_file(root, here, capfd):
    with served(root) as address:
        assert download(address, "sub/grüß dich") == 0
        assert capfd.readouterr() == ("", "grüß dich: 10 B\n")
        assert download(address, "big", "copy", "--quiet") == 0
        assert download(address, "empty", "--quiet") == 0
    assert capfd.readouterr() == ("", "")
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {"grüß dich": b"0123456789", "copy": BIG, "empty": b""}
    assert (here / "copy").stat().st_mode & 0o777 == 0o666 & ~tutorial_download._umask()


def test_a_server_that_dribbles(here):
    with scripted(answer()) as address:
        assert download(address, "a.txt") == 0
    assert (here / "a.txt").read_bytes() == b"seventeen bytes!!"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (answer(flag=b"000000"), "a.txt: there is nothing of that name (not_found)"),
        (answer(flag=b"\x1b[2Jxx"), "(bad_message)"),
        (answer(size=b""), "hung up"),
        (answer(size=b"-1"), "(bad_message)"),
        (answer(size=b"1" * 20), "(bad_message)"),
        (answer(size=b"17seventeen"), "(bad_message)"),
        (answer(size=b"1000"), "hung up"),
        (answer(digest=b"0" * 32), "(wrong_digest)"),
        (answer(digest=b"0" * 31), "hung up"),
        (lambda connection: None, ""),
    ],
)
def test_what_fails_leaves_nothing(here, capfd, script, said):
    with scripted(script) as address:
        assert download(address, "a.txt") == 1
    stderr = capfd.readouterr().err
    assert said in stderr
    assert "\x1b" not in stderr
    assert os.listdir(here) == []


def test_ctrl_c_leaves_nothing(here):
    def script(connection):
        for part in (b"000001", b"1000000", b"half of it"):
            connection.recv(1024)
            connection.sendall(part)
        assert connection.recv(1) == b""  # which comes when the client has ended

    with scripted(script) as address:
        command = [*FASTFRAME, "tutorial", "download", "a.txt", "--address", address]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as client:
            poll(lambda: (here / "a.txt.new").exists() and (here / "a.txt.new").stat().st_size == 10)
            client.send_signal(signal.SIGINT)
            assert client.wait(PATIENCE) == 130
    assert os.listdir(here) == []


def test_a_file_is_replaced_on_demand_alone(root, here, capfd):
    (here / "a.txt").write_bytes(b"mine")
    with served(root) as address:
        assert download(address, "a.txt") == 1
        assert "(exists)" in capfd.readouterr().err
        assert [path.read_bytes() for path in here.iterdir()] == [b"mine"]
        assert download(address, "a.txt", "--replace") == 0
    assert [path.read_bytes() for path in here.iterdir()] == [b"seventeen bytes!!"]


def test_what_has_the_new_name_already_is_left_alone(root, here, capfd):
    (here / "a.txt.new").write_bytes(b"mine")
    with served(root) as address:
        assert download(address, "a.txt") == 1
    assert "a.txt.new: it is there already" in capfd.readouterr().err
    assert [path.read_bytes() for path in here.iterdir()] == [b"mine"]


@pytest.mark.parametrize("name", ["", "sub/", "a" * 252])
def test_no_file_here_can_have_that_name(root, here, capfd, name):
    with served(root) as address:
        assert download(address, name) == 1
    assert "(bad_name)" in capfd.readouterr().err
    assert os.listdir(here) == []


def test_as_a_user_runs_it(root, here, tmp_path):
    command = [*FASTFRAME, "serve", "tutorial", "download", "--port", "0", "--root", str(root)]
    with serving("--unix", tmp_path / "socket", "--ack-timeout", "0.02", "--workers", "2", command=command) as server:
        client = [*FASTFRAME, "tutorial", "download", "--address", server.address, "big"]
        assert subprocess.run(client, check=True, capture_output=True, text=True).stderr == "big: 4.9 MiB\n"
        with server.connect() as connection:
            connection.sendall(b"empty")
            assert rest(connection) == b"000001" + b"0" + hashlib.md5(b"").hexdigest().encode()
        assert server.end() == (0, "", "")
    assert (here / "big").read_bytes() == BIG


def test_a_root_that_is_none_is_status_2(capfd):
    assert tutorial_download.serve_download(["--root", "/nowhere"]) == 2
    assert capfd.readouterr().err == "fastframe: cannot serve /nowhere: No such file or directory\n"
