"""Accepting: everyone, in turns, while there is room; without a word of trouble, or with one line."""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket

import pytest
from peers import LOOPS, leaping_loop, play, until

from fastframe._accept import ACCEPTS_PER_TURN, GONE, NO_ROOM, Acceptor
from fastframe.aio import bind


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def run(request):
    return lambda main: play(request.param, main)


class Door:
    """An acceptor with a room of limited size, and its listeners' clients."""

    def __init__(self, room=1 << 30, listeners=None):
        self.room = room
        self.inside = []
        listeners = listeners or bind("127.0.0.1", 0)
        for listener in listeners:
            listener.setblocking(False)
        self.clients = []
        self.acceptor = Acceptor(listeners, lambda: len(self.inside) < self.room, self.accepted)
        self.acceptor.resume()

    def accepted(self, connection, address):
        assert address == connection.getpeername()
        self.inside.append(connection)

    def knock(self, count=1):
        for _ in range(count):
            self.clients.append(socket.create_connection(self.acceptor.listeners[0].getsockname(), timeout=5))

    def leave(self):
        self.inside.pop().close()
        self.acceptor.resume()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.acceptor.close()
        for each in self.inside + self.clients:
            each.close()


class Troubled(socket.socket):
    """A listener whose accept() fails with the errors it is given, and goes on then."""

    def accept(self):
        if self.errors:
            raise OSError(self.errors[0], os.strerror(self.errors.pop(0)))
        return super().accept()


def troubled(*errors) -> list[socket.socket]:
    listener = Troubled(socket.AF_INET)
    listener.errors = list(errors)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return [listener]


@contextlib.contextmanager
def few_descriptors(left):
    """Have as many descriptors as are in use, and that many more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, limits[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for descriptor in taken[:left]:
            os.close(descriptor)
        del taken[:left]
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_all_who_knock_are_accepted(run):
    async def main():
        with Door() as door:
            door.knock(200)
            await until(lambda: len(door.inside) == 200)
            assert not door.acceptor.paused

    run(main)


def test_every_listener_is_served(run):
    async def main():
        with Door(listeners=[*bind("127.0.0.1", 0), *bind("::1", 0)]) as door:
            for listener in door.acceptor.listeners:
                door.clients.append(socket.create_connection(listener.getsockname()[:2]))
            await until(lambda: len(door.inside) == 2)

    run(main)


def test_a_storm_of_connections_leaves_the_loop_its_turns(run):
    async def main():
        with Door() as door:
            door.knock(3 * ACCEPTS_PER_TURN)
            inside = []
            while len(door.inside) < len(door.clients):
                await asyncio.sleep(0)
                inside.append(len(door.inside))
            assert max(after - before for before, after in zip([0, *inside], inside, strict=False)) == ACCEPTS_PER_TURN

    run(main)


def test_without_room_nobody_is_accepted_until_somebody_leaves(run):
    async def main():
        with Door(room=2) as door:
            door.knock(4)
            await until(lambda: door.acceptor.paused)
            for left in (1, 0):
                await asyncio.sleep(0.01)
                assert (len(door.inside), len(door.clients)) == (2, 4)
                door.leave()
                await until(lambda: len(door.inside) == 2)
                assert left == 0 or door.acceptor.paused
            door.acceptor.resume()  # safe to repeat
            door.leave()

    run(main)


def test_real_descriptors_run_out_with_one_line_and_come_back(run, caplog):
    async def main():
        with Door() as door:
            door.knock(5)
            loop = asyncio.get_running_loop()
            with few_descriptors(left=2):
                began = loop.time()
                await until(lambda: door.acceptor.paused)
                assert len(door.inside) == 2
                door.leave()  # a connection that ends makes room at once
                await until(lambda: len(door.inside) == 2 and door.acceptor.paused)
                assert loop.time() - began < 0.9
            await asyncio.sleep(1.1)  # nobody ends one, and other descriptors have come free
            await until(lambda: (len(door.inside), door.acceptor.paused) == (4, False))

    run(main)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages == ["no connection can be accepted for now: Too many open files"]


def test_a_trouble_that_lasts_is_told_every_ten_seconds(caplog):
    async def main():
        with Door(listeners=troubled(*[errno.EMFILE] * 25)) as door:
            door.knock()
            await asyncio.sleep(24.5)
            assert door.inside == []
            await asyncio.sleep(1)
            assert len(door.inside) == 1

    play(leaping_loop, main)
    assert len(caplog.messages) == 3  # in 25 s, of which each second had an attempt


@pytest.mark.parametrize("error", NO_ROOM, ids=errno.errorcode.get)
def test_any_lack_of_room_is_a_warning(caplog, error):
    async def main():
        with Door(listeners=troubled(error)) as door:
            door.knock()
            await asyncio.sleep(1.5)
            assert len(door.inside) == 1

    play(leaping_loop, main)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"no connection can be accepted for now: {os.strerror(error)}")
    ]


def test_an_error_that_nobody_expects_is_told_and_tried_again(caplog):
    async def main():
        with Door(listeners=troubled(errno.EINVAL)) as door:
            door.knock()
            await asyncio.sleep(1.5)
            assert len(door.inside) == 1

    play(leaping_loop, main)
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("ERROR", None)]


def test_connections_that_are_gone_already_are_not_worth_a_word(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        with Door(listeners=troubled(*GONE)) as door:
            began = loop.time()
            door.knock()
            await until(lambda: door.inside)
            assert loop.time() == began  # and no pause

    play(leaping_loop, main)
    assert caplog.messages == []


def test_a_closed_acceptor_stays_closed(run):
    async def main():
        with Door() as door:
            address = door.acceptor.listeners[0].getsockname()
            for _ in range(2):
                door.acceptor.close()
                door.acceptor.resume()
                assert door.acceptor.paused
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=5)

    run(main)


def test_a_close_while_descriptors_are_awaited_leaves_no_timer():
    async def main():
        with Door(listeners=troubled(errno.EMFILE, errno.EMFILE)) as door:
            door.knock()
            await until(lambda: door.acceptor.paused)
            door.acceptor.close()
            await asyncio.sleep(1.1)
            assert door.inside == []

    play(leaping_loop, main)
