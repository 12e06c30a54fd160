"""Echo over datagrams: what is answered and what is not, and the server as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections import Counter
from pathlib import Path

import aiofastnet
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from serving import poll, refused, serving
from vectors import frame

from fastframe import FrameFormat, datagram
from fastframe.datagram import MAX_DATAGRAM
from fastframe.servers import arguments, echo, echo_udp
from fastframe.servers.echo_udp import HEAD_LENGTH, PING, PONG, Echo

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop, "aiofastnet": aiofastnet.loop_factory()}
WAIT = 30  # seconds until a test fails instead of hanging
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


# As a user runs it


@contextlib.contextmanager
def talking_to(address):
    """A client's socket for an address as the server prints it, with frames and their checks."""
    with datagram.connect(**arguments.address(address.removeprefix("udp "))) as sock:
        yield sock


def is_answered(sock, text=b"hello") -> bool:
    sock.send(PING + ID + text)
    return sock.recv(WAIT)[0] == PONG + ID + text


def test_plain_datagrams_and_requests_are_answered_and_counted():
    with serving("--udp", "--stats") as server:
        with talking_to(server.address) as client, asking(client._socket.getpeername()) as tool:
            assert is_answered(client)
            for plain in (b"hello\n", b"", b"\xff", b"\xff" * 2000):
                tool.send(plain)
                assert tool.recv(4000) == plain
        status, stdout, stderr = server.end()
    assert (status, stdout, json.loads(stderr)) == (0, "", {"received": 5, "sent": 5, "plain": 4})


@pytest.mark.parametrize("workers", [1, 2])
def test_several_addresses_and_workers(tmp_path, workers):
    path = tmp_path / "socket"
    where = ("--host", "127.0.0.1", "--host", "::1", "--unix", path, "--unix-mode", "600")
    with serving("--udp", *where, "--workers", workers, "--metrics-port", 0, listeners=3) as server:
        assert path.stat().st_mode & 0o777 == 0o600
        for address in server.addresses:
            with talking_to(address) as client:
                assert all(is_answered(client, b"%d" % number) for number in range(20))
        poll(lambda: server.counted("fastframe_datagrams_sent_total") == 60)
        assert server.counted("fastframe_datagrams_received_total") == 60
        assert server.counted("fastframe_datagrams_bad_total") == 0
        assert server.scrape("/readyz")[0] == 200
        assert server.end() == (0, "", "")
    assert not path.exists()


def test_a_worker_that_dies_takes_no_datagram_with_it():
    with serving("--udp", "--workers", "2", "--log-level", "info") as server, talking_to(server.address) as client:
        pids = server.workers()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for _ in range(50):
            client.send(PING + ID)
        os.kill(pids[0], signal.SIGKILL)
        server.logged("event=started")
        os.kill(pids[1], signal.SIGKILL)
        assert [client.recv(WAIT)[0] for _ in range(50)] == [PONG + ID] * 50
        assert server.end()[0] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_came_before_the_end_is_answered(workers):
    with serving("--udp", "--workers", workers) as server, talking_to(server.address) as client:
        pids = server.workers() or [server.process.pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for _ in range(100):
            client.send(PING + ID)
        server.process.terminate()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert [client.recv(WAIT)[0] for _ in range(100)] == [PONG + ID] * 100
        assert server.ended() == (0, "", "")


def test_what_is_not_answered_is_logged_once_a_beat():
    with serving("--udp", "--log-level", "info") as server, talking_to(server.address) as client:
        client.send(PONG + ID)
        assert "datagrams_answers=1" in server.logged("level=info", 'event="datagrams not answered"')


def test_a_server_that_is_hurried_prints_its_counters_once(capsys):
    async def main():
        server = echo_udp.Server(await datagram.serve(Echo(U32), "127.0.0.1", 0), prints_counters=True)
        assert (server.connections, server.accepting) == (0, True)
        await asyncio.gather(server.close(grace=WAIT), server.close())
        assert not server.accepting

    asyncio.run(main())
    assert capsys.readouterr().err == "{}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--format", "u8,strip=0"], 2, "would change the header"),
        (["--host", "0.0.0.0"], 2, "authenticates them: say --insecure"),
        (["--format", "u64be,adjust=70000,max=100KiB"], 2, "no frame fits"),
        (["--host", "192.0.2.1", "--insecure"], 1, "cannot listen on 192.0.2.1"),
    ],
)
def test_a_server_that_cannot_start_says_why(arguments, status, said):
    ended, stderr = refused("--udp", *arguments)
    assert ended == status
    assert said in stderr


@pytest.mark.parametrize(
    "option",
    [
        ["--tls-cert", "file"],
        ["--tls-key", "file"],
        ["--tls-client-ca", "file"],
        ["--backlog", "4096"],
        ["--max-connections", "none"],
        ["--frame-timeout", "30"],
    ],
)
def test_what_is_said_of_connections_is_refused(capfd, option):
    with pytest.raises(SystemExit, match="2"):
        echo.serve_main(["--udp", *option])
    assert f"no connections: --udp leaves no use for {option[0]}\n" in capfd.readouterr()[1]


@pytest.mark.parametrize("where", [["--port", "32768"], ["--unix", "x"]])
def test_plain_where_nobody_would_get_an_answer_is_refused(capfd, where):
    with pytest.raises(SystemExit, match="2"):
        echo.serve_main(["--udp", "--plain", *where])
    assert "UDP ports below 32768" in capfd.readouterr()[1]


@pytest.mark.parametrize("option", ["--plain", "--no-plain", "--stats"])
def test_what_is_for_datagrams_needs_the_word(capfd, option):
    with pytest.raises(SystemExit, match="2"):
        echo.serve_main([option])
    assert "for --udp" in capfd.readouterr()[1]


def test_an_address_in_use_is_one_line_and_status_1():
    with serving("--udp") as server:
        port = server.address.rpartition(":")[2]
        said = f"fastframe: cannot listen on 127.0.0.1, port {port}: Address already in use\n"
        assert refused("--udp", "--port", port) == (1, said)
