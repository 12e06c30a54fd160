"""The tutorial's upload: a client that speaks the original bytes, what broke the original, and the command."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import aiofastnet
import pytest
import uvloop
from serving import FASTFRAME, connect, poll, serving
from threaded import PATIENCE, received, scripted, threaded

from fastframe import aio
from fastframe.servers import tutorial_upload, unfinished
from fastframe.servers.root import Root
from fastframe.servers.staging import Staging

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop, aiofastnet.loop_factory()]
DOCUMENT = Path(__file__).parent.parent / "docs" / "tutorial.md"
BIG = bytes(range(256)) * 20_000


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    return root


@contextlib.contextmanager
def serving_into(root, new_loop=LOOPS[0], **limits):
    async def start():
        sockets = aio.bind("127.0.0.1", 0)
        return await tutorial_upload.serve(Staging(opened), sockets=sockets, ssl=None, limits=aio.Limits(**limits))

    with Root(root, hidden=(Staging.DIRECTORY,)) as opened, threaded(start, new_loop) as server:
        yield server


@contextlib.contextmanager
def served(root, new_loop=LOOPS[0]):
    with serving_into(root, new_loop) as server:
        yield server.addresses[0]


def described(name, size, **more):
    """Return what the tutorial's client sends before the bytes."""
    header = json.dumps({"file_name": name, "file_size": size, **more}).encode()
    return struct.pack("i", len(header)) + header


def files(root):
    """Return what is in a directory, but links, and what a server renames or removes meanwhile."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink() and not name.startswith("out/"):
                found[name] = path.read_bytes()
    return found


def is_stored(connection):
    """End the own direction and tell whether the connection then ends, and is not reset."""
    with contextlib.suppress(OSError):  # it is reset already
        connection.shutdown(socket.SHUT_WR)
    try:
        assert connection.recv(1) == b""
    except ConnectionResetError:
        return False
    return True


def test_the_bytes_as_drawn():
    header = described("a.txt", 17)[4:].decode()
    assert f"client | i32le({len(header)}) | {header} | 17 bytes |" in DOCUMENT.read_text(encoding="utf-8")


# The server


@pytest.mark.parametrize("new_loop", LOOPS)
def test_the_tutorials_client_reads_nothing_and_leaves(root, new_loop):
    with served(root, new_loop) as address:
        with connect(address) as connection:
            connection.sendall(described("big", len(BIG)))
            for at in range(0, len(BIG), 1024):
                connection.sendall(BIG[at : at + 1024])
        poll(lambda: "big" in files(root))
    assert files(root) == {"big": BIG}
    assert (root / "big").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("new_loop", LOOPS)
def test_files_one_after_the_other_and_then_an_end_that_is_no_reset(root, new_loop):
    with served(root, new_loop) as address, connect(address) as connection:
        connection.sendall(described("a", 3) + b"abc" + described("sub/grüß dich", 0) + described("b", 1) + b"\xff")
        connection.sendall(described("big", len(BIG), other="ignored") + BIG)
        assert is_stored(connection)
    assert files(root) == {"a": b"abc", "sub/grüß dich": b"", "b": b"\xff", "big": BIG}


def test_byte_by_byte(root):
    with served(root) as address, connect(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in described("a", 3) + b"abc":
            connection.sendall(bytes((byte,)))
        assert is_stored(connection)
    assert files(root) == {"a": b"abc"}


def test_it_has_its_name_as_soon_as_it_is_whole_and_takes_an_others_place(root):
    (root / "a").write_bytes(b"before")
    with served(root) as address, connect(address) as connection:
        connection.sendall(described("a", 3) + b"ab")
        poll(lambda: list(root.glob(f"{Staging.DIRECTORY}/*")))
        assert (root / "a").read_bytes() == b"before"
        connection.sendall(b"c")
        poll(lambda: (root / "a").read_bytes() == b"abc")  # though the client stays
        assert is_stored(connection)


JSON = [
    b"",
    b"not JSON",
    b"[]",
    b"\xff\xff",
    b"{}",
    b'{"file_name": "a"}',
    b'{"file_size": 3}',
    b'{"file_name": "a", "file_size": 3, "file_size": 2}',
    b'{"file_name": "a", "file_name": "b", "file_size": 3}',
    b'{"file_name": "a", "file_size": -1}',
    b'{"file_name": "a", "file_size": true}',
    b'{"file_name": "a", "file_size": 3.0}',
    b'{"file_name": "a", "file_size": "3"}',
    b'{"file_name": "a", "file_size": NaN}',
    b'{"file_name": "a", "file_size": 99999999999999999999999999999}',
    b'{"file_name": 3, "file_size": 3}',
    b'{"file_name": "a", "file_size": 3, "md5": 3}',
    b"[" * 10_000,
]
NAMES = [
    "",
    ".",
    "..",
    "../a",
    "sub/../../a",
    "/tmp/a",
    "out/a",
    "a\0",
    "a/",
    "nowhere/a",
    "sub",
    "x" * 256,
    ".fastframe-uploads/a",
]
BROKEN = {
    "nothing": b"",
    "a 1-byte header": b"\1",
    "a negative length": struct.pack("i", -1),
    "the least length": struct.pack("i", -(2**31)),
    "a length over 64 KiB": struct.pack("i", 64 * 1024 + 1) + b"{",
    "half of the description": described("a", 3)[:10],
    "no body": described("a", 3),
    "half of the body": described("big", len(BIG)) + BIG[:-1],
    "more than a disk holds": described("a", 1 << 62) + b"abc",
    "another md5": described("a", 3, md5="0" * 32) + b"abc",
    **{f"JSON {text[:60]!r}": struct.pack("i", len(text)) + text + b"abc" for text in JSON},
    **{f"the name {name[:60]!r}": described(name, 3) + b"abc" for name in NAMES},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for all that breaks."""
    root = tmp_path_factory.mktemp("shared") / "root"
    (root / "sub").mkdir(parents=True)
    (root / "out").symlink_to(root.parent)
    with served(root) as address:
        yield root, address


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_upload_is_reset_leaves_nothing_and_harms_nobody(shared, data):
    root, address = shared
    with connect(address) as connection, connect(address) as other:
        other.sendall(described("other", 4) + b"he")
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        assert not is_stored(connection)
        other.sendall(b"re")
        assert is_stored(other)
    assert files(root) == {"other": b"here"}
    assert list(root.parent.iterdir()) == [root]


