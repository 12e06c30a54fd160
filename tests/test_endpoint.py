"""What a server's connections have in common, whichever way they are handled: deadlines, and an end that destroys nothing.

`T` is a timeout. What is meant to be in time takes half of it, on the loop whose clock leaps: with a real one it may be late.
"""

import asyncio
import contextlib
import errno
import functools
import gc
import socket
import threading
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
)
from vectors import frame

from fastframe import FrameError, FrameFormat, _kernel, aio
from fastframe.aio import Limits

T = 0.1
PACE = 64 * 1024  # bytes: with so many more of a frame, or taken of the answers, a deadline begins anew


async def relay(stream) -> None:
    """Answer in batches."""
    while True:
        try:
            await stream.send_batch(await stream.recv_batch())
        except FrameError as error:
            await stream.send_many(error.frames)
            raise


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


async def gone(server, after=None) -> None:
    """Wait until the server has no connection left, which is to be after so many seconds if this clock is exact."""
    began = now()
    async with asyncio.timeout(5):
        while server.connections:  # noqa: ASYNC110  nothing else tells
            await asyncio.sleep(T / 20)
    if after is not None and leaps():
        assert now() - began == pytest.approx(after, abs=T / 10)


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


def test_silence_between_frames_costs_nothing(leap_each):
    async def main(way):
        async with serving(way, frame_timeout=T) as server, peer_of(server) as peer:
            for _ in range(3):
                await peer.send(frame(b"x"))
                assert await peer.recv(5) == frame(b"x")
                await asyncio.sleep(1.5 * T)
            assert counted(server) == {}

    leap_each(main)


@pytest.mark.parametrize("size", [PACE, 300_000])
def test_a_frame_that_brings_64_kib_in_time_goes_on(leap_each, size):
    wire = frame(bytes(6 * size))

    async def main(way):
        async with serving(way, frame_timeout=T) as server, peer_of(server) as peer:
            await send_every(T / 2, peer, pieces(wire, size))
            assert await peer.recv(len(wire)) == wire
            assert counted(server) == {}

    leap_each(main)


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


def test_a_frame_has_time_while_the_peer_is_not_read(leap_each, kind):
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

    leap_each(main)


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


def test_a_stream_is_not_cut_while_its_handler_does_something_else(leap):
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

    leap(main)


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


def test_a_recv_that_is_repeated_does_not_renew_the_deadline(leap):
    async def main():
        handler = Impatient()
        async with serving(handler, frame_timeout=T) as server, peer_of(server) as peer:
            await peer.send(b"\0")
            await gone(server, after=T)
            await until(lambda: handler.error)
            assert counted(server) == {"frames_overdue": 1}
            assert str(handler.error) == "the peer began a frame and did not bring it on for 0.1 s"
            assert handler.asked <= 4

    leap(main)


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


@pytest.mark.parametrize("tail", [b"", b"abc", b"\0\0"])
def test_what_is_held_when_the_format_changes_begins_a_frame_then(leap, tail):
    async def upgrading(stream):
        with contextlib.suppress(TimeoutError):
            await stream.recv(timeout=0.7 * T)
        stream.change_format(FrameFormat("u8") if tail == b"abc" else U32)
        await stream.recv()

    async def main():
        async with serving(upgrading, frame_timeout=T) as server, peer_of(server) as peer:
            await peer.send(tail)
            if tail:
                await gone(server, after=1.7 * T)
                assert counted(server) == {"frames_overdue": 1}
            else:
                await asyncio.sleep(3 * T)
                assert server.connections == 1

    leap(main)


