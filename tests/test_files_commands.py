"""`fastframe get`, `put`, `ls` and `stat`, beside a real server; as processes where that makes a difference."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import FASTFRAME, PATIENCE, serving

from fastframe.__main__ import main
from fastframe.servers import files_commands
from fastframe.servers.errors import OperationError
from fastframe.servers.files_client import Entry, Transfer
from fastframe.servers.local import LocalError

TOKEN = "0123456789abcdef" * 4
TIME = 1_600_000_000
DATA = bytes(range(256)) * 3000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that asks for a token; `root` is what it serves, `token` a file of the token."""
    path = tmp_path_factory.mktemp("files")
    (path / "served").mkdir()
    (path / "token").write_text(f"alice {TOKEN}\n")
    (path / "token").chmod(0o600)
    options = ["--root", path / "served", "--write", "--unix", path / "socket", "--tokens", path / "token"]
    with serving(*options, command=[*FASTFRAME, "serve", "files"]) as running:
        running.root, running.token = path / "served", path / "token"
        yield running
        assert running.end()[0] == 0


@pytest.fixture
def run(server, tmp_path, monkeypatch, capsysbinary):
    """Run a command in a directory of its own; return status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(command, *words, data=False):
        status = main([command, "--token", str(server.token), server.address, *words])
        captured = capsysbinary.readouterr()
        return status, captured.out if data else captured.out.decode(), captured.err.decode()

    return run


def write(path, data=DATA):
    path.write_bytes(data)
    path.chmod(0o640)
    os.utime(path, (TIME, TIME))
    return path


def test_there_and_back(run, server, tmp_path):
    write(tmp_path / "big")
    status, out, err = run("put", "big")
    assert (status, out) == (0, "")
    assert re.fullmatch(r"big  750 KiB in \d+\.\d s\n", err)
    assert run("put", "big") == (
        1,
        "",
        "fastframe: big: there is a file of that name, and it was not asked to be replaced (exists)\n",
    )
    status, out, _ = run("put", "--json", "--replace", "big")
    said = json.loads(out)
    assert (status, said["name"], said["outcome"], said["size"]) == (0, "big", "done", len(DATA))
    (tmp_path / "there").mkdir()
    assert run("get", "--quiet", "big", "there") == (0, "", "")
    assert (tmp_path / "there/big").read_bytes() == DATA
    assert (
        run("get", "big")[2] == "fastframe: big: there is a file of that name, and it was not asked to be replaced (exists)\n"
    )
    assert run("get", "big", "-", data=True)[:2] == (0, DATA)


def test_a_tree(run, server, tmp_path):
    (tmp_path / "tree/a").mkdir(parents=True)
    write(tmp_path / "tree/a/one")
    write(tmp_path / "tree/two")
    (tmp_path / "tree/link").symlink_to("two")
    os.utime(tmp_path / "tree/a", (TIME, TIME))
    status, _, err = run("put", "-r", "tree", "trees/copy")
    assert (status, err.splitlines()[-1]) == (0, "2 done, 1 skipped")
    status, out, _ = run("get", "-r", "--json", "trees/copy/", "back")
    assert status == 0
    assert [(said["name"], said["outcome"]) for said in map(json.loads, out.splitlines())] == [
        ("two", "done"),
        ("a/one", "done"),
    ]
    assert (tmp_path / "back/a/one").read_bytes() == DATA
    assert (tmp_path / "back/a").stat().st_mtime == TIME
    write(tmp_path / "back/two", b"another")
    status, _, err = run("get", "-r", "trees/copy", "back")
    assert status == 1
    assert err.splitlines()[-1] == "1 unchanged, 1 failed"
    assert "(exists)" in err


def test_ls_and_stat(run, server):
    (server.root / "shown/dir").mkdir(parents=True)
    write(server.root / "shown/evil\x1b[2J\n")
    os.symlink("dir", server.root / "shown/link")
    assert run("ls", "shown") == (0, "dir/\nevil\\x1b[2J\\n\nlink@\n", "")
    status, out, _ = run("ls", "-l", "shown/")
    assert (status, len(out.splitlines())) == (0, 3)
    moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(TIME))
    assert f"-rw-r-----    750 KiB  {moment}  evil\\x1b[2J\\n" in out
    said = [json.loads(line) for line in run("ls", "--json", "shown")[1].splitlines()]
    assert [entry["name"] for entry in said] == ["dir", "evil\x1b[2J\n", "link"]
    assert said[1]["modified"] == TIME * 10**9
    write(server.root / "shown/plain")
    assert run("ls", "shown/plain") == (0, "shown/plain\n", "")
    status, out, _ = run("stat", "--digest", "md5", "shown/plain")
    assert status == 0
    assert out.splitlines()[1:3] == ["kind      file", f"size      {len(DATA)} (750 KiB)"]
    assert re.search(r"^md5       [0-9a-f]{32}$", out, re.MULTILINE)
    assert run("stat", "missing") == (1, "", "fastframe: missing: there is nothing of that name (not_found)\n")


def test_an_output_that_nobody_reads(run, server, tmp_path):
    write(server.root / "unread", DATA * 10)
    reader, writer = os.pipe()
    os.close(reader)
    words = [*FASTFRAME, "get", "--token", server.token, server.address, "unread", "-"]
    with subprocess.Popen([str(word) for word in words], stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        assert process.communicate(timeout=30) == (None, "")
    assert process.returncode == 1


@contextlib.contextmanager
def slowly(server):
    """Yield another address of the server, with which files take seconds: there is time to see how far they are."""

    def play():
        with listener.accept()[0] as near, server.connect() as far:
            near.settimeout(PATIENCE)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(pass_on, near, far)
                pass_on(far, near)

    def pass_on(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(256 * 1024):
                sink.sendall(data)
                time.sleep(0.01)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(PATIENCE)
        playing = pool.submit(play)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        playing.result(PATIENCE)


def interrupted(tmp_path, *words):
    """Run a command at a terminal, and press Ctrl-C when its bar shows that something has come; return status and screen."""
    terminal, end = pty.openpty()
    argv = [*FASTFRAME, *(str(word) for word in words)]
    screen, pressed = b"", False
    with subprocess.Popen(
        argv, cwd=tmp_path, stdin=end, stdout=end, stderr=end, start_new_session=True, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(end)
        while select.select([terminal], [], [], 30)[0]:
            try:
                screen += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            if not pressed and re.search(rb"[1-9][\d.]* MiB of ", screen):
                process.send_signal(signal.SIGINT)
                pressed = True
        status = process.wait(timeout=30)
    os.close(terminal)
    return status, screen.decode()


@pytest.mark.parametrize("direction", ["get", "put"])
def test_ctrl_c_says_so_and_the_next_one_goes_on(run, server, tmp_path, direction):
    size = 128 * 1024 * 1024
    source = server.root / "long" if direction == "get" else tmp_path / "long"
    with source.open("wb") as file:
        file.truncate(size)
    try:
        with slowly(server) as address:
            status, screen = interrupted(tmp_path, direction, "--token", server.token, address, "long")
        assert status == 130
        assert screen.rstrip().splitlines()[-1].endswith("fastframe: interrupted")
        assert "Traceback" not in screen
        if direction == "put":  # it is known from within a process that the next one goes on
            (partial,) = (server.root / ".fastframe-uploads").iterdir()
            partial.unlink()
            return
        status, out, _ = run("get", "--json", "long")
        said = json.loads(out)
        assert (status, said["size"]) == (0, size)
        assert 0 < said["resumed_from"] < size
    finally:
        for path in (server.root, tmp_path):  # pytest keeps what tests leave
            (path / "long").unlink(missing_ok=True)


def refused(capsys, *argv) -> tuple[int, str]:
    try:
        status = main([str(word) for word in argv])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert captured.out == ""
    return status, captured.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["get", "unix:x", ""], "say what to fetch"),
        (["get", "-r", "unix:x", ""], "say what to fetch"),
        (["get", "-r", "unix:x", "name", "-"], "standard output takes one file"),
        (["get", "--json", "unix:x", "name", "-"], "standard output takes one file"),
        (["get", "unix:x", "\udcff"], "is not UTF-8"),
        (["get", "--digest", "crc7", "unix:x", "name"], "'crc7' is not one of sha256"),
        (["put", "unix:x", "/"], "say what the file is to be called"),
        (["put", "unix:x", "a\udcff"], "is not UTF-8"),
        (["ls", "nowhere"], "is not host:port"),
        (["stat", "--tls-key", "k", "localhost:1", "name"], "--tls-key needs --tls-cert"),
        (["ls", "--token", "/nonexistent", "unix:x"], "cannot read /nonexistent"),
    ],
)
def test_what_is_asked_wrongly(capsys, words, reason):
    status, line = refused(capsys, *words)
    assert status == 2
    assert reason in line


def test_a_token_file_of_two(capsys, tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"alice {TOKEN}\nbob {TOKEN}\n")
    path.chmod(0o600)
    assert refused(capsys, "ls", "--token", path, "unix:x") == (
        2,
        f"fastframe: {path} has 2 tokens, and a client is one",
    )


def test_no_server_and_no_token(capsys, server, tmp_path):
    assert refused(capsys, "ls", f"unix:{tmp_path}/none")[0] == 1
    assert refused(capsys, "ls", server.address) == (1, "fastframe: the server wants a token (unauthenticated)")


@pytest.mark.parametrize("command", ["get", "put", "ls", "stat"])
def test_help_has_an_example(capsys, command):
    with pytest.raises(SystemExit) as info:
        main([command, "--help"])
    assert info.value.code == 0
    assert f"example: fastframe {command} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OperationError("busy", "try later"), "name: try later (busy)"),
        (OperationError("changed", "name: it changed"), "name: it changed (changed)"),
        (OperationError("going_away", "the server is ending"), "the server is ending (going_away)"),
        (LocalError("disk_full", "/tmp/x: No space left"), "/tmp/x: No space left (disk_full)"),
        (OperationError("evil", "\x1b[2J\u202e"), "name: \\x1b[2J\\u202e (evil)"),
    ],
)
def test_the_line_of_an_error(error, text):
    assert files_commands.error_text(error, "name") == text


@pytest.mark.parametrize(
    ("transfer", "text"),
    [
        (Transfer(0, "", 0, 0.01), "0 B in 0.0 s"),
        (Transfer(10 << 20, "", 0, 2.0), "10.0 MiB in 2.0 s, 5.0 MiB/s"),
        (Transfer(10 << 20, "", 8 << 20, 2.0), "10.0 MiB in 2.0 s, 1.0 MiB/s, 8.0 MiB were there"),
    ],
)
def test_the_line_of_a_transfer(transfer, text):
    assert files_commands.transfer_text(transfer) == text


def test_the_line_of_an_entry():
    entry = Entry("name", "directory", 4096, TIME * 10**9, 0o750)
    assert files_commands.entry_line(entry).startswith("drwxr-x---    4.0 KiB  2020-09-1")
    assert files_commands.entry_line(Entry("x", "other", 0, -1, 0)).startswith("?---------        0 B  19")
