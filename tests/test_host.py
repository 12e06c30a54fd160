"""How a server is run, seen from outside: processes and signals."""

import signal
import socket
import subprocess
import sys

import pytest
from serving import PATIENCE, connect, is_echoed, refused, serving
from vectors import frame

from fastframe.servers import arguments, host

HALF_A_FRAME = frame(b"half")[:6]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "aiofastnet"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(loop, number):
    with serving("--loop", loop) as server, server.connect() as raw:
        assert is_echoed(raw)
        server.process.send_signal(number)
        assert raw.recv(1) == b""
        raw.close()
        assert server.ended() == (0, "", "")


def test_what_has_not_ended_in_time_is_cut_with_status_0():
    with serving("--drain-timeout", "0.3") as server, server.connect() as raw:
        assert is_echoed(raw)
        raw.sendall(HALF_A_FRAME)
        status, stdout, stderr = server.end()
    assert (status, stdout, stderr.count("\n")) == (0, "", 1)
    assert "event=stopped cut=1" in stderr


def test_a_draining_server_accepts_nobody_and_ends_when_the_frame_has_come():
    with serving("--log-level", "info") as server, server.connect() as raw:
        assert is_echoed(raw)
        raw.sendall(HALF_A_FRAME)
        server.process.terminate()
        server.logged("event=draining", "connections=1")
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        raw.sendall(frame(b"half")[6:])
        assert raw.recv(8, socket.MSG_WAITALL) == frame(b"half")
        raw.close()
        assert server.process.wait(PATIENCE) == 0


def test_a_successor_can_have_the_path_while_a_server_drains(tmp_path):
    path = tmp_path / "socket"
    with serving("--unix", path, "--log-level", "info") as server, server.connect() as raw:
        assert is_echoed(raw)
        raw.sendall(HALF_A_FRAME)
        server.process.terminate()
        server.logged("event=draining")
        assert not path.exists()
        with serving("--unix", path) as successor:
            server.process.terminate()
            assert server.ended()[0] == 1
            with successor.connect() as other:
                assert is_echoed(other)


def test_a_second_signal_cuts_at_once_with_status_1():
    with serving("--log-level", "info") as server, server.connect() as raw:
        assert is_echoed(raw)
        raw.sendall(HALF_A_FRAME)
        server.process.terminate()
        server.logged("event=draining")
        status, stdout, stderr = server.end()
    assert (status, stdout) == (1, "")
    assert "event=stopped cut=1" in stderr


def test_an_address_in_use_is_one_line_and_status_1():
    with serving() as server:
        port = server.address.rpartition(":")[2]
        assert refused("--port", port) == (1, f"fastframe: cannot listen on 127.0.0.1, port {port}: Address already in use\n")


def test_what_the_limits_did_is_logged():
    with serving("--max-connections-per-source", "1") as server, server.connect(), server.connect():
        assert "refused=1" in server.logged("connections ended by their limits")


def test_a_full_server_says_so_and_goes_on_when_there_is_room():
    with serving("--max-connections", "1") as server, connect(server.address) as first, connect(server.address) as second:
        assert is_echoed(first)
        server.logged("accepting paused", "connections=1")
        first.close()
        assert is_echoed(second)


@pytest.mark.parametrize("name", ["uvloop", "aiofastnet"])
def test_a_loop_that_is_not_installed_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(arguments.UsageError, match=f"pip install {name}"):
        host.loop_factory(name)


def test_the_automatic_loop_is_the_fastest_that_is_installed(monkeypatch):
    uvloop = pytest.importorskip("uvloop")
    assert host.loop_factory("auto") is uvloop.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert host.loop_factory("auto") is host.asyncio.new_event_loop


def test_what_was_asked_wrongly_is_one_line_and_status_2():
    assert refused("--low-water", "1MiB") == (2, "fastframe: low_water (1048576) must not be above high_water (65536)\n")


def test_a_server_that_fails_to_start_is_a_line_and_status_1():
    code = """
import argparse, sys
from fastframe.servers import arguments, host
parser = argparse.ArgumentParser()
arguments.add_server_options(parser)
async def serve(**how):
    raise OSError(5, "no such luck")
sys.exit(host.run(parser.parse_args(sys.argv[1:]), serve))
"""
    command = [sys.executable, "-c", code, "--port", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert 'event="cannot serve" reason="[Errno 5] no such luck"\n' in result.stderr
    assert result.stderr.count("\n") == 1
