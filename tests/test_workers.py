"""Several processes for one server: that they share, die, come back, and end together."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from serving import PATIENCE, is_echoed, poll, refused, serving
from vectors import frame

from fastframe.servers import board, systemd, workers

HALF_A_FRAME = frame(b"half")[:6]
LOGGED = ("--log-level", "info")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "aiofastnet"])
def test_workers_serve_one_address_and_end_together(loop):
    with serving("--workers", "3", "--loop", loop) as server:
        assert len(server.workers()) == 3
        for _ in range(10):
            with server.connect() as raw:
                assert is_echoed(raw)
        assert server.end() == (0, "", "")


def test_every_listener_is_announced_once(tmp_path):
    path = tmp_path / "socket"
    with serving("--workers", "2", "--host", "127.0.0.1", "--host", "::1", "--unix", path, listeners=3) as server:
        assert server.addresses[2] == f"unix:{path}"
        assert server.end() == (0, "", "")
    assert not path.exists()


def replaced(server, worker, number) -> int:
    """Send `worker` a signal; return the process that takes its place."""
    os.kill(worker, number)
    server.logged("event=ended", f"child_pid={worker}", "signal 9" if number == signal.SIGKILL else "status 0")
    return int(server.logged("event=started").rpartition("child_pid=")[2])


def test_workers_that_end_are_replaced_and_what_they_counted_stays():
    with serving("--workers", "2", "--metrics-port", "0", *LOGGED) as server:
        with server.connect() as raw:
            assert is_echoed(raw)
        for worker in server.workers()[:2]:
            replaced(server, worker, signal.SIGTERM)
        with server.connect() as raw:
            assert is_echoed(raw)
            poll(lambda: server.counted("fastframe_connections") == 1)
        assert server.counted("fastframe_accepted_total") == 2
        for worker in server.workers()[1:]:
            replaced(server, worker, signal.SIGKILL)
        poll(lambda: server.counted("fastframe_workers_accepting") == 2)
        assert server.counted("fastframe_accepted_total") == 2
        assert server.counted("fastframe_restarts_total") == 4
        assert server.end()[0] == 0


def test_a_dead_worker_is_neither_ready_nor_stuck_and_has_no_connections():
    made = board.Board(1)
    made.write(1, {"state": "accepting", "beat": 0.0, "connections": 7, "counters": {"accepted": 9}})
    child = workers.Child("worker 1", lambda: 3, signal.SIGKILL, slot=1)
    supervisor = workers.Supervisor(None, None, systemd.Notifier("", None), made, [child], scrapes=None)
    supervisor._announced = True
    supervisor._start(child)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    supervisor._bury(child)
    assert (child.pid, made.is_ready(), made.stuck()) == (0, False, {})
    assert made.read(1) == {"state": "gone", "beat": 0.0, "connections": 0, "counters": {"accepted": 9}}
    assert 0 < supervisor._patience() <= workers.FIRST_DELAY


def test_one_that_dies_again_and_again_is_started_ever_later():
    with serving("--workers", "2", *LOGGED) as server:
        worker = server.workers()[0]
        for seconds in (0.1, 0.2):
            began = time.monotonic()
            worker = replaced(server, worker, signal.SIGKILL)
            assert time.monotonic() - began >= seconds
        assert server.end()[0] == 0


def test_a_server_that_was_stopped_for_longer_than_it_meant_to_sleep_goes_on():
    with serving("--workers", "2", *LOGGED) as server:
        os.kill(server.workers()[0], signal.SIGKILL)
        server.logged("event=ended")
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(2 * workers.FIRST_DELAY)
        server.process.send_signal(signal.SIGCONT)
        server.logged("event=started")
        with server.connect() as raw:
            assert is_echoed(raw)
        assert server.end()[0] == 0


def test_probes_see_the_server_drain():
    with serving("--workers", "2", "--metrics-port", "0", *LOGGED) as server, server.connect() as raw:
        assert (server.scrape("/readyz"), server.scrape("/livez")) == ((200, "ok\n"), (200, "ok\n"))
        raw.sendall(HALF_A_FRAME)
        poll(lambda: server.counted("fastframe_connections") == 1)
        server.process.terminate()
        server.logged("event=draining", "connections=1")
        assert server.scrape("/readyz") == (503, "no connections are accepted\n")
        assert server.scrape("/livez") == (200, "ok\n")
        poll(lambda: refuses(server))  # once the other worker has heard of it as well
        raw.sendall(frame(b"half")[6:])
        assert raw.recv(8) == frame(b"half")
        raw.close()
        assert server.ended()[0] == 0


def refuses(server):
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_second_signal_cuts_at_once_with_status_1():
    with serving("--workers", "2", "--drain-timeout", "3600", *LOGGED) as server, server.connect() as raw:
        assert is_echoed(raw)
        raw.sendall(HALF_A_FRAME)
        server.process.terminate()
        server.logged("event=draining", "connections=1")
        status, _, stderr = server.end()
        assert status == 1
        assert "event=stopped cut=1" in stderr


def test_what_has_not_ended_in_time_is_cut_with_status_0():
    with serving("--workers", "2", "--drain-timeout", "0.2") as server, server.connect() as raw:
        assert is_echoed(raw)
        raw.sendall(HALF_A_FRAME)
        status, _, stderr = server.end()
    assert status == 0
    assert "event=stopped cut=1" in stderr


def test_a_worker_that_does_not_even_end_is_killed():
    with serving("--workers", "2", "--drain-timeout", "0") as server:
        os.kill(server.workers()[1], signal.SIGSTOP)
        status, _, stderr = server.end()
    assert status == 1
    assert "killing workers that did not end" in stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_systemd_reach_all_processes_and_count_once(number):
    with serving("--workers", "2", "--metrics-port", "0", *LOGGED, start_new_session=True) as server, server.connect() as raw:
        raw.sendall(HALF_A_FRAME)
        poll(lambda: server.counted("fastframe_connections") == 1)
        os.killpg(server.process.pid, number)
        server.logged("event=draining", "connections=1")
        for worker in server.workers():
            os.kill(worker, number)
        raw.sendall(frame(b"half")[6:])
        assert raw.recv(8) == frame(b"half")
        raw.close()
        assert server.ended()[0] == 0


def test_workers_end_when_the_first_process_dies():
    with serving("--workers", "2", "--metrics-port", "0") as server:
        server.process.kill()
        assert server.process.communicate(timeout=PATIENCE) == ("", "")  # their outputs have an end when all have ended


def test_a_worker_that_does_not_start_ends_the_server_with_status_1():
    code = """
