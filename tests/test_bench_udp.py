"""The benchmark of echoing datagrams: what it counts, what it says, and that it runs."""

import contextlib
import os
import sys
import threading
from types import SimpleNamespace

import pytest

from fastframe import datagram
from fastframe.bench import udp, udp_servers
from fastframe.bench.command import read_json
from fastframe.bench.entry import BenchError, LeftOutError
from fastframe.bench.udp import Running, Setup


@contextlib.contextmanager
def echoing(loses=lambda number: False):
    """Echo in a thread, but not the requests of which `loses(number)` is true; yield a socket that is connected to it."""
    ended = threading.Event()

    def echo():
        number = 0
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                for payload, address in server.recv_many(0.01):
                    if not loses(number):
                        server.send(payload, address)
                    number += 1

    with (
        datagram.listen("127.0.0.1", 0, format=None) as server,
        datagram.connect(*server.address, format=None) as client,
    ):
        thread = threading.Thread(target=echo)
        thread.start()
        try:
            yield client
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize("size", [16, 512, 65_507])
def test_a_request_has_the_size_that_was_asked_for(size):
    assert len(udp.some_request(size)) == size
    assert udp.datagram_size(str(size)) == size


def test_every_answer_is_counted(monkeypatch):
    monkeypatch.setattr(udp, "PATIENCE", 10)
    with echoing() as client:
        flow = udp.keep_busy(client, b"request", 0.1)
    assert flow.sent == flow.answered >= udp.WINDOW
    assert flow.seconds >= 0.1


def test_what_is_lost_is_counted(monkeypatch):
    monkeypatch.setattr(udp, "PATIENCE", 0.5)
    with echoing(loses=lambda number: number == 7) as client:
        flow = udp.keep_busy(client, b"request", 0.02)
    assert flow.sent - flow.answered == 1


def test_a_server_that_never_answers_ends_no_benchmark(monkeypatch):
    monkeypatch.setattr(udp, "PATIENCE", 0.01)
    with echoing(loses=lambda number: True) as client:
        assert udp.keep_busy(client, b"request", 0.02).answered == 0


def test_the_pace_is_kept(monkeypatch):
    monkeypatch.setattr(udp, "PACE", 1000)
    monkeypatch.setattr(udp, "time", SimpleNamespace(perf_counter=(at / 64 for at in range(100)).__next__))
    sock = SimpleNamespace(send_many=len, recv_many=lambda timeout: [None] * (timeout == 1 / udp.TICKS and 3))
    monkeypatch.setattr(udp, "answers", lambda sock, timeout: len(sock.recv_many(timeout)))
    assert udp.keep_pace(sock, b"request", 0.5) == (int(1000 * 31 / 64), 31 * 3, 0.5)


def test_what_comes_after_the_last_request_counts(monkeypatch):
    monkeypatch.setattr(udp, "PACE", 1000)
    monkeypatch.setattr(udp, "QUIET", 0.3)
    monkeypatch.setattr(udp, "QUIET", 0.5)  # others may have the processor for a while
    with echoing(loses=lambda number: number % 10 == 0) as client:
        flow = udp.keep_pace(client, b"request", 0.2)
    assert 0 < flow.sent <= 200
    assert flow.answered == flow.sent - (flow.sent + 9) // 10


def running(sock, cpu_ns=None):
    return Running(SimpleNamespace(cpu_ns=cpu_ns or iter(range(0, 1000, 10)).__next__), sock)


def answered(sock):
    return udp.keep_busy(sock, b"request", 0.01)


def ended():
    raise ProcessLookupError("no such process")


SETUP = Setup(udp.some_request(512), quick=False, turns=2, left_out=[])


@pytest.fixture
def short(monkeypatch):
    for name in ("TURN_SECONDS", "QUICK_TURN_SECONDS"):
        monkeypatch.setattr(udp, name, 0.01)
    monkeypatch.setattr(udp, "PACED_SECONDS", 0.2)  # else a busy machine may not come to send anything
    monkeypatch.setattr(udp, "PACED_TURNS", 1)
    monkeypatch.setattr(udp, "QUIET", 0.3)  # others may have the processor for a while


def test_a_turn_costs_what_the_server_took():
    with echoing() as client:
        assert udp.turn(running(client), answered).cpu_ns == 10


def test_an_answer_that_comes_late_is_none_of_the_next_turns():
    with echoing() as client:
        client.send(b"late")
        client._poll.poll(5000)  # it is here
        flow = udp.turn(running(client), answered).flow
    assert flow.sent == flow.answered


@pytest.mark.usefixtures("short")
def test_who_does_not_answer_or_has_ended_is_found():
    with echoing(loses=lambda number: True) as client:
        with pytest.raises(BenchError, match="does not answer any more"):
            udp.turn(running(client), answered)
        with pytest.raises(BenchError, match="it has ended: no such process"):
            udp.turn(running(client, ended), answered)


