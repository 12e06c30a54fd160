"""The chat server: what members get, in which order, and what happens to those who are slow, gone, or say what they may not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from sessions import PATIENCE, TOKEN, Speaker, played, speaking, where

from fastframe import aio
from fastframe.servers import chat, messages, rooms
from fastframe.servers.credentials import Keyring
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Fields, Kind
from fastframe.servers.rooms import Room, Rooms


@contextlib.asynccontextmanager
async def served(*, path=None, limits=None, all_rooms=None, ssl=None, **options) -> AsyncIterator[chat.ChatServer]:
    sockets = aio.bind("127.0.0.1", 0) if path is None else aio.bind(path=path)
    async with await chat.serve(
        all_rooms or Rooms(rate=1e6), sockets=sockets, ssl=ssl, limits=limits or chat.LIMITS, **options
    ) as server:
        yield server


class Talker(Speaker):
    """A client in a room."""

    opened: dict

    async def enter(self, name: str, room: str = "lobby", **asked) -> dict:
        await self.say(Kind.OPEN, operation="chat", room=room, name=name, **asked)
        self.opened = await self.hears(Kind.OPENED)
        return self.opened

    async def ask(self, **asked) -> None:
        await self.say(Kind.DATA, **asked)

    async def event(self, **fields) -> dict:
        """Hear the next event, which has to have those fields."""
        kind, body = await self.hear()
        assert kind is Kind.DATA, (kind, body)
        heard = json.loads(body)
        assert fields.items() <= heard.items(), heard
        return heard

    async def leave(self) -> dict:
        """Leave, and return what RESULT says; events before it are not looked at."""
        await self.say(Kind.END)
        while (heard := await self.hear())[0] is Kind.DATA:
            pass
        assert heard[0] is Kind.RESULT
        return heard[1]


@contextlib.asynccontextmanager
async def talking(server, name: str | None = None, room: str = "lobby", **asked) -> AsyncIterator[Talker]:
    """Connect, and enter the room; hear everything up to the own coming."""
    async with speaking(server, greeted=True) as speaker:
        talker = Talker(speaker.stream)
        if name is not None:
            await talker.enter(name, room, **asked)
            while (await talker.event()).get("name") != name:
                pass
        yield talker


@played
async def test_everybody_hears_the_same_in_the_same_order():
    async with served() as server, talking(server, "ann") as ann, talking(server, "bob") as bob:
        await ann.event(type="joined", name="bob", seq=2)
        await ann.ask(type="say", text="hi", id="1")
        await bob.ask(type="say", text="ho", id="1")
        heard = [await ann.event(type="said", seq=seq) for seq in (3, 4)]
        assert [await bob.event() for _ in range(2)] == heard
        assert {(event["name"], event["text"]) for event in heard} == {("ann", "hi"), ("bob", "ho")}


@played
async def test_what_is_said_while_a_large_room_rests_leaves_in_one_write(monkeypatch):
    batches = []

    def push(stream, batch, push=aio.FrameStream.push_batch):
        batches.append(len(batch))
        return push(stream, batch)

    all_rooms = Rooms(rate=1e6)
    async with served(all_rooms=all_rooms) as server, talking(server, "ann") as ann, talking(server, "bob") as bob:
        await ann.event(name="bob")
        log = all_rooms.find("lobby").log
        monkeypatch.setattr(aio.FrameStream, "push_batch", push)
        monkeypatch.setattr(chat.time, "thread_time", iter(range(100)).__next__)
        monkeypatch.setattr(chat, "MOST_REST", 0.2)
        await ann.ask(type="say", text="1")
        await bob.event(text="1")
        for talker, text in ((ann, "2"), (bob, "3")):
            head = log.head
            await talker.ask(type="say", text=text)
            while log.head == head:  # noqa: ASYNC110  the server reads it in this loop
                await asyncio.sleep(0)
        for text in ("2", "3"):
            await bob.event(text=text)
    assert batches[:4] == [1, 1, 2, 2]  # to each of the two


def noted_sleeps(monkeypatch) -> list[float]:
    """Have the server note how long it sleeps."""
    slept: list[float] = []

    async def sleep(seconds):
        slept.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(chat, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
    return slept


@played
async def test_a_rest_is_as_long_as_the_work_but_not_longer_than_one_may_wait(monkeypatch):
    slept = noted_sleeps(monkeypatch)
    for took in (chat.LEAST_REST / 2, chat.MOST_REST / 2, 2 * chat.MOST_REST):
        await chat.Floor._rest(None, took)
    assert slept == [chat.MOST_REST / 2, chat.MOST_REST]


@played
async def test_others_have_their_turn_while_a_large_room_is_told(monkeypatch):
    monkeypatch.setattr(chat, "MEMBERS_PER_TURN", 2)
    monkeypatch.setattr(chat, "LEAST_REST", 60.0)
    async with served() as server, contextlib.AsyncExitStack() as stack:
        members = [await stack.enter_async_context(talking(server, f"m{number}")) for number in range(5)]
        for member in members[:-1]:
            while (await member.event()).get("name") != "m4":
                pass
        slept = noted_sleeps(monkeypatch)
        await members[0].ask(type="say", text="hi")
        for member in members:
            await member.event(type="said", text="hi")
        assert slept == [0, 0]


@played
async def test_who_leaves_while_others_are_told_is_told_no_more():
    told, room = [], Room("lobby", 10, 1.0)

    def seat(name):
        def push_batch(batch):
            told.append((name, len(batch)))
            floor.unseat(bob)
            return True

        return chat.Seat(SimpleNamespace(stream=SimpleNamespace(push_batch=push_batch)), room.join(name)[0])

    ann, bob = seat("ann"), seat("bob")
    floor = chat.Floor(room, messages.MAX_PAYLOAD, chat.LAG)
    floor.seats = {each.member: each for each in (ann, bob)}
    ann.position = bob.position = room.log.head
    room.say(ann.member, "hi")
    floor.wake()
    await floor.until_handed(room.log.head)
    floor.close()
    assert told == [("ann", 1)]


@played
async def test_who_leaves_is_sent_no_more_of_what_it_missed():
    async def send_many(events):
        started.set()
        await asyncio.Event().wait()

    started, room = asyncio.Event(), Room("lobby", 10, 1.0)
    seat = chat.Seat(SimpleNamespace(stream=SimpleNamespace(send_many=send_many)), room.join("ann")[0])
    floor = chat.Floor(room, messages.MAX_PAYLOAD, PATIENCE)
    floor.begin(seat, 0)
    await started.wait()
    floor.unseat(seat)
    await asyncio.wait((seat.catching_up,), timeout=PATIENCE)
    assert seat.catching_up.cancelled()
    floor.close()


def test_nobody_asks_why_a_seat_ended_and_nobody_says_so(caplog):
    async def end():
        chat.Seat(None, None).end(OperationError("going_away"))
        gc.collect()

    asyncio.run(end())
    assert caplog.records == []


@played
async def test_what_opened_tells():
    async with served() as server, talking(server, "ann") as ann, talking(server) as bob:
        await ann.ask(type="topic", topic="tea")
        await ann.event(type="topic", topic="tea")
        opened = await bob.enter("bob", "LOBBY")
        assert opened | {"log": 0, "secret": 0, "limits": 0} == {
            "room": "lobby",
            "name": "bob",
            "topic": "tea",
            "log": 0,
            "head": 3,
            "members": 2,
            "secret": 0,
            "limits": 0,
        }
        assert opened["log"] == ann.opened["log"]
        assert opened["secret"] != ann.opened["secret"]
        assert opened["limits"] == {"text": 4096, "rate": 1e6, "burst": 20}


@played
async def test_rooms_know_nothing_of_each_other():
    async with served() as server, talking(server, "ann", "kitchen") as ann, talking(server, "ann", "garden") as other:
        await other.ask(type="say", text="weeds", id="")
        await other.event(text="weeds")
        await ann.ask(type="who")
        await ann.event(type="who", count=1, members=["ann"])


@played
async def test_the_line_about_a_stay_says_why_it_ended(caplog):
    with caplog.at_level(logging.INFO):
        async with served() as server, talking(server, "bob") as bob:
            async with talking(server, "ann") as ann:
                await ann.leave()
            async with talking(server, "cid"):
                pass
            while (await bob.event()).get("reason") != "lost":
                pass
    lines = [record.fields for record in caplog.records if record.msg == "operation"]
    assert [(line["member"], line["reason"]) for line in lines] == [("ann", "left"), ("cid", "lost"), ("bob", "lost")]
    assert max(record.levelno for record in caplog.records) == logging.INFO  # nothing went wrong


@played
async def test_nobody_says_more_than_the_room_has_been_told(monkeypatch):
    hand_out, untold = chat.Floor._hand_out, []

    async def counted(floor, events):
        untold.append(floor.room.log.head - floor.sent)
        await hand_out(floor, events)

    monkeypatch.setattr(chat.Floor, "_hand_out", counted)
    async with served() as server, talking(server, "ann") as ann, talking(server, "bob") as bob:
        for number in range(100):
            await ann.ask(type="say", text=str(number))
        for number in range(100):
            while (await bob.event()).get("text") != str(number):
                pass
    assert max(untold) <= 2  # one text of each


@played
async def test_what_happens_before_a_room_was_first_told_anything_is_told_once_and_in_order():
    class Stream:
        def push_batch(self, batch):
            told.extend(json.loads(payload[1:])["seq"] for payload in batch)
            return True

    class Session:
        stream = Stream()

    told = []
    room = Rooms(history=1).find("lobby")
    ann, _ = room.join("ann")
    floor = chat.Floor(room, 1 << 20, 1.0)
    floor.seats[ann] = seat = chat.Seat(Session(), ann)
    seat.position = room.log.head
    for name in ("bob", "cid", "dan"):
        room.join(name)
    floor.wake()
    await asyncio.wait_for(floor.until_handed(room.log.head), PATIENCE)
    floor.close()
    assert told == [2, 3, 4]


@played
async def test_who_leaves_hears_nothing_of_what_follows_even_behind_a_gap():
    class Stream:
        async def send_many(self, payloads):
            sent.extend(payloads)

    class Session:
        stream = Stream()

        async def send_data(self, data):
            sent.append(data)

    sent = []
    room = Rooms(history=5).find("lobby")
    ann, _ = room.join("ann")
    last = room.leave(ann, "left")
    bob, _ = room.join("bob")
    floor = chat.Floor(room, 1 << 20, 1.0)
    seat = chat.Seat(Session(), ann)
    seat.position = 0
    for _ in range(6):  # of which five are kept
        room.say(bob, "not for ann")
    room.log.hold(None)
    await floor.finish(seat, last)
    floor.close()
    assert [json.loads(data)["type"] for data in sent] == ["gap"]


@pytest.mark.parametrize(("history", "first"), [(0, 7), (3, 4), (50, 1)])
@played
async def test_history(history, first):
    async with served() as server, talking(server, "ann") as ann, talking(server) as bob:
        for number in range(5):
            await ann.ask(type="say", text=str(number))
            await ann.event(text=str(number))
        await bob.enter("bob", history=history)
        for seq in range(first, 8):
            last = await bob.event(seq=seq)
        assert (last["type"], last["name"]) == ("joined", "bob")


@played
async def test_who_comes_again_hears_what_it_missed():
    async with served() as server, talking(server, "ann") as ann:
        async with talking(server, "bob") as bob:
            secret, log = bob.opened["secret"], bob.opened["log"]
        for seq, kind in ((2, "joined"), (3, "left")):
            event = await ann.event(type=kind, name="bob", seq=seq)
        assert event["reason"] == "lost"
        await ann.ask(type="say", text="missed")
        async with talking(server) as bob:
            await bob.enter("bob", since=2, log=log, secret=secret)
            await bob.event(seq=3, type="left")
            await bob.event(seq=4, text="missed")
            await bob.event(seq=5, type="joined", name="bob")


@pytest.mark.parametrize(("since", "same_log"), [(2, True), (6, True), (2, False)])
@played
async def test_what_is_not_kept_any_more_is_a_gap(since, same_log):
    async with served(all_rooms=Rooms(history=4, rate=1e6)) as server, talking(server, "ann") as ann, talking(server) as bob:
        for number in range(9):
            await ann.ask(type="say", text=str(number))
            await ann.event(text=str(number))
        await bob.enter("bob", since=since, log=ann.opened["log"] if same_log else "another")
        await bob.event(type="gap", next=8)  # of 1 to 11 four are kept, with bob's coming
        for seq in range(8, 12):
            await bob.event(seq=seq)


@played
async def test_a_name_that_is_taken():
    async with served() as server, talking(server, "ann") as ann, talking(server) as other:
        await other.say(Kind.OPEN, operation="chat", room="lobby", name="ANN")
        await other.hears(Kind.ERROR, code="name_taken")
        await other.enter("bob")  # the session goes on
        await ann.event(type="joined", name="bob")


@played
async def test_a_client_that_comes_again_takes_the_place_of_its_lost_connection():
    async with served() as server, talking(server, "ann") as ann, talking(server) as again:
        await again.enter("ann", since=ann.opened["head"], log=ann.opened["log"], secret=ann.opened["secret"])
        await again.event(seq=2, type="left", reason="replaced")
        await again.event(seq=3, type="joined", name="ann")
        while (heard := await ann.hear())[0] is Kind.DATA:
            pass
        assert heard[0] is Kind.ERROR
        assert heard[1]["code"] == "name_taken"
        await again.ask(type="who")
        await again.event(type="who", members=["ann"])


@played
async def test_what_waits_while_the_same_client_comes_again_is_not_said(monkeypatch):
    asleep, awake, end = asyncio.Event(), asyncio.Event(), chat.Seat.end

    async def sleep(seconds):
        asleep.set()
        await awake.wait()

    def end_and_wake(seat, error):
        end(seat, error)
        awake.set()

    monkeypatch.setattr(chat, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
    monkeypatch.setattr(chat, "LEAST_REST", 60.0)
    monkeypatch.setattr(chat.Seat, "end", end_and_wake)
    async with served(all_rooms=Rooms(rate=1)) as server, talking(server, "ann") as ann, talking(server) as again:
        for number in range(rooms.BURST + 1):
            await ann.ask(type="say", text=str(number))
        await asyncio.wait_for(asleep.wait(), PATIENCE)
        await again.enter("ann", history=0, secret=ann.opened["secret"])
        await again.ask(type="say", text="again")
        await again.event(type="left", reason="replaced")
        await again.event(type="joined")
        await again.event(type="said", text="again")


@played
async def test_leaving_ends_with_the_own_event():
    async with served() as server, talking(server, "ann") as ann, talking(server, "bob") as bob:
        await bob.say(Kind.END)
        await bob.event(seq=3, type="left", name="bob", reason="left")
        assert await bob.hears(Kind.RESULT) == {"seq": 3}
        await ann.event(seq=2, type="joined")
        await ann.event(seq=3, type="left", name="bob")
        (floor,) = server._chat._floors.values()
        assert [member.name for member in floor.seats] == ["ann"]
        await bob.enter("bob", history=0)  # on the same connection
        await bob.event(seq=4, type="joined")
        await bob.say(Kind.CANCEL)
        while (heard := await bob.hear())[0] is Kind.DATA:
            pass
        assert heard[1]["code"] == "cancelled"
        await ann.event(seq=4)
        await ann.event(seq=5, type="left", reason="left")


@played
async def test_an_empty_room_forgets_nothing():
    async with served() as server:
        async with talking(server, "ann") as ann:
            await ann.ask(type="say", text="note")
            (floor,) = server._chat._floors.values()
            await ann.leave()
            assert (server._chat._floors, floor._task.cancelled(), floor.room.log._held) == ({}, True, None)
        async with talking(server) as bob:
            await bob.enter("bob")
            assert [(await bob.event())["seq"] for _ in range(4)] == [1, 2, 3, 4]


@played
async def test_what_is_refused_ends_nothing():
    async with served() as server, talking(server, "ann") as ann:
        await ann.ask(type="say", text="é" * 2049, id="7")
        await ann.event(type="refused", id="7", code="too_large")
        await ann.ask(type="dance", id="8")
        await ann.event(type="refused", id="8", code="unsupported")
        await ann.ask(type="say", text="still here")
        await ann.event(seq=2, text="still here")


@played
async def test_what_has_no_place_in_a_room_ends_the_connection():
    async with served() as server, talking(server, "ann") as ann:
        await ann.say(Kind.SIGNAL, signal="TERM")
        await ann.hears(Kind.ERROR, code="bad_message")
        assert await ann.ended()


@pytest.mark.parametrize(
    "body", [b"no JSON", b"[]", b'{"type":"say","text":"\xff"}', b'{"type":"who","type":"who"}', b"{" * 70_000]
)
@played
async def test_what_is_no_message_ends_the_connection(body):
    async with served() as server, talking(server, "ann") as ann, talking(server, "bob") as bob:
        await bob.stream.send(b"\x12" + body)
        await bob.hears(Kind.ERROR, code="bad_message")
        assert await bob.ended()
        await ann.event(type="joined")
        await ann.event(type="left", name="bob")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"room": "lobby"}, "bad_request"),
        ({"name": "ann"}, "bad_request"),
        ({"room": "", "name": "ann"}, "bad_name"),
        ({"room": "lobby", "name": "a\x1bb"}, "bad_name"),
        ({"room": "lobby", "name": "ann", "since": -1}, "bad_request"),
        ({"room": "lobby", "name": "ann", "history": "all"}, "bad_request"),
        ({"room": "lobby", "name": "ann", "secret": 1}, "bad_request"),
        ({"room": "lobby", "name": "ann", "since": 1, "log": 5}, "bad_request"),
    ],
)
@played
async def test_what_nobody_may_ask_for(asked, code):
    async with served() as server, talking(server) as ann:
        await ann.say(Kind.OPEN, operation="chat", **asked)
        await ann.hears(Kind.ERROR, code=code)
        await ann.enter("ann")
        await ann.event(seq=1, type="joined")


@played
async def test_a_flood_is_read_later():
    async with served(all_rooms=Rooms(rate=50)) as server, talking(server, "ann") as ann:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(40):
            await ann.ask(type="say", text=str(number))
        for number in range(40):
            await ann.event(type="said", text=str(number))
        assert loop.time() - start > 0.35  # 20 at once, 20 more in 0.4 s


@played
async def test_a_key_is_a_name():
    async with served(keyring=Keyring({"alice": TOKEN, "bob": TOKEN})) as server, speaking(server) as speaker:
        await speaker.authenticate(await speaker.greet())
        await speaker.hears(Kind.AUTHENTICATED)
        assert (await Talker(speaker.stream).enter("bob"))["name"] == "alice"


@played
async def test_a_drain_tells_members_and_waits_for_nobody(caplog):
    async with served() as server, talking(server, "ann") as ann, talking(server, "bob") as bob:
        caplog.set_level(logging.INFO)
        closing = asyncio.create_task(server.close(grace=PATIENCE))
        await ann.event(type="joined", name="bob")
        for member in (ann, bob):
            await member.hears(Kind.GOAWAY)
            await member.hears(Kind.ERROR, code="going_away")
            assert await member.ended()
        await asyncio.wait_for(closing, PATIENCE / 2)
    assert [record.fields["reason"] for record in caplog.records if record.msg == "operation"] == ["drained", "drained"]


@played
async def test_nobody_comes_in_once_the_server_is_ending():
    session = SimpleNamespace(going_away=True, user="", audit={})
    with pytest.raises(OperationError) as info:
        await chat.Chat(Rooms(), messages.MAX_PAYLOAD, chat.LAG, named=False).chat(session, Fields(room="lobby", name="ann"))
    assert info.value.code == "going_away"


@played
async def test_members_of_a_unix_socket_choose_their_names(tmp_path):
    async with served(path=tmp_path / "chat") as server, aio.connect(**where(server)) as stream:
        ann = Talker(stream)
        await ann.greet()
        assert (await ann.enter("ann"))["name"] == "ann"


@played
async def test_slow_members_are_cut_and_nobody_else_loses_a_message():
    """20 members, four of which stop reading, and 1,500 messages: each sequence is looked at."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(served(lag=1.0))
        members = [await stack.enter_async_context(talking(server, f"m{number}")) for number in range(20)]
        slow = members[::5]
        for member in slow:
            member.stream.transport.pause_reading()
        quick = [member for member in members if member not in slow]
        texts = [str(number).ljust(1000, ".") for number in range(1500)]
        hearing = [asyncio.create_task(_all(member, len(texts))) for member in quick]
        for number, text in enumerate(texts):
            await quick[number % len(quick)].ask(type="say", text=text)
            if number % 20 == 0:
                await asyncio.sleep(0.01)
        sequences = [await task for task in hearing]
        assert all(sequence == sequences[0] for sequence in sequences)
        assert sorted(text for _, text in sequences[0]) == sorted(texts)
        while server.counters["members_cut"] < len(slow):
            await quick[0].event(type="left", reason="slow")


