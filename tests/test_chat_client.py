"""The client of the chat server, beside the server, and beside servers that say what they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import ssl
from types import SimpleNamespace

import pytest
from chatting import SECRET, entering, hosting, rooms_served, until
from filing import gone
from peers import leaping_loop, play
from sessions import PATIENCE, played

from fastframe import EndOfStreamError
from fastframe.servers import chat_client, chat_events, session
from fastframe.servers.chat_events import Event
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Kind


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(chat_client, "FIRST_PAUSE", 0.01)


@played
async def test_what_one_does_everybody_sees_in_the_same_order():
    async with rooms_served() as server, entering(server) as ann, entering(server, "bob") as bob:
        first = await ann.say("hi 中文\n\x1b")
        await ann.settle()
        await ann.topic("the weather")
        await bob.say("hello")
        seen = [await until(room, "said", 2) for room in (ann, bob)]
        assert seen[0][0] == Event("entered", room="lobby", name="ann", count=1)
        assert seen[0][2:] == seen[1][2:]
        said = seen[0][3]
        assert (said.id, said.name, said.text) == (first, "ann", "hi 中文\n\x1b")
        await bob.who()
        assert (await until(bob, "who"))[-1].members == ("ann", "bob")


@played
async def test_who_leaves_reads_all_up_to_the_end():
    async with rooms_served() as server, entering(server) as ann:
        await ann.say("bye")
        await ann.leave()
        assert [event.type async for event in ann] == ["entered", "joined", "said", "left"]
        await ann.leave()
        assert await ann.read() == []
        with pytest.raises(ConnectionError, match="was left"):
            await ann.say("still here")


@played
async def test_history_is_what_was_wanted():
    async with rooms_served() as server:
        async with entering(server, "bob") as bob:
            for number in range(5):
                await bob.say(str(number))
        async with entering(server, history=3) as ann:
            events = await until(ann, "joined")
            assert [event.type for event in events] == ["entered", "said", "said", "left", "joined"]
            assert [event.text for event in events[1:3]] == ["3", "4"]


@played
async def test_who_comes_back_says_where_it_was_and_again_what_nobody_has_seen():
    async def first(host):
        assert "since" not in await host.let_in()
        said = [await host.heard() for _ in range(2)]
        ids.extend(message["id"] for message in said)
        assert [message["text"] for message in said] == ["arrives", "is lost"]

    async def second(host):
        asked = await host.let_in(head=5, seq=0)
        assert (asked["since"], asked["log"], asked["secret"]) == (1, "log", SECRET)
        await host.event("said", 2, id=ids[0], text="arrives")
        await host.event("left", 3, reason="lost")
        await host.event("said", 4, "bob", id="1", text="ann?")
        await host.event("joined", 5)
        said = [await host.heard() for _ in range(2)]
        assert [(message["id"], message["text"]) for message in said] == [(ids[1], "is lost"), (ids[2], "later")]
        await host.event("said", 6, id=ids[1], text="is lost")
        await host.event("said", 7, id=ids[2], text="later")
        await host.let_go(8)

    ids = []
    async with hosting(first, second) as server, entering(server) as ann:
        await until(ann, "joined")
        await ann.say("arrives")
        await ann.say("is lost")
        assert [event.reason for event in await until(ann, "lost")] == ["the server hung up"]
        ids.append(await ann.say("later"))
        await ann.settle()
        assert ann.unseen == 0
        await ann.leave()
        events = [event async for event in ann]
    assert [event.type for event in events] == ["said", "left", "said", "joined", "back", "said", "said", "left"]
    assert events[4] == Event("back", room="lobby", name="ann", count=1, missed=1)


@played
async def test_a_room_that_began_anew_has_new_numbers():
    async def first(host):
        await host.let_in(head=100)

    async def second(host):
        assert (await host.let_in(log="other", seq=0))["since"] == 100
        await host.event("gap", next=1)
        await host.event("joined", 1)

    async def third(host):
        asked = await host.let_in(log="other", head=9, seq=0)
        assert (asked["since"], asked["log"]) == (1, "other")
        await host.event("gap", next=7)
        for seq in (7, 8, 8):
            await host.event("said", seq, "bob", id="", text="")
        await host.event("joined", 9)
        await host.let_go(10)

    async with hosting(first, second, third) as server, entering(server) as ann:
        events = await until(ann, "back", 2)
        assert [(event.type, event.missed) for event in events if event.type in ("gap", "back")] == [
            ("gap", None),
            ("back", None),
            ("gap", 5),
            ("back", 2),
        ]


@played
async def test_who_has_seen_nothing_of_a_room_that_began_anew_does_not_say_where_it_was_in_the_old_one():
    async def first(host):
        await host.let_in(head=100)

    async def second(host):
        assert (await host.let_in(log="other", seq=0))["since"] == 100

    async def third(host):
        asked = await host.let_in(log="other", head=2, seq=2)
        assert asked["log"] == "other"
        assert "since" not in asked
        await host.let_go(3)

    async with hosting(first, second, third) as server, entering(server) as ann:
        await until(ann, "back")


@played
async def test_an_error_that_passes_is_no_end_and_another_is_one():
    async def drained(host):
        await host.let_in()
        await host.say(Kind.ERROR, code="going_away", message="")

    async def busy(host):
        await host.hears(Kind.OPEN)
        await host.say(Kind.ERROR, code="busy", message="")

    async def taken(host):
        await host.hears(Kind.OPEN)
        await host.say(Kind.ERROR, code="name_taken", message="ann: somebody else")

    async with hosting(drained, busy, taken) as server, entering(server) as ann:
        await until(ann, "joined")
        assert (await until(ann, "lost"))[0].reason == "the server is ending"
        await ann.say("this waits for ever")
        for waiting in (ann.read(), ann.settle(), ann.say("x"), ann.who()):
            with pytest.raises(OperationError, match="somebody else"):
                await asyncio.wait_for(waiting, PATIENCE)


@played
async def test_what_is_wrong_from_the_start_is_raised():
    async def busy(host):
        await host.hears(Kind.OPEN)
        await host.say(Kind.ERROR, code="busy", message="")

    async with hosting(busy) as server:
        with pytest.raises(OperationError, match="busy"):
            await entering(server)
    with contextlib.closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await chat_client.connect(*deaf.getsockname(), room="lobby", name="ann")
    async with rooms_served() as server, entering(server):
        with pytest.raises(OperationError, match="name_taken"):
            await entering(server)


@pytest.mark.parametrize("retry", [0, 0.05])
@played
async def test_it_is_tried_for_as_long_as_was_said(retry):
    async def first(host):
        await host.let_in()

    async with hosting(first) as server, entering(server, retry=retry) as ann:
        with pytest.raises((OSError, EOFError)):
            await until(ann, "never")


@played
async def test_pauses_double_up_to_the_longest_until_a_visit_was_a_good_one(monkeypatch):
    now, pauses = 1000.0, []

    def visit(number, seconds):
        async def script(host):
            nonlocal now
            await host.let_in(head=number)
            now += seconds

        return script

    async def last(host):
        await host.let_in(head=6)
        await host.let_go(7)

    async def pause(seconds):
        pauses.append(seconds)

    clock = SimpleNamespace(time=lambda: now)
    monkeypatch.setattr(
        chat_client, "asyncio", SimpleNamespace(**vars(asyncio) | {"get_running_loop": lambda: clock, "sleep": pause})
    )
    monkeypatch.setattr(chat_client, "LONGEST_PAUSE", 0.03)
    monkeypatch.setattr(random, "uniform", lambda low, high: low + high)
    visits = [visit(number, seconds) for number, seconds in enumerate((0, 0, 0, 0.02, 0.04), 1)]
    async with hosting(*visits, last) as server, entering(server) as ann:
        await until(ann, "back", 5)
    assert pauses == pytest.approx([1.5 * seconds for seconds in (0.01, 0.02, 0.03, 0.03, 0.01)])


@played
async def test_the_timeout_is_for_entering_alone(monkeypatch):
    timeouts = []

    def timeout(seconds):
        timeouts.append(asyncio.timeout(seconds))
        return timeouts[-1]

    monkeypatch.setattr(chat_client, "asyncio", SimpleNamespace(**vars(asyncio) | {"timeout": timeout}))
    async with rooms_served() as server, entering(server) as ann:
        await until(ann, "joined")
        assert [one.when() for one in timeouts] == [None]


@played
async def test_a_server_that_says_nonsense_is_left(monkeypatch):
    monkeypatch.setattr(session, "CANCEL_SECONDS", 0.05)

    async def nonsense(host):
        await host.let_in()
        await host.say(Kind.DATA, b'{"type":"said"}')
        await gone(host)

    async with hosting(nonsense) as server, entering(server) as ann:
        with pytest.raises(OperationError, match="seq"):
            await until(ann, "said")


@played
async def test_without_a_connection_nothing_is_asked_and_leaving_takes_no_time(monkeypatch):
    monkeypatch.setattr(chat_client, "FIRST_PAUSE", PATIENCE / 2)

    async def first(host):
        await host.let_in()

    async with hosting(first) as server, entering(server) as ann:
        await until(ann, "lost")
        for asking in (ann.who(), ann.topic("x")):
            with pytest.raises(ConnectionError, match="no connection"):
                await asking
        await ann.say("later")
        async with asyncio.timeout(PATIENCE / 4):
            await ann.leave()
        assert await ann.read() == []
        with pytest.raises(ConnectionError):
            await ann.settle()


@played
async def test_a_server_that_does_not_let_go_is_cut_off(monkeypatch):
    monkeypatch.setattr(chat_client, "LEAVE_SECONDS", 0.05)

    async def stubborn(host):
        await host.let_in()
        await host.hears(Kind.END)
        await gone(host)

    async with hosting(stubborn) as server:
        async with entering(server) as ann:
            await until(ann, "joined")
        assert ann._task.done()


@played
async def test_who_is_cancelled_on_the_way_in_is_not_there():
    async def silent(host):
        await host.hears(Kind.OPEN, operation="chat")
        entry.cancel()
        await gone(host)

    async with hosting(silent) as server:
        entry = asyncio.create_task(entering(server).__aenter__())
        with pytest.raises(asyncio.CancelledError):
            await entry


@played
async def test_who_is_cancelled_on_the_way_out_is_out():
    async def stubborn(host):
        await host.let_in()
        await host.hears(Kind.END)
        leaving.cancel()
        await gone(host)

    async with hosting(stubborn) as server, entering(server) as ann:
        await until(ann, "joined")
        leaving = asyncio.create_task(ann.leave())
        with pytest.raises(asyncio.CancelledError):
            await leaving
        async with asyncio.timeout(PATIENCE):
            assert await ann.read() == []


def test_a_server_that_does_not_answer_is_given_up():
    async def silent(host):
        await gone(host)

    async def main():
        async with hosting(silent) as server:
            with pytest.raises(TimeoutError):
                await entering(server, timeout=5)

    play(leaping_loop, main)  # on a busy machine, not even the greeting may take less than a short time


@played
async def test_what_cannot_be_said_is_not_sent():
    async with rooms_served() as server, entering(server) as ann:
        for text, code in (("", "bad_request"), ("\ud800", "bad_request"), ("ü" * 2049, "too_large")):
            with pytest.raises(OperationError) as info:
                await ann.say(text)
            assert info.value.code == code
        with pytest.raises(OperationError):
            await ann.topic("x" * 4097)
        await ann.say("ü" * 2048)
        await ann.settle()


@played
async def test_what_the_server_refuses_is_an_event_and_waits_no_longer():
    async def refuses(host):
        await host.let_in()
        message = await host.heard()
        await host.event("refused", id=message["id"], code="busy", message="not now")
        await host.let_go(2)

    async with hosting(refuses) as server, entering(server) as ann:
        name = await ann.say("hi")
        await ann.settle()
        refused = (await until(ann, "refused"))[-1]
        assert (refused.id, refused.code) == (name, "busy")


@played
async def test_who_says_much_waits_until_it_has_been_seen(monkeypatch):
    monkeypatch.setattr(chat_client, "MOST_UNSEEN", 2)

    async def slow(host):
        await host.let_in()
        messages = [await host.heard() for _ in range(2)]
        await asyncio.wait_for(asked.wait(), PATIENCE)
        await host.event("said", 2, id=messages[0]["id"], text="")
        assert (await host.heard())["text"] == "third"
        await host.let_go(3)

    asked = asyncio.Event()
    async with hosting(slow) as server, entering(server) as ann:
        await ann.say("first")
        await ann.say("second")
        third = asyncio.create_task(ann.say("third"))
        await asyncio.sleep(0.05)
        assert not third.done()
        asked.set()
        await third


@played
async def test_who_waits_to_say_more_is_told_that_the_room_is_lost(monkeypatch):
    monkeypatch.setattr(chat_client, "MOST_UNSEEN", 1)

    async def taken(host):
        await host.let_in()
        await host.heard()
        await host.say(Kind.ERROR, code="name_taken", message="ann: somebody else")

    async with hosting(taken) as server, entering(server) as ann:
        await until(ann, "joined")
        await ann.say("first")
        with pytest.raises(OperationError, match="somebody else"):
            await asyncio.wait_for(ann.say("second"), PATIENCE)


@played
async def test_the_server_says_what_one_is_called_and_how_long_a_text_may_be():
    async def named(host):
        await host.let_in(seq=0, name="bob", limits={"text": 5})
        await entered.wait()
        await host.event("joined", 1, name="bob")
        await host.event("said", 2, name="bob", id=(await host.heard())["id"], text="hello")
        await host.let_go(3)

    entered = asyncio.Event()
    async with hosting(named) as server, entering(server, name=None) as bob:
        assert bob.name == "bob"
        with pytest.raises(OperationError, match="6 bytes of text, and 5 may be"):
            await bob.say("hello!")
        entered.set()
        await bob.say("hello")
        await asyncio.wait_for(bob.settle(), PATIENCE)


@played
async def test_a_text_of_somebody_else_is_not_the_own_one_whatever_its_id():
    async def forging(host):
        await host.let_in()
        await host.event("said", 2, name="bob", id=(await host.heard())["id"], text="hi")
        await host.let_go(3)

    async with hosting(forging) as server, entering(server) as ann:
        await ann.say("hi")
        await until(ann, "said")
        assert ann.unseen == 1


@played
async def test_what_is_said_while_something_is_sent_is_sent_too():
    class Client:
        async def send_many_data(self, pieces):
            sent.append(pieces)
            if pieces == [b"first"]:
                stay._send(b"second")
            else:
                stay._is_leaving = True

        async def send(self, kind):
            sent.append(kind)

    sent = []
    stay = chat_client.StreamStay(None, {}, None, None)
    stay._send(b"first")
    await asyncio.wait_for(stay._send_all(Client()), PATIENCE)
    assert sent == [[b"first"], [b"second"], Kind.END]


@played
async def test_who_does_not_read_can_leave(monkeypatch):
    monkeypatch.setattr(chat_events, "MOST_EVENTS", 4)
    async with rooms_served() as server, entering(server) as ann, entering(server, "bob") as bob:
        reading = asyncio.create_task(until(bob, "said", 100))
        for number in range(100):
            await bob.say(str(number))
        await reading
        await ann.leave()
        assert len([event async for event in ann if event.type == "said"]) == 100


@played
async def test_each_text_is_said_once_however_often_the_connection_breaks():
    """The connections of a client that talks are cut at random; a witness sees each text once, in the order of their saying."""
    texts = [str(number) for number in range(300)]

    async def talk(room):
        for text in texts:
            await room.say(text)
            await asyncio.sleep(0)
        await room.settle()

    async with rooms_served() as server, entering(server, "bob", history=0) as bob, entering(server) as ann:
        connections = recorded(ann)
        talking = asyncio.create_task(talk(ann))
        reading = asyncio.create_task(until(ann, "never"))
        for number in range(12):
            await asyncio.sleep(random.uniform(0, 0.03))
            if number % 2 and hasattr(connections[-1], "_session"):
                connections[-1]._session.stream.abort()
            else:
                cut(server, "ann")
        await asyncio.wait_for(talking, PATIENCE)
        reading.cancel()
        await bob.leave()
        seen = [event async for event in bob]
    assert [event.text for event in seen if event.type == "said"] == texts


def recorded(room) -> list:
    """Return a list to which the next connections of a room come."""
    connections, dial = [None], room._dial

    def record():
        connections.append(dial())
        return connections[-1]

    room._dial = record
    return connections


def cut(server, name):
    """Cut the connection of a member, at the server's end."""
    for floor in server._chat._floors.values():
        for seat in list(floor.seats.values()):
            if seat.member.name == name:
                seat.session.stream.abort()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 9)"), "Connection refused"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect ('::1', 9), [Errno 111] Connect ('127.0.0.1', 9)"),
            "Connection refused",
        ),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (ssl.SSLCertVerificationError(1, "certificate has expired"), "certificate has expired"),
        (EndOfStreamError(), "the server hung up"),
        (TimeoutError(), "no answer"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "Connection timed out"),
        (ConnectionError("the room was left"), "the room was left"),
    ],
)
def test_why_a_connection_was_lost_is_told_in_words(error, text):
    assert chat_client.reason(error) == text
