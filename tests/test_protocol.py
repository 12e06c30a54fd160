"""The callback way: floods of tiny frames in portions, and an end that is told once, last, whatever went on."""

import asyncio
import functools

import pytest
from peers import LOOPS, PEERS, Peer, Recorder, counted, leaping_loop, peer_of, play, serving, until
from vectors import frame

from fastframe import FrameTooLargeError, _endpoint, aio

TINY = frame(b"")
MANY = 1000  # frames of which a turn may take ten
BAD = b"\xff" * 4


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def run(request, codec, monkeypatch):
    """Run a coroutine on either loop with either codec."""
    monkeypatch.setattr(_endpoint, "Decoder", codec.Decoder)
    monkeypatch.setattr(_endpoint, "Encoder", codec.Encoder)
    return functools.partial(play, request.param)


@pytest.fixture
def leap():
    return functools.partial(play, leaping_loop)


@pytest.fixture(params=PEERS.values(), ids=PEERS)
def kind(request):
    return request.param


class Listed(Recorder):
    """A recorder that can be found."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.made.append(self)


def recorder(**methods) -> type[Listed]:
    """Return a class of recorders with a list of its own, and other methods."""
    return type("Recorder", (Listed,), {"made": [], **methods})


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


# Turns


def test_a_flood_is_taken_in_portions_and_in_order(run, kind):
    payloads = numbered(MANY + 5)
    wire = b"".join(map(frame, payloads))
    protocol = recorder()

    async def main():
        async with serving(protocol, kind, frames_per_turn=10) as server, peer_of(server, kind) as peer:
            await peer.send(wire)
            assert await peer.recv(len(wire)) == wire
            assert counted(server) == {}

    run(main)
    portions = [call for call in protocol.made[0].calls if isinstance(call, list)]
    assert [payload for portion in portions for payload in portion] == payloads
    assert max(map(len, portions)) == 10


def test_who_empties_the_list_of_payloads_gets_the_next_portion_all_the_same(run, kind):
    taken = []

    def take(self, frames):
        taken.extend(frames)
        frames.clear()

    async def main():
        async with serving(recorder(frames_received=take), kind, frames_per_turn=10) as server, peer_of(server, kind) as peer:
            await peer.send(b"".join(map(frame, numbered(MANY))))
            await until(lambda: len(taken) == MANY)

    run(main)
    assert taken == numbered(MANY)


def test_others_have_their_turns_during_a_flood(run):
    async def main():
        async with serving(recorder(), frames_per_turn=10) as server, peer_of(server) as flooding, peer_of(server) as other:
            await flooding.send(TINY * MANY)
            await other.send(frame(b"other"))
            assert await other.recv(9) == frame(b"other")
            (flooded,) = [endpoint for endpoint in server._endpoints if endpoint.calls[1] != [b"other"]]
            assert len(flooded.calls) < 20  # of a hundred portions
            assert await flooding.recv(MANY * 4) == TINY * MANY

    run(main)


class UvloopTransport(asyncio.Transport):
    """A transport that goes on reading as long as it is let, as uvloop's do 32 times."""

    __module__ = "uvloop.loop"
    reading = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def is_closing(self):
        return False

    def write(self, data):
        pass


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_others_have_their_turns_after_256_kib_of_any_frames(codec, monkeypatch, leap, size):
    monkeypatch.setattr(_endpoint, "Decoder", codec.Decoder)
    wire = frame(bytes(size)) * ((4 << 20) // size)

    async def main():
        protocol, transport = Recorder(), UvloopTransport()
        protocol.connection_made(transport)
        read = turns = 0
        while read < len(wire):
            before = read
            while transport.reading and read < len(wire):
                memory = protocol.get_buffer(-1)
                chunk = wire[read : read + min(len(memory), 50_000)]
                memory[: len(chunk)] = chunk
                protocol.buffer_updated(len(chunk))
                read += len(chunk)
            assert read - before <= (256 << 10) + 50_000
            turns += 1
            await asyncio.sleep(0)
            assert transport.reading
        assert turns >= 13
        assert sum(len(call) for call in protocol.calls if isinstance(call, list)) == len(wire) // (4 + size)

    leap(main)


def test_nothing_is_read_until_a_flood_is_worked_off(run):
    async def main():
        async with serving(recorder(), frames_per_turn=10) as server, peer_of(server) as peer:
            await until(lambda: server.connections)
            await peer.send(TINY * MANY)
            (endpoint,) = server._endpoints
            await until(lambda: len(endpoint.calls) > 2)
            assert endpoint._reading_paused
            await until(lambda: len(endpoint.calls) == 1 + MANY // 10)
            await until(lambda: not endpoint._reading_paused)
            await peer.send(frame(b"next"))
            assert await peer.recv(MANY * 4 + 8) == TINY * MANY + frame(b"next")

    run(main)


def test_a_flood_waits_while_its_answers_are_not_taken(leap, kind):
    class Long(Recorder):
        def frames_received(self, frames):
            self.calls.append(len(frames))
            self.send_many([bytes(100_000)] * len(frames))

    async def main():
        async with serving(Long, kind, frames_per_turn=10) as server, peer_of(server, kind) as peer:
            await peer.send(TINY * 200)
            await until(lambda: server.connections)
            (endpoint,) = server._endpoints
            await until(lambda: not getattr(endpoint, "_writable", True))
            await asyncio.sleep(1)
            calls = len(endpoint.calls)
            await asyncio.sleep(1)
            assert len(endpoint.calls) == calls < 10
            assert await peer.recv(200 * 100_004) == frame(bytes(100_000)) * 200
            assert endpoint.calls[1:] == [10] * 20

    leap(main)


def test_batches_are_taken_whole(leap):
    protocol = recorder(batch_received=lambda self, batch: self.calls.append(batch) or self.send_batch(batch))

    async def main():
        async with serving(protocol, frames_per_turn=10) as server, peer_of(server) as peer:
            await peer.send(TINY * MANY)
            assert await peer.recv(MANY * 4) == TINY * MANY

    leap(main)
    assert len(protocol.made[0].calls) < 5


# The end


def failing_at(number, error):
    """Return a class of recorders that raise at that call."""

    def frames_received(self, frames):
        Recorder.frames_received(self, frames)
        if len(self.calls) == number + 1:
            raise error

    return recorder(frames_received=frames_received)


def play_to_the_end(run, protocol, sent, kind=Peer, **options) -> tuple[list, BaseException | None, dict]:
    """Send that to a server, and return what its protocol was called, its end, and what was counted."""
    told = []

    async def main():
        async with serving(protocol, kind, frames_per_turn=10) as server, peer_of(server, kind) as peer:
            await peer.send(sent)
            await until(lambda: protocol.made)
            async with asyncio.timeout(5):
                told.append(await protocol.made[0].over)
            await until(lambda: not server.connections)
            told.append(counted(server))

    run(main, **options)
    return protocol.made[0].calls, *told


@pytest.mark.parametrize(("call", "complaint"), [(1, "Fatal error"), (3, "frames_received() failed")])
def test_an_exception_ends_the_connection_and_is_reported_in_any_turn(leap, call, complaint):
    error = ZeroDivisionError("in a callback")
    calls, end, counts = play_to_the_end(leap, failing_at(call, error), TINY * MANY, expect_complaints=[complaint])
    assert (len(calls), end is error, counts) == (call + 2, True, {})


@pytest.mark.parametrize("call", [1, 3])
def test_a_payload_that_cannot_be_sent_is_no_fault_of_the_peer_in_any_turn(leap, call):
    error = FrameTooLargeError(5, 4)  # as the encoder raises it
    complaint = "Fatal error" if call == 1 else "frames_received() failed"
    calls, end, counts = play_to_the_end(leap, failing_at(call, error), TINY * MANY, expect_complaints=[complaint])
    assert (len(calls), end is error, counts) == (call + 2, True, {})


@pytest.mark.parametrize("before", [3, 10, 35, 40])
def test_a_bad_frame_ends_the_connection_in_any_turn(run, before, kind):
    async def main():
        async with serving(Recorder, kind, frames_per_turn=10) as server, peer_of(server, kind) as peer:
            await peer.send(TINY * before + BAD + TINY * MANY)
            assert await peer.recv() == TINY * before
            await peer.end()
            await until(lambda: not server.connections)
            assert counted(server) == {"bad_frames": 1}

    run(main)


@pytest.mark.parametrize("good", [5, 35])
def test_an_exception_at_the_frames_before_a_bad_one_ends_the_connection(leap, good):
    error = ZeroDivisionError("in a callback")
    protocol = failing_at((good + 9) // 10, error)
    complaint = "Fatal error" if good == 5 else "frames_received() failed"
    calls, end, counts = play_to_the_end(leap, protocol, TINY * good + BAD, expect_complaints=[complaint])
    assert len(calls) == (good + 9) // 10 + 2
    assert isinstance(end, FrameTooLargeError)
    assert counts == {"bad_frames": 1}


@pytest.mark.parametrize("how", ["reset", "abort", "cut"])
def test_nothing_is_handed_over_after_the_end(run, how):
    protocol = recorder()

    async def main():
        async with serving(protocol, frames_per_turn=10) as server, peer_of(server) as peer:
            await peer.send(TINY * MANY)
            await until(lambda: protocol.made and len(protocol.made[0].calls) > 3)
            if how == "reset":
                peer.reset()
                protocol.made[0]._pause_reading(False)  # the reset is read as well as written
            elif how == "abort":
                protocol.made[0].abort()
            else:
                await server.close()
            await protocol.made[0].over
            for _ in range(10):
                await asyncio.sleep(0)

    run(main)
    calls = protocol.made[0].calls
    assert calls.count("ended") == 1
    assert calls[-1] == "ended"
    assert len(calls) < MANY // 10


def test_a_flood_that_the_peer_ends_is_answered_to_the_last_frame(run, kind):
    wire = b"".join(map(frame, numbered(MANY)))
    protocol = recorder()

    async def main():
        async with serving(protocol, kind, frames_per_turn=10) as server, peer_of(server, kind) as peer:
            await peer.send(wire)
            await peer.end()
            assert await peer.recv() == wire
            await until(lambda: not server.connections)

    run(main)
    assert protocol.made[0].over.result() is None


def test_what_is_sent_after_the_connection_hung_up_goes_nowhere(run, kind):
    """As a chat room does it, which does not know who is leaving."""
    protocol = recorder()

    async def main():
        async with serving(protocol, kind) as server, peer_of(server, kind) as peer:
            await peer.send(frame(b"last") + BAD)
            assert await peer.recv(8) == frame(b"last")
            await until(lambda: protocol.made[0]._deaf)
            protocol.made[0].send(b"news")
            protocol.made[0].send_many([bytes(70_000), bytes(70_000)])
            assert await peer.recv() == b""

    run(main)


def test_an_exception_in_connected_ends_the_connection(run, kind):
    def connected(self):
        raise ZeroDivisionError("in a callback")

    protocol = recorder(connected=connected)

    async def main():
        async with serving(protocol, kind) as server:
            try:
                async with peer_of(server, kind) as peer, asyncio.timeout(5):
                    assert await peer.fate() in ("end", "reset")
            except OSError:
                assert kind is not Peer  # the handshake does not come to its end either
            await until(lambda: not server.connections)
            assert isinstance(protocol.made[0].over.result(), ZeroDivisionError)

    run(main, expect_complaints=["connected() failed"])


@pytest.mark.parametrize("close", ["in a callback", "later"])
def test_a_frame_that_has_begun_is_not_waited_for_after_close(leap, close):
    async def main():
        class Closing(Recorder):
            def frames_received(self, frames):
                self.send_many([bytes(1 << 20)] * 8)
                if close == "in a callback":
                    self.close()

        limits = {"frame_timeout": 0.1, "write_timeout": None, "high_water": 16 << 20}
        async with serving(Closing, **limits) as server, peer_of(server) as peer:
            await peer.send(frame(b"x") + b"\0")
            await until(lambda: server.connections)
            (endpoint,) = server._endpoints
            if close == "later":
                await until(lambda: endpoint._owed >= 0)
                endpoint.close()
            await asyncio.sleep(1)
            assert await peer.recv() == frame(bytes(1 << 20)) * 8
            assert await endpoint.over is None
            assert counted(server) == {}

    leap(main)


def test_a_protocol_without_a_server_takes_turns_too(leap):
    async def main():
        made = []
        server = await asyncio.get_running_loop().create_server(lambda: made.append(Recorder()) or made[0], "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(TINY * 10_000)
        assert await reader.readexactly(40_000) == TINY * 10_000
        assert max(len(call) for call in made[0].calls if isinstance(call, list)) <= aio.Limits().frames_per_turn
        writer.close()
        await made[0].over
        server.close()

    leap(main)
