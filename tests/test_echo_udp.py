"""Echo over datagrams: what is answered and what is not, the client on a bad network, and both as a user runs them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import aiofastnet
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from serving import refused
from vectors import frame

from fastframe import FrameFormat, datagram
from fastframe.datagram import MAX_DATAGRAM
from fastframe.servers import echo, echo_udp, echo_udp_client
from fastframe.servers.echo_udp import HEAD_LENGTH, PING, PONG, Echo
from fastframe.servers.echo_udp_client import Client

FASTFRAME = [sys.executable, "-m", "fastframe"]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop, "aiofastnet": aiofastnet.loop_factory()}
WAIT = 10  # seconds until a test fails instead of hanging
ID = b"12345678"
DOCUMENT = Path(__file__).parent.parent / "docs" / "echo-udp.md"
SERVER, OTHER_SERVER, CLIENT = ("127.0.0.1", 9000), ("127.0.0.1", 9001), ("127.0.0.1", 40_000)
U32 = FrameFormat("u32be")


def ping(text=b"hello", name=ID):
    return frame(PING + name + text)


def pong(text=b"hello", name=ID):
    return frame(PONG + name + text)


# What is answered


@pytest.mark.parametrize("sender", [CLIENT, OTHER_SERVER, ("10.0.0.1", 7), ("::1", 40_000, 0, 0), "/run/client", b"\0name"])
def test_a_request_is_answered_whomever_it_comes_from(sender):
    echo, counters = Echo(U32), Counter()
    assert echo.answer(ping(), sender, SERVER, counters) == pong()
    assert echo.answer(ping(b""), sender, SERVER, counters) == pong(b"")
    assert echo.answer(ping(b"\xff" * 2000), sender, SERVER, counters) == pong(b"\xff" * 2000)
    assert counters == {}


def test_the_bytes_as_drawn():
    assert Echo(U32).answer(b"\0\0\0\x0ePING12345678hi", CLIENT, SERVER, Counter()) == b"\0\0\0\x0ePONG12345678hi"


def test_the_bytes_in_the_documentation():
    request, answer = (
        bytes.fromhex(line.partition("P")[0])
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("00 00 00 0e")
    )
    assert Echo(U32).answer(request, CLIENT, SERVER, Counter()) == answer


def test_upper_case():
    echo = Echo(U32, upper=True)
    assert echo.answer(ping("Straße".encode(), b"abcdefgh"), CLIENT, SERVER, Counter()) == pong(b"STRA\xc3\x9fE", b"abcdefgh")
    assert echo.answer(b"plain", CLIENT, SERVER, Counter()) == b"PLAIN"


@pytest.mark.parametrize(
    "text", ["u16le", "u8,offset=3", "u32be,strip=6", "varint", "netstring", "u32le,adjust=-4", "u16be,max=60"]
)
def test_any_format_that_strips_its_header(text):
    codec = datagram.DatagramCodec(FrameFormat.parse(text))
    echo = Echo(FrameFormat.parse(text))
    request, answer = codec.encode(PING + ID + b"hello"), codec.encode(PONG + ID + b"hello")
    assert echo.answer(request, OTHER_SERVER, SERVER, Counter()) == answer
    assert echo.answer(answer, CLIENT, SERVER, counters := Counter()) is None
    assert counters == {"answers": 1}


@pytest.mark.parametrize(
    ("request_", "sender", "why"),
    [
        (pong(), CLIENT, "answers"),
        (pong(b"", b""), CLIENT, "answers"),
        (ping(), SERVER, "own"),
        (b"", SERVER, "own"),
        (ping(), None, "nameless"),
        (ping()[:-1], CLIENT, "bad"),  # cut
        (ping() + b"\0", CLIENT, "bad"),  # padded
        (pong()[:-1], CLIENT, "bad"),
        (pong() + ping(), CLIENT, "bad"),
        (frame(PING + ID[1:]), CLIENT, "bad"),
        (b"plain", OTHER_SERVER, "bad"),
        (b"", ("127.0.0.1", 53), "bad"),
        (b"", ("127.0.0.1", 0), "bad"),
        (frame(b"hello"), ("127.0.0.1", 32_767), "bad"),
        (b"plain", "/run/client", "bad"),
    ],
)
def test_what_is_not_answered_is_counted(request_, sender, why):
    assert Echo(U32, plain=True).answer(request_, sender, SERVER, counters := Counter()) is None
    assert counters == {why: 1}


@pytest.mark.parametrize("plain", [b"", b"bye", b"\xff", b"\xff" * 2000, frame(b""), frame(b"hello"), b"PING", b"PONG"])
def test_plain_datagrams_of_clients_come_back_as_they_came(plain):
    assert Echo(U32).answer(plain, CLIENT, SERVER, counters := Counter()) == plain
    assert counters == {"plain": 1}


@pytest.mark.parametrize(
    ("option", "own", "answered"),
    [
        (None, ("127.0.0.1", 9000), True),
        (None, ("::1", 9000, 0, 0), True),
        (None, ("0.0.0.0", 9000), False),
        (None, ("192.0.2.1", 9000), False),
        (True, ("0.0.0.0", 9000), True),
        (False, ("127.0.0.1", 9000), False),
        (True, ("127.0.0.1", 32_768), False),  # a client's port
        (True, "/run/server", False),
    ],
)
def test_plain_datagrams_are_answered_on_loopback_or_on_demand(option, own, answered):
    answer = Echo(U32, plain=option).answer(b"plain", ("192.0.2.9", 40_000), own, Counter())
    assert answer == (b"plain" if answered else None)


ADDRESSES = st.tuples(st.sampled_from(["127.0.0.1", "::1", "192.0.2.1"]), st.integers(0, 65_535)) | st.sampled_from(
    ["/a", b"\0b", None]
)
REQUESTS = st.builds(ping, st.binary(max_size=20)) | st.builds(pong, st.binary(max_size=20)) | st.binary(max_size=40)


@st.composite
def requests(draw):
    request = bytearray(draw(REQUESTS))
    if request and draw(st.booleans()):
        request[draw(st.integers(0, len(request) - 1))] = draw(st.integers(0, 255))
    return bytes(request[: draw(st.integers(0, len(request)))] if draw(st.booleans()) else request)


@given(requests(), ADDRESSES, ADDRESSES, st.sampled_from([None, True, False]), st.booleans())
def test_an_answer_is_as_long_as_its_request_and_no_server_answers_it(request_, one, other, plain, upper):
    """Whatever two servers are said to have sent each other: the second answer is none."""
    servers = [Echo(U32, plain=plain, upper=upper), Echo(U32, plain=True)]
    answer = servers[0].answer(request_, one, other, Counter())
    if answer is not None:
        assert len(answer) == len(request_)
        assert servers[1].answer(answer, other, one, Counter()) is None


# Servers on sockets


@pytest.fixture(params=LOOPS)
def play(request):
    """Run a coroutine on each loop."""

    def play(main):
        async def limited():
            async with asyncio.timeout(WAIT):
                await main()

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(limited())

    return play


@contextlib.contextmanager
def asking(address):
    """A plain socket that is connected to a server."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT)
        sock.connect(address)
        yield sock


