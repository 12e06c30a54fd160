"""The client of chat rooms over datagrams: with a server, without one, and on a bad network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess

import aiofastnet
import pytest
import uvloop
from relaying import Relay
from serving import FASTFRAME
from serving import serving as serving_process

from fastframe import datagram
from fastframe.servers import chat_client, chat_udp, chat_udp_client, chat_visit
from fastframe.servers.chat_door import Door
from fastframe.servers.chat_hall import encode
from fastframe.servers.chat_udp_client import Line, connect, find
from fastframe.servers.credentials import Keyring
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Kind
from fastframe.servers.rooms import Rooms

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop, "aiofastnet": aiofastnet.loop_factory()}
WAIT = 50  # seconds until a test fails instead of hanging
TOKEN = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Have all pauses short."""
    for name in ("FIRST_ASK", "LONGEST_ASK", "FIRST_SAY", "LONGEST_SAY", "FIRST_PING", "LONGEST_PING"):
        monkeypatch.setattr(chat_visit, name, getattr(chat_visit, name) / 10)
    monkeypatch.setattr(chat_udp_client, "FIRST_TRY", 0.05)
    monkeypatch.setattr(chat_client, "FIRST_PAUSE", 0.02)


@pytest.fixture
def play():
    """Run a coroutine."""

    def play(main, loop="asyncio"):
        async def limited():
            async with asyncio.timeout(WAIT):
                await main()

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(limited())

    return play


@contextlib.asynccontextmanager
async def serving(host="127.0.0.1", port=0, *, keyring=None, path=None, rooms=None, **options):
    """Serve rooms; yield what `connect` needs, and the chat."""
    chat = chat_udp.Chat(rooms or Rooms(rate=1e6), Door(keyring), **options)
    sockets = datagram.bind(path=path) if path else datagram.bind(host, port)
    where = {"path": path} if path else dict(zip(("host", "port"), sockets[0].getsockname(), strict=False))
    server = await chat_udp.serve(chat, sockets=sockets)
    try:
        yield where, chat
    finally:
        await server.close()


async def until(room, *wanted):
    """Read events until one of each type has come; return them all."""
    events = []
    while not set(wanted) <= {event.type for event in events}:
        events += await room.read()
    return events


async def until_text(room, text):
    events = []
    while not any(event.text == text for event in events):
        events += await room.read()
    return events


async def until_own_joining(room):
    events = []
    while not any(event.type == "joined" and event.name == room.name for event in events):
        events += await room.read()
    return events


@pytest.mark.parametrize("loop", LOOPS)
def test_two_in_a_room(play, loop):
    async def main():
        async with serving() as (where, _), connect(**where, room="lobby", name="ann") as ann:
            assert [event.type for event in await until(ann, "joined")] == ["entered", "joined"]
            async with connect(**where, room="LOBBY", name="bob") as bob:
                entered, *_ = await until_own_joining(bob)
                assert (entered.type, entered.room, entered.name, entered.count) == ("entered", "lobby", "bob", 2)
                names = [await ann.say("one"), await ann.say("two")]
                await ann.settle()
                assert ann.unseen == 0
                said = [event for event in await until_text(bob, "two") if event.type == "said"]
                assert [(event.name, event.text, event.id) for event in said] == [
                    ("ann", "one", names[0]),
                    ("ann", "two", names[1]),
                ]
                await bob.topic("new")
                await bob.who()
                events = await until(bob, "who", "topic")
                assert {event.type: event.topic or event.members for event in events} == {"topic": "new", "who": ("ann", "bob")}
            last = (await until(ann, "left"))[-1]
            assert (last.name, last.reason) == ("bob", "left")
            assert await bob.read() is not None
        assert [event async for event in ann] == []

    play(main, loop)


def test_everybody_sees_everything_once_on_a_bad_network(play):
    texts = {name: [f"{name} {number}" for number in range(25)] for name in ("ann", "bob")}

    async def be(relay, name, count):
        """Say all texts; return the events up to the last one."""
        async with connect(*relay.address, room="lobby", name=name) as room:
            for text in texts[name]:
                await room.say(text)
            events = []
            while sum(event.type == "said" for event in events) < count:
                events += await room.read()
            await room.settle()
            return events

    async def main():
        async with serving() as (where, _):
            address = tuple(where.values())
            with Relay(address, 1) as one, Relay(address, 2) as other:
                ann, bob = await asyncio.gather(be(one, "ann", 50), be(other, "bob", 50))
                assert min(one.counts["lost"], other.counts["lost"]) > 10
        for events in (ann, bob):
            numbers = [event.seq for event in events if event.seq]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            said = [event.text for event in events if event.type == "said"][:50]
            assert [text for text in said if text.startswith("ann")] == texts["ann"]
            assert [text for text in said if text.startswith("bob")] == texts["bob"]
        shared = {event.seq: event for event in ann if event.seq}
        assert all(shared[event.seq] == event for event in bob if event.seq in shared)

    play(main)


