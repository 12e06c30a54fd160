"""Idle connections: what they take is found, whoever does not serve them is left out or, if it is one of ours, a failure."""

import resource
import socket
import sys
import threading

import pytest

from fastframe.bench import connections, echo
from fastframe.bench.echoes import ECHOES, Echo
from fastframe.bench.entry import BenchError, LeftOutError
from fastframe.bench.measure import Results
from fastframe.bench.race import Race

ONCE = connections.Effort(rounds=1, turns=1, turn_ns=100_000)


def rows(names, count, left_out=None, *, tls=False):
    return connections.rows(names, count, ONCE, [] if left_out is None else left_out, tls=tls)


def test_memory_that_connections_take_is_found():
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
    setup = connections.Setup(echo.client_program(), 60, None, None, ONCE)
    found = connections.one_round(Echo("ours", "", lambda: [sys.executable, "-c", code]), setup)
    assert 80_000 < (found.after - found.before) / 60 < 130_000


def test_memory_has_a_spread_and_the_turns_of_all_rounds_count():
    def one_race(took):
        return Race(*[Results({"without": [took, took], "with": [2 * took, 2 * took]})] * 4)

    rounds = [connections.Round(1000, 1000 + grown, one_race(grown)) for grown in (400, 800, 1000)]
    row = connections.row(rounds, 100)
    assert row["memory"] == {"before": [1000] * 3, "after": [1400, 1800, 2000]}
    assert row["bytes"] == {"lower": 6, "median": 8, "upper": 9}
    assert row["cpu"]["without"] == {"lower": 500, "median": 800, "upper": 950}
    assert row["cpu"]["ratio"]["median"] == 2


def test_all_take_turns_and_who_fails_once_is_out(monkeypatch):
    log = []

    def one_round(echo, setup):
        log.append(echo.does)
        if log.count("other") == 2 and log[-1] == "other":
            raise BenchError("it has ended")
        return connections.Round(0, 10, Race(*[Results({"without": [1], "with": [1]})] * 4))

    for name in ("one", "other"):
        monkeypatch.setitem(ECHOES, name, Echo("python", name, list))
    monkeypatch.setattr(connections, "one_round", one_round)
    left_out = []
    found = connections.rows(["one", "other"], 10, ONCE._replace(rounds=3), left_out, tls=False)
    assert log == ["one", "other", "other", "one", "one"]
    assert [(row["contender"], len(row["memory"]["after"])) for row in found] == [("one", 3)]
    assert left_out == ["other: it has ended"]


def test_connections_come_from_many_addresses_and_stay():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = type("Server", (), {"port": listener.getsockname()[1]})
        sources = []
        for number in (0, 99, 100, 25_599):
            with connections.connect(server, number, None) as connection:
                sources.append(connection.getsockname()[0])
    assert sources == ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.1.1"]


def refusing(kind):
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
    return Echo(kind, "", lambda: [sys.executable, "-c", code])


def missing():
    raise LeftOutError("not here")


def test_a_server_that_refuses_is_a_failure_if_it_is_ours(monkeypatch):
    monkeypatch.setitem(ECHOES, "other", refusing("ours"))
    monkeypatch.setattr(connections, "PATIENCE", 2.0)
    with pytest.raises(BenchError, match="connection 2 is not served: timed out"):
        rows(["other"], 9)


def test_a_peer_that_refuses_or_is_not_here_is_left_out(monkeypatch):
    monkeypatch.setitem(ECHOES, "other", refusing("python"))
    monkeypatch.setitem(ECHOES, "absent", Echo("native", "", missing))
    monkeypatch.setattr(connections, "PATIENCE", 2.0)
    left_out = []
    assert rows(["other", "absent"], 9, left_out) == []
    assert left_out == ["other: connection 2 is not served: timed out", "absent: not here"]


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
        speaker = connections.Speaker(ours, connections.exchanges(ECHOES["c"], 3))
        turn = speaker.run(1)
        assert 0 < turn.median == turn.slow == turn.ns
        with pytest.raises(BenchError, match="an answer is not what was sent"):
            speaker.run(1)
        thread.join()


def test_more_files_than_the_kernel_allows_are_refused(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 1000))
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    connections.allow_files(1000, "--count")
    assert asked == [(1000, 1000)]
    connections.allow_files(50, "--count")
    assert len(asked) == 1
    with pytest.raises(BenchError, match=r"no process may open 1,001 files here, 1,000 at most .*: a smaller --count"):
        rows(["c"], 1001 - connections.OWN_FILES)


def test_without_trustme_there_is_no_tls(monkeypatch):
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(BenchError, match="trustme, which makes the certificate, is not installed"):
        rows(["stream/asyncio"], 1, tls=True)


def test_who_has_no_tls_or_is_not_here_is_left_out():
    left_out = []
    assert rows(["c", "sync"], 1, left_out, tls=True) == []
    assert left_out == [f"{name}: it has no TLS here; callback, batch, stream, readexactly have" for name in ("c", "sync")]