async def _all(member: Talker, count: int) -> list[tuple[int, str]]:
    """Hear so many texts; return them with their numbers, of which none may be missing."""
    heard, last = [], None
    while len(heard) < count:
        event = await member.event()
        assert last is None or event["seq"] == last + 1
        last = event["seq"]
        if event["type"] == "said":
            heard.append((last, event["text"]))
        assert event.get("reason") in (None, "slow")
    return heard


@played
async def test_a_member_that_stalls_for_a_while_catches_up():
    async with served(lag=PATIENCE) as server, talking(server, "ann") as ann, talking(server, "bob") as bob:
        bob.stream.transport.pause_reading()
        hearing = asyncio.create_task(_all(ann, 400))
        for number in range(400):
            await ann.ask(type="say", text=str(number).ljust(500, "."))
        await hearing
        bob.stream.transport.resume_reading()
        assert [text.rstrip(".") for _, text in await _all(bob, 400)] == [str(number) for number in range(400)]
        await ann.ask(type="say", text="and now")
        await bob.event(text="and now")
        assert server.counters["members_cut"] == 0


@played
async def test_who_is_behind_the_beginning_of_the_log_is_told():
    async with (
        served(all_rooms=Rooms(history=10, rate=1e6), lag=PATIENCE) as server,
        talking(server, "ann") as ann,
        talking(server, "bob") as bob,
    ):
        bob.stream.transport.pause_reading()
        hearing = asyncio.create_task(_all(ann, 1000))
        for number in range(1000):
            await ann.ask(type="say", text=str(number).ljust(4000, "."))
        await hearing
        bob.stream.transport.resume_reading()
        seqs, gaps = [2], 0
        while seqs[-1] < 1002:
            if (event := await bob.event())["type"] == "gap":
                gaps += 1
                assert event["next"] > seqs[-1] + 1
                seqs.append(event["next"] - 1)
            else:
                assert event["seq"] == seqs[-1] + 1
                seqs.append(event["seq"])
        assert gaps


