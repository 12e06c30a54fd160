import asyncio
import logging

import pytest

from fastframe.servers import life


class Server:
    def __init__(self):
        self.counters = {"accepted": 0, "refused": 0, "bad_frames": 0, "new": 0, "datagrams_bad": 0}
        self.accepting = True
        self.connections = 3


def test_the_first_stop_drains_and_the_second_cuts():
    async def main():
        orders = life.Orders()
        orders.stop()
        assert (orders.drain.is_set(), orders.cut.is_set()) == (True, False)
        orders.stop()
        assert (orders.drain.is_set(), orders.cut.is_set()) == (True, True)
        orders = life.Orders()
        orders.stop_now()
        assert (orders.drain.is_set(), orders.cut.is_set()) == (True, True)

    asyncio.run(main())


@pytest.fixture
def server():
    return Server()


def told(caplog):
    seen = [(record.levelname, record.getMessage(), record.fields) for record in caplog.records]
    caplog.clear()
    return seen


def test_what_the_limits_did_is_told_once_a_beat(server, caplog):
    caplog.set_level(logging.INFO)
    notices = life.Notices(server)
    server.counters.update(accepted=9, refused=2, bad_frames=1, new=5, datagrams_bad=7)
    notices.look(server)
    assert told(caplog) == [
        ("WARNING", "connections ended by their limits", {"refused": 2}),
        ("INFO", "connections failed", {"bad_frames": 1}),
        ("INFO", "datagrams not answered", {"datagrams_bad": 7}),
    ]
    server.counters["refused"] += 1
    notices.look(server)
    assert told(caplog) == [("WARNING", "connections ended by their limits", {"refused": 1})]
    notices.look(server)
    assert told(caplog) == []


def test_a_pause_is_told_when_it_begins_and_when_it_ends(server, caplog):
    notices = life.Notices(server)
    for accepting in (False, False, True, True):
        server.accepting = accepting
        notices.look(server)
    assert told(caplog) == [
        ("WARNING", "accepting paused, there is no room", {"connections": 3}),
        ("WARNING", "accepting again", {"connections": 3}),
    ]
