"""Both implementations of a connection's turn, on a transport that only writes down what it was told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from conftest import IMPLEMENTATIONS
from hypothesis import given
from hypothesis import strategies as st
from vectors import frame

from fastframe import FrameFormat, FrameTooLargeError, MisuseError, _turn_py
from fastframe._receive import BEGINNING_SIZE, IN_PLACE_SIZE, READ_SIZE

U32 = FrameFormat("u32be", max_payload_length=1 << 20)
CLASSES = ["Turn", "CallbackTurn"]


def turns() -> list[ModuleType]:
    if "cython" not in IMPLEMENTATIONS:
        return [_turn_py]
    from fastframe import _turn_c  # noqa: PLC0415  it may not be there

    return [_turn_c, _turn_py]


@pytest.fixture(params=turns(), ids=lambda module: module.__name__.rpartition("_")[2])
def turn(request):
    return request.param


class Transport:
    def __init__(self):
        self.written = []
        self.closing = False

    def is_closing(self):
        return self.closing

    def write(self, data):
        self.written.append(bytes(data))

    def writelines(self, parts):
        self.written.append([bytes(part) for part in parts])


class Loop:
    def __init__(self):
        self.soon = []

    def call_soon(self, call):
        self.soon.append(call)


def protocol(turn, codec, *, frames_per_turn=100, takes_batches=False, answer=True):
    class Protocol(turn.CallbackTurn):
        def __init__(self):
            turn.Turn.__init__(self, codec.Decoder(U32), codec.Encoder(U32))
            self._frames_per_turn = frames_per_turn
            self._takes_batches = takes_batches
            self._turn_left = 1 << 40
            self._begin(Transport(), Loop())
            self.calls = []

        def frames_received(self, frames):
            self.calls.append(frames)
            if answer:
                for payload in frames:
                    self.send(payload)

        def batch_received(self, batch):
            self.calls.append(list(batch))

        def _end_turn(self, frames):
            self.calls.append("end of turn")

        def _end_with(self, error):
            self.calls.append((type(error), error.frames))

        def _set_deadline(self, nbytes, *, completed):
            self.calls.append((nbytes, completed))
            self._owed = 0 if self._decoder.pending else -1

    return Protocol()


def receive(protocol, data):
    while data:
        memory = protocol.get_buffer(-1)
        chunk, data = data[: len(memory)], data[len(memory) :]
        memory[: len(chunk)] = chunk
        protocol.buffer_updated(len(chunk))


def test_what_is_sent_in_one_turn_leaves_in_one_write(turn, codec):
    echo = protocol(turn, codec)
    receive(echo, frame(b"a") + frame(b"b"))
    assert echo._transport.written == [frame(b"a") + frame(b"b")]
    echo.send_many([b"c", b"d"])
    echo.send_many(iter([b"e"]))
    assert len(echo._transport.written) == 1
    (flush,) = echo._loop.soon
    flush()
    assert echo._transport.written[1:] == [frame(b"c") + frame(b"d") + frame(b"e")]


@pytest.mark.parametrize("gathers", [False, True])
def test_a_large_payload_leaves_as_it_is_behind_its_header(turn, codec, gathers):
    echo = protocol(turn, codec)
    assert echo._gathers
    echo._gathers = gathers
    large = bytes(range(256)) * 300
    receive(echo, frame(b"small") + frame(large))
    parts = [frame(b"small") + frame(large)[:4], large]
    assert echo._transport.written == ([parts] if gathers else parts)


def test_no_more_than_64_kib_are_held_back(turn, codec):
    echo = protocol(turn, codec)
    for _ in range(5):
        echo.send(bytes(20_000))
    assert [len(data) for data in echo._transport.written] == [4 * 20_004]


def test_nothing_is_written_to_a_transport_that_closes(turn, codec):
    echo = protocol(turn, codec)
    echo._transport.closing = True
    receive(echo, frame(b"a"))
    assert echo._transport.written == []
    echo._transport = None
    receive(echo, frame(b"b"))


def test_a_turn_ends_when_it_has_its_share_of_frames(turn, codec):
    echo = protocol(turn, codec, frames_per_turn=2, answer=False)
    receive(echo, frame(b"a") * 3)
    assert echo.calls == [[b"a", b"a"], "end of turn", (15, True)]


def test_a_turn_ends_when_it_has_its_share_of_bytes(turn, codec):
    echo = protocol(turn, codec, answer=False)
    echo._turn_left = 5
    receive(echo, frame(b"a"))
    assert echo.calls == [[b"a"]]
    receive(echo, frame(b"b"))
    assert echo.calls == [[b"a"], [b"b"], "end of turn"]


def test_a_deaf_one_hears_nothing(turn, codec):
    echo = protocol(turn, codec)
    echo._deaf = True
    receive(echo, frame(b"a"))
    assert echo.calls == []


def test_a_bad_frame_ends_it(turn, codec):
    echo = protocol(turn, codec, answer=False)
    receive(echo, frame(b"a") + b"\xff" * 4)
    assert echo.calls == [(FrameTooLargeError, [b"a"])]


def test_what_a_handler_raises_comes_out_and_its_answers_leave(turn, codec):
    echo = protocol(turn, codec)

    def fail(frames):
        echo.send(b"before")
        raise ZeroDivisionError

    echo.frames_received = fail
    with pytest.raises(ZeroDivisionError):
        receive(echo, frame(b"a"))
    assert echo._transport.written == [frame(b"before")]


@pytest.mark.parametrize("size", [1, 70_000])
def test_nothing_is_sent_before_there_is_a_connection(turn, codec, size):
    """It would wait for ever, and all that is sent later with it."""
    echo = protocol(turn, codec)
    loop, echo._loop = echo._loop, None
    for send in (echo.send, lambda payload: echo.send_many([payload])):
        with pytest.raises(MisuseError):
            send(bytes(size))
    echo._loop = loop
    echo.send(b"a")
    for call in loop.soon:
        call()
    assert echo._transport.written == [frame(b"a")]


def test_nothing_follows_the_own_end(turn, codec):
    echo = protocol(turn, codec)
    echo._eof_sent = True
    for send in (lambda: echo.send(b"x"), lambda: echo.send_many([b"x"]), lambda: echo.send_many(iter([b"x"]))):
        with pytest.raises(MisuseError, match="send_eof"):
            send()


@pytest.mark.parametrize("eof_sent", [False, True])
def test_who_hung_up_sends_to_nowhere(turn, codec, eof_sent):
    echo = protocol(turn, codec)
    echo._hung_up, echo._eof_sent = True, eof_sent
    echo.send(b"x")
    echo.send_many([b"x"])
    echo.send_many(iter([bytes(100_000)]))
    assert (echo._transport.written, echo._loop.soon) == ([], [])


def test_what_was_sent_is_counted_and_watched_from_then_on(turn, codec):
    echo = protocol(turn, codec)
    watched = []
    echo._watch = watched.append
    receive(echo, frame(b"a"))
    assert (watched, echo._sent) == ([], 5)
    echo._watched = False
    receive(echo, frame(b"a") * 2)
    assert (watched, echo._sent) == ([True], 15)


def test_a_count_that_is_none_of_the_loops_harms_nothing(turn, codec):
    echo = protocol(turn, codec, answer=False)
    echo.get_buffer(-1)[:5] = frame(b"a")
    echo.buffer_updated(5)
    echo.get_buffer(-1)[:READ_SIZE] = bytes(READ_SIZE)
    echo.buffer_updated(READ_SIZE + 100)  # as a slice has it: what there is
    assert sum(len(frames) for frames in echo.calls if isinstance(frames, list)) == 101


def test_each_thread_receives_into_memory_of_its_own(turn, codec):
    """Two loops that receive at the same time must not receive into the same memory, wherever their protocols were made."""
    made_here = protocol(turn, codec)
    here = made_here.get_buffer(-1)
    with ThreadPoolExecutor(1) as other:
        other.submit(made_here._begin, Transport(), Loop()).result()
    assert made_here.get_buffer(-1).obj is not here.obj


def test_memory_that_somebody_releases_is_read_no_more_or_still_there(turn, codec):
    outcomes = []

    def play():  # in a thread, whose memory nobody else has
        echo = protocol(turn, codec, answer=False)
        echo.get_buffer(-1).release()
        noise = [b"\xff" * READ_SIZE for _ in range(20)]
        try:
            echo.buffer_updated(READ_SIZE)
            outcomes.append(echo.calls[0] == [b""] * 100)
        except ValueError:  # the memory cannot be used any more
            outcomes.append(True)
        del noise

    thread = threading.Thread(target=play)
    thread.start()
    thread.join()
    assert outcomes == [True]


@given(
    st.lists(st.binary(max_size=40) | st.just(bytes(70_000)), max_size=6),
    st.lists(st.integers(1, 90_000), max_size=5),
    st.integers(1, 3),
    st.booleans(),
)
def test_the_twins_agree(payloads, cuts, frames_per_turn, takes_batches):
    from fastframe import _codec_py  # noqa: PLC0415  the codecs have an agreement test of their own

    wire = b"".join(map(frame, payloads))
    seen = []
    for module in turns():
        echo = protocol(module, _codec_py, frames_per_turn=frames_per_turn, takes_batches=takes_batches)
        rest = wire
        for cut in cuts:
            receive(echo, rest[:cut])
            rest = rest[cut:]
        receive(echo, rest)
        seen.append((echo.calls, echo._transport.written, len(echo._loop.soon), echo._owed, echo._in_place))
    assert all(each == seen[0] for each in seen)


@pytest.mark.parametrize("name", CLASSES)
def test_the_twins_have_the_same_methods(name):
    methods = [{member for member in vars(getattr(module, name)) if not member.startswith("_")} for module in turns()]
    assert methods == [methods[0]] * len(methods)


def test_behind_a_payload_received_in_place_only_the_beginning_of_the_next_is_copied(turn, codec):
    echo = protocol(turn, codec, answer=False)
    large = bytes(IN_PLACE_SIZE + 10_000)
    receive(echo, frame(large)[:1000])
    lengths = []
    rest = frame(large)[1000:] + frame(large) + frame(b"small") * 80
    while rest:
        memory = echo.get_buffer(-1)
        chunk, rest = rest[: len(memory)], rest[len(memory) :]
        lengths.append(len(memory))  # which is lent until the next call
        memory[: len(chunk)] = chunk
        echo.buffer_updated(len(chunk))
    assert lengths == [len(large) - 996, BEGINNING_SIZE, len(large) - BEGINNING_SIZE + 4, BEGINNING_SIZE, READ_SIZE]
    received = [payload for frames in echo.calls if isinstance(frames, list) for payload in frames]
    assert received == [large, large, *[b"small"] * 80]
    assert protocol(turn, codec)._beginning is echo._beginning  # the memory of an idle connection