def test_two_servers_that_are_pointed_at_each_other_fall_silent(play):
    """Each one's own socket sends to the other before they serve: that is what a forged sender address looks like."""

    async def main():
        sockets = [echo_udp.bind_free("127.0.0.1")[0] for _ in range(2)]
        for sender, target in (sockets, sockets[::-1]):
            for request in (ping(), ping(b"", b"other id"), pong(), b"", b"\xff", b"bye", frame(b"bare"), ping()[:-1]):
                sender.sendto(request, target.getsockname())
        async with await datagram.serve(Echo(U32), sockets=sockets, format=None) as server:
            seen: Counter[str] = Counter()
            while server.counters != seen or not seen:
                seen = server.counters
                await asyncio.sleep(0.05)  # for them to go on, if they do
            assert seen == {"received": 16 + 4, "sent": 4, "answers": 2 + 4, "bad": 10}

    play(main)


def test_a_server_that_is_pointed_at_itself_falls_silent(play):
    async def main():
        (sock,) = echo_udp.bind_free("127.0.0.1")
        for request in (ping(), pong(), b""):
            sock.sendto(request, sock.getsockname())
        async with await datagram.serve(Echo(U32), sockets=[sock], format=None) as server:
            await server.close(grace=WAIT)
            assert server.counters == {"received": 3, "own": 3}

    play(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_nobodys_datagrams_harm_others(play, host):
    async def main():
        async with await datagram.serve(Echo(U32), sockets=echo_udp.bind_free(host), format=None) as server:
            address = server.endpoints[0].address
            with asking(address) as bad, asking(address) as good:
                for harm in (b"bye", b"", b"\xff", b"\xff" * 2000, ping()[:-3], pong(), ping() * 2, bytes(MAX_DATAGRAM)):
                    bad.send(harm)
                    good.send(ping(harm[: MAX_DATAGRAM - 4 - HEAD_LENGTH]))
                    answer = await asyncio.to_thread(good.recv, 70_000)
                    assert answer == pong(harm[: MAX_DATAGRAM - 4 - HEAD_LENGTH])
                echoed = [await asyncio.to_thread(bad.recv, 70_000) for _ in range(5)]
        assert echoed == [b"bye", b"", b"\xff", b"\xff" * 2000, bytes(MAX_DATAGRAM)]

    play(main)


def test_a_peer_that_is_gone_is_no_matter_to_others(play):
    async def main():
        async with await datagram.serve(Echo(U32), sockets=echo_udp.bind_free("127.0.0.1"), format=None) as server:
            address = server.endpoints[0].address
            with asking(address) as good:
                for _ in range(10):
                    with asking(address) as gone:
                        gone.send(ping())
                    good.send(ping())
                    assert await asyncio.to_thread(good.recv, 100) == pong()
            assert server.counters == {"received": 20, "sent": 20}

    play(main)


def test_port_0_is_a_port_that_no_client_gets(monkeypatch):
    monkeypatch.setattr(echo_udp, "SERVER_PORTS", range(28_000, 28_200))
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(echo_udp.bind_free("127.0.0.1")[0]) for _ in range(50)]
        assert {sock.getsockname()[1] for sock in sockets} < set(range(28_000, 28_200))


