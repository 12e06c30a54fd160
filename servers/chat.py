"""The chat server: rooms over TCP, TLS and Unix sockets, on `session.py`. docs/chat.md has what it promises.

    OPEN room, name, since     OPENED log, head     DATA said, joined, left, topic ...     END     RESULT

Most members have had every event that there is: the next ones go to all of them as the same bytes, and who takes them at once
stays with them. Who does not is sent what is missing by a task of its own until it has caught up, or is cut because it takes
nothing for `--lag`. Events wait in the room's log, once for all: a slow member costs what its connection may hold.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fastframe import Decoder, Encoder, aio

from . import arguments, chat_door, chat_udp, credentials, host, messages, rooms
from .errors import OperationError
from .messages import Fields, Kind
from .rooms import Member, Room, Rooms
from .service import Operation, ServerSession, Service, ServiceServer
from .session import GONE, frame_format, misplaced

if TYPE_CHECKING:
    import socket
    import ssl as tls
    from collections.abc import Sequence

    from fastframe import FrameBatch

# What waits for a member before it counts as behind: 12 KiB here, and what its own kernel takes, 125 KiB on Linux. In a room of
# 100 messages of 200 bytes a second that is after 5 s. Who was merely out of reach for a while is not behind.
LIMITS: Final = aio.Limits(high_water=4 * 1024, low_water=1024, unsent=8 * 1024)
LAG: Final = 2.0  # seconds for who is behind to take the next 8 KiB: so in that room who does not read is cut after 7 to 9
MEMBERS_PER_TURN: Final = 256  # that get the next events until others have their turn, some 2 ms
# Seconds between telling all and telling all again. With 1,000 members and 100 texts a second that takes 5.3 us a delivery
# instead of 9.5, and half of them 32 ms instead of 43; with 20 texts as much as without, and 13.6 ms instead of 11.3 (pairs of
# runs). A small room has no rest.
LEAST_REST: Final = 0.001
MOST_REST: Final = 0.02
PIECE: Final = 8 * 1024  # bytes of events that are handed out at a time: what waits for a slow member at most, with the marks
NOT_YET: Final = sys.maxsize  # nothing has a higher number, so nothing is handed to that seat


class Seat:
    """A member's place at the server. `position`: the number of the event that it was handed last, `NOT_YET` before OPENED.

    `over` is done when the room wants no more of it, with what its client is told.
    """

    def __init__(self, session: ServerSession, member: Member) -> None:
        self.session = session
        self.member = member
        self.position = NOT_YET
        self.is_slow = False
        self.catching_up: asyncio.Task[None] | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: OperationError) -> None:
        if not self.over.done():
            self.over.set_exception(error)
            self.over.exception()  # or asyncio says that nobody asked


class Floor:
    """A room and the seats in it. `sent`: the number of the event that all seats have but those that have to catch up."""

    def __init__(self, room: Room, max_payload: int, lag: float) -> None:
        self.room = room
        self._lag = lag
        self.seats: dict[Member, Seat] = {}
        self.sent = room.log.head
        self._format = frame_format(max_payload)
        self._news = asyncio.Event()
        self._handed = asyncio.Event()
        room.log.hold(self.sent)
        self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        self._task.cancel()
        self.room.log.hold(None)

    def begin(self, seat: Seat, position: int) -> None:
        """Hand a seat everything after `position` from now on; first of all it has to catch up."""
        seat.position = position
        self._catch_up(seat)

    def unseat(self, seat: Seat) -> None:
        """Take the seat away. Safe to repeat."""
        self.seats.pop(seat.member, None)
        if seat.catching_up is not None:
            seat.catching_up.cancel()

    def wake(self) -> None:
        """Have what is new in the log go to everybody."""
        self._news.set()

    async def until_handed(self, seq: int) -> None:
        """Wait until that event was handed to all who take it at once: so nobody says more than a room can be told."""
        while self.sent < seq:
            await self._handed.wait()

    async def finish(self, seat: Seat, last: int) -> None:
        """Send what a seat that was taken away has not had up to the event of that number, the last that it gets."""
        while seat.position < last:
            await self._send_piece(seat, last)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self.sent < self.room.log.head:
                began = time.thread_time()
                await self._hand_out(self.room.log.behind(self.sent, PIECE))
                await self._rest(time.thread_time() - began)

    async def _rest(self, took: float) -> None:
        """Wait as long as it took to tell all: what is said meanwhile leaves in one write for each member, not in one each."""
        if took > LEAST_REST:
            await asyncio.sleep(min(took, MOST_REST))

    async def _hand_out(self, events: list[bytes]) -> None:
        """Hand the next events to all seats; what is not handed out yet is kept for as long."""
        start = self.sent
        self.sent += len(events)
        batch = Decoder(self._format).feed_batch(Encoder(self._format).encode_many(events))
        for number, seat in enumerate(list(self.seats.values()), 1):
            self._hand(seat, start, batch)
            if number % MEMBERS_PER_TURN == 0:
                await asyncio.sleep(0)
        self.room.log.hold(self.sent)
        handed, self._handed = self._handed, asyncio.Event()
        handed.set()

    def _hand(self, seat: Seat, start: int, batch: FrameBatch) -> None:
        """Hand the events after `start` to a seat, if it has all before them and takes them at once."""
        if seat.catching_up is not None or seat.position >= self.sent or seat.member not in self.seats:
            return
        stream = seat.session.stream
        if seat.position == start and stream.push_batch(batch):
            seat.position = self.sent
        else:
            self._catch_up(seat)

    def _catch_up(self, seat: Seat) -> None:
        seat.catching_up = asyncio.create_task(self._send_missing(seat))

    async def _send_missing(self, seat: Seat) -> None:
        """Send what a seat has not had, as it is taken, until it has what the others have; cut it if it takes too little."""
        try:
            while seat.position < self.sent:
                await self._send_piece(seat, self.sent)
            seat.catching_up = None
        except TimeoutError:
            seat.is_slow = True
            seat.session.stream.abort()
        except GONE:
            pass  # whoever hears the member finds that out

    async def _send_piece(self, seat: Seat, last: int) -> None:
        """Send the next events up to `last`, and before them what tells of those that are not kept any more.

        Raise TimeoutError if they are not taken in time.
        """
        log = self.room.log
        async with asyncio.timeout(self._lag):
            while seat.position < log.first - 1:  # and again, if it takes its time for that
                seat.position = log.first - 1
                await seat.session.send_data(rooms.gap(log.first))
            events = log.behind(seat.position, PIECE)[: max(0, last - seat.position)]  # a gap may reach beyond
            seat.position += len(events)
            await seat.session.stream.send_many(events)


class Chat:
    """The operation on rooms. `max_payload`: bytes of a message, as of the `Service`; `named`: a user has the key's name."""

    def __init__(self, all_rooms: Rooms, max_payload: int, lag: float, *, named: bool) -> None:
        self.counters = Counter(members_cut=0)
        self._rooms = all_rooms
        self._lag = lag
        self._max_payload = max_payload
        self._named = named
        self._floors: dict[Room, Floor] = {}  # of the rooms that somebody is in

    @property
    def operations(self) -> dict[str, Operation]:
        return {"chat": self.chat}

    async def chat(self, session: ServerSession, asked: Fields) -> dict[str, Any]:
        """Have the client in a room until it leaves."""
        if session.going_away:
            raise OperationError("going_away")
        name = rooms.checked_name(self._name(session.user) or asked.text("name"))
        since = asked.integer("since") if "since" in asked else None
        log, history = asked.text("log", default=""), asked.integer("history", default=rooms.SHOWN)
        room = self._rooms.find(asked.text("room"))
        session.audit.update(room=room.name, member=name)
        position = room.start(since, log, history)
        member, replaced = room.join(name, asked.text("secret", default=""))
        seat, floor = Seat(session, member), self._floor(room)
        floor.seats[member] = seat
        if replaced in floor.seats:
            floor.seats[replaced].end(OperationError("name_taken", f"{name}: the same client has come again"))
        reason = "lost"
        try:
            floor.wake()
            await session.opened(**member.described())
            floor.begin(seat, position)
            await self._attend(floor, seat)
            reason = "left"
            last = self._leave(floor, seat, reason)
            await floor.finish(seat, last)
        except OperationError as error:
            reason = "" if error.code == "going_away" else "left"
            raise
        except GONE:
            reason = "slow" if seat.is_slow else "lost"
            self.counters["members_cut"] += seat.is_slow
            raise
        finally:
            session.audit.update(reason=reason or "drained")
            self._leave(floor, seat, reason)
        return {"seq": last}

    def drain(self) -> None:
        """Have all clients come again later. Nobody is told who leaves: that would be as many events as members, for each."""
        for floor in self._floors.values():
            for seat in floor.seats.values():
                seat.end(OperationError("going_away"))

    async def _attend(self, floor: Floor, seat: Seat) -> None:
        """Do what the client says until its END, or until the room wants no more of it."""
        hearing = asyncio.create_task(self._hear(floor, seat))
        try:
            await asyncio.wait((hearing, seat.over), return_when=asyncio.FIRST_COMPLETED)
            (seat.over if seat.over.done() else hearing).result()
        finally:
            hearing.cancel()
            await asyncio.wait((hearing,))  # one task at a time may receive

    async def _hear(self, floor: Floor, seat: Seat) -> None:
        while (message := await seat.session.receive()).kind is Kind.DATA:
            if wait := seat.member.flood.take(time.monotonic()):
                await asyncio.sleep(wait)  # who sends too much is read on later: TCP tells it, and nothing is lost
            if seat.over.done():  # who has come again has been told what it said up to then: the rest it says again there
                return
            asked = messages.decode_fields(message.data)
            try:
                if answer := seat.member.obey(asked):
                    await seat.session.send_data(answer)
            except OperationError as error:
                await seat.session.send_data(rooms.refusal(asked, error))
            floor.wake()
            await floor.until_handed(floor.room.log.head)
        if message.kind is Kind.CANCEL:
            raise OperationError("cancelled")
        if message.kind is not Kind.END:
            raise misplaced(message)

    def _leave(self, floor: Floor, seat: Seat, reason: str) -> int:
        """Take a member out, unless it is already; return the number of the room's last event."""
        room = floor.room
        if reason and room.leave(seat.member, reason):
            floor.wake()
        floor.unseat(seat)
        if not room and self._floors.get(room) is floor:
            del self._floors[room]
            floor.close()
        return room.log.head

    def _floor(self, room: Room) -> Floor:
        if room not in self._floors:
            self._floors[room] = Floor(room, self._max_payload, self._lag)
        return self._floors[room]

    def _name(self, user: str) -> str:
        """Return what a user has to be called, "" for who may choose."""
        return user if self._named else user.removeprefix("certificate:") if user.startswith("certificate:") else ""


