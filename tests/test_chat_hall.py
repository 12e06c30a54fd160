"""What the chat server over datagrams has of a room: the datagrams of its events, once for all, and again for who asks."""

from __future__ import annotations

import pytest
from calling import Wire

from fastframe.servers.chat_door import Peer
from fastframe.servers.chat_hall import WHO_LENGTH, Hall, Seat, missing
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Fields
from fastframe.servers.rooms import Rooms

ONE, OTHER = Wire(), Wire()


@pytest.fixture
def hall():
    """A hall with a history of three events, and ann and bob, who are on different wires."""
    hall = Hall(Rooms(history=3).find("lobby"), sent=0)
    for name, peer in (("ann", Peer(ONE, "/a")), ("bob", Peer(OTHER, "/b")), ("cy", Peer(ONE, "/c"))):
        member, _ = hall.room.join(name)
        hall.seats[member] = Seat(hall, member, peer, "", 0.0)
    return hall


def test_an_event_is_as_in_the_log_with_the_logs_id(hall):
    (payload,) = hall.room.log.behind(2)
    (event,) = hall.find([3])
    mark = b'"log":"' + hall.room.log.id.encode() + b'",'
    assert event == len(payload + mark).to_bytes(4, "big") + payload[:2] + mark + payload[2:]
    assert event[4:6] == b"\x12{"


def test_news_are_for_everybody_once(hall):
    events = hall.find([1, 2, 3])
    assert dict(hall.news()) == {
        ONE: [(event, address) for event in events for address in ("/a", "/c")],
        OTHER: [(event, "/b") for event in events],
    }
    assert list(hall.news()) == []
    hall.room.set_topic(next(iter(hall.seats)), "new")
    assert dict(hall.news())[OTHER] == [(hall.find([4])[0], "/b")]


def test_what_is_not_kept_is_not_found(hall):
    hall.room.set_topic(next(iter(hall.seats)), "new")
    assert hall.find([-1, 0, 1, 5, 99]) == []
    assert hall.find([1, 4, 2, 4]) == [*hall.find([4]), *hall.find([2]), *hall.find([4])]


def test_who_names_as_many_as_fit(hall):
    assert hall.who() == {"count": 3, "members": ["ann", "bob", "cy"]}
    for number in range(100):
        hall.room.join(f"{number:030}ü")
    names = hall.who()["members"]
    assert len(hall.room) == hall.who()["count"] == 103
    assert WHO_LENGTH - 36 < sum(len(name.encode()) + 3 for name in names) <= WHO_LENGTH


@pytest.mark.parametrize("wrong", ["7", 7, ["7"], [7.0], [True], [[7]], list(range(33)), {"a": 1}, None])
def test_what_is_no_list_of_events_is_refused(wrong):
    with pytest.raises(OperationError, match="at most 32 numbers"):
        missing(Fields(missing=wrong))
    assert missing(Fields()) == []
    assert missing(Fields(missing=list(range(32)))) == list(range(32))