@played
async def test_more_than_the_log_holds_in_one_turn_is_lost_to_nobody():
    async with served(all_rooms=Rooms(history=3, rate=1e6)) as server, contextlib.AsyncExitStack() as stack:
        members = [await stack.enter_async_context(talking(server, f"m{number}")) for number in range(10)]
        for member in members:
            for number in range(10):
                await member.ask(type="say", text=f"{number}")
        sequences = [await _all(member, 100) for member in members]
        assert all(sequence == sequences[0] for sequence in sequences)


@played
async def test_who_leaves_and_takes_nothing_is_not_waited_for():
    async with served(lag=1.0) as server, talking(server, "ann") as ann, talking(server) as bob:
        hearing = asyncio.create_task(_all(ann, 500))
        for number in range(500):
            await ann.ask(type="say", text=str(number).ljust(500, "."))
        await hearing
        bob.stream.transport.pause_reading()
        await bob.say(Kind.OPEN, operation="chat", room="lobby", name="bob", history=1000)  # more than the kernel holds
        await bob.say(Kind.END)
        await ann.event(type="joined", name="bob")
        await ann.event(type="left", name="bob", reason="left")
        async with asyncio.timeout(PATIENCE):
            while server.connections > 1:  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(0.01)


@played
async def test_joining_while_others_talk_misses_nothing():
    async with served() as server, talking(server, "ann") as ann, contextlib.AsyncExitStack() as stack:
        hearing = asyncio.create_task(_all(ann, 300))
        late = []
        for number in range(300):
            await ann.ask(type="say", text=str(number))
            if number % 30 == 15:
                late.append(await stack.enter_async_context(talking(server)))
                await late[-1].enter(f"m{number}", history=1000)
        expected = await hearing
        for member in late:
            assert await _all(member, 300) == expected


def test_options_that_cannot_be(capsys):
    for argv in (["--workers", "2"], ["--rate", "0"], ["--rate", "x"], ["--history", "0"]):
        with pytest.raises(SystemExit) as caught:
            chat.serve_main(argv)
        assert caught.value.code == 2
    assert chat.serve_main(["--tokens", "/nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
