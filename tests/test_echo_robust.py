"""The echo server and the worst that peers and networks do, seen from outside: what they get, and what it costs the others."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sockdiag
from serving import Serving, is_echoed, poll, serving
from vectors import frame
from wires import read_all, reset

LOOPS = ["asyncio", "uvloop"]
LIMIT = 1 << 20
EXCHANGE = frame(b"first") + frame(b"") + frame(b"third")
BAD = b"\xff" * 4


@pytest.fixture(scope="module", params=LOOPS)
def shared(request) -> Iterator[Serving]:
    """A server for all the tests that leave it as it was, which is looked at after the last of them."""
    with serving("--loop", request.param, "--format", f"u32be,max={LIMIT}", "--linger-timeout", "0.5") as server:
        yield server
        assert server.end() == (0, "", "")


@pytest.fixture
def server(shared) -> Iterator[Serving]:
    """The same; others are served meanwhile and afterwards, and no descriptor is left."""
    with shared.connect() as other:
        assert is_echoed(other)
        before = shared.descriptors()
        yield shared
        assert is_echoed(other)
        poll(lambda: shared.descriptors() <= before)


# Ends


@pytest.mark.parametrize("size", [0, 1, 100_000, LIMIT])
def test_who_ends_its_direction_is_answered_to_the_last_byte(server, size):
    wire = frame(bytes(size)) * 3
    with server.connect() as raw:
        sending = threading.Thread(target=lambda: (raw.sendall(wire), raw.shutdown(socket.SHUT_WR)))
        sending.start()
        assert read_all(raw) == wire
        sending.join()


@pytest.mark.parametrize("cut", range(len(EXCHANGE) + 1))
def test_a_stream_that_is_cut_at_any_byte_is_answered_up_to_its_last_whole_frame(server, cut):
    whole = b"".join(part for end, part in ((9, EXCHANGE[:9]), (13, EXCHANGE[9:13]), (22, EXCHANGE[13:])) if end <= cut)
    with server.connect() as raw:
        raw.sendall(EXCHANGE[:cut])
        raw.shutdown(socket.SHUT_WR)
        assert read_all(raw) == whole


@pytest.mark.parametrize("sent", [b"", b"\0\0", frame(b"x" * 1000)[:-1], frame(b"x"), frame(b"x") * 10_000, BAD])
def test_resets_leave_nothing(server, sent):
    for _ in range(20):
        raw = server.connect()
        raw.sendall(sent)
        reset(raw)


def test_who_leaves_without_reading_leaves_nothing(server):
    for _ in range(5):
        with server.connect() as raw:
            raw.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    raw.send(frame(bytes(1000)) * 100)


# Garbage


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506),
        BAD,
        (LIMIT + 1).to_bytes(4, "big") + bytes(100),
        b"\x80" * 100_000,
        *(random.Random(seed).randbytes(70_000) for seed in range(5)),
    ],
    ids=["http", "ssh", "tls", "ones", "too long", "high bits", *(f"random {seed}" for seed in range(5))],
)
def test_garbage_is_answered_up_to_there_and_cut(server, garbage):
    with server.connect() as raw:
        raw.sendall(frame(b"good") + garbage)
        assert read_all(raw) == frame(b"good")


def test_who_speaks_tls_to_a_plain_port_is_told_at_once(server):
    context = ssl.create_default_context()
    with server.connect() as raw, pytest.raises(OSError, match=r"(?i)EOF|reset|wrong version|record layer"):
        context.wrap_socket(raw, server_hostname="localhost")


def test_answers_arrive_although_garbage_goes_on(server):
    wire = frame(bytes(100_000)) * 10
    with server.connect() as raw:

        def send() -> None:
            with contextlib.suppress(OSError):
                raw.sendall(wire + BAD * (1 << 20))

        sending = threading.Thread(target=send)
        sending.start()
        time.sleep(0.1)
        assert read_all(raw) == wire
        sending.join()


# Slowness


@pytest.mark.parametrize("loop", LOOPS)
def test_who_sends_or_reads_too_slowly_is_cut_with_one_line_each(loop):
    with serving("--loop", loop, "--frame-timeout", "0.3", "--write-timeout", "0.3") as server, server.connect() as good:
        with server.connect() as slow:
            began = time.monotonic()
            slow.sendall(b"\0\0")
            assert read_all(slow) == b""
            assert time.monotonic() - began >= 0.3
        assert "frames_overdue=1" in server.logged("ended by their limits")
        with server.connect() as deaf:
            with contextlib.suppress(OSError):
                while True:
                    deaf.sendall(frame(bytes(1 << 20)))
            assert "writes_overdue=1" in server.logged("ended by their limits")
        assert is_echoed(good)
        assert server.end() == (0, "", "")


# What a peer may cost


def never_read(raws: list[socket.socket], size: int) -> None:
    """Send frames and read no answer, until the server reads no more of them."""
    wire = frame(bytes(size)) * max(1, LIMIT // (4 + size))
    sent = dict.fromkeys(raws, 0)
    for raw in raws:
        raw.setblocking(False)
    while writable := select.select([], raws, [], 0.4)[1]:
        for raw in writable:
            with contextlib.suppress(BlockingIOError):
                sent[raw] += raw.send(memoryview(wire)[sent[raw] % len(wire) :])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", [60, LIMIT])
def test_a_peer_that_never_reads_costs_no_more_than_promised(loop, size):
    """A frame of the longest, and a megabyte, in user memory; in the kernel `unsent`, and what TCP lets wait to be read."""
    peers, unsent = 10, 256 << 10
    most_received = int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()[2])
    options = ("--loop", loop, "--format", f"u32be,max={LIMIT}", "--unsent", unsent, "--write-timeout", "none")
    with serving(*options) as server, contextlib.ExitStack() as stack:
        raws = [stack.enter_context(server.connect()) for _ in range(peers)]
        assert all(map(is_echoed, raws))
        before = server.memory()
        never_read(raws, size)
        assert server.memory() - before < peers * ((size if size == LIMIT else 0) + (1 << 20))
        try:
            told = sockdiag.of_server(int(server.address.rpartition(":")[2]))
        except OSError as error:
            pytest.skip(f"the kernel does not tell what sockets take here: {error}")
        memory = [told[raw.getsockname()[1]] for raw in raws]
        assert max(each.sent for each in memory) < unsent + (128 << 10)
        assert max(each.received for each in memory) <= most_received + (64 << 10)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_peer_had_sent_is_free_when_it_is_gone(loop):
    size = 16 << 20
    with serving("--loop", loop) as server:
        before = server.memory()
        for _ in range(3):
            with server.connect() as raw:
                raw.sendall(frame(bytes(size))[:-1])
                poll(lambda: server.memory() - before > 0.9 * size)
            poll(lambda: server.memory() - before < 0.1 * size)


# Descriptors

LIBRARY = """
import asyncio, signal, sys, uvloop
from fastframe import aio
from fastframe.servers.echo import Echo

