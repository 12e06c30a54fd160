"""The benchmark of echoing datagrams: what it counts, what it says, and that it runs."""

import contextlib
import json
import os
import socket
import threading
import time

import pytest

from fastframe import datagram
from fastframe.bench import udp, udp_servers
from fastframe.bench.entry import LeftOutError


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
    assert udp.size(str(size)) == size


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
    monkeypatch.setattr(udp, "PATIENCE", 0.5)
    with echoing(loses=lambda number: number % 10 == 0) as client:
        flow = udp.keep_pace(client, b"request", 0.3)
    assert 100 <= flow.sent <= 300  # the end of which a busy machine may miss
    assert flow.answered == flow.sent - (flow.sent + 9) // 10


def test_the_clock_of_a_process_is_its_processor_time():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        own = udp.Running(os.getpid(), datagram.DatagramSocket(sock))
        before, began = own.cpu_ns(), time.process_time_ns()
        sum(range(300_000))
        assert own.cpu_ns() - before == pytest.approx(time.process_time_ns() - began, rel=0.5)


def test_a_server_that_does_not_start_is_left_out(tmp_path):
    dead = udp_servers.UdpServer("ours", lambda _: ["true"])
    with pytest.raises(LeftOutError, match=r"^dead: the server does not start$"), udp.started("dead", dead, tmp_path, 0):
        pass


@pytest.mark.parametrize("compiler", ["", "false"])
def test_without_a_compiler_c_is_left_out(monkeypatch, tmp_path, compiler):
    monkeypatch.setenv("PATH", "/usr/bin:/bin" if compiler else str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(LeftOutError, match=r"^C: "):
        udp_servers.compiled_c(tmp_path)


REPORT = {
    "benchmark": "udp",
    "machine": {"cpu": "a machine"},
    "size": 512,
    "window": 256,
    "pace": 30_000,
    "servers": {"C": "limit", "compiled": "ours", "pure": "ours"},
    "left_out": ["uvloop is not installed"],
    "full": [
        {
            "server": name,
            "cpu_ns": {"median": ns},
            "ratio": {"C": {"median": ns / 5000}},
            "rate": {"median": 1e9 / ns},
            "lost": 0,
        }
        for name, ns in (("C", 5000), ("compiled", 12_500), ("pure", 12_501))
    ],
    "paced": [
        {"server": name, "sent": 90_000, "answered": answered}
        for name, answered in (("C", 90_000), ("compiled", 90_000), ("pure", 89_999))
    ],
}


def test_the_bars():
    assert [(bar["bar"].partition(":")[0], bar["passed"], bar["reached"]) for bar in udp.verdicts(REPORT)] == [
        ("compiled", True, "80,000"),
        ("compiled", True, "0 of 90,000 lost"),
        ("pure", False, "79,994"),
        ("pure", False, "1 of 90,000 lost"),
    ]


def test_the_report_is_readable():
    report = REPORT | {"bars": udp.verdicts(REPORT)}
    said = udp.text(report)
    assert "compiled    12.5     2.50         80,000      80,000     0       0 of 90,000" in said
    assert "MISSED   pure: no loss at 30,000/s: 1 of 90,000 lost" in said
    page = udp.markdown(report)
    assert "| compiled | 12.5 | 2.50 | 80,000 | 80,000 | 0 | 0 of 90,000 |" in page
    assert "- left out: uvloop is not installed" in page


@pytest.mark.parametrize("argument", ["15", "65508", "-1", "x"])
def test_a_size_that_no_request_has_is_refused(argument, capsys):
    with pytest.raises(SystemExit, match="2"):
        udp.main(["--size", argument])
    assert "is not from 16 to 65507" in capsys.readouterr().err


@pytest.mark.contenders
def test_it_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(udp, "SERVERS", {name: udp_servers.SERVERS[name] for name in ("C", "compiled", "asyncio")})
    monkeypatch.setattr(udp, "QUICK_PACED_SECONDS", 0.05)
    affinity = os.sched_getaffinity(0)
    files = [tmp_path / "udp.json", tmp_path / "udp.md"]
    assert udp.main(["--quick", "--json", str(files[0]), "--markdown", str(files[1])], turn_seconds=0.02) == 0
    report = json.loads(files[0].read_text())
    there = set(report["servers"])
    assert {"compiled", "asyncio"} & there
    assert [row["server"] for row in report["full"]] == [row["server"] for row in report["paced"]] == list(report["servers"])
    assert all(row["cpu_ns"]["median"] > 0 for row in report["full"])
    assert files[1].read_text().startswith("# Benchmarks: echo of datagrams\n")
    assert "asyncio" in capsys.readouterr().out
    assert os.sched_getaffinity(0) == affinity


def test_a_file_that_cannot_be_written_is_one_line_and_status_1(monkeypatch, capsys):
    monkeypatch.setattr(udp, "SERVERS", {"asyncio": udp_servers.SERVERS["asyncio"]})
    monkeypatch.setattr(udp, "QUICK_PACED_SECONDS", 0.01)
    assert udp.main(["--quick", "--json", "/nonexistent/file"], turn_seconds=0.01) == 1
    assert capsys.readouterr().err.startswith("fastframe bench udp: ")
