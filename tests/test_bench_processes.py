"""Server and client processes: what is asked of the kernel, and what is said when one of them fails."""

import contextlib
import os
import socket
import sys
import threading
import time

import pytest

from fastframe.bench import processes, workloads
from fastframe.bench.entry import LeftOutError
from fastframe.bench.native import c_program

PYTHON = [sys.executable, "-c"]
SERVER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
"""
WORKS_IN_A_THREAD = (
    SERVER
    + """
import threading, time
def work():
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass
while True:
    peer = listener.accept()[0]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    kept = b"x" * 20_000_000
    peer.send(b"done")
"""
)


@pytest.fixture
def frames(tmp_path):
    """A request file and what a client needs of it."""
    payloads = workloads.some_payloads(1000, 7)
    path = tmp_path / "frames"
    path.write_bytes(workloads.frame(payloads))
    return [str(len(payloads)), str(path)]


@contextlib.contextmanager
def answering(frames, window, answer):
    """Yield a client whose server is `answer(socket)` in a thread."""
    ours, theirs = socket.socketpair()

    def serve():
        with contextlib.suppress(ConnectionError):  # a client that finds something wrong is gone at once
            answer(theirs)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        count, path = frames
        with processes.client([str(c_program("client")), count, str(window), path, path], ours) as client:
            yield client
    finally:
        thread.join(10)
        theirs.close()


def echo(connection):
    while data := connection.recv(4096):
        connection.sendall(data)


def test_a_server_has_time_of_all_its_threads_and_memory_of_its_own():
    with processes.serving([*PYTHON, WORKS_IN_A_THREAD], {}) as server:
        cpu, memory = server.cpu_ns(), server.memory()
        with server.connect() as connection:
            assert connection.recv(4) == b"done"
        assert 0.2e9 <= server.cpu_ns() - cpu < 2e9
        assert 15e6 < server.memory() - memory < 40e6
    assert server.process.returncode


def test_a_server_gets_its_environment_and_core():
    code = (
        SERVER
        + "import os; peer = listener.accept()[0]; peer.send(repr((os.environ['KEY'], os.sched_getaffinity(0))).encode())"
    )
    core = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    with processes.serving([*PYTHON, code], {"KEY": "value"}, core) as server, server.connect() as connection:
        assert connection.recv(100) == repr(("value", {core})).encode()
        assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("code", "reason"), [("raise SystemExit('first\\nlast')", "^last$"), ("print('hello')", "^it does not start$")]
)
def test_a_server_that_does_not_listen_is_left_out_with_its_last_word(code, reason):
    with pytest.raises(LeftOutError, match=reason), processes.serving([*PYTHON, code], {}):
        pass


@pytest.mark.parametrize("window", [1, 2, 64])
def test_a_client_tells_how_long_it_took(frames, window):
    with answering(frames, window, echo) as client:
        began = time.perf_counter_ns()
        turns = [client.run(count) for count in (1, 7, 500)]
        took = time.perf_counter_ns() - began
    assert 0 < sum(turn.ns for turn in turns) < took
    for turn in turns:
        assert (0 < turn.median <= turn.slow <= turn.ns) if window == 1 else (turn.median, turn.slow) == (0, 0)


@pytest.mark.parametrize("window", [1, 8])
def test_no_more_frames_are_outstanding_than_the_window(frames, window):
    most = 0

    def hold_back(connection):
        nonlocal most
        while held := connection.recv(1 << 20):
            connection.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                while data := connection.recv(1 << 20):
                    held += data
            connection.settimeout(None)
            most = max(most, len(held))
            connection.sendall(held)

    with answering(frames, window, hold_back) as client:
        client.run(5 * window)
    assert most == 1004 * window


def flip_a_byte(connection):
    sent = 0
    while data := connection.recv(4096):
        wrong = bytearray(data)
        if sent <= 5000 < sent + len(data):
            wrong[5000 - sent] ^= 1
        sent += len(data)
        connection.sendall(wrong)


def hang_up(connection):
    connection.recv(10)
    connection.close()


def answer_too_much(connection):
    while data := connection.recv(4096):
        connection.sendall(data + workloads.frame(workloads.some_payloads(1000, 7)) if len(data) == 1004 else data)


@pytest.mark.parametrize(
    ("answer", "window", "reason"),
    [
        (flip_a_byte, 1, "an answer is not what was sent"),
        (flip_a_byte, 8, "an answer is not what was sent"),
        (hang_up, 8, "the server has hung up"),
        (answer_too_much, 1, "not what was sent|more came back than was sent"),
    ],
)
def test_a_client_finds_what_is_wrong(frames, answer, window, reason):
    with answering(frames, window, answer) as client, pytest.raises(processes.BenchError, match=reason):
        client.run(100)


def test_a_client_that_is_asked_wrongly_says_how_it_is_used(tmp_path):
    ours, theirs = socket.socketpair()
    with (
        theirs,
        processes.client([str(c_program("client")), "0"], ours) as client,
        pytest.raises(processes.BenchError, match="usage: client SOCKET"),
    ):
        client.run(1)