class ChatServer(ServiceServer):
    """What serves rooms. It has nothing to wait for when it ends: clients come again, and what was said is with its server."""

    def __init__(self, service: Service, server: aio.FrameServer, chat: Chat) -> None:
        super().__init__(service, server)
        self._chat = chat

    @property
    def counters(self) -> Mapping[str, int]:
        return {**super().counters, **self._chat.counters}

    async def close(self, grace: float = 0.0) -> None:
        self._chat.drain()
        await super().close(grace)


async def serve(
    all_rooms: Rooms,
    *,
    sockets: Sequence[socket.socket],
    ssl: tls.SSLContext | None,
    limits: aio.Limits,
    keyring: credentials.Keyring | None = None,
    max_payload: int = messages.MAX_PAYLOAD,
    lag: float = LAG,
) -> ChatServer:
    """Serve rooms on listening sockets, as `host.run` wants it."""
    chat = Chat(all_rooms, max_payload, lag, named=keyring is not None)
    service = Service(chat.operations, keyring=keyring, max_payload=max_payload, offer={"operations": ["chat"]})
    return ChatServer(service, await service.listen(sockets=sockets, ssl=ssl, limits=limits), chat)


def serve_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe serve chat",
        usage="%(prog)s [OPTION ...]",
        description="Keep chat rooms for `fastframe chat`, until SIGTERM or Ctrl-C.",
        epilog="example: fastframe serve chat --port 9000",
    )
    parser.add_argument("--udp", action="store_true", help="datagrams instead of connections, for clients with --udp")
    group = add_room_options(parser)
    group.add_argument(
        "--lag",
        type=arguments.seconds,
        default=LAG,
        metavar="S",
        help="time for a member that is behind to take the next 8 KiB (default: %(default)g)",
    )
    arguments.add_service_options(parser)
    arguments.add_server_options(parser, LIMITS)
    options = parser.parse_args(argv)
    if options.workers != 1:
        parser.error("a room is in one process: --workers 1")
    all_rooms = Rooms(options.history, options.max_rooms, options.rate)
    try:
        keyring = credentials.keyring(options.tokens)
    except arguments.UsageError as error:
        return host.fail(error, 2)
    if options.udp:
        if options.lag != LAG or options.max_payload != messages.MAX_PAYLOAD:
            parser.error("--lag and --max-payload are for connections: leave out --udp")
        return chat_udp.run(parser, options, chat_udp.Chat(all_rooms, chat_door.Door(keyring)))
    serve_rooms = functools.partial(serve, all_rooms, keyring=keyring, max_payload=options.max_payload, lag=options.lag)
    return host.run(options, serve_rooms)


def add_room_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("rooms")
    group.add_argument(
        "--history",
        type=functools.partial(arguments.count, most=rooms.MOST_HISTORY),
        default=rooms.HISTORY,
        metavar="N",
        help="events that a room keeps, of 256 KiB at most, for who comes or comes again (default: %(default)s)",
    )
    group.add_argument(
        "--max-rooms",
        type=arguments.count,
        default=rooms.MOST_ROOMS,
        metavar="N",
        help="rooms at once; the empty one that nobody has entered for longest makes place (default: %(default)s)",
    )
    group.add_argument(
        "--rate",
        type=arguments.rate,
        default=rooms.RATE,
        metavar="N",
        help=f"messages a second of a member, after the first {rooms.BURST} (default: %(default)g)",
    )
    return group
