"""The client of echo over datagrams: by a script, on a bad network, and as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter

import pytest
from relaying import Relay
from serving import FASTFRAME, serving

from fastframe import FrameFormat, datagram
from fastframe.servers import echo, echo_udp, echo_udp_client
from fastframe.servers.echo_udp import PING, PONG, Echo
from fastframe.servers.echo_udp_client import Client

SERVER = ("127.0.0.1", 9000)
U32 = FrameFormat("u32be")
WAIT = 30  # seconds until a test fails instead of hanging


class ScriptedSocket:
    """What a client sends is kept; what it receives is the script's, where None stands for nothing in time."""

    def __init__(self, *script):
        self.script = list(script)
        self.sent = []
        self.pauses = []
        self.counters = Counter()
        self.now = 1000.0

    def send(self, payload):
        self.sent.append(payload)
        self.counters["sent"] += 1
        return True

    def recv(self, timeout):
        step = self.script.pop(0) if self.script else None
        if step is None:
            self.pauses.append(timeout)
            self.now += timeout
            raise TimeoutError
        return step(self.sent) if callable(step) else step, SERVER


@pytest.fixture
def ask(monkeypatch):
    """Make a client on a scripted socket, whose waiting takes no time."""

    def make(*script, **options):
        sock = ScriptedSocket(*script)
        monkeypatch.setattr(echo_udp_client.time, "monotonic", lambda: sock.now)
        return Client(sock, **options), sock

    return make


def answer_to(number):
    """The answer to the request of that number."""
    return lambda sent: PONG + sent[number][len(PING) :]


def test_each_try_has_its_own_id_and_the_same_text(ask):
    client, sock = ask(None, None, answer_to(2))
    assert client.ask(b"text", WAIT) == b"text"
    assert {payload[:4] + payload[12:] for payload in sock.sent} == {b"PINGtext"}
    assert len({payload[4:12] for payload in sock.sent}) == 3


def test_the_pause_doubles_and_chance_adds_to_it(ask, monkeypatch):
    monkeypatch.setattr(random, "random", iter([0.0, 1.0, 0.5, 0.0]).__next__)
    client, sock = ask(None, None, None, answer_to(3), retry_after=0.5)
    client.ask(b"text", 1000)
    assert sock.pauses == pytest.approx([0.5, 1.5, 2.5])


def test_no_pause_is_longer_than_the_time_there_is(ask):
    client, sock = ask(retry_after=2)
    with pytest.raises(TimeoutError, match=r"^no answer within 9.5 s$"):
        client.ask(b"text", 9.5)
    assert sum(sock.pauses) == pytest.approx(9.5)


def test_what_is_counted(ask):
    client, _ = ask(
        None,  # the first request is lost
        answer_to(1),
        answer_to(1),  # twice
        answer_to(0),  # it was late after all
        answer_to(0),  # and twice
        PONG + b"unknown " + b"second",
        lambda sent: sent[2],  # a request, sent back
        lambda sent: answer_to(2)(sent) + b"longer",
        lambda sent: answer_to(2)(sent)[:-1],
        b"",
        answer_to(2),
        answer_to(3),
    )
    assert [client.ask(text, WAIT) for text in (b"first", b"second", b"")] == [b"first", b"second", b""]
    statistics = client.statistics()
    assert statistics.pop("rtt_p50_ms") <= statistics.pop("rtt_p99_ms")
    assert statistics == {
        "texts": 3,
        "answered": 3,
        "sent": 4,
        "retries": 1,
        "lost": 0,
        "late": 1,
        "duplicates": 2,
        "strays": 5,
        "errors": {},
    }


def test_what_got_no_answer_is_lost(ask):
    client, _ = ask(None, answer_to(1))
    client.ask(b"text", WAIT)
    assert (client.statistics()["lost"], client.statistics()["retries"]) == (1, 1)


def test_of_old_tries_no_answer_is_known(ask, monkeypatch):
    monkeypatch.setattr(echo_udp_client, "REMEMBERED", 2)
    client, _ = ask(None, None, answer_to(0), answer_to(1), answer_to(2))
    assert client.ask(b"text", WAIT) == b"text"
    assert client.statistics()["strays"] == 1
    assert len(client._tries) == 2


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(0, 0.5, None), (1, 0.99, 1000), (100, 0.5, 51_000), (100, 0.99, 100_000)]
)
def test_quantiles(count, share, expected):
    assert echo_udp_client.quantile([float(at + 1) for at in range(count)], share) == expected


@contextlib.contextmanager
def serving_in_thread(format=U32):
    """Run the echo of `fastframe serve echo --udp` on a loop of its own thread; yield its address and counters."""
    started: list = []
    ready = threading.Event()

    async def main():
        async with await datagram.serve(Echo(format), sockets=echo_udp.bind_free("127.0.0.1"), format=None) as server:
            started.extend([asyncio.get_running_loop(), asyncio.Event(), server.endpoints[0]])
            ready.set()
            await started[1].wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(WAIT)
    loop, ended, endpoint = started
    try:
        yield endpoint.address, endpoint.counters
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_text_is_answered_through_a_network_that_loses_doubles_and_reorders(seed):
    texts = [b"%d" % number * (number % 40) for number in range(80)]
    with serving_in_thread() as (address, counted), Relay(address, seed) as relay, datagram.connect(*relay.address) as sock:
        client = Client(sock, retry_after=0.01)
        assert [client.ask(text, WAIT) for text in texts] == texts
        statistics = client.statistics()
    assert statistics["answered"] == statistics["texts"] == len(texts)
    assert statistics["sent"] == len(texts) + statistics["retries"]
    assert statistics["retries"] >= 0.3 * len(texts)  # seven in sixteen round trips fail
    assert 0.2 * statistics["sent"] < statistics["lost"] <= relay.counts["lost"]
    assert statistics["duplicates"] > 0
    assert (statistics["strays"], statistics["errors"]) == (0, {})
    assert counted["received"] == counted["sent"]
    assert 0 < statistics["rtt_p50_ms"] <= statistics["rtt_p99_ms"]