def test_what_follows_the_bytes_is_not_in_the_file(root):
    with served(root) as address, connect(address) as connection:
        connection.sendall(described("a", 3) + b"abcdef")
        assert not is_stored(connection)
    assert files(root) == {"a": b"abc"}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_leaves_nothing(root, error, monkeypatch, caplog):
    def fail(file, views, position):
        raise OSError(error, "failed")

    with served(root) as address:
        with monkeypatch.context() as patched, connect(address) as connection:
            patched.setattr(unfinished, "write_some", fail)
            with contextlib.suppress(ConnectionError):
                connection.sendall(described("a", len(BIG)) + BIG)
            assert not is_stored(connection)
        with connect(address) as connection:
            connection.sendall(described("b", 1) + b"b")
            assert is_stored(connection)
    assert files(root) == {"b": b"b"}
    assert "upload failed" in caplog.text


def test_a_server_that_closes_lets_an_upload_end_and_resets_who_has_sent_nothing(root):
    loop = asyncio.new_event_loop()
    with serving_into(root, lambda: loop) as server, connect(server.addresses[0]) as busy, connect(server.addresses[0]) as idle:
        busy.sendall(described("a", 3) + b"ab")
        poll(lambda: server.connections == 2 and list(root.glob(f"{Staging.DIRECTORY}/*")))
        closing = asyncio.run_coroutine_threadsafe(server.close(grace=PATIENCE), loop)
        assert not is_stored(idle)
        busy.sendall(b"c")
        assert is_stored(busy)
        closing.result(PATIENCE)
    assert files(root) == {"a": b"abc"}


@pytest.mark.parametrize("more", [b"", b"\7", described("b", 3) + b"abc"])
def test_a_server_that_closes_ends_no_connection_on_which_it_threw_something_away(root, more):
    loop = asyncio.new_event_loop()
    with serving_into(root, lambda: loop) as server, connect(server.addresses[0]) as connection:
        connection.sendall(described("a", 3) + b"abc")
        poll(lambda: "a" in files(root))
        closing = asyncio.run_coroutine_threadsafe(server.close(grace=PATIENCE), loop)
        time.sleep(0.05)  # it would have ended its direction by then, and thrown away what comes
        connection.sendall(more)
        assert is_stored(connection) == (not more)
        closing.result(PATIENCE)
    assert files(root) == {"a": b"abc"}


