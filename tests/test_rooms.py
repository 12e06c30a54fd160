"""Rooms without input or output: order, history, gaps, names, floods."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastframe.servers import rooms
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Fields, decode_fields
from fastframe.servers.rooms import Flood, Log, Room, Rooms, checked_name, folded


@pytest.fixture
def _no_time_passes(monkeypatch):
    """Have all events of a size, whose times would not be as long as each other."""
    monkeypatch.setattr(rooms.time, "time", lambda: 1.8e9)


def room(history: int = 1000) -> Room:
    return Room("lobby", history, rooms.RATE)


def events(log: Log, seq: int = 0) -> list[dict]:
    payloads = log.behind(seq)
    assert all(payload[:1] == b"\x12" for payload in payloads)
    return [json.loads(payload[1:]) for payload in payloads]


def code(call, *arguments, **named) -> str:
    with pytest.raises(OperationError) as caught:
        call(*arguments, **named)
    return caught.value.code


def test_events_are_numbered_in_one_order():
    lobby = room()
    ann, _ = lobby.join("ann")
    bob, _ = lobby.join("bob")
    lobby.say(ann, "hi", "1f")
    lobby.set_topic(bob, "tea")
    lobby.leave(ann, "lost")
    happened = events(lobby.log)
    assert [(event["seq"], event["type"], event["name"]) for event in happened] == [
        (1, "joined", "ann"),
        (2, "joined", "bob"),
        (3, "said", "ann"),
        (4, "topic", "bob"),
        (5, "left", "ann"),
    ]
    assert happened[2]["text"] == "hi"
    assert happened[2]["id"] == "1f"
    assert happened[3]["topic"] == lobby.topic == "tea"
    assert happened[4]["reason"] == "lost"
    assert all(event["time"] > 1.7e9 for event in happened)
    assert lobby.names == ["bob"]


def test_who_has_left_is_not_there_again():
    lobby = room()
    ann, _ = lobby.join("ann")
    assert lobby.leave(ann, "left") == 2
    assert lobby.leave(ann, "left") is None
    other, _ = lobby.join("ann")
    assert lobby.leave(ann, "left") is None
    assert lobby.names == ["ann"]
    assert lobby.leave(other, "left") == 4


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 20))
def test_a_log_keeps_the_last_events(texts, most):
    log = Log(most)
    for number, size in enumerate(texts, 1):
        assert log.append("said", text="x" * size) == number
    kept = [event["seq"] for event in events(log)]
    assert kept == list(range(max(1, len(texts) - most + 1), len(texts) + 1))
    assert (log.head, log.first) == (len(texts), log.head - len(kept) + 1)
    for seq in range(log.head + 1):
        assert [event["seq"] for event in events(log, seq)] == [number for number in kept if number > seq]


@pytest.mark.usefixtures("_no_time_passes")
def test_a_log_is_bounded_in_bytes():
    log = Log(1000)
    for _ in range(300):
        log.append("said", text="x" * rooms.LONGEST_TEXT)
    kept = log.behind(0, most=1 << 30)
    assert sum(map(len, kept)) <= rooms.HISTORY_BYTES < sum(map(len, kept)) + len(kept[0])


@pytest.mark.parametrize(
    ("since", "history", "behind"),
    [
        (None, 0, 12),  # nothing old
        (None, 3, 9),
        (None, 100, 7),  # all that is kept: 8 to 12
        (12, 0, 12),
        (9, 100, 9),
        (6, 0, 6),  # 7 is missing
        (0, 0, 0),
        (13, 0, -1),  # of another log
    ],
)
def test_where_a_member_begins(since, history, behind):
    lobby = room(history=5)
    ann, _ = lobby.join("ann")
    for _ in range(11):
        lobby.say(ann, "x")
    assert lobby.start(since, lobby.log.id, history) == behind
    if since is not None:
        assert lobby.start(since, "another", history) == -1


def test_what_is_held_is_kept():
    log = Log(2)
    log.hold(0)
    for _ in range(5):
        log.append("said")
    assert [event["seq"] for event in events(log)] == [1, 2, 3, 4, 5]
    log.hold(2)
    assert [event["seq"] for event in events(log)] == [3, 4, 5]
    log.hold(None)
    assert [event["seq"] for event in events(log)] == [4, 5]


@pytest.mark.usefixtures("_no_time_passes")
def test_pieces_of_a_log():
    log = Log(10)
    for _ in range(4):
        log.append("said", text="x" * 100)
    size = len(log.behind(0)[0])
    assert [len(log.behind(0, most)) for most in (1, size, 2 * size - 1, 2 * size, 100 * size)] == [1, 1, 1, 2, 4]
    assert log.behind(4) == []


def test_names_are_unique_however_they_are_written():
    lobby = room()
    lobby.join("Straße")
    for name in ("STRASSE", "strasse", "\uff33trasse", "Straße\ufe0f", "\u3164Stra\u2800ße", "Stra\u034fße"):
        assert code(lobby.join, name) == "name_taken"
        assert code(lobby.join, name, "0" * 32) == "name_taken"
    lobby.join("Strase")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ann",
        "ann ",
        "a\nb",
        "a\x1b[2Jb",
        "a\u202eb",
        "a\u200bb",
        "a\u2028b",
        "e\u0301",
        "x" * 33,
        "a\x00",
        "ann \u2800",
        "\ud800",
        "\u00a0",
        "\u3164",
        "\ufe0f",
    ],
)
def test_names_that_are_refused(name):
    assert code(checked_name, name) == "bad_name"


@pytest.mark.parametrize("name", ["a", "Ann Lee", "安娜", "é", "x" * 32, "a.b-c_d", "🦊", "❤️", "O'Neil"])
def test_names_that_are_taken(name):
    assert checked_name(name) == name


@given(st.text())
def test_folding_again_changes_nothing(name):
    assert folded(folded(name)) == folded(name)


def test_a_name_is_taken_back_with_its_secret():
    lobby = room()
    old, _ = lobby.join("Ann")
    member, replaced = lobby.join("ann", old.secret)
    assert replaced is old
    assert member.secret == old.secret
    assert member.flood is old.flood  # who comes again has not more to say
    assert lobby.names == ["ann"]
    assert [event["type"] for event in events(lobby.log)] == ["joined", "left", "joined"]
    assert events(lobby.log)[1]["reason"] == "replaced"
    assert lobby.leave(old, "lost") is None


def test_a_room_is_full(monkeypatch):
    monkeypatch.setattr(rooms, "MOST_MEMBERS", 1)
    lobby = room()
    ann, _ = lobby.join("ann")
    assert code(lobby.join, "bob") == "busy"
    lobby.join("ann", ann.secret)


def test_what_a_member_asks_for():
    lobby = room()
    ann, _ = lobby.join("ann")
    assert ann.obey(Fields(type="say", text="hi", id="7")) == b""
    assert ann.obey(Fields(type="topic", topic="")) == b""
    assert json.loads(ann.obey(Fields(type="who"))) == {"type": "who", "count": 1, "members": ["ann"]}
    assert [event["type"] for event in events(lobby.log)] == ["joined", "said", "topic"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "bad_request"),
        ({"type": "shout", "text": "hi"}, "unsupported"),
        ({"type": "say"}, "bad_request"),
        ({"type": "say", "text": ""}, "bad_request"),
        ({"type": "say", "text": 1}, "bad_request"),
        ({"type": "say", "text": "é" * 2049}, "too_large"),
        ({"type": "say", "text": "x" * 4097}, "too_large"),
        ({"type": "topic", "topic": "x" * 4097}, "too_large"),
        ({"type": "say", "text": "x", "id": "i" * 33}, "bad_request"),
        ({"type": "say", "text": "x", "id": 3}, "bad_request"),
        ({"type": "topic"}, "bad_request"),
    ],
)
def test_what_a_member_may_not_ask_for(asked, expected):
    lobby = room()
    ann, _ = lobby.join("ann")
    assert code(ann.obey, Fields(asked)) == expected
    assert lobby.log.head == 1
    refused = json.loads(rooms.refusal(Fields(asked), OperationError(expected)))
    assert (refused["type"], refused["code"], len(refused["id"]) <= 32) == ("refused", expected, True)


def test_the_longest_text_is_taken():
    lobby = room()
    ann, _ = lobby.join("ann")
    ann.obey(Fields(type="say", text="é" * 2048))
    assert events(lobby.log)[-1]["text"] == "é" * 2048


def test_who_tells_as_many_names_as_a_message_has_room_for_whatever_they_are():
    lobby = room()
    names = [f"{number:03}".ljust(rooms.LONGEST_NAME, "🦊") for number in range(1000)]
    for name in names:
        member, _ = lobby.join(name)
    who = decode_fields(member.obey(Fields(type="who")))
    assert who == {"type": "who", "count": 1000, "members": names[: rooms.MOST_NAMES]}


def test_rooms_are_made_when_asked_for():
    all_rooms = Rooms()
    lobby = all_rooms.find("Lobby")
    assert all_rooms.find("LOBBY") is lobby
    assert lobby.name == "Lobby"
    assert all_rooms.find("x" * 64) is not lobby
    assert list(all_rooms) == [lobby, all_rooms.find("x" * 64)]
    assert code(all_rooms.find, "x" * 65) == "bad_name"


def test_the_room_that_nobody_has_entered_for_longest_makes_place():
    all_rooms = Rooms(most=2)
    lobby, _ = all_rooms.find("lobby"), all_rooms.find("kitchen")
    assert all_rooms.find("lobby") is lobby
    garden = all_rooms.find("garden")
    assert list(all_rooms) == [lobby, garden]


def test_a_room_with_somebody_in_it_makes_no_place():
    all_rooms = Rooms(most=2)
    lobby, kitchen = all_rooms.find("lobby"), all_rooms.find("kitchen")
    ann, _ = lobby.join("ann")
    assert all_rooms.find("garden").names == []
    assert list(all_rooms) == [lobby, all_rooms.find("garden")]
    assert all_rooms.find("kitchen") is not kitchen
    all_rooms.find("kitchen").join("bob")
    assert code(all_rooms.find, "garden") == "busy"
    lobby.leave(ann, "left")
    assert all_rooms.find("garden").log.head == 0


def test_a_flood_is_slowed_down():
    flood = Flood(rate=5, burst=20)
    assert [flood.take(100.0) for _ in range(20)] == pytest.approx([0] * 20)
    assert [flood.take(100.0) for _ in range(3)] == pytest.approx([0.2, 0.4, 0.6])
    assert flood.take(100.8) == pytest.approx(0)
    assert flood.early(100.8) == pytest.approx(0.2)
    assert [flood.take(200.0) for _ in range(20)] == pytest.approx([0] * 20)


def test_a_flood_counts_evenly():
    flood = Flood(rate=5, burst=20)
    assert all(flood.take(number / 5) < 1e-9 for number in range(1000))