def test_what_else_is_wrong_with_an_address_is_said_at_once(monkeypatch):
    tried = []
    monkeypatch.setattr(datagram, "bind", lambda host, port, bind=datagram.bind: (tried.append(port), bind(host, port))[1])
    with pytest.raises(OSError, match="Cannot assign"):
        echo_udp.bind_free("192.0.2.1")
    assert len(tried) == 1


# The client


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


class Relay:
    """A bad network between one client and a server: what it loses, doubles and holds back is chance's, of a seed."""

    def __init__(self, server, seed, *, loss=0.25, doubled=0.15, held=0.3):
        self._chance = random.Random(seed)
        self._rates = loss, doubled, held
        self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.bind(("127.0.0.1", 0))
        self._far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._far.connect(server)
        self.address = self._near.getsockname()
        self.counts = Counter()
        self._held = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()
        self._near.close()
        self._far.close()

    def _run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._near, selectors.EVENT_READ, self._far.send)
            selector.register(self._far, selectors.EVENT_READ, lambda answer: self._near.sendto(answer, self._client))
            while not self._ended.is_set():
                for key, _ in selector.select(0.002):
                    passing, sender = key.fileobj.recvfrom(70_000)
                    if key.fileobj is self._near:
                        self._client = sender
                    self._pass_on(passing, key.data)
                self._chance.shuffle(self._held)
                while self._held:
                    held, send = self._held.pop()
                    send(held)

    def _pass_on(self, passing, send):
        loss, doubled, held = self._rates
        if self._chance.random() < loss:
            self.counts["lost"] += 1
            return
        for _ in range(1 + (self._chance.random() < doubled)):
            if self._chance.random() < held:
                self._held.append((passing, send))
            else:
                send(passing)


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


# As a user runs them


