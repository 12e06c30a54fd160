"""The server: whom it lets in, what their sockets are born with, what it counts, and how it ends."""

import asyncio
import contextlib
import errno
import functools
import gc
import os
import socket
import weakref

import pytest
from peers import (
    ALL_LOOPS,
    LOOPS,
    PEERS,
    U32,
    Peer,
    Recorder,
    TlsPeer,
    counted,
    echo,
    leaping_loop,
    leaps,
    now,
    peer_of,
    play,
    serving,
    until,
    where,
)
from vectors import frame

from fastframe import EndOfStreamError, aio
from fastframe._server import source_of
from fastframe.aio import Limits

T = 0.1
WAYS = {"frames": Recorder, "stream": echo}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def run(request):
    return functools.partial(play, request.param)


@pytest.fixture
def leap():
    """Run on the loop whose clock leaps, where the other one would only take its time."""
    return functools.partial(play, leaping_loop)


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def way(request):
    return request.param


@pytest.fixture(params=PEERS.values(), ids=PEERS)
def kind(request):
    return request.param


def endpoint_of(server):
    """The server's side of its only connection, once it stands."""
    return next((endpoint for endpoint in server._endpoints if endpoint._transport is not None), None)


async def answers(peer, payload=b"x") -> bool:
    await peer.send(frame(payload))
    return await peer.recv(4 + len(payload)) == frame(payload)


# What an accepted socket is born with


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
@pytest.mark.parametrize("given", [False, True], ids=["bound", "given"])
def test_sockets_are_born_with_what_the_limits_say(loop, given):
    async def main():
        sockets = {"sockets": aio.bind("127.0.0.1", 0)} if given else {"host": "127.0.0.1", "port": 0}
        limits = Limits(keepalive=33, unsent=55_000)
        async with await aio.serve(Recorder, **sockets, limits=limits) as server, peer_of(server):
            await until(lambda: endpoint_of(server))
            option = endpoint_of(server).transport.get_extra_info("socket").getsockopt
            assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 11
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert option(socket.IPPROTO_TCP, 25) == 55_000  # TCP_NOTSENT_LOWAT

    play(loop, main)


def test_without_limits_sockets_are_as_the_kernel_has_them(leap):
    async def main():
        async with serving(Recorder, keepalive=None, unsent=None) as server, peer_of(server):
            await until(lambda: endpoint_of(server))
            option = endpoint_of(server).transport.get_extra_info("socket").getsockopt
            assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
            assert option(socket.IPPROTO_TCP, 25) in (0, 0xFFFFFFFF, -1)

    leap(main)