def test_a_silent_client_is_cut_and_leaves_nothing(root):
    with serving_into(root, frame_timeout=0.05) as server, connect(server.addresses[0]) as connection:
        connection.sendall(described("a", 3) + b"ab")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        poll(lambda: not os.listdir(root / Staging.DIRECTORY))
    assert files(root) == {}


# The command


def upload(address, *arguments):
    return tutorial_upload.client_upload(["--address", address, "--timeout", str(PATIENCE), *map(str, arguments)])


@pytest.fixture
def big(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(BIG)
    return path


def test_the_command_sends_a_file(root, big, capfd, monkeypatch):
    monkeypatch.setattr(tutorial_upload, "WINDOW", 100_000)
    with served(root) as address:
        assert upload(address, big) == 0
        assert capfd.readouterr() == ("", f"{big}: 4.9 MiB\n")
        assert upload(address, big, "sub/grüß dich", "--md5", "--quiet") == 0
        big.write_bytes(b"")
        assert upload(address, big, "empty", "--quiet") == 0
    assert capfd.readouterr() == ("", "")
    assert files(root) == {"big": BIG, "sub/grüß dich": BIG, "empty": b""}


@pytest.mark.parametrize("more", [(), ("--md5",)])
def test_the_bytes_of_the_command(big, more):
    heard = []

    def script(connection):
        heard.append(received(connection, 1 << 30))

    with scripted(script) as address:
        assert upload(address, big, "a", *more) == 0
    assert heard == [described("a", len(BIG), **({"md5": hashlib.md5(BIG).hexdigest()} if more else {})) + BIG]


@pytest.mark.parametrize("name", ["../a", "sub", "nowhere/a"])
def test_what_the_server_refuses_is_said(root, big, capfd, name):
    with served(root) as address:
        assert upload(address, big, name) == 1
    assert "the server did not store it" in capfd.readouterr().err
    assert files(root) == {}


def test_a_server_that_answers_is_none_of_the_tutorials(big, capfd):
    def script(connection):
        received(connection, 1 << 30)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")

    with scripted(script) as address:
        assert upload(address, big) == 1
    assert "(bad_message)" in capfd.readouterr().err


def test_a_file_that_shrinks_is_not_stored(root, big, capfd, monkeypatch):
    monkeypatch.setattr(tutorial_upload, "WINDOW", 100_000)
    monkeypatch.setattr(tutorial_upload.tutorial_files, "_now_and_then", lambda _: lambda done, total: os.truncate(big, 1000))
    with served(root) as address:
        assert upload(address, big) == 1
        assert "(changed)" in capfd.readouterr().err
    assert files(root) == {}


@pytest.mark.parametrize(("path", "said"), [("nowhere", "(not_found)"), (".", "(not_a_file)"), ("/dev/zero", "(not_a_file)")])
def test_what_is_no_file_is_not_sent(root, capfd, path, said):
    with served(root) as address:
        assert upload(address, path) == 1
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (tutorial_upload.serve_upload, ["--root", ".", "--unix", "x"]),
        (tutorial_upload.client_upload, ["--address", "unix:x", "y"]),
    ],
)
def test_unix_sockets_have_no_reset_to_tell_by(capfd, command, arguments):
    with pytest.raises(SystemExit, match="2"):
        command(arguments)
    assert "which only TCP has" in capfd.readouterr().err


def test_as_a_user_runs_it_until_the_server_is_killed(root, big):
    command = [*FASTFRAME, "serve", "tutorial", "upload", "--port", "0", "--root", str(root)]
    client = [*FASTFRAME, "tutorial", "upload", str(big), "--address"]
    with serving(command=command) as server, server.connect() as connection:
        assert subprocess.run([*client, server.address], check=False).returncode == 0
        connection.sendall(described("torn", 3) + b"ab")
        poll(lambda: list(root.glob(f"{Staging.DIRECTORY}/*")))
        server.end(signal.SIGKILL)
        assert not is_stored(connection)
    assert {name for name in files(root) if not name.startswith(Staging.DIRECTORY)} == {"big"}
