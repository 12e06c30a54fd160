"""Who competes in the chat benchmark, how each is started, and that the rooms of others are rooms."""

import asyncio
import importlib.util
import queue
import socket
import sys
from pathlib import Path

import pytest

from fastframe.bench import chats, otherchats
from fastframe.bench.chats import Crowd
from fastframe.bench.entry import LeftOutError


def test_everybody_has_a_command_and_says_what_it_does_in_a_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(otherchats, "c_program", lambda name: Path("/cache", name))
    for name, contender in otherchats.CONTENDERS.items():
        command = contender.command()
        assert all(isinstance(word, str) for word in command)
        assert command[0] == (sys.executable if name != "c" else "/cache/fanout")
        assert name == "c" or name.rpartition("/")[2] in command or contender.tls
        assert (command[-1] == "--tls-cert") == contender.tls  # its file comes behind it
        assert contender.does
        assert not contender.does.endswith((".", "\n"))


def test_a_package_that_is_not_here_is_found_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvloop" else name)
    with pytest.raises(LeftOutError, match="uvloop is not installed"):
        otherchats.CONTENDERS["fastframe/uvloop"].command()
    assert otherchats.CONTENDERS["streams/asyncio"].command()[0] == sys.executable


def test_without_websockets_its_room_alone_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "websockets" else name)
    with pytest.raises(LeftOutError, match="websockets is not installed"):
        otherchats.CONTENDERS["websockets/asyncio"].command()
    assert otherchats.CONTENDERS["streams/uvloop"].command()[-2:] == ["streams", "uvloop"]


def test_the_base_is_always_chosen():
    assert list(otherchats.chosen([])) == list(otherchats.CONTENDERS)
    assert list(otherchats.chosen(["streams/uvloop"])) == ["c", "streams/uvloop"]
    with pytest.raises(ValueError, match="there is no 'nobody'; there are c, "):
        otherchats.chosen(["nobody"])


def test_versions_are_of_those_who_take_part(monkeypatch):
    monkeypatch.setattr(otherchats, "package_versions", list)
    assert otherchats.versions(["c", "streams/asyncio"]) == []
    assert otherchats.versions(["fastframe/uvloop"]) == ["uvloop"]
    assert otherchats.versions(["websockets/asyncio", "websockets/uvloop"]) == ["uvloop", "websockets"]


@pytest.mark.parametrize("way", otherchats.WAYS)
def test_in_a_room_of_others_everybody_hears_everything(way, monkeypatch):
    if way in otherchats.PACKAGES:
        pytest.importorskip(way)
    where, wire = queue.SimpleQueue(), otherchats.CONTENDERS[f"{way}/asyncio"].wire(200)
    monkeypatch.setattr(otherchats, "say_where", where.put)
    monkeypatch.setattr(chats, "QUIET", 0.05)

    def talk():
        port = where.get(timeout=10)
        crowd = Crowd(wire, lambda _: socket.create_connection(("127.0.0.1", port)))
        try:
            crowd.join(3)
            return crowd.talk(200, 0.05)
        finally:
            crowd.close()

    async def exchange():
        room = asyncio.create_task(otherchats.WAYS[way]())
        try:
            return await asyncio.to_thread(talk)
        finally:
            attending = asyncio.all_tasks() - {room, asyncio.current_task()}
            if attending:
                await asyncio.wait(attending, timeout=10)  # until each has seen that its member is gone
            room.cancel()
            await asyncio.wait([room])

    heard = asyncio.run(exchange())
    assert len(heard.latencies) == 3 * heard.said > 0