@contextlib.contextmanager
def serving(*arguments, counted=None):
    """Run `fastframe serve echo --udp`; yield its address."""
    command = [*FASTFRAME, "serve", "echo", "--udp", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on udp ")
            yield line.removeprefix("listening on udp ").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=10)
            assert (stdout, process.returncode) == ("", 0)
            if counted is None:
                assert stderr == ""
            else:
                counted.update(json.loads(stderr))


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


def test_both_as_processes():
    counted: dict[str, int] = {}
    with serving("--stats", counted=counted) as address:
        with asking(("127.0.0.1", int(address.rpartition(":")[2]))) as tool:
            for plain in (b"hello\n", b"", b"\xff", b"\xff" * 2000):
                tool.send(plain)
                assert tool.recv(4000) == plain
        command = [*FASTFRAME, "echo", "--udp", address]
        result = subprocess.run(command, input="one\n\nwörld", capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "one\n\nwörld\n", "")
    assert counted == {"received": 7, "sent": 7, "plain": 4}


@pytest.mark.parametrize(
    ("arguments", "where", "format", "answer"),
    [
        (["--host", "::1", "--loop", "uvloop"], "[::1]:", "u32be", "text"),
        (["--format", "netstring,max=40", "--upper"], "127.0.0.1:", "netstring", "TEXT"),
    ],
)
def test_other_addresses_loops_and_formats(client, arguments, where, format, answer):
    with serving(*arguments) as address:
        assert address.startswith(where)
        assert client(address, "--format", format, "text", "") == (0, f"{answer}\n\n", "")


def test_a_unix_socket(client, tmp_path):
    path = tmp_path / "echo"
    with serving("--unix", str(path)) as address:
        assert address == f"unix:{path}"
        assert client(address, "over a file") == (0, "over a file\n", "")
    assert not path.exists()


def test_statistics(client):
    with serving_in_thread() as ((_, port), _):
        status, stdout, stderr = client(f"127.0.0.1:{port}", "one", "two", "--json")
        statistics = json.loads(stdout)
        assert (status, stderr, statistics["texts"], statistics["answered"], statistics["lost"]) == (0, "", 2, 2, 0)
        status, stdout, stderr = client(f"127.0.0.1:{port}", "one", "--stats")
        assert (status, stdout, stderr.count("\n")) == (0, "one\n", 1)
        assert stderr.startswith("texts 1, answered 1, sent 1, ")


def test_a_client_that_gets_no_answer_says_so_and_what_the_network_said(client):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        status, stdout, stderr = client(address, "--timeout", "0.2", "--retry-after", "0.05", "--json", "x")
        statistics = json.loads(stdout)
        assert (status, stderr) == (1, "fastframe: no answer within 0.2 s\n")
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
    ("arguments", "status", "said"),
    [
        (["--format", "u8,strip=0"], 2, "would change the header"),
        (["--host", "0.0.0.0"], 2, "--insecure"),
        (["--format", "u64be,adjust=70000,max=100KiB"], 2, "no frame fits"),
        (["--host", "192.0.2.1", "--insecure"], 1, "cannot listen on 192.0.2.1"),
    ],
)
def test_a_server_that_cannot_start_says_why(arguments, status, said):
    ended, stderr = refused("--udp", *arguments)
    assert ended == status
    assert said in stderr


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (echo.serve_main, ["--plain"]),
        (echo.serve_main, ["--stats"]),
        (echo.client_main, ["127.0.0.1:9", "--json"]),
        (echo.client_main, ["127.0.0.1:9", "--stats"]),
        (echo.client_main, ["127.0.0.1:9", "--retry-after", "1"]),
    ],
)
def test_what_is_for_datagrams_needs_the_word(capfd, command, arguments):
    with pytest.raises(SystemExit, match="2"):
        command(arguments)
    assert "for --udp" in capfd.readouterr()[1]


def test_an_address_in_use_is_one_line_and_status_1():
    with serving_in_thread() as ((_, port), _):
        said = f"fastframe: cannot listen on 127.0.0.1, port {port}: Address already in use\n"
        assert refused("--udp", "--port", port) == (1, said)
