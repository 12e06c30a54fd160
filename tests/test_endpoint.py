"""What a server's connections have in common, whichever way they are handled: deadlines, and an end that destroys nothing.

`T` is a timeout; what is meant to be in time takes half of it. On the loop whose clock leaps that is exact.
"""

import asyncio
import contextlib
import errno
import functools

import pytest
from peers import LOOPS, PEERS, U32, Peer, Recorder, TlsPeer, echo, leaping_loop, leaps, peer_of, play, tls_contexts, until
from vectors import frame

from fastframe import aio
from fastframe.aio import Limits

T = 0.1
PACE = 64 * 1024  # bytes: with so many more of a frame, or taken of the answers, a deadline begins anew


async def relay(stream) -> None:
    """Answer in batches."""
    while True:
        await stream.send_batch(await stream.recv_batch())


class Relay(Recorder):
    def batch_received(self, batch):
        self.send_batch(batch)


WAYS = {"frames": Recorder, "batches": Relay, "stream": echo, "stream-batches": relay}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def run(request):
    return functools.partial(play, request.param)


@pytest.fixture
def leap():
    """Run on the loop whose clock leaps, where the other one would only take its time."""
    return functools.partial(play, leaping_loop)


@pytest.fixture(params=[*(("asyncio", way) for way in WAYS), ("uvloop", "frames"), ("uvloop", "stream")], ids="-".join)
def each(request):
    """Run `main(way)` on both loops."""
    loop, way = request.param
    return lambda main: play(LOOPS[loop], functools.partial(main, WAYS[way]))


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def leap_each(request):
    return lambda main: play(leaping_loop, functools.partial(main, request.param))


@pytest.fixture(params=PEERS.values(), ids=PEERS)
def kind(request):
    return request.param


@contextlib.asynccontextmanager
async def serving(way, kind=Peer, **limits):
    context = tls_contexts()[0] if kind is TlsPeer else None
    async with await aio.serve(way, "127.0.0.1", 0, format=U32, ssl=context, limits=Limits(**limits)) as server:
        yield server


def counted(server) -> dict[str, int]:
    """What the server counted beside connections."""
    return {name: count for name, count in server.counters.items() if count and name != "accepted"}


def now() -> float:
    return asyncio.get_running_loop().time()


async def gone(server, after=None) -> None:
    """Wait until the server has no connection left, which is to be after so many seconds."""
    began = now()
    async with asyncio.timeout(5):
        while server.connections:  # noqa: ASYNC110  nothing else tells
            await asyncio.sleep(T / 20)
    if after is not None:
        assert now() - began > after - T / 10
        assert now() - began < after + T / 10 or not leaps()


async def paused(server) -> None:
    """Wait until the server does not read from its one connection any more."""
    await until(lambda: any(endpoint._reading_paused for endpoint in server._endpoints))


async def send_every(seconds, peer, pieces) -> None:
    for piece in pieces:
        await peer.send(piece)
        await asyncio.sleep(seconds)


def pieces(data, size) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def trickle(peer, data, most=1) -> None:
    """Send little by little, until it cannot be sent any more."""
    with contextlib.suppress(ConnectionError):
        await send_every(T / 4, peer, pieces(data, most))


# A frame that has begun


def test_a_frame_that_trickles_is_cut(each, kind):
    async def main(way):
        async with serving(way, kind, frame_timeout=T) as server, peer_of(server, kind) as peer:
            await until(lambda: server.connections)
            await asyncio.sleep(2 * T)  # silence before the first frame costs nothing
            trickling = asyncio.create_task(trickle(peer, frame(bytes(100))))
            await gone(server, after=T)
            trickling.cancel()
            assert counted(server) == {"frames_overdue": 1}

    each(main)


def test_silence_between_frames_costs_nothing(each):
    async def main(way):
        async with serving(way, frame_timeout=T) as server, peer_of(server) as peer:
            for _ in range(3):
                await peer.send(frame(b"x"))
                assert await peer.recv(5) == frame(b"x")
                await asyncio.sleep(1.5 * T)
            assert counted(server) == {}

    each(main)


@pytest.mark.parametrize("size", [PACE, 300_000])
def test_a_frame_that_brings_64_kib_in_time_goes_on(each, size):
    wire = frame(bytes(6 * size))

    async def main(way):
        async with serving(way, frame_timeout=T) as server, peer_of(server) as peer:
            await send_every(T / 2, peer, pieces(wire, size))
            assert await peer.recv(len(wire)) == wire
            assert counted(server) == {}

    each(main)