async def main():
    async with await aio.serve(Echo, "127.0.0.1", 0) as server:
        print("listening on", server.addresses[0], flush=True)
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await stopped.wait()

with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.argv[1] == "uvloop" else asyncio.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("program", ["command", "library"])
def test_when_descriptors_run_out_others_are_served_or_wait(program, loop):
    """The command knows how many there are, and accepts no more; a program that does not know meets the end of them."""
    few = 100
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))  # noqa: E731
    started = {"command": [sys.executable, "-c", LIBRARY, loop]} if program == "library" else {}
    options = [] if program == "library" else ["--loop", loop]
    with serving(*options, preexec_fn=limit, **started) as server, contextlib.ExitStack() as stack:
        first = stack.enter_context(server.connect())
        assert is_echoed(first)
        others = [stack.enter_context(server.connect()) for _ in range(few)]  # the backlog takes them
        for raw in others:
            raw.sendall(frame(b"wait"))
        server.logged("no connection can be accepted for now: Too many open files" if program == "library" else "no room")
        assert is_echoed(first)
        for raw in others:  # those inside leave, one after the other, and make room
            assert raw.recv(8, socket.MSG_WAITALL) == frame(b"wait")
            raw.close()
        status, _, said = server.end()
    assert status == 0
    assert "Traceback" not in said
    assert said.count("\n") <= 2


# A machine that vanishes

VANISHING = """
import fcntl, os, socket, struct, time
from serving import is_echoed, serving

def loopback(up):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", up))  # SIOCSIFFLAGS, IFF_UP

def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))

def gone_after(server, connected):
    began = time.monotonic()
    while descriptors(server) == connected:
        assert time.monotonic() - began < 20, "the server still has the connection"
        time.sleep(0.01)
    return time.monotonic() - began

for loop, deaf in (("asyncio", False), ("uvloop", True)):
    loopback(True)
    with serving("--loop", loop, "--keepalive", "1", "--write-timeout", "0.5") as server:
        with server.connect() as raw:
            assert is_echoed(raw)
            connected = descriptors(server)
            if deaf:  # answers are on their way, so that TCP asks nothing, and waits
                raw.settimeout(0.2)
                try:
                    while True:
                        raw.sendall(bytes(1 << 20))
                except TimeoutError:
                    pass
            loopback(False)
            print(round(gone_after(server, connected), 1))
"""


def own_network() -> list[str] | None:
    """Return a command that runs another one in a network of its own, if that is allowed here."""
    for flags in ("--net", "--map-root-user --user --net"):
        command = ["unshare", *flags.split()]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return None


def test_a_peer_whose_machine_vanishes_is_given_up():
    if (alone := own_network()) is None:
        pytest.skip("no network namespace: unshare --net needs root, or user namespaces")
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    command = [*alone, sys.executable, "-c", VANISHING]
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    idle, deaf = map(float, result.stdout.split())
    assert idle >= 1  # a second of silence, and three questions
    assert deaf >= 0.3