import argparse, sys
from fastframe.servers import arguments, host
parser = argparse.ArgumentParser()
arguments.add_server_options(parser)
async def serve(**how):
    raise ZeroDivisionError
sys.exit(host.run(parser.parse_args(sys.argv[1:]), serve))
"""
    command = [sys.executable, "-c", code, "--port", "0", "--workers", "2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "ZeroDivisionError" in result.stderr


def test_an_address_in_use_is_one_line_and_status_1():
    with serving() as server:
        port = server.address.rpartition(":")[2]
        status, said = refused("--port", port, "--workers", "2")
        assert (status, said.count("\n")) == (1, 1)


def test_a_new_certificate_reaches_every_worker(tmp_path):
    trustme = pytest.importorskip("trustme")
    file = tmp_path / "both.pem"
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(file))
    with serving("--workers", "2", "--tls-cert", file, *LOGGED) as server:
        pids = [*server.workers(), server.process.pid]
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(file))
        server.process.send_signal(signal.SIGHUP)
        reloaded = {server.logged("certificate reloaded").partition("pid=")[2].split()[0] for _ in pids}
        assert reloaded == set(map(str, pids))


def test_nobody_wakes_up_without_a_reason():
    with serving("--workers", "1", "--metrics-port", "0") as server:
        pids = [server.process.pid, server.workers()[1]]

        def sleep_well() -> bool:
            before = sum(map(switches, pids))
            time.sleep(0.5)
            return sum(map(switches, pids)) - before <= 4

        poll(sleep_well)  # once the last turns of the start are over


def test_systemd_does_not_hear_of_a_server_with_a_stuck_worker(tmp_path):
    made = board.Board(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        notifier = systemd.Notifier(manager.getsockname(), watchdog=10.0)
        for age, heard in ((0.0, True), (board.STUCK_SECONDS + 1, False)):
            made.write(1, {"state": "accepting", "beat": time.monotonic() - age})
            supervisor = workers.Supervisor(None, None, notifier, made, [], scrapes=None)
            supervisor._tend()
            assert 4 < supervisor._patience() < 5  # until it looks again
            with contextlib.nullcontext() if heard else pytest.raises(BlockingIOError):
                assert manager.recv(100) == b"WATCHDOG=1"


def switches(pid) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
