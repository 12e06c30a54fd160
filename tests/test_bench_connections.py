"""`fastframe bench connections` as a user runs it, with few connections."""

import json
import resource
import socket
import sys
import threading

import pytest

from fastframe.bench import connections, echo
from fastframe.bench.echoes import ECHOES, Echo
from fastframe.bench.entry import BenchError

SHORT = {"turn_ns": 100_000}


@pytest.mark.contenders
@pytest.mark.parametrize("options", [[], ["--tls"]])
def test_memory_and_time_with_idle_connections(options, tmp_path, capsys):
    path, page = tmp_path / "connections.json", tmp_path / "connections.md"
    arguments = [
        "--count",
        "150",
        "--repetitions",
        "2",
        "--only",
        "callback/asyncio",
        "--json",
        str(path),
        "--markdown",
        str(page),
        *options,
    ]
    assert connections.main(arguments, **SHORT) == 0
    report = json.loads(path.read_text())
    (row,) = report["connections"]
    assert row["contender"] == "callback/asyncio"
    assert row["bytes"] == (row["memory"]["after"] - row["memory"]["before"]) / 150
    assert row["slow"]["with"]["median"] > 0
    assert row["cpu"]["ratio"]["median"] > 0
    bars = [verdict["bar"] for verdict in report["bars"]]
    assert ("KiB an idle connection" in bars) == (not options)
    assert bars[-1] == "99 % of the echoes, times without idle connections"
    out = capsys.readouterr().out
    assert f"150 idle connections, {'over TLS' if options else 'plain'}" in out
    assert "callback/asyncio" in page.read_text()


def test_memory_that_connections_take_is_found(tmp_path):
    code = """
import selectors, socket
selector = selectors.DefaultSelector()
listener = socket.create_server(("127.0.0.1", 0))
selector.register(listener, selectors.EVENT_READ)
print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
kept = {}
while True:
    for key, _ in selector.select():
        if key.fileobj is listener:
            peer = listener.accept()[0]
            kept[peer] = bytearray(b"x" * 100_000)
            selector.register(peer, selectors.EVENT_READ)
        elif data := key.fileobj.recv(4096):
            key.fileobj.sendall(data)
        else:
            selector.unregister(key.fileobj)
            kept.pop(key.fileobj)
            key.fileobj.close()
"""
    setup = connections.Setup(echo.client_program(), 50, None, None, 100_000, 1)
    row = connections.measured(Echo("ours", "", lambda: [sys.executable, "-c", code]), setup)
    assert 80_000 < row["bytes"] < 130_000


def test_connections_come_from_many_addresses_and_stay(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = type("Server", (), {"port": listener.getsockname()[1]})
        sources = []
        for number in (0, 99, 100, 25_599):
            with connections.connect(server, number, None) as connection:
                sources.append(connection.getsockname()[0])
    assert sources == ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.1.1"]


def test_a_server_that_refuses_is_a_failure(capsys, monkeypatch):
    code = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
for _ in range(5):
    peer = listener.accept()[0]
    while data := peer.recv(4096):
        peer.sendall(data)
listener.accept()[0].close()
"""
    monkeypatch.setitem(ECHOES, "other", Echo("ours", "", lambda: [sys.executable, "-c", code]))
    monkeypatch.setattr(connections, "PATIENCE", 2.0)
    assert connections.main(["--only", "other", "--count", "9"], **SHORT) == 1
    assert "fastframe bench connections: connection 2 is not served: timed out" in capsys.readouterr().err


def test_a_wrong_answer_in_pieces_is_found():
    ours, theirs = socket.socketpair()

    def answer():
        request = theirs.recv(100)
        theirs.sendall(request[:30])
        theirs.sendall(request[30:])
        request = theirs.recv(100)
        theirs.sendall(request[:-1] + b"?")

    with ours, theirs:
        thread = threading.Thread(target=answer)
        thread.start()
        speaker = connections.Speaker(ours, ECHOES["c"])
        turn = speaker.run(1)
        assert 0 < turn.median == turn.slow == turn.ns
        with pytest.raises(BenchError, match="an answer is not what was sent"):
            speaker.run(1)
        thread.join()


def test_more_files_than_the_kernel_allows_are_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 1000))
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    connections.allow_files(1000)
    assert asked == [(1000, 1000)]
    connections.allow_files(50)
    assert len(asked) == 1
    assert connections.main(["--count", "901"]) == 1
    assert "no process may open 1,001 files here, 1,000 at most: --count 900" in capsys.readouterr().err


def test_without_trustme_there_is_no_tls(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trustme", None)
    assert connections.main(["--tls", "--count", "1"]) == 1
    assert "trustme, which makes the certificate, is not installed" in capsys.readouterr().err


def test_only_ours_on_asyncio_have_tls(capsys):
    with pytest.raises(SystemExit) as caught:
        connections.main(["--tls", "--only", "c"])
    assert caught.value.code == 2
    assert "only ours" in capsys.readouterr().err