def test_a_frame_that_brings_less_is_cut(leap_each):
    async def main(way):
        async with serving(way, frame_timeout=T) as server, peer_of(server) as peer:
            trickling = asyncio.create_task(trickle(peer, frame(bytes(8 * PACE)), PACE // 5))
            await gone(server, after=T)
            trickling.cancel()
            assert counted(server) == {"frames_overdue": 1}

    leap_each(main)


def test_every_frame_has_its_own_time(leap_each):
    """Each piece ends a frame and begins the next: there is always one that has begun, and never for long."""
    wire = frame(b"frame") * 10

    async def main(way):
        async with serving(way, frame_timeout=T) as server, peer_of(server) as peer:
            await send_every(T / 2, peer, [wire[:5], *pieces(wire[5:], 9)])
            assert await peer.recv(len(wire)) == wire
            assert counted(server) == {}

    leap_each(main)


def test_a_frame_has_time_while_the_peer_is_not_read(each, kind):
    """It does not take its answers, so nothing is read from it, and it cannot bring its frame on."""
    wire = frame(bytes(100_000)) * 40

    async def main(way):
        async with serving(way, kind, frame_timeout=T, write_timeout=None) as server, peer_of(server, kind) as peer:
            sending = asyncio.create_task(peer.send(wire))
            await paused(server)
            await asyncio.sleep(3 * T)
            assert await peer.recv(len(wire)) == wire
            await sending
            assert counted(server) == {}

    each(main)


def test_the_deadline_is_back_once_the_peer_is_read_again(leap_each):
    wire = frame(bytes(100_000)) * 40

    async def main(way):
        async with serving(way, frame_timeout=T, write_timeout=None) as server, peer_of(server) as peer:
            sending = asyncio.create_task(peer.send(wire + b"\0"))
            await paused(server)
            await asyncio.sleep(3 * T)
            assert await peer.recv(len(wire)) == wire
            await sending
            await gone(server, after=T)
            assert counted(server) == {"frames_overdue": 1}

    leap_each(main)


def test_a_stream_is_not_cut_while_its_handler_does_something_else(run):
    async def busy(stream):
        payload = await stream.recv()
        await asyncio.sleep(3 * T)
        await stream.send(payload + await stream.recv())

    async def main():
        async with serving(busy, frame_timeout=T) as server, peer_of(server) as peer:
            await peer.send(frame(b"one") + frame(b"two")[:-1])
            await asyncio.sleep(3.5 * T)
            await peer.send(b"o")
            assert await peer.recv(10) == frame(b"onetwo")
            assert counted(server) == {}

    run(main)


class Impatient:
    """A handler that asks again and again, and ends when the connection does."""

    def __init__(self):
        self.asked = 0
        self.error = None

    async def __call__(self, stream):
        while self.asked < 100:
            self.asked += 1
            try:
                await stream.recv(timeout=T / 3)
            except TimeoutError:
                continue
            except OSError as error:
                self.error = error
                return


def test_a_recv_that_is_repeated_does_not_renew_the_deadline(run):
    async def main():
        handler = Impatient()
        async with serving(handler, frame_timeout=T) as server, peer_of(server) as peer:
            await peer.send(b"\0")
            await gone(server, after=T)
            assert counted(server) == {"frames_overdue": 1}
            assert str(handler.error) == "the peer began a frame and did not bring it on for 0.1 s"
            assert handler.asked <= 4

    run(main)


def test_a_connection_that_timed_out_is_no_timeout_of_recv(leap):
    """A handler that tries again after a TimeoutError would try for ever, and the loop would have no turn."""

    async def main():
        handler = Impatient()
        async with serving(handler) as server, peer_of(server):
            await until(lambda: handler.asked)
            (stream,) = server._endpoints
            stream.transport._fatal_error(TimeoutError(errno.ETIMEDOUT, "as a socket says it after keepalive"))
            await gone(server)
            await until(lambda: handler.error)
            assert str(handler.error) == "the peer's machine does not answer any more"

    leap(main)


# Answers that are not taken


def test_a_peer_that_never_reads_is_cut(each, kind):
    async def main(way):
        async with serving(way, kind, write_timeout=T) as server, peer_of(server, kind) as peer:
            sending = asyncio.create_task(peer.send(frame(bytes(100_000)) * 100))
            await paused(server)
            await gone(server, after=T)
            sending.cancel()
            assert counted(server) == {"writes_overdue": 1}

    each(main)


# Silence


def test_a_silent_peer_is_cut_on_demand(each, kind):
    async def main(way):
        async with serving(way, kind, idle_timeout=T) as server, peer_of(server, kind) as peer:
            for _ in range(3):
                await peer.send(frame(b"x"))
                assert await peer.recv(5) == frame(b"x")
                await asyncio.sleep(T / 2)
            await gone(server, after=T / 2)
            assert counted(server) == {"idle": 1}

    each(main)


def test_silence_in_a_frame_is_silence(leap_each):
    async def main(way):
        async with serving(way, idle_timeout=T) as server, peer_of(server) as peer:
            await send_every(T / 2, peer, pieces(frame(b"abcd"), 1))
            assert await peer.recv(8) == frame(b"abcd")
            await peer.send(b"\0")
            await gone(server, after=T)
            assert counted(server) == {"idle": 1}

    leap_each(main)


def test_a_peer_that_is_not_read_is_not_silent(each, kind):
    wire = frame(bytes(100_000)) * 40

    async def main(way):
        async with serving(way, kind, idle_timeout=T, write_timeout=None) as server, peer_of(server, kind) as peer:
            sending = asyncio.create_task(peer.send(wire))
            await paused(server)
            await asyncio.sleep(3 * T)
            assert await peer.recv(len(wire)) == wire
            await sending
            assert counted(server) == {}
            await gone(server, after=T)
            assert counted(server) == {"idle": 1}

    each(main)
