"""The two fronts for datagrams, on sockets: with both codecs, one datagram a call and many, and on three event loops."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import time

import aiofastnet
import pytest
import uvloop
from vectors import frame

from fastframe import FrameFormat, FrameTooLargeError, MisuseError, _datagram_codec, _datagram_socket, datagram
from fastframe.datagram import BURST, MAX_DATAGRAM

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop, "aiofastnet": aiofastnet.loop_factory()}
WAIT = 30  # seconds until a test fails instead of hanging


@pytest.fixture(autouse=True)
def implementation(codec, burst, monkeypatch):
    monkeypatch.setattr(_datagram_codec, "Decoder", codec.Decoder)
    monkeypatch.setattr(_datagram_codec, "Encoder", codec.Encoder)
    monkeypatch.setattr(datagram, "receive", burst.receive)
    monkeypatch.setattr(datagram, "send", burst.send)


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


@pytest.fixture
def socks():
    """Make plain sockets, which have no codec."""
    with contextlib.ExitStack() as stack:

        def make(family=socket.AF_INET, address=("127.0.0.1", 0)):
            sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sock.settimeout(WAIT)
            sock.bind(address)
            return sock

        yield make


def echo(endpoint, received):
    endpoint.send_many(received)


class Collector:
    """A handler that keeps what comes, and tells when there is enough of it."""

    def __init__(self):
        self.bursts = []
        self._come = asyncio.Event()

    def __call__(self, endpoint, received):
        self.bursts.append(received)
        self._come.set()

    @property
    def payloads(self):
        return [payload for burst in self.bursts for payload, _ in burst]

    async def wait_for(self, count):
        while len(self.payloads) < count:
            self._come.clear()
            await self._come.wait()


# On an event loop


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_payloads_come_back_to_whom_they_came_from(play, socks, host):
    async def main():
        async with await datagram.serve(echo, host, 0) as server:
            (endpoint,) = server.endpoints
            clients = [socks(endpoint._socket.family, (host, 0)) for _ in range(3)]
            for text in (b"hello", b"", b"\0" * 2000, b"x" * (MAX_DATAGRAM - 4)):
                for number, client in enumerate(clients):
                    payload = text and text[:-1] + b"%d" % number
                    client.sendto(frame(payload), endpoint.address)
                    assert await asyncio.to_thread(client.recvfrom, 70_000) == (frame(payload), endpoint.address)
            assert server.counters == {"received": 12, "sent": 12}

    play(main)


def test_a_unix_socket(play, socks, tmp_path):
    path = tmp_path / "socket"

    async def main():
        async with await datagram.serve(echo, path=path) as server:
            assert server.addresses == [f"unix:{path}"]
            client = socks(socket.AF_UNIX, str(tmp_path / "client"))
            client.sendto(frame(b"hello"), str(path))
            assert await asyncio.to_thread(client.recv, 100) == frame(b"hello")
            nameless = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with nameless:
                nameless.sendto(frame(b"who?"), str(path))
            client.sendto(frame(b"still here"), str(path))
            assert await asyncio.to_thread(client.recv, 100) == frame(b"still here")
        assert not path.exists()
        assert server.addresses == []

    play(main)


def test_a_name_with_two_addresses_is_served_on_both(play, socks, monkeypatch):
    def resolve(host, port, **options):
        return [
            (family, socket.SOCK_DGRAM, 17, "", address)
            for family, address in ((socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port)))
        ]

    async def main():
        monkeypatch.setattr(_datagram_socket.socket, "getaddrinfo", resolve)
        async with await datagram.serve(echo, "both.example", 0) as server:
            assert [address.rpartition(":")[0] for address in server.addresses] == ["[::1]", "127.0.0.1"]
            for endpoint in server.endpoints:
                client = socks(endpoint._socket.family, (endpoint.address[0], 0))
                client.sendto(frame(b"x"), endpoint.address)
                assert await asyncio.to_thread(client.recv, 100) == frame(b"x")

    play(main)


def test_what_is_no_frame_is_counted_and_concerns_nobody_else(play, socks):
    async def main():
        collector = Collector()
        async with await datagram.serve(collector, "127.0.0.1", 0) as server:
            client, other = socks(), socks()
            for bad in (b"", b"\xff", b"bye", frame(b"cut")[:-1], frame(b"padded") + b"\0", b"\xff" * 2000):
                client.sendto(bad, server.endpoints[0].address)
                other.sendto(frame(b"good"), server.endpoints[0].address)
            await collector.wait_for(6)
            assert collector.payloads == [b"good"] * 6
            assert server.counters == {"received": 6, "bad": 6}

    play(main)


def test_without_a_format_datagrams_are_bare(play, socks):
    async def main():
        async with await datagram.serve(echo, "127.0.0.1", 0, format=None) as server:
            client = socks()
            for bare in (b"", b"\xff", b"hello"):
                client.sendto(bare, server.endpoints[0].address)
                assert await asyncio.to_thread(client.recv, 100) == bare

    play(main)


def test_a_flood_leaves_others_their_turn(play, socks):
    """A wake-up takes a burst and no more, however many datagrams wait."""

    async def main():
        turns = 0

        async def take_turns():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        collector = Collector()
        async with await datagram.serve(collector, "127.0.0.1", 0) as server:
            client = socks()
            for _ in range(40 * BURST):  # all there before the loop looks
                client.sendto(frame(b"x"), server.endpoints[0].address)
            counting = asyncio.create_task(take_turns())
            await collector.wait_for(40 * BURST)
            counting.cancel()
        assert turns >= 39
        assert max(map(len, collector.bursts)) == BURST

    play(main)


def test_a_handler_that_fails_costs_its_burst(play, socks):
    async def main():
        failed = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.set_result(context["exception"]))

        def fussy(endpoint, received):
            if received[0][0] == b"bad":
                raise ZeroDivisionError
            endpoint.send_many(received)

        async with await datagram.serve(fussy, "127.0.0.1", 0) as server:
            client = socks()
            client.sendto(frame(b"bad"), server.endpoints[0].address)
            assert type(await failed) is ZeroDivisionError
            client.sendto(frame(b"good"), server.endpoints[0].address)
            assert await asyncio.to_thread(client.recv, 100) == frame(b"good")

    play(main)


def test_closing_hands_out_what_has_come(play, socks):
    async def main():
        collector = Collector()
        server = await datagram.serve(collector, "127.0.0.1", 0)
        client = socks()
        for _ in range(3 * BURST):
            client.sendto(frame(b"x"), server.endpoints[0].address)
        await server.close(grace=WAIT)
        assert len(collector.payloads) == 3 * BURST
        await server.close(grace=WAIT)
        with pytest.raises(MisuseError, match=r"close\(\) was called"):
            server.endpoints[0].send(b"x", client.getsockname())

    play(main)


def test_closing_without_grace_hands_out_nothing(play, socks):
    async def main():
        collector = Collector()
        server = await datagram.serve(collector, "127.0.0.1", 0)
        socks().sendto(frame(b"x"), server.endpoints[0].address)
        await server.close()
        assert collector.payloads == []

    play(main)


def talk_to_oneself(endpoint, received):
    """Never have nothing to hand out."""
    endpoint.send_many([(payload, endpoint.address) for payload, _ in received])


async def talking_to_themselves(number):
    sockets = [datagram.bind("127.0.0.1", 0)[0] for _ in range(number)]
    server = await datagram.serve(talk_to_oneself, sockets=sockets)
    for endpoint in server.endpoints:
        endpoint.send(b"x", endpoint.address)
    return server


def test_closing_takes_its_grace_once_however_many_sockets_there_are(play):
    async def main():
        server = await talking_to_themselves(30)
        began = time.monotonic()
        await server.close(grace=0.2)
        assert 0.15 < time.monotonic() - began < 30 * 0.15  # uvloop has milliseconds

    play(main)


def test_closing_can_be_hurried(play):
    async def main():
        server = await talking_to_themselves(2)
        closing = asyncio.create_task(server.close(grace=2 * WAIT))
        await asyncio.sleep(0.01)
        assert not closing.done()
        await server.close()
        await closing
        assert server.addresses == []

    play(main)


def test_closing_ends_even_if_a_handler_fails(play, socks):
    async def main():
        def fail(endpoint, received):
            raise ZeroDivisionError

        server = await datagram.serve(fail, "127.0.0.1", 0)
        socks().sendto(frame(b"x"), server.endpoints[0].address)
        with pytest.raises(ZeroDivisionError):
            await server.close(grace=WAIT)
        assert server.addresses == []

    play(main)


def test_a_reader_that_is_slow_loses_its_own_datagrams_alone(play, socks, tmp_path):
    """A Unix socket that is full refuses; UDP on the loopback interface never does."""

    async def main():
        collector = Collector()
        async with await datagram.serve(collector, path=tmp_path / "socket") as server:
            slow, quick = str(tmp_path / "slow"), str(tmp_path / "quick")
            socks(socket.AF_UNIX, slow)
            reader = socks(socket.AF_UNIX, quick)
            datagrams = [(b"x", slow)] * 5000 + [(b"for you", quick)]
            sent = server.endpoints[0].send_many(datagrams)
            assert reader.recv(100) == frame(b"for you")
            assert 1 < sent < 5001
            assert server.counters == {"sent": sent, "dropped": 5001 - sent}

    play(main)


def test_sockets_that_are_bound_already(play, socks):
    async def main():
        sockets = datagram.bind("127.0.0.1", 0, receive_buffer=100_000)
        assert sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 200_000
        async with await datagram.serve(echo, sockets=sockets) as server:
            client = socks()
            client.sendto(frame(b"x"), server.endpoints[0].address)
            assert await asyncio.to_thread(client.recv, 100) == frame(b"x")

    play(main)


def test_the_file_of_a_socket_that_was_bound_already_is_left_to_whom_bound_it(play, tmp_path):
    path = tmp_path / "socket"

    async def main():
        async with await datagram.serve(echo, sockets=datagram.bind(path=path)):
            pass
        assert path.exists()

    play(main)


# Blocking


@pytest.fixture
def pair():
    """A socket that listens, and one that is connected to it."""
    with datagram.listen("127.0.0.1", 0) as server, datagram.connect(*server.address) as client:
        yield server, client


def test_a_connected_socket_and_its_peer(pair):
    server, client = pair
    assert client.send(b"hello")
    payload, address = server.recv(WAIT)
    assert (payload, address) == (b"hello", client.address)
    assert server.send(payload.upper(), address)
    assert client.recv(WAIT) == (b"HELLO", server.address)
    assert client.peername == server.sockname
    assert client.counters == server.counters == {"sent": 1, "received": 1}


@pytest.mark.parametrize("fmt", [FrameFormat("u32be"), None])
def test_any_buffer_is_sent_as_it_is_then(fmt):
    with datagram.listen("127.0.0.1", 0, format=fmt) as server, datagram.connect(*server.address, format=fmt) as client:
        buffer = bytearray(b"before")
        assert client.send_many([(buffer, None), (memoryview(buffer)[2:], None), (b"bytes", None)]) == 3
        buffer[:] = b"behind"
        assert [server.recv(WAIT)[0] for _ in range(3)] == [b"before", b"fore", b"bytes"]
        client.send_many((buffer, None) for buffer[:] in (b"first.", b"second"))
        assert [server.recv(WAIT)[0] for _ in range(2)] == [b"first.", b"second"]
        for wrong in ("text", 5, memoryview(b"gaps")[::2]):
            with pytest.raises((TypeError, BufferError)):
                client.send(wrong)


def test_one_at_a_time_and_bursts_go_together(pair):
    server, client = pair
    client.send_many([(b"%d" % at, None) for at in range(BURST + 2)])
    assert server.recv(WAIT)[0] == b"0"
    assert [payload for payload, _ in server.recv_many(WAIT)] == [b"%d" % at for at in range(1, BURST)]
    assert [payload for payload, _ in server.recv_many(WAIT)] == [b"%d" % at for at in range(BURST, BURST + 2)]


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_waiting_ends(pair, timeout):
    server, client = pair
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        server.recv(timeout)
    assert timeout <= time.monotonic() - began < WAIT
    client.send(b"x")
    assert server.recv(0 if timeout == 0 else timeout)[0] == b"x"


def test_waiting_ends_though_datagrams_come_that_are_none(pair):
    server, _ = pair
    begun, ended = threading.Event(), threading.Event()

    def flood():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not ended.is_set():
                sock.sendto(b"bad", server.address)
                begun.set()

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        assert begun.wait(WAIT)
        with pytest.raises(TimeoutError):
            server.recv(0.1)
        assert server.counters["bad"] > 0
    finally:
        ended.set()
        flooding.join()


def test_it_waits_as_long_as_it_takes(pair):
    server, client = pair
    timer = threading.Timer(0.05, client.send, [b"late"])
    timer.start()
    assert server.recv()[0] == b"late"
    timer.join()


def test_a_refusal_is_counted_and_a_server_that_starts_late_is_heard(pair):
    server, client = pair
    address = server.address
    server.close()
    client.send(b"anybody?")
    with pytest.raises(TimeoutError):
        client.recv(0.05)
    assert client.counters["ECONNREFUSED"] == 1
    with datagram.listen(*address) as again:
        client.send(b"now?")
        assert again.recv(WAIT)[0] == b"now?"


def test_a_connected_socket_hears_nobody_else(pair, socks):
    _, client = pair
    socks().sendto(frame(b"forged"), client.address)
    with pytest.raises(TimeoutError):
        client.recv(0.05)


def test_unix_sockets(tmp_path):
    path = tmp_path / "socket"
    with datagram.listen(path=path) as server, datagram.connect(path=path) as client:
        assert (server.sockname, client.peername) == (f"unix:{path}", f"unix:{path}")
        client.send(b"hello")
        payload, address = server.recv(WAIT)
        server.send(payload, address)
        assert client.recv(WAIT) == (b"hello", str(path))
        with pytest.raises(OSError, match="in use"):
            datagram.listen(path=path)
    assert not path.exists()


def test_a_unix_socket_that_nobody_serves_any_more_is_taken_over(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(path)
    with datagram.listen(path=path) as server, datagram.connect(path=path) as client:
        client.send(b"x")
        assert server.recv(WAIT)[0] == b"x"


def test_a_truncated_datagram_is_counted(tmp_path):
    path = tmp_path / "socket"
    with datagram.listen(path=path) as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(frame(b"x" * 100_000), str(path))
        client.sendto(frame(b"whole"), str(path))
        assert server.recv(WAIT)[0] == b"whole"
        assert server.counters == {"received": 1, "cut": 1}


def test_a_payload_over_the_limit_is_refused_and_nothing_is_sent(pair):
    server, client = pair
    with pytest.raises(FrameTooLargeError):
        client.send_many([(b"good", None), (b"x" * (MAX_DATAGRAM - 3), None)])
    with pytest.raises(TimeoutError):
        server.recv(0)


def test_after_close(pair):
    _, client = pair
    client.close()
    client.close()
    for call in (functools.partial(client.send, b"x"), client.recv, client.recv_many):
        with pytest.raises(MisuseError, match=r"close\(\) was called"):
            call()


@pytest.mark.parametrize("opener", [datagram.listen, datagram.connect, datagram.bind])
@pytest.mark.parametrize("where", [{}, {"host": "127.0.0.1"}, {"host": "127.0.0.1", "port": 1, "path": "x"}])
def test_an_address_is_needed(opener, where):
    with pytest.raises(ValueError, match="give either"):
        opener(**where)


def test_a_format_that_no_datagram_can_carry_leaves_nothing_open():
    too_long = FrameFormat("u32be", length_adjustment=70_000)
    for opener in (datagram.listen, datagram.connect):
        with pytest.raises(ValueError, match="no frame fits"):
            opener("127.0.0.1", 9, format=too_long)
    with pytest.raises(ValueError, match="no frame fits"):
        asyncio.run(datagram.serve(echo, "127.0.0.1", 0, format=too_long))


def test_an_address_that_cannot_be_had_leaves_nothing_open():
    with datagram.listen("127.0.0.1", 0) as server, pytest.raises(OSError, match="in use"):
        datagram.listen(*server.address)
    with pytest.raises(OSError, match="No such file"):
        datagram.connect(path="/nonexistent/socket")
    with pytest.raises(OSError, match="No such file"):
        datagram.listen(path="/nonexistent/socket")


def test_both_wildcards_can_have_one_port():
    with datagram.listen("::", 0) as six, datagram.listen("0.0.0.0", six.address[1]) as four:
        assert four.address == ("0.0.0.0", six.address[1])


def test_the_kernel_may_hold_more_than_by_default():
    with datagram.listen("127.0.0.1", 0) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        option = socket.SOL_SOCKET, socket.SO_RCVBUF
        assert server._socket.getsockopt(*option) > plain.getsockopt(*option)