@pytest.mark.parametrize("size", [PACE // 2, 100 * PACE])
def test_what_came_between_two_recvs_counts(leap, size):
    """While a handler is busy its peer may bring its frame on, and then it may not, because nobody reads."""

    async def busy(stream):
        with contextlib.suppress(TimeoutError):
            await stream.recv(timeout=0.1 * T)
        await asyncio.sleep(0.8 * T)
        await stream.send(await stream.recv())

    async def main():
        wire = frame(bytes(20 * PACE))
        async with serving(busy, frame_timeout=T) as server, peer_of(server) as peer:
            await peer.send(wire[:100])
            await asyncio.sleep(0.2 * T)
            sending = asyncio.create_task(send_every(0.3 * T, peer, pieces(wire[100:], size)))
            assert await peer.recv(len(wire)) == wire
            await sending
            assert counted(server) == {}

    leap(main)


# Answers that are not taken


def test_a_peer_that_never_reads_is_cut(each, kind):
    async def main(way):
        async with serving(way, kind, write_timeout=T) as server, peer_of(server, kind) as peer:
            sending = asyncio.create_task(peer.send(frame(bytes(100_000)) * 100))
            await paused(server)
            await gone(server, after=2 * T)
            sending.cancel()
            assert counted(server) == {"writes_overdue": 1}

    each(main)


@pytest.mark.parametrize("end", ["stay", "half-close", "close"])
def test_a_peer_that_does_not_take_the_last_answers_is_cut(run, kind, end):
    """They are few, so that it is still read, or nothing else would end the connection."""

    class Ending(Recorder):
        def frames_received(self, frames):
            super().frames_received(frames)
            if end == "close":
                self.close()

    async def main():
        limits = {"write_timeout": T, "high_water": 16 << 20, "linger_timeout": 20}
        async with serving(Ending, kind, **limits) as server, peer_of(server, kind, receive_buffer=PACE) as peer:
            await peer.send(frame(bytes(2 << 20)) * (1 if end == "close" else 4))
            if end == "half-close":
                await peer.end()
            await gone(server)
            assert counted(server) == {"writes_overdue": 1}

    run(main)


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
@pytest.mark.parametrize(("way", "end"), [("frames", "stay"), ("frames", "half-close"), ("stream", "stay")])
def test_a_peer_that_takes_the_last_answers_slowly_gets_them_all(loop, way, kind, end):
    """However little time it is then given to hang up."""
    answers = [bytes(1 << 20)] * 8
    size = sum(map(len, map(frame, answers)))

    class Ending(Recorder):
        def frames_received(self, frames):
            self.send_many(answers)
            self.close()

    async def ending(stream):
        await stream.recv()
        sending = asyncio.create_task(stream.send_many(answers))
        await asyncio.sleep(0)
        await stream.close(20)
        sending.cancel()

    async def main():
        limits = {"write_timeout": 10, "linger_timeout": T}
        handler = Ending if way == "frames" else ending
        async with serving(handler, kind, **limits) as server, peer_of(server, kind, receive_buffer=PACE) as peer:
            await peer.send(frame(b"x"))
            if end == "half-close":
                await peer.end()
            received = 0
            for _ in range(6):
                received += len(await peer.recv(PACE))
                await asyncio.sleep(T / 2)
            assert received + len(await peer.recv()) == size
            if kind is TlsPeer and end == "stay":
                await gone(server)
            assert counted(server) == {}

    play(loop, main)


@pytest.mark.parametrize("loop", ALL_LOOPS.values(), ids=ALL_LOOPS)
def test_a_peer_that_takes_nothing_is_cut_although_its_end_was_answered_by_close(loop, kind):
    class Closing(Recorder):
        def eof_received(self):
            super().eof_received()
            asyncio.get_running_loop().call_soon(self.close)
            return False

    async def main():
        limits = {"write_timeout": T, "high_water": 16 << 20}
        async with serving(Closing, kind, **limits) as server, peer_of(server, kind, receive_buffer=PACE) as peer:
            await peer.send(frame(bytes(2 << 20)) * 4)
            await peer.end()
            await gone(server)
            assert counted(server) == {"writes_overdue": 1}

    play(loop, main)


def test_a_peer_that_takes_enough_in_time_is_not_cut(leap_each, kind):
    """It reads more than 64 KiB each time, since its kernel tells in lumps what was read."""
    wire = frame(bytes(100_000)) * 60

    async def main(way):
        async with serving(way, kind, write_timeout=T) as server, peer_of(server, kind, receive_buffer=PACE) as peer:
            sending = asyncio.create_task(peer.send(wire))
            await paused(server)
            taken = 0
            for _ in range(12):
                taken += len(await peer.recv(4 * PACE))
                await asyncio.sleep(T / 2)
            assert counted(server) == {}
            taken += len(await peer.recv(len(wire) - taken))
            await sending
            assert counted(server) == {}

    leap_each(main)


class Generous(Recorder):
    """Answer a frame with several large ones, in one call."""

    def frames_received(self, frames):
        self.send_many([bytes(1 << 20)] * 8)


def test_large_answers_of_one_turn_all_have_their_time(leap, kind):
    async def main():
        async with serving(Generous, kind, write_timeout=T) as server, peer_of(server, kind, receive_buffer=PACE) as peer:
            await peer.send(frame(b"much"))
            for _ in range(16):
                await peer.recv(4 * PACE)
                await asyncio.sleep(T / 2)
            assert counted(server) == {}
            await gone(server)
            assert counted(server) == {"writes_overdue": 1}

    leap(main)


class Radio(Recorder):
    """Send all the time, whether it is taken or not."""

    def connected(self):
        super().connected()
        self.play()

    def play(self):
        self.send(bytes(8 * PACE))
        self.timer = asyncio.get_running_loop().call_later(T / 2, self.play)

    def ended(self, error):
        super().ended(error)
        self.timer.cancel()


def test_what_is_sent_meanwhile_does_not_hide_what_is_taken(leap, kind):
    async def main():
        async with serving(Radio, kind, write_timeout=T) as server, peer_of(server, kind, receive_buffer=PACE) as peer:
            for _ in range(20):
                await peer.recv(4 * PACE)
                await asyncio.sleep(T / 2)
            assert counted(server) == {}

    leap(main)


@pytest.mark.parametrize("way", ["frames", "stream"])
def test_a_peer_of_a_unix_socket_is_watched_too(leap, tmp_path, way):
    path = str(tmp_path / "socket")

    async def main():
        async with await aio.serve(WAYS[way], path=path, format=U32, limits=Limits(write_timeout=T)) as server:
            for taken in (4 * PACE, 0):
                with socket.socket(socket.AF_UNIX) as raw:
                    raw.connect(path)
                    peer = Peer(raw)
                    sending = asyncio.create_task(peer.send(frame(bytes(100_000)) * 40))
                    await paused(server)
                    for _ in range(8 if taken else 0):
                        await peer.recv(taken)
                        await asyncio.sleep(T / 2)
                    assert counted(server) == {}
                    await gone(server)
                    sending.cancel()
                assert counted(server) == {"writes_overdue": 1}
                server.counters["writes_overdue"] = 0

    leap(main)


class FakeTransport:
    """A transport in which so much waits, without a socket of which the kernel could tell more."""

    def __init__(self):
        self.waiting = 0

    def get_extra_info(self, name):
        return None

    def get_write_buffer_size(self):
        return self.waiting

    def is_closing(self):
        return False

    def write(self, data):
        self.waiting += len(data)


def sending_endpoint():
    endpoint = aio.FrameProtocol(U32)
    endpoint._begin(FakeTransport(), asyncio.get_running_loop())

    def send(length):
        endpoint._queue([bytes(length)])
        endpoint._flush()

    return endpoint, endpoint._transport, send


@pytest.mark.parametrize("sent", [0, 1, 10 * PACE])
@pytest.mark.parametrize(("taken", "slow"), [(0, True), (PACE - 1, True), (PACE, False)])
def test_64_kib_are_enough_whatever_is_sent_meanwhile(leap, sent, taken, slow):
    async def main():
        endpoint, transport, send = sending_endpoint()
        send(5 * PACE)
        assert not endpoint.is_slow()  # the first look
        send(sent)
        transport.waiting -= taken
        assert endpoint.is_slow() == slow
        assert endpoint.is_slow()

    leap(main)


def test_all_that_waited_is_enough(leap):
    async def main():
        endpoint, transport, send = sending_endpoint()
        for _ in range(5):
            send(1)
            assert not endpoint.is_slow()  # of these bytes one always waits, and never for long
            transport.waiting = 0
        send(PACE - 1)
        endpoint.is_slow()
        transport.waiting = 1
        assert endpoint.is_slow()

    leap(main)


def test_who_has_nothing_to_take_is_not_looked_at(leap):
    async def main():
        async with serving(echo, write_timeout=T) as server, peer_of(server) as peer:
            for _ in range(3):
                await peer.send(frame(b"x"))
                await peer.recv(5)
                (stream,) = server._endpoints
                assert stream._watched
                assert len(server.write_deadlines._since) == 1
                await until(lambda stream=stream: not _kernel.untaken(stream.transport))
                await asyncio.sleep(2 * T)
                assert not stream._watched
                assert len(server.write_deadlines._since) == 0
        async with serving(echo, write_timeout=None) as server, peer_of(server) as peer:
            await peer.send(frame(b"x"))
            await peer.recv(5)
            assert len(server.write_deadlines._since) == 0

    leap(main)


# Silence


def test_a_silent_peer_is_cut_on_demand(leap_each, kind):
    async def main(way):
        async with serving(way, kind, idle_timeout=T) as server, peer_of(server, kind) as peer:
            for _ in range(3):
                await peer.send(frame(b"x"))
                assert await peer.recv(5) == frame(b"x")
                await asyncio.sleep(T / 2)
            await gone(server, after=T / 2)
            assert counted(server) == {"idle": 1}

    leap_each(main)


def test_silence_in_a_frame_is_silence(leap_each):
    async def main(way):
        async with serving(way, idle_timeout=T) as server, peer_of(server) as peer:
            await send_every(T / 2, peer, pieces(frame(b"abcd"), 1))
            assert await peer.recv(8) == frame(b"abcd")
            await peer.send(b"\0")
            await gone(server, after=T)
            assert counted(server) == {"idle": 1}

    leap_each(main)


def test_a_peer_that_is_not_read_is_not_silent(leap_each, kind):
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

    leap_each(main)


# After a bad frame

GOOD, BAD = frame(b"good"), b"\xff" * 4


def test_answers_before_a_bad_frame_arrive_although_the_peer_goes_on(each, kind):
    """A close while something is unread would reset the connection, and destroy them."""
    wire = frame(bytes(100_000)) * 15

    async def main(way):
        async with serving(way, kind) as server, peer_of(server, kind) as peer:
            sending = asyncio.create_task(trickle(peer, wire + BAD * (1 << 18), 1 << 20))
            await asyncio.sleep(T)
            assert await peer.recv(len(wire)) == wire
            sending.cancel()
            peer.close()
            await gone(server)
            assert counted(server) == {"bad_frames": 1}

    each(main)


def test_a_peer_that_stays_after_its_bad_frame_is_cut(each):
    async def main(way):
        async with serving(way, linger_timeout=T) as server, peer_of(server) as peer:
            began = now()
            trickling = asyncio.create_task(trickle(peer, GOOD + BAD + b"garbage" * 20, 20))
            assert await peer.recv() == GOOD  # that no answer follows is told at once
            assert now() == began or not leaps()
            await gone(server, after=T)
            trickling.cancel()
            assert counted(server) == {"bad_frames": 1}

    each(main)


def test_a_peer_that_leaves_after_its_bad_frame_is_not_waited_for(each, kind):
    async def main(way):
        async with serving(way, kind, linger_timeout=20) as server, peer_of(server, kind) as peer:
            await peer.send(GOOD + BAD)
            assert await peer.recv() == GOOD
            await peer.end()
            await gone(server, after=0)
            assert counted(server) == {"bad_frames": 1}

    each(main)


# What is left


@pytest.mark.parametrize("end", ["end", "reset", "cut"])
def test_a_connection_that_is_over_holds_no_payload(each, kind, end):
    """TLS and tracebacks keep it until garbage is collected, which may be long after: Python does not know how large it is."""
    wire = frame(bytes(2 << 20))

    async def main(way):
        async with serving(way, kind, frame_timeout=T) as server:
            async with peer_of(server, kind) as peer:
                await peer.send(wire[:-1])
                await until(lambda: any(endpoint._decoder.pending == len(wire) - 1 for endpoint in server._endpoints))
                (endpoint,) = server._endpoints
                if end == "end":
                    await peer.end()
                elif end == "reset":
                    peer.reset()
                await gone(server)
            await until(lambda: not server._tasks)
            assert (endpoint._decoder.pending, endpoint._unsent, getattr(endpoint, "_received", [])) == (0, [], [])
            if end == "reset" and isinstance(endpoint, aio.FrameProtocol):
                assert endpoint._failure.__traceback__ is None

    each(main)


@pytest.mark.parametrize("end", ["end", "half a frame", "bad frame", "reset", "close"])
@pytest.mark.parametrize("way", ["frames", "batches"])
def test_callbacks_leave_no_garbage(run, way, end):
    made = []

    async def main():
        async with serving(WAYS[way]) as server:
            async with peer_of(server) as peer:
                await peer.send(frame(b"x"))
                assert await peer.recv(5) == frame(b"x")
                made.extend(map(weakref.ref, server._endpoints))
                await peer.send({"half a frame": b"\0", "bad frame": BAD}.get(end, b""))
                if end == "reset":
                    peer.reset()
                elif end == "close":
                    await server.close()
                else:
                    await peer.end()
                await gone(server)
            for _ in range(3):
                await asyncio.sleep(0)
            assert [reference() for reference in made] == [None]

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


# Threads


def test_a_protocol_receives_into_the_memory_of_the_thread_that_runs_it():
    """Whoever made it: two loops that read at the same time would overwrite each other's bytes."""
    received = []

    async def main(protocol):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
            received.append(protocol.get_buffer(-1).obj)
            protocol.abort()

    for protocol in (aio.FrameProtocol(), aio.FrameStream()):
        thread = threading.Thread(target=asyncio.run, args=[main(protocol)])
        thread.start()
        thread.join()
    first, second = received
    assert first is not second
