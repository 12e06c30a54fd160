"""Events as they come from a server that may lie, and where they wait to be read."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from sessions import played

from fastframe.servers import chat_events
from fastframe.servers.chat_events import FIELDS, OWN, Event, Inbox
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Fields

PAGE = (Path(__file__).parent.parent / "docs/chat.md").read_text()
NUMBERED = {"seq": 7, "time": 1.5, "name": "ann"}
RIGHT = {
    "said": {**NUMBERED, "id": "1f", "text": "hi"},
    "joined": NUMBERED,
    "left": {**NUMBERED, "reason": "lost"},
    "topic": {**NUMBERED, "topic": ""},
    "gap": {"next": 5},
    "who": {"count": 2, "members": ["ann", "bob"]},
    "refused": {"id": "1f", "code": "too_large", "message": "no"},
}
WRONG = [
    ("said", {"seq": 0}),
    ("said", {"seq": "7"}),
    ("said", {"time": True}),
    ("said", {"time": -1}),
    ("said", {"time": 1e300}),
    ("said", {"time": "now"}),
    ("said", {"name": None}),
    ("said", {"name": "x" * 257}),
    ("said", {"id": "x" * 65}),
    ("said", {"text": ["hi"]}),
    ("left", {"reason": "x" * 65}),
    ("topic", {"topic": None}),
    ("gap", {"next": 0}),
    ("who", {"members": [1]}),
    ("who", {"count": -1}),
    ("refused", {"code": 1}),
    ("x" * 65, {}),
    (None, {}),
]


@pytest.mark.parametrize("kind", RIGHT)
def test_what_a_server_tells_is_what_json_prints(kind):
    event = Event.from_fields(Fields(RIGHT[kind], type=kind, unknown={"to": "this client"}))
    expected = {"type": kind, **RIGHT[kind]} | ({"missed": None} if kind == "gap" else {})
    shown = event.as_object()
    assert {**shown, "members": list(shown.get("members", ()))} == {"members": [], **expected}


def test_every_type_of_a_server_is_here():
    assert set(RIGHT) == set(FIELDS) - OWN


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_is_described(kind):
    row = re.search(rf"^\| `{kind}` \| (.*) \|$", PAGE, re.MULTILINE)[1]
    assert all(f"`{name}`" in row for name in FIELDS[kind])


@pytest.mark.parametrize(("kind", "wrong"), WRONG, ids=str)
def test_what_is_no_event_is_refused(kind, wrong):
    with pytest.raises(OperationError):
        Event.from_fields(Fields(RIGHT.get(kind, {}), type=kind, **wrong))


@pytest.mark.parametrize(
    "name", [(kind, name) for kind in RIGHT for name in RIGHT[kind] if name not in ("id", "message", "count")]
)
def test_an_event_has_all_its_fields(name):
    kind, name = name
    fields = {key: value for key, value in RIGHT[kind].items() if key != name}
    if name == "members":
        assert Event.from_fields(Fields(fields, type=kind)).members == ()
        return
    with pytest.raises(OperationError):
        Event.from_fields(Fields(fields, type=kind))


@pytest.mark.parametrize("kind", [*sorted(OWN), "new"])
def test_what_only_the_client_says_is_unknown_from_a_server(kind):
    assert Event.from_fields(Fields(type=kind, seq=9, name=1)) == Event("unknown", seq=9)
    assert Event.from_fields(Fields(type=kind)) == Event("unknown")


@played
async def test_an_inbox_holds_so_many_events_and_gives_all_at_once(monkeypatch):
    monkeypatch.setattr(chat_events, "MOST_EVENTS", 3)
    inbox = Inbox()
    putting = asyncio.create_task(put(inbox, 5))
    await asyncio.sleep(0.01)
    assert [event.seq for event in await inbox.read()] == [0, 1, 2]
    await putting
    assert [event.seq for event in await inbox.read()] == [3, 4]


@played
async def test_an_inbox_that_is_widened_lets_nobody_wait(monkeypatch):
    monkeypatch.setattr(chat_events, "MOST_EVENTS", 3)
    inbox = Inbox()
    putting = asyncio.create_task(put(inbox, 50))
    await asyncio.sleep(0.01)
    inbox.widen()
    await putting
    assert len(await inbox.read()) == 50


@played
async def test_an_inbox_ends_behind_its_events():
    for error in (None, OSError("gone")):
        inbox = Inbox()
        await put(inbox, 1)
        inbox.end(error)
        assert len(await inbox.read()) == 1
        if error is None:
            assert await inbox.read() == []
        else:
            with pytest.raises(OSError, match="gone"):
                await inbox.read()


@played
async def test_who_waits_for_an_event_hears_of_the_end():
    inbox = Inbox()
    reading = asyncio.create_task(inbox.read())
    await asyncio.sleep(0)
    inbox.end()
    assert await asyncio.wait_for(reading, 1) == []


async def put(inbox, count):
    for number in range(count):
        await inbox.put(Event("said", seq=number))