@pytest.mark.usefixtures("short")
def test_each_has_a_row_with_what_it_took_and_what_was_lost(monkeypatch):
    monkeypatch.setattr(udp, "PACE", 1000)
    with (
        echoing() as base,
        echoing(loses=lambda number: number % 2 == 0) as other,
        echoing(loses=lambda number: True) as silent,
    ):
        servers = {"c": running(base), "UDPServer": running(other), "protocol/asyncio": running(silent)}
        setup = SETUP._replace(turns=1, left_out=[])
        first, second = udp.rows(servers, setup)
    assert setup.left_out == ["protocol/asyncio: it does not answer any more"]
    assert (first["contender"], second["contender"]) == ("c", "UDPServer")
    assert first["lost"] == first["paced"]["sent"] - first["paced"]["answered"] == 0
    assert first["paced"]["percent"]["median"] == 100
    assert second["lost"] > 0
    assert 40 <= second["paced"]["percent"]["median"] <= 60
    assert first["cpu_ns"]["median"] > 0
    assert first["ratio"]["c"]["median"] == 1
    assert second["ratio"]["c"]["median"] > 1


@pytest.mark.parametrize("name", ["c", "fastframe/asyncio"])
def test_a_failure_of_ours_or_of_the_base_is_a_failure(name):
    with pytest.raises(BenchError, match=f"{name}: it does not answer"):
        udp.leave_out(name, BenchError("it does not answer"), [])


def test_an_answer_is_what_was_sent_but_for_its_mark(monkeypatch):
    monkeypatch.setattr(udp, "FIRST_PATIENCE", 0.01)
    request = udp.some_request(20)
    answer = request.replace(b"PING", b"PONG")
    for right in (request, answer):
        udp.check(SimpleNamespace(send=bool, recv=lambda _, right=right: (right, None)), request)
    for wrong in (answer[:-1], answer[:-1] + b"x", b"xxxx" + answer[4:]):
        with pytest.raises(BenchError, match="not what was sent"):
            udp.check(SimpleNamespace(send=bool, recv=lambda _, wrong=wrong: (wrong, None)), request)
    with echoing(loses=lambda number: True) as client, pytest.raises(BenchError, match="does not answer"):
        udp.check(client, request)


def missing():
    raise LeftOutError("not here")


def dead():
    return [sys.executable, "-c", "raise SystemExit('it is broken')"]


def wrong():
    code = "import socket; sock = socket.socket(type=socket.SOCK_DGRAM); sock.bind(('127.0.0.1', 0))"
    code += "; print('listening on udp 127.0.0.1:%d' % sock.getsockname()[1], flush=True)"
    return [sys.executable, "-c", code + "; data, peer = sock.recvfrom(9999); sock.sendto(data[1:], peer); sock.recv(1)"]


def test_who_is_missing_or_broken_or_wrong_is_left_out(monkeypatch):
    servers = {name: udp_servers.UdpServer("python", "", start) for name, start in (("a", missing), ("b", dead), ("c", wrong))}
    monkeypatch.setattr(udp, "chosen", lambda _: servers)
    monkeypatch.setattr(udp, "SERVERS", servers)
    with contextlib.ExitStack() as stack, pytest.raises(BenchError) as caught:
        udp.start_all([], SETUP._replace(left_out=[]), None, stack)
    assert str(caught.value) == "a: not here; b: it is broken; c: an answer is not what was sent"


@pytest.mark.parametrize("arguments", [["--size", "15"], ["--size", "65508"], ["--size", "x"], ["--only", "nobody"]])
def test_what_is_asked_wrongly_gets_status_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        udp.main(arguments)
    assert repr(arguments[1]) in capsys.readouterr().err


@pytest.mark.contenders
@pytest.mark.usefixtures("short")
def test_it_runs(tmp_path, capsys):
    affinity = os.sched_getaffinity(0)
    path = tmp_path / "udp.json"
    only = "fastframe/asyncio,protocol/asyncio"
    assert udp.main(["--quick", "--only", only, "--json", str(path), "--markdown", str(tmp_path)]) == 0
    (report,) = read_json(path)
    assert report["left_out"] == []
    assert list(report["contenders"]) == [row["contender"] for row in report["udp"]] == ["c", *only.split(",")]
    assert all(row["cpu_ns"]["median"] > 0 for row in report["udp"])
    page = (tmp_path / "benchmarks-udp.md").read_text()
    assert page.startswith("# Benchmarks: echo of datagrams\n")
    assert "| *protocol/asyncio* | a DatagramProtocol on asyncio" in page
    assert "us of the processor a datagram in and out" in capsys.readouterr().out
    assert os.sched_getaffinity(0) == affinity