@pytest.mark.parametrize("keepalive", [1, 2, 32767])
def test_keepalive_asks_three_times(leap, keepalive):
    async def main():
        async with serving(Recorder, keepalive=keepalive) as server, peer_of(server):
            await until(lambda: endpoint_of(server))
            option = endpoint_of(server).transport.get_extra_info("socket").getsockopt
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == keepalive
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == max(1, keepalive // 3)

    leap(main)


def test_a_server_that_cannot_begin_leaves_no_socket_open(leap):
    async def main():
        with pytest.raises(OSError, match="Invalid argument"):
            await aio.serve(Recorder, "127.0.0.1", 0, limits=Limits(keepalive=40_000))  # Linux allows 32767
        gc.collect()  # a socket that is left would warn

    leap(main)


# Whom it lets in


def test_from_the_last_place_on_others_wait_until_one_leaves(run, kind):
    async def main():
        async with serving(echo, kind, max_connections=2) as server, contextlib.AsyncExitStack() as stack:
            inside = [await stack.enter_async_context(peer_of(server, kind)) for _ in range(2)]
            assert all([await answers(peer) for peer in inside])
            waiting = asyncio.create_task(kind.connect(server))
            for _ in range(20):
                await asyncio.sleep(0)
            assert (server.connections, server.accepting) == (2, False)
            inside[0].close()
            late = await waiting
            assert await answers(late)
            assert (server.connections, server.counters["accepted"]) == (2, 3)
            late.close()

    run(main)


def test_a_place_is_taken_during_the_handshake_too(leap):
    async def main():
        async with serving(Recorder, TlsPeer, max_connections=1, handshake_timeout=T) as server:
            with socket.create_connection(where(server)):  # of which no handshake comes
                await until(lambda: server.connections)
                assert not server.accepting
                began = now()
                async with peer_of(server, TlsPeer) as peer:
                    assert now() - began == pytest.approx(T)
                    assert await answers(peer)
            assert counted(server) == {"handshakes_failed": 1}

    leap(main)


def test_a_connection_that_a_handler_detached_leaves_its_place(leap):
    async def main():
        detached = []

        async def handler(stream):
            detached.append(stream.detach()[0])

        async with serving(handler, max_connections=1) as server:
            async with peer_of(server), peer_of(server):
                await until(lambda: len(detached) == 2)
                assert (server.connections, server.accepting) == (0, True)
            for transport in detached:
                transport.abort()

    leap(main)


def test_another_protocol_reads_much_at_once_of_a_detached_tls_transport(leap):
    reads = []

    class Counting:
        def __init__(self, session):
            self._session = session

        def read(self, *arguments):
            reads.append(arguments)
            return self._session.read(*arguments)

        def __getattr__(self, name):
            return getattr(self._session, name)

    class Other(asyncio.Protocol):
        received = 0

        def data_received(self, data):
            self.received += len(data)

    async def main():
        other = Other()

        async def handler(stream):
            transport, tail = stream.detach()
            other.received = len(tail)
            transport._ssl_protocol._sslobj = Counting(transport._ssl_protocol._sslobj)
            transport.set_protocol(other)
            transport.resume_reading()
            await until(lambda: other.received == 1 << 20)
            transport.abort()

        async with serving(handler, TlsPeer) as server, peer_of(server, TlsPeer) as peer:
            await peer.send(bytes(1 << 20))
            await until(lambda: other.received == 1 << 20)
            assert 0 < len(reads) < 1000

    leap(main)


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
def test_what_another_protocol_does_with_a_detached_transport_is_not_the_streams(loop):
    class Other(asyncio.Protocol):
        lost = False

        def connection_lost(self, exc):
            self.lost = True

    async def main():
        other = Other()

        async def handler(stream):
            transport, _ = stream.detach()
            transport.set_write_buffer_limits(1, 0)
            transport.write(bytes(16 << 20))  # the writer is paused, which is told to the stream
            transport.set_protocol(other)
            transport.resume_reading()

        async with serving(handler, write_timeout=T) as server, peer_of(server) as peer:
            assert await peer.recv(16 << 20) == bytes(16 << 20)
            await peer.end()
            await until(lambda: other.lost)

    play(loop, main)


def test_each_source_has_its_share(run, kind):
    async def main():
        async with serving(echo, kind, max_connections_per_source=2) as server, contextlib.AsyncExitStack() as stack:
            first = [await stack.enter_async_context(peer_of(server, kind, source="127.0.0.1")) for _ in range(2)]
            with pytest.raises(ConnectionResetError):
                await refused(await kind.connect(server, source="127.0.0.1"))
            other = await stack.enter_async_context(peer_of(server, kind, source="127.0.0.2"))
            assert all([await answers(peer) for peer in (*first, other)])
            assert counted(server) == {"refused": 1}
            first[0].close()
            await until(lambda: server.connections == 2)
            assert await answers(await stack.enter_async_context(peer_of(server, kind, source="127.0.0.1")))
            assert server.counters["accepted"] == 4

    async def refused(peer):
        try:
            await peer.recv()
        finally:
            peer.close()

    run(main)


@pytest.mark.parametrize("end", ["end", "bad frame", "reset"])
@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
def test_a_connection_that_is_over_is_freed_at_once(loop, way, kind, end):
    """Not when garbage is collected, which a server with many objects does rarely."""
    if kind is TlsPeer and loop is ALL_LOOPS["uvloop"]:
        pytest.skip("uvloop's own TLS holds on to the protocol")
    seen = []

    class Seen(Recorder):
        def connected(self):
            seen.append(weakref.ref(self))

    async def handler(stream):
        seen.append(weakref.ref(stream))
        await way(stream)

    async def main():
        async with serving(Seen if way is Recorder else handler, kind) as server:
            async with peer_of(server, kind) as peer:
                assert await answers(peer)
                if end == "end":
                    await peer.end()
                    assert await peer.recv() == b""
                elif end == "bad frame":
                    await peer.send(b"\xff" * 4)
                    await peer.fate()
                else:
                    peer.reset()
            await until(lambda: not server.connections)
            await asyncio.sleep(0.01)
            assert [reference() for reference in seen] == [None]

    gc.disable()
    try:
        play(loop, main)
    finally:
        gc.enable()


def test_what_tls_has_encrypted_waits_by_the_same_marks(leap):
    """asyncio has two buffers then, one before TLS and one behind it, and each of them has marks."""

    async def main():
        async with serving(echo, TlsPeer, high_water=8192, low_water=1024) as server, peer_of(server, TlsPeer) as peer:
            assert await answers(peer)
            transport = endpoint_of(server).transport
            for buffer in (transport, transport._ssl_protocol._transport):
                assert buffer.get_write_buffer_limits() == (1024, 8192)

    leap(main)


def test_sources_are_forgotten_when_they_leave(leap):
    async def main():
        async with serving(echo, max_connections_per_source=1) as server:
            for number in range(1, 20):
                async with peer_of(server, source=f"127.0.0.{number}") as peer:
                    assert await answers(peer)
            await until(lambda: not server.connections)
            assert (server._sources, server._endpoints) == ({}, {})

    leap(main)


@pytest.mark.parametrize(
    ("family", "address", "source"),
    [
        (socket.AF_INET, ("192.0.2.7", 1234), "192.0.2.7"),
        (socket.AF_INET6, ("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (socket.AF_INET6, ("2001:db8:1:2:ffff:4:5:6", 2, 0, 0), "2001:db8:1:2::/64"),
        (socket.AF_INET6, ("2001:db8:1:3::1", 1, 0, 0), "2001:db8:1:3::/64"),
        (socket.AF_INET6, ("fe80::1%lo", 1, 0, 1), "fe80::/64"),
        (socket.AF_INET6, ("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (socket.AF_UNIX, "", "unix"),
    ],
)
def test_a_source_is_an_address_or_a_network_that_one_peer_may_have(family, address, source):
    assert source_of(family, address) == source


def test_a_server_of_both_families_tells_ipv4_sources_apart(leap):
    async def main():
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
            port = listener.getsockname()[1]
            limits = Limits(max_connections_per_source=1)
            async with await aio.serve(echo, sockets=[listener], format=U32, limits=limits) as server:
                with contextlib.ExitStack() as stack:
                    for source in ("127.0.0.1", "127.0.0.2"):
                        peer = Peer(
                            stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=(source, 0)))
                        )
                        assert await answers(peer)
                    assert counted(server) == {}

    leap(main)


def test_connections_of_a_unix_socket_count(run, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        async with await aio.serve(echo, path=path, format=U32, limits=Limits(max_connections=1)) as server:
            with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
                first.connect(path)
                assert await answers(Peer(first))
                second.connect(path)
                await until(lambda: not server.accepting)
                first.close()
                assert await answers(Peer(second))

    run(main)


def test_a_protocol_that_cannot_be_made_costs_its_own_connection_alone(run):
    class Picky(Recorder):
        made = 0

        def __init__(self, *arguments):
            super().__init__(*arguments)
            Picky.made += 1
            if Picky.made == 1:
                raise ZeroDivisionError

    async def main():
        async with serving(Picky) as server:
            async with peer_of(server) as first:
                assert await first.fate() in ("end", "reset")
            async with peer_of(server) as second:
                assert await answers(second)
                assert server.connections == 1

    run(main, expect_complaints=["Exception in callback"])


# Handshakes


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
@pytest.mark.parametrize("sent", ["nothing", "a trickle"])
def test_a_handshake_has_an_absolute_deadline(loop, sent):
    async def main():
        async with serving(Recorder, TlsPeer, handshake_timeout=T) as server:
            with socket.create_connection(where(server)) as raw:
                peer, began = Peer(raw), now()
                await until(lambda: server.connections)
                for byte in b"\x16\x03\x01\x02\x00" + bytes(60) if sent == "a trickle" else b"":
                    if not server.connections:
                        break
                    with contextlib.suppress(OSError):
                        await peer.send(bytes([byte]))
                    await asyncio.sleep(T / 5)
                await peer.fate()
                assert now() - began < 4 * T or not leaps()
                await until(lambda: not server.connections)
            assert counted(server) == {"handshakes_failed": 1}
            async with peer_of(server, TlsPeer) as peer:
                assert await answers(peer)

    play(loop, main)


def complaints_about_handshakes(loop):
    """What the loop may say of a handshake that fails: aiofastnet 1.2 takes that for a fault of its user's."""
    return None if loop is ALL_LOOPS["aiofastnet"] else ()


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n", frame(b"no TLS"), b"\xff" * 1000, b"\x16\x03\x01\x02\x00"])
def test_a_handshake_that_fails_is_counted_and_nothing_else(loop, sent):
    async def main():
        async with serving(Recorder, TlsPeer) as server:
            for how in ("end", "reset"):
                peer = await Peer.connect(server)
                await peer.send(sent)
                if how == "end":
                    await peer.end()
                    with contextlib.suppress(ConnectionResetError):
                        await peer.recv()
                else:
                    peer.reset()
                await until(lambda: server.counters["accepted"] and not server.connections)
                peer.close()
            await until(lambda: server.counters["accepted"] == 2)
            assert counted(server) == {"handshakes_failed": 2}

    play(loop, main, complaints_about_handshakes(loop))


# Connections that are gone already


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
def test_connections_that_are_reset_at_once_leave_nothing(loop, way):
    async def main():
        async with serving(way) as server:
            for sent in (b"", frame(b"x"), frame(b"x")[:3]) * 20:
                peer = await Peer.connect(server)
                await peer.send(sent)
                peer.reset()
            await until(lambda: server.counters["accepted"] == 60 and not server.connections)
            await until(lambda: not server._tasks and not server._openers)
            assert server._sources == {}
            assert counted(server) == {}

    play(loop, main)


# The end of a server


@contextlib.asynccontextmanager
async def closing(server, grace=20):
    """Close the server meanwhile; it has to have ended by then."""
    task = asyncio.create_task(server.close(grace))
    await asyncio.sleep(0)
    yield task
    async with asyncio.timeout(5):
        await task
    assert (server.connections, server.addresses, server.accepting) == (0, [], False)


def test_idle_connections_end_cleanly_and_at_once(run, way, kind):
    async def main():
        async with serving(way, kind) as server, peer_of(server, kind) as peer:
            assert await answers(peer)
            async with closing(server):
                assert await peer.fate() == "end"
                await peer.end()
            assert counted(server) == {}

    run(main)


def test_what_had_arrived_is_answered(run, way, kind):
    wire = b"".join(frame(b"%d" % number) for number in range(2000))

    async def main():
        async with serving(way, kind, frames_per_turn=10) as server, peer_of(server, kind) as peer:
            assert await answers(peer)
            await peer.send(wire)
            async with closing(server):
                assert await peer.recv() == wire
                await peer.end()
            assert counted(server) == {}

    run(main)


def test_what_had_arrived_is_answered_to_a_peer_that_is_slow_to_take_it(run, way):
    wire = frame(bytes(100_000)) * 20

    async def main():
        async with serving(way) as server, peer_of(server) as peer:
            sending = asyncio.create_task(peer.send(wire))
            await until(lambda: endpoint_of(server) and endpoint_of(server)._reading_paused)
            async with closing(server):
                await asyncio.sleep(T)
                assert (await peer.recv())[:1_000_000] == wire[:1_000_000]
                await peer.end()
            await asyncio.gather(sending, return_exceptions=True)

    run(main)


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
@pytest.mark.parametrize("more", [0, 4])
def test_what_arrived_while_the_peer_was_not_read_is_answered(loop, kind, more):
    class Long(Recorder):
        def frames_received(self, frames):
            self.send_many([bytes(1 << 20)] * len(frames))

    async def main():
        async with serving(Long, kind) as server, peer_of(server, kind, receive_buffer=1 << 16) as peer:
            sent = more
            while not (endpoint_of(server) and endpoint_of(server)._reading_paused):
                await peer.send(frame(b"x"))
                sent += 1
                await asyncio.sleep(T / 10)
            await peer.send(frame(b"x") * more)
            await asyncio.sleep(T)
            closing = asyncio.create_task(server.close(5))
            await asyncio.sleep(T)
            assert len(await peer.recv()) == sent * (4 + (1 << 20))
            await peer.end()
            await closing
            assert counted(server) == {}

    play(loop, main)


def test_a_connection_that_was_accepted_only_now_is_answered_too(run, way):
    async def main():
        async with serving(way) as server:
            with socket.create_connection(where(server)) as raw:
                raw.sendall(frame(b"just in time"))
                await until(lambda: server.counters["accepted"])
                async with closing(server):
                    assert await Peer(raw).recv() == frame(b"just in time")
                    raw.shutdown(socket.SHUT_WR)

    run(main)


def test_a_frame_that_has_begun_is_waited_for(run, way, kind):
    async def main():
        async with serving(way, kind) as server, peer_of(server, kind) as peer:
            await peer.send(frame(b"begun")[:6])
            await until(lambda: endpoint_of(server) and endpoint_of(server)._decoder.pending)
            async with closing(server) as task:
                await asyncio.sleep(T)
                assert not task.done()
                await peer.send(frame(b"begun")[6:])
                assert await peer.recv() == frame(b"begun")
                await peer.end()
            assert counted(server) == {}

    run(main)


def test_a_frame_that_never_ends_is_cut_after_the_grace(run, way, kind):
    async def main():
        async with serving(way, kind) as server, peer_of(server, kind) as peer:
            await peer.send(frame(b"begun")[:6])
            await until(lambda: endpoint_of(server) and endpoint_of(server)._decoder.pending)
            began = now()
            async with closing(server, grace=T):
                with contextlib.suppress(OSError):  # through TLS it is no end
                    await peer.recv()
            assert now() - began == pytest.approx(T, abs=T / 10) or not leaps()
            assert counted(server) == {"cut": 1}

    run(main)


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
def test_a_peer_that_resets_while_the_server_closes_harms_nobody(loop, way):
    """The loop does not know it yet, and the kernel refuses to end one direction of a connection that is no more."""

    async def main():
        async with serving(way) as server, peer_of(server) as other:
            peers = [await Peer.connect(server) for _ in range(3)]
            assert all([await answers(peer) for peer in (*peers, other)])
            fresh = await Peer.connect(server)
            await until(lambda: server.counters["accepted"] == 5)
            for peer in (*peers, fresh):
                peer.reset()
            async with closing(server):
                assert await other.fate() == "end"
                await other.end()
            assert counted(server) == {}

    play(loop, main)


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
def test_an_own_end_after_the_peers_reset_is_no_error(loop, way):
    async def main():
        async with serving(way) as server:
            peer = await Peer.connect(server)
            assert await answers(peer)
            peer.reset()
            endpoint_of(server).send_eof()
            await until(lambda: not server.connections)

    play(loop, main)


def test_a_second_close_hurries_the_first(run, way, kind):
    async def main():
        async with serving(way, kind) as server, peer_of(server, kind) as peer:
            await peer.send(frame(b"begun")[:6])
            await until(lambda: endpoint_of(server) and endpoint_of(server)._decoder.pending)
            began = now()
            async with closing(server):
                await asyncio.sleep(T)
                await server.close()
            assert now() - began < 2 * T or not leaps()
            assert counted(server) == {"cut": 1}
            await server.close(grace=20)  # safe to repeat

    run(main)


def test_a_peer_that_does_not_hang_up_is_cut_after_a_moment(run, way, kind):
    async def main():
        async with serving(way, kind, linger_timeout=T) as server, peer_of(server, kind) as peer:
            assert await answers(peer)
            began = now()
            async with closing(server):
                assert await peer.fate() == "end"
            took = now() - began
            if kind is Peer and leaps():
                assert took == pytest.approx(T, abs=T / 10)
            assert counted(server) == {}

    run(main)


def test_recv_tells_a_handler_that_the_server_closes(run, kind):
    told = []

    async def handler(stream):
        with contextlib.suppress(EndOfStreamError):
            while True:
                told.append(await stream.recv())
        told.append("end")
        await stream.send(b"goodbye")

    async def main():
        async with serving(handler, kind) as server, peer_of(server, kind) as peer:
            await peer.send(frame(b"first") + frame(b"second"))
            await until(lambda: told)
            async with closing(server):
                assert await peer.recv() == frame(b"goodbye")
                await peer.end()

    run(main)
    assert told == [b"first", b"second", "end"]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("method", ["recv", "recv_batch"])
def test_a_message_of_several_frames_is_waited_for(run, kind, method, waits):
    told = []

    async def handler(stream):
        stream.in_message = True
        while len(told) < 2:
            told.extend(await stream.recv() if method == "recv" else b"".join(await stream.recv_batch()))
        if waits:
            asyncio.get_running_loop().call_later(T / 10, setattr, stream, "in_message", False)
        else:
            stream.in_message = False
        with pytest.raises(EndOfStreamError):
            await getattr(stream, method)()
        await stream.send(b"goodbye")

    async def main():
        async with serving(handler, kind) as server, peer_of(server, kind) as peer:
            await peer.send(frame(b"1"))
            await until(lambda: told)
            async with closing(server):
                await asyncio.sleep(T)
                await peer.send(frame(b"2"))
                assert await peer.recv() == frame(b"goodbye")
                await peer.end()

    run(main)
    assert bytes(told) == b"12"


@pytest.mark.parametrize("grace", [0, T])
def test_a_handler_may_close_the_server(run, grace):
    closed = []

    async def main():
        async def handler(stream):
            await stream.recv()
            await server.close(grace)
            closed.append(True)

        async with serving(handler) as server, peer_of(server) as peer:
            await peer.send(frame(b"stop"))
            assert await peer.fate() in ("end", "reset")
            await until(lambda: closed)
            assert not server.connections

    run(main)


def test_a_handler_that_works_is_waited_for_and_cancelled_after_the_grace(leap):
    ends = []

    async def handler(stream):
        try:
            await asyncio.sleep(float(await stream.recv()))
            ends.append("done")
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def main():
        async with serving(handler) as server, peer_of(server) as short, peer_of(server) as long:
            await short.send(frame(b"0.05"))
            await long.send(frame(b"1000"))
            await until(lambda: server.connections == 2)
            async with closing(server, grace=3 * T):
                await short.recv()
                await short.end()
            assert counted(server) == {"cut": 1}

    leap(main)
    assert ends == ["done", "cancelled"]


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
@pytest.mark.parametrize("grace", [0, 20])
def test_connections_in_their_handshake_end_with_the_server(loop, grace):
    async def main():
        async with serving(Recorder, TlsPeer) as server:
            with socket.create_connection(where(server)) as raw, socket.create_connection(where(server)) as other:
                other.sendall(b"\x16\x03\x01")
                await until(lambda: server.connections == 2)
                began = now()
                async with closing(server, grace):
                    for each in (raw, other):
                        assert await Peer(each).fate() in ("end", "reset")
                assert now() - began < T or not leaps()

    play(loop, main, complaints_about_handshakes(loop))


def test_a_connection_in_its_handshake_counts_once(run):
    async def main():
        for grace in (0, 20):
            async with serving(Recorder, TlsPeer) as server:
                with socket.create_connection(where(server)):
                    await until(lambda: server.connections)
                    await server.close(grace)
                assert counted(server) == {"cut": 1}

    run(main)


def test_after_close_nobody_can_connect_and_the_backlog_is_gone(run):
    async def main():
        server = await aio.serve(echo, "127.0.0.1", 0, limits=Limits(max_connections=1))
        address = where(server)
        async with peer_of(server), peer_of(server) as waiting:
            await until(lambda: not server.accepting)
            await server.close()
            assert await waiting.fate() == "reset"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)

    run(main)


def test_a_socket_file_that_cannot_be_removed_keeps_no_connection(leap, tmp_path, monkeypatch):
    """A server that gave up its privileges may not write there any more."""
    path = str(tmp_path / "socket")

    def unlink(path):
        raise PermissionError(errno.EACCES, "not any more", path)

    async def main():
        server = await aio.serve(echo, path=path)
        async with aio.connect(path=path) as stream:
            await stream.send(b"x")
            assert await stream.recv() == b"x"
            with monkeypatch.context() as patched:
                patched.setattr(os, "unlink", unlink)
                await server.close()
            assert not server.connections

    leap(main)


def test_a_socket_file_is_removed_unless_it_is_anothers(run, tmp_path):
    path = tmp_path / "socket"

    async def main():
        server = await aio.serve(echo, path=path)
        await server.close()
        assert not path.exists()
        server = await aio.serve(echo, path=path)
        path.unlink()
        (other,) = aio.bind(path=path)
        await server.close()
        assert path.exists()
        other.close()

    run(main)


# Counting


def test_every_counter_is_there_from_the_beginning(leap):
    async def main():
        async with serving(echo) as server:
            assert set(server.counters.values()) == {0}
            assert all(f'"{name}"' in aio.FrameServer.__doc__ for name in server.counters)

    leap(main)


def test_descriptors_that_run_out_are_one_line(caplog, leap, monkeypatch):
    accept = socket.socket.accept

    def out_of_descriptors(listener):
        if listener.troubles:
            listener.troubles -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(listener)

    class Listener(socket.socket):
        troubles = 3
        accept = out_of_descriptors

    async def main():
        listener = Listener()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with await aio.serve(echo, sockets=[listener], format=U32) as server, peer_of(server) as peer:
            assert await answers(peer)

    leap(main)
    assert caplog.messages == ["no connection can be accepted for now: Too many open files"]