# As a user runs it


@pytest.fixture
def client(capfd):
    """Run `fastframe echo --udp` in this process: status, standard output, standard error."""

    def client(*arguments):
        try:
            status = echo.client_main(["--udp", *arguments])
        except SystemExit as usage:
            status = usage.code
        sys.stdout.flush()
        return status, *capfd.readouterr()

    return client


def test_texts_and_lines_come_back():
    with serving("--udp") as server:
        where = server.address.removeprefix("udp ")
        command = [*FASTFRAME, "echo", "--udp", where]
        result = subprocess.run(command, input="one\n\nwörld", capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "one\n\nwörld\n", "")


@pytest.mark.parametrize(
    ("arguments", "where", "format", "answer"),
    [
        (["--host", "::1", "--loop", "uvloop"], "udp [::1]:", "u32be", "text"),
        (["--format", "netstring,max=40", "--upper"], "udp 127.0.0.1:", "netstring", "TEXT"),
    ],
)
def test_other_addresses_loops_and_formats(client, arguments, where, format, answer):
    with serving("--udp", *arguments) as server:
        assert server.address.startswith(where)
        address = server.address.removeprefix("udp ")
        assert client(address, "--format", format, "text", "") == (0, f"{answer}\n\n", "")


def test_a_unix_socket(client, tmp_path):
    path = tmp_path / "echo"
    with serving("--udp", "--unix", path) as server:
        assert server.address == f"udp unix:{path}"
        assert client(f"unix:{path}", "over a file") == (0, "over a file\n", "")


def test_statistics(client):
    with serving_in_thread() as ((_, port), _):
        status, stdout, stderr = client(f"127.0.0.1:{port}", "one", "two", "--json")
        statistics = json.loads(stdout)
        assert (status, stderr, statistics["texts"], statistics["answered"], statistics["lost"]) == (0, "", 2, 2, 0)
        status, stdout, stderr = client(f"127.0.0.1:{port}", "one", "--stats")
        assert (status, stdout, stderr.count("\n")) == (0, "one\n", 1)
        assert stderr.startswith("texts 1, answered 1, sent 1, ")


def test_statistics_are_told_at_ctrl_c_too():
    with serving_in_thread() as ((_, port), _):
        command = [*FASTFRAME, "echo", "--udp", "--stats", f"127.0.0.1:{port}"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            print("one", file=process.stdin, flush=True)
            assert process.stdout.readline() == "one\n"
            process.send_signal(signal.SIGINT)
            process.wait(WAIT)  # before the standard input ends, which is another way to end
            stderr = process.stderr.read()
    assert process.returncode == 130
    assert stderr.startswith("texts 1, answered 1, ")
    assert stderr.endswith("\nfastframe: interrupted\n")


def test_a_client_that_gets_no_answer_says_so_and_what_the_network_said(client):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        status, stdout, stderr = client(address, "--timeout", "0.6", "--retry-after", "0.05", "--json", "x")
        statistics = json.loads(stdout)
        assert (status, stderr) == (1, "fastframe: no answer within 0.6 s\n")
        assert statistics["answered"] == 0
        assert statistics["lost"] == statistics["sent"] > 1
    status, stdout, stderr = client(address, "--timeout", "0.2", "--retry-after", "0.05", "--stats", "x")
    assert (status, stdout) == (1, "")
    assert "; the network said ECONNREFUSED " in stderr.splitlines()[0]
    assert "answered 0" in stderr.splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["unix:/nonexistent/socket", "x"], 1, "No such file"),
        (["a..b:80", "x"], 1, "fastframe: "),
        (["127.0.0.1:9", "--retry-after", "0", "x"], 2, "number of seconds"),
        (["127.0.0.1:9", "--format", "u8,max=13", "xx"], 1, "over the limit of 13"),
        (["127.0.0.1:9", "--format", "u64be,adjust=70000,max=100KiB", "x"], 1, "no frame fits"),
        (["127.0.0.1:9", "x" * 65_500], 1, "over the limit of 65503"),
    ],
)
def test_a_client_that_fails_says_why(client, arguments, status, said):
    ended, stdout, stderr = client(*arguments)
    assert (ended, stdout) == (status, "")
    assert said in stderr
    assert status == 2 or stderr.count("\n") == 1


@pytest.mark.parametrize(
    "option", [["--tls"], ["--tls-ca", "file"], ["--tls-name", "x"], ["--tls-cert", "x"], ["--tls-key", "x"]]
)
def test_there_is_no_tls_for_datagrams(client, option):
    status, stdout, stderr = client("127.0.0.1:9", *option, "x")
    assert (status, stdout) == (2, "")
    assert "no TLS for datagrams" in stderr


@pytest.mark.parametrize("option", [["--json"], ["--stats"], ["--retry-after", "1"]])
def test_what_is_for_datagrams_needs_the_word(capfd, option):
    with pytest.raises(SystemExit, match="2"):
        echo.client_main(["127.0.0.1:9", *option])
    assert "for --udp" in capfd.readouterr()[1]
