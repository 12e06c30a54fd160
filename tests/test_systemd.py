"""What systemd does to a service, done here as it does it: sockets from descriptor 3 on, an environment, a datagram socket."""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serving import FASTFRAME, PATIENCE, SERVE, connect, is_echoed, serving

from fastframe import aio
from fastframe.servers import arguments, listeners, systemd

UNITS = Path(__file__).parent.parent / "docs" / "systemd"


@pytest.fixture
def manager(tmp_path):
    """The socket on which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.settimeout(PATIENCE)
        heard.bind(str(tmp_path / "notify"))
        yield heard


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


# The shell that systemd's part is played by gets the socket as its standard input.
ACTIVATE = ["/bin/sh", "-c", 'exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a exec "$@"', "sh", *FASTFRAME]


def passed(listener, *words):
    """Run a server to which systemd passes `listener`."""
    return serving(*words, command=[*ACTIVATE, "serve", "echo"], stdin=listener)


def refusal(given, *words) -> tuple[int, str]:
    command = [*ACTIVATE, "serve", "echo", *words]
    result = subprocess.run(command, stdin=given, capture_output=True, text=True, timeout=30, check=False)
    return result.returncode, result.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_passed_socket_is_served(workers, listener):
    with passed(listener, "--workers", workers) as server:
        assert server.address == f"127.0.0.1:{listener.getsockname()[1]}"
        with server.connect() as raw:
            assert is_echoed(raw)
        assert server.end() == (0, "", "")
    with connect(server.address):  # systemd's copy listens on, for the next start
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_a_passed_socket_for_datagrams_is_served(workers):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        made.bind(("127.0.0.1", 0))
        client.settimeout(PATIENCE)
        client.connect(made.getsockname())
        with passed(made, "--udp", "--workers", workers) as server:
            client.send(b"\0\0\0\x0cPING12345678")
            assert client.recv(100) == b"\0\0\0\x0cPONG12345678"
            assert server.end() == (0, "", "")


def test_a_passed_unix_socket_is_served_and_its_file_is_left_to_systemd(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)
        made.listen()
        with passed(made) as server, connect(f"unix:{path}") as raw:
            assert is_echoed(raw)
            raw.close()
            assert server.end() == (0, "", "")
    assert os.path.exists(path)


@pytest.mark.parametrize("option", [["--host", "::1"], ["--unix", "x"], ["--backlog", "5"]])
def test_a_passed_socket_leaves_no_other_address(listener, option):
    said = "fastframe: systemd passed the sockets to listen on: leave out --host, --unix and --backlog\n"
    assert refusal(listener, *option) == (2, said)


def test_a_public_socket_from_systemd_needs_the_word_too():
    with socket.create_server(("0.0.0.0", 0)) as public:
        status, said = refusal(public)
    assert status == 2
    assert "can be reached by others" in said


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_passed_socket_that_does_not_listen_is_refused(kind):
    with socket.socket(socket.AF_INET, kind) as given:
        given.bind(("127.0.0.1", 0))
        status, said = refusal(given)
    assert status == 2
    assert "wants ListenStream= and Accept=no" in said


def test_passed_sockets_are_not_passed_on(monkeypatch, listener):
    descriptor = os.dup(listener.fileno())
    os.set_inheritable(descriptor, True)
    monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", descriptor)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    (taken,) = systemd.passed_sockets()
    with taken:
        assert (taken.getsockname(), taken.get_inheritable()) == (listener.getsockname(), False)
    assert systemd.passed_sockets() == []


def test_sockets_for_another_process_are_not_taken(monkeypatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd.passed_sockets() == []
    assert "LISTEN_FDS" not in os.environ


def test_a_server_of_datagrams_takes_sockets_for_them(monkeypatch):
    parser = argparse.ArgumentParser()
    arguments.add_server_options(parser)
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        given = socket.socket(socket.AF_INET, kind)
        monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", given.detach())
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        options = parser.parse_args(["--insecure"])
        if kind == socket.SOCK_DGRAM:
            listeners.open_listeners(options, aio.bind, socket.SOCK_DGRAM).close()
        else:
            with pytest.raises(arguments.UsageError, match="ListenDatagram="):
                listeners.open_listeners(options, aio.bind, socket.SOCK_DGRAM)


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="no systemd-socket-activate")
def test_systemds_own_activation(tmp_path):
    path = str(tmp_path / "socket")
    activate = ["systemd-socket-activate", "-l", path, "-E", "PYTHONPATH", *SERVE[:1], "-m", "fastframe", "serve", "echo"]
    with subprocess.Popen(activate, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "Listening on" in process.stderr.readline()
            with connect(f"unix:{path}") as raw:
                assert is_echoed(raw)
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_hears_when_the_server_is_ready_and_when_it_stops(workers, manager):
    environment = os.environ | {"NOTIFY_SOCKET": manager.getsockname()}
    with serving("--workers", workers, env=environment) as server:
        assert manager.recv(100) == b"READY=1"
        with server.connect() as raw:
            assert is_echoed(raw)
        assert server.end() == (0, "", "")
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_hears_that_the_server_is_alive(workers, manager):
    environment = os.environ | {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "80000"}
    with serving("--workers", workers, env=environment) as server:
        heard = [manager.recv(100) for _ in range(6)]
        assert heard.count(b"WATCHDOG=1") >= 4
        assert heard.count(b"READY=1") <= 1
        server.end()


@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_hears_of_a_reload(workers, manager, tmp_path):
    trustme = pytest.importorskip("trustme")
    file = tmp_path / "both.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(file))
    environment = os.environ | {"NOTIFY_SOCKET": manager.getsockname()}
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with serving("--tls-cert", file, "--workers", workers, env=environment) as server:
        assert manager.recv(100) == b"READY=1"
        server.process.send_signal(signal.SIGHUP)
        reloading, _, moment = manager.recv(100).partition(b"\nMONOTONIC_USEC=")
        assert reloading == b"RELOADING=1"
        assert before < int(moment) < before + 60_000_000
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("pid", "period", "watchdog"), [("", "3000000", 3.0), ("own", "3000000", 3.0), ("1", "3000000", None), ("", "0", None)]
)
def test_the_watchdog_is_for_the_process_that_it_names(pid, period, watchdog, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent")
    monkeypatch.setenv("WATCHDOG_USEC", period)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert systemd.Notifier.from_environment().watchdog == watchdog
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


def test_an_abstract_address_and_one_that_nobody_listens_on():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0fastframe-test-{os.getpid()}")
        systemd.Notifier(f"@fastframe-test-{os.getpid()}", None).ready()
        assert heard.recv(100) == b"READY=1"
    systemd.Notifier("/nonexistent", None).ready()
    systemd.Notifier("", None).ready()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_example_units_are_understood(tmp_path):
    names = []
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/fastframe/bin/fastframe", sys.executable)
        (tmp_path / unit.name).write_text(text)
        names.append(str(tmp_path / unit.name))
    result = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda unit: unit.name)
def test_no_reload_ends_a_server(unit):
    lines = [line for line in unit.read_text().splitlines() if not line.startswith("#")]
    assert any(line.startswith("ExecReload=") for line in lines) <= any("--tls-cert" in line for line in lines)