def test_who_was_away_comes_back_and_has_missed_nothing(play):
    async def main():
        async with (
            serving() as (where, chat),
            connect(**where, room="lobby", name="ann") as ann,
            connect(**where, room="lobby", name="bob") as bob,
        ):
            await until_own_joining(ann)
            chat._clock, clock = (lambda: clock() + chat_udp.EXPIRY_SECONDS), chat._clock
            chat.expire()
            await bob.say("while ann was away")
            events = await until(ann, "back")
        assert [event.type for event in events if not event.seq] == ["lost", "back"]
        numbers = [event.seq for event in events if event.seq]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert ("left", "ann", "expired") in {(event.type, event.name, event.reason) for event in events}

    play(main)


def test_a_text_is_said_once_although_the_server_began_anew(play):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            first = contextlib.AsyncExitStack()
            where, _ = await first.enter_async_context(serving())
            ann = await stack.enter_async_context(connect(**where, room="lobby", name="ann"))
            await until(ann, "joined")
            await first.aclose()
            (lost,) = await until(ann, "lost")
            assert lost.reason == "the server is ending"
            await ann.say("still here")
            await stack.enter_async_context(serving(**where))
            events = await until_text(ann, "still here")
            await ann.settle()
        assert [event.type for event in events] == ["gap", "joined", "back", "said"]
        assert (events[0].next, events[2].missed) == (1, None)

    play(main)


def test_a_server_that_falls_silent_is_lost(play, monkeypatch):
    async def main():
        async with serving() as (where, chat), connect(**where, room="lobby", name="ann", retry=0) as ann:
            await until(ann, "joined")
            monkeypatch.setattr(type(chat), "__call__", lambda *_: None)
            monkeypatch.setattr(chat_visit, "LOST_SECONDS", 0.2)
            with pytest.raises(TimeoutError, match="the server is silent"):
                await ann.read()
            with pytest.raises(TimeoutError):
                await ann.say("hi")

    play(main)


def test_where_nobody_answers(play):
    async def main():
        with datagram.listen("127.0.0.1", 0) as silent:
            with pytest.raises(TimeoutError):
                await connect(*silent.address, room="lobby", name="ann", timeout=0.8)
            payloads = [payload for payload, _ in silent.recv_many(0)]
        assert 2 <= len(payloads) <= 5  # it asked again, at 50, 150, 350 and 750 ms
        with pytest.raises(TimeoutError):
            await connect(*silent.address, room="lobby", name="ann", timeout=0.1)  # where there is nobody at all

    play(main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_name_that_is_taken(play, loop):
    async def main():
        async with serving() as (where, _), connect(**where, room="lobby", name="ann"):
            with pytest.raises(OperationError, match="name_taken"):
                await connect(**where, room="lobby", name="ANN")

    play(main, loop)


def test_tokens(play):
    async def main():
        async with serving(keyring=Keyring({"ann": TOKEN})) as (where, _):
            async with connect(**where, room="lobby", token=("ann", TOKEN)) as ann:
                assert ann.name == "ann"
            with pytest.raises(OperationError, match="wants a token"):
                await connect(**where, room="lobby", name="ann")
            with pytest.raises(OperationError, match="unauthenticated"):
                await connect(**where, room="lobby", token=("ann", TOKEN[::-1]))
        async with serving() as (where, _):
            with pytest.raises(OperationError, match="does not ask for the token"):
                await connect(**where, room="lobby", token=("ann", TOKEN))

    play(main)


def test_a_server_that_does_not_know_the_token_is_found_out(play, monkeypatch):
    monkeypatch.setattr(Keyring, "check", lambda *_: "0" * 64)

    async def main():
        async with serving(keyring=Keyring({"ann": TOKEN})) as (where, _):
            with pytest.raises(OperationError, match="the server does not know the token"):
                await connect(**where, room="lobby", token=("ann", TOKEN))

    play(main)


@pytest.mark.parametrize("where", [{"host": "::1"}, {"path": "socket"}])
def test_other_addresses(play, where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main():
        async with serving(**where) as (address, _), connect(**address, room="lobby", name="ann") as ann:
            await ann.say("hi")
            await until_text(ann, "hi")

    play(main)


def test_a_long_history_and_a_long_text(play):
    async def main():
        async with serving() as (where, _):
            async with connect(**where, room="lobby", name="ann") as ann:
                for number in range(100):
                    await ann.say(f"{number}")
                await ann.say("\x01" * 4096)
                await ann.settle()
                async with connect(**where, room="lobby", name="bob", history=90) as bob:
                    texts = [event.text for event in await until_own_joining(bob)]
            assert texts[-91:] == [*map(str, range(11, 100)), "\x01" * 4096, ""]

    play(main)


def test_strangers_are_not_heard(play):
    async def main():
        async with serving() as (where, chat), connect(**where, room="lobby", name="ann") as ann:
            await until(ann, "joined")
            ((peer, seat),) = chat._seats.items()
            error = encode(Kind.ERROR, {"to": seat.member.secret, "code": "internal"})
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for answer in (error, b"x"):
                    stranger.sendto(answer, peer.address)
            peer.endpoint.send_many([(b"\0\0\0\1\xff", peer.address), (b"", peer.address)])  # nonsense from the server
            await ann.say("hi")
            assert [event.type for event in await until_text(ann, "hi")] == ["said"]

    play(main)


def test_who_does_not_read_loses_nothing(play, monkeypatch):
    monkeypatch.setattr(chat_udp_client, "MOST_WAITING", 8)
    monkeypatch.setattr("fastframe.servers.chat_events.MOST_EVENTS", 4)

    async def main():
        async with serving() as (where, _), connect(**where, room="lobby", name="ann") as ann:
            await until(ann, "joined")
            async with connect(**where, room="lobby", name="bob") as bob:
                for number in range(60):
                    await bob.say(str(number))
                reading = asyncio.create_task(until_text(bob, "59"))
                await bob.settle()
                await reading
                events = await until_text(ann, "59")
            assert [event.text for event in events if event.type == "said"] == list(map(str, range(60)))

    play(main)


def test_who_leaves_a_server_that_is_gone_need_not_wait_for_long(play, monkeypatch):
    monkeypatch.setattr(chat_client, "LEAVE_SECONDS", 0.1)
    heard, left = [], asyncio.Event()

    def listen(_, __, received):
        heard.extend(request[4] for request, _ in received)
        if Kind.END in heard:
            left.set()

    async def main():
        async with serving() as (where, chat):
            ann = await connect(**where, room="lobby", name="ann")
            await until(ann, "joined")
            monkeypatch.setattr(type(chat), "__call__", listen)
            await ann.say("hi")
            await ann.leave()
            await ann.leave()
            with pytest.raises(ConnectionError, match="was left"):
                await ann.say("hi")
            await left.wait()
            assert heard.index(Kind.DATA) < heard.index(Kind.END)

    play(main)


def test_what_nobody_looks_at_is_dropped(play, monkeypatch):
    monkeypatch.setattr(chat_udp_client, "MOST_WAITING", 3)

    async def main():
        with datagram.listen("127.0.0.1", 0) as server:
            told = asyncio.Event()
            line = Line(*await find(*server.address, None), told.set)
            line.send([b"hello"])
            _, address = server.recv(WAIT)
            for number in range(5):
                server.send(b"\x21%d" % number, address)
            while line._endpoint.counters["received"] < 5:
                await told.wait()
                told.clear()
            assert [bytes(line.receive().data) for _ in range(3)] == [b"0", b"1", b"2"]
            assert line.receive() is None
            await line.close()

    play(main)


@pytest.mark.parametrize("where", [{}, {"host": "127.0.0.1"}, {"host": "127.0.0.1", "port": 1, "path": "x"}])
def test_there_is_one_address(where):
    with pytest.raises(ValueError, match="give host and port, or path"):
        connect(**where, room="lobby", name="ann")


@pytest.mark.parametrize("where", [{"path": "nobody"}, {"host": "no.such.host.invalid", "port": 9}])
def test_an_address_that_is_none(play, where):
    async def main():
        with pytest.raises(OSError, match=r"No such file|not known|resolution"):
            await connect(**where, room="lobby", name="ann")

    play(main)


# As a user runs it


def test_lines_are_said_and_events_are_lines():
    with serving_process(command=[*FASTFRAME, "serve", "chat", "--udp", "--port", "0"]) as server:
        where = server.address.removeprefix("udp ")
        command = [*FASTFRAME, "chat", "--udp", where, "lobby", "--name", "ann"]
        result = subprocess.run(command, input="one\ntwo\n", capture_output=True, text=True, timeout=30, check=False)
        assert server.end() == (0, "", "")
    assert result.returncode == 0, result.stderr
    assert [line.partition(" ")[2].partition(" ")[2] for line in result.stdout.splitlines()] == [
        "* ann joined",
        "<ann> one",
        "<ann> two",
    ]
