"""Chat rooms over datagrams: the server. The rooms are those of `rooms.py`; here is how they reach who cannot be relied upon.

    HELLO, OPEN               ->
                              <-   WELCOME, OPENED     `chat_door` lets nobody in that is not where it says it is
    DATA, PING seq, missing   ->
                              <-   DATA, PONG head     an event is encoded once, and sent to everybody once
    END                       ->
                              <-   RESULT              to repeat any of these harms nothing

A member sees by the numbers of events what it has not got, or by PONG if there is no next event, and says so in a PING. So
nothing waits here, and a slow member costs nobody anything. A secret goes with all that a member sends, and counts from the
address alone that had the cookie: nobody can speak for others, nor have a room's events sent to them. docs/chat.md has more.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import socket
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from fastframe import FrameError, datagram

from . import arguments, host, messages
from .chat_door import Door, Peer, nonce_of
from .chat_hall import CODEC, MOST_RESENT, Hall, Seat, encode, missing
from .errors import OperationError
from .messages import Fields, Kind
from .rooms import LONGEST_ID, SHOWN, Member, Room, Rooms

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

EXPIRY_SECONDS: Final = 30.0  # of silence until a member is gone: clients ping every 5, and faster while no answer comes
EXPIRY_PULSE: Final = 1.0
MOST_SEATS: Final = 10_000  # members in all rooms; each takes 2 KiB, and up to 13 with the ids of what it has said
MOST_NONCES: Final = 10_000  # of members that have gone: an OPEN that was late must not bring them back
HASTE_SECONDS: Final = 0.1  # what comes that much too early was in time when it was sent
SECRET_LENGTH: Final = 32
FROM_CLIENTS: Final = frozenset({Kind.HELLO, Kind.OPEN, Kind.DATA, Kind.PING, Kind.END})
COUNTERS: Final = ("received", "sent", "own", "nameless", "bad", "answers", "turned_away", "cut", "dropped")


class Chat:
    """What a server does with datagrams. It counts what it does nothing about, as `turned_away` what came from no member."""

    def __init__(
        self,
        all_rooms: Rooms,
        door: Door,
        *,
        expiry: float = EXPIRY_SECONDS,
        most_seats: int = MOST_SEATS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rooms = all_rooms
        self._door = door
        self._expiry = expiry
        self._most_seats = most_seats
        self._clock = clock
        self._halls: dict[Room, Hall] = {}  # of the rooms that somebody is in
        self._seats: OrderedDict[Peer, Seat] = OrderedDict()  # the one that was heard last at the end
        self._nonces: OrderedDict[str, None] = OrderedDict()  # of those that have gone, the last at the end
        self._out: dict[datagram.DatagramEndpoint, list[tuple[bytes, datagram.Address]]] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def __call__(self, endpoint: datagram.DatagramEndpoint, received: list[datagram.Datagram]) -> None:
        for request, sender in received:
            if sender is None or sender == endpoint.address:
                endpoint.counters["own" if sender else "nameless"] += 1
                continue
            try:
                self._take(Peer(endpoint, sender), request, self._clock())
            except (FrameError, OperationError):
                endpoint.counters["bad"] += 1
        self._send_all()

    def expire(self) -> None:
        """Let those go who have been silent for too long."""
        now = self._clock()
        while self._seats and now - (seat := next(iter(self._seats.values()))).heard >= self._expiry:
            self._leave(seat, "expired")
        self._send_all()

    def drain(self) -> None:
        """Have all clients come again later."""
        for seat in self._seats.values():
            self._tell(seat, Kind.ERROR, code="going_away")
        self._send_all()

    def _take(self, peer: Peer, request: bytes, now: float) -> None:
        """Do what a datagram asks for; raise FrameError or OperationError for one that is not answered."""
        message = messages.decode(CODEC.decode(request))
        if message.kind not in FROM_CLIENTS:
            peer.endpoint.counters["answers"] += 1
            return
        asked = messages.decode_fields(message.data) if message.kind in messages.BYTES else message.fields
        if message.kind is Kind.HELLO:
            kind, answer = self._door.greet(peer, asked, len(request), now)
            self._post(peer, encode(kind, answer))
        elif message.kind is Kind.OPEN:
            self._open(peer, asked, now)
        elif (seat := self._seat_of(peer, asked)) is None:
            self._turn_away(peer, message.kind, asked, len(request))
        else:
            self._attend(seat, message.kind, asked, now)

    def _open(self, peer: Peer, asked: Fields, now: float) -> None:
        nonce, seat = nonce_of(asked), self._seats.get(peer)
        if not self._door.has_cookie(peer, asked, now):
            self._post(peer, encode(Kind.ERROR, {"to": nonce, "code": "timeout"}))  # shorter than nonce and cookie
        elif seat is not None and seat.nonce == nonce:
            if seat.opened:
                self._post(peer, seat.opened)
        elif nonce not in self._nonces:
            try:
                self._enter(peer, asked, now)
            except OperationError as error:
                self._post(peer, encode(Kind.ERROR, {"to": nonce, "code": error.code, "message": error.message}))

    def _enter(self, peer: Peer, asked: Fields, now: float) -> None:
        """Let somebody into a room that has the cookie."""
        name, proof = self._door.identify(peer, asked, now)
        if asked.text("operation") != "chat":
            raise OperationError("unsupported", "there is nothing but chat over datagrams")
        since = asked.integer("since") if "since" in asked else None
        log, secret = asked.text("log", default=""), asked.text("secret", default="", most=SECRET_LENGTH)
        history = asked.integer("history", default=SHOWN)
        room = self._rooms.find(asked.text("room"))
        if (old := self._seats.get(peer)) is not None:
            self._leave(old, "lost")  # the port was another client's before
        if len(self._seats) >= self._most_seats:
            raise OperationError("busy", "there are too many members")
        position, oldest = room.start(since, log, history), room.log.first - 1
        seat = self._seat(room, room.join(name, secret), peer, nonce_of(asked), now)
        begin = {"next": max(position, oldest) + 1, "gap": position < oldest}
        seat.opened = encode(Kind.OPENED, {"to": seat.nonce} | begin | proof | seat.member.described())
        self._post(peer, seat.opened)
        self._spread(seat.hall)

    def _seat(self, room: Room, joined: tuple[Member, Member | None], peer: Peer, nonce: str, now: float) -> Seat:
        """Give a member its seat, and take away that of the member in whose place it came."""
        member, replaced = joined
        hall = self._halls.get(room) or Hall(room, sent=room.log.head - 1)  # the last event is that it joined
        if replaced in hall.seats:
            self._tell(hall.seats[replaced], Kind.ERROR, code="name_taken")
            self._remove(hall.seats[replaced])
        self._halls[room] = hall
        hall.seats[member] = self._seats[peer] = seat = Seat(hall, member, peer, nonce, now)
        return seat

    def _leave(self, seat: Seat, reason: str) -> int | None:
        """Let a member go; return the number of that event."""
        self._remove(seat)
        number = seat.hall.room.leave(seat.member, reason)
        self._spread(seat.hall)
        return number

    def _remove(self, seat: Seat) -> None:
        hall = seat.hall
        del self._seats[seat.peer], hall.seats[seat.member]
        if not hall.seats:
            del self._halls[hall.room]
        self._nonces[seat.nonce] = None
        if len(self._nonces) > MOST_NONCES:
            self._nonces.popitem(last=False)

    def _seat_of(self, peer: Peer, asked: Fields) -> Seat | None:
        """Return the seat of who sent this, if it is a member; raise OperationError if it does not even say so."""
        secret = asked.text("secret", most=SECRET_LENGTH)
        seat = self._seats.get(peer)
        if seat is None or not hmac.compare_digest(seat.member.secret.encode(), secret.encode()):
            return None
        return seat

    def _turn_away(self, peer: Peer, kind: Kind, asked: Fields, size: int) -> None:
        """Tell one that is no member so, with what it said and nobody else knows. That must not be longer than what came."""
        peer.endpoint.counters["turned_away"] += 1
        told = {"to": asked["secret"]}
        gone = encode(Kind.RESULT, told) if kind is Kind.END else encode(Kind.ERROR, told | {"code": "unauthenticated"})
        if len(gone) <= size:
            self._post(peer, gone)

    def _attend(self, seat: Seat, kind: Kind, asked: Fields, now: float) -> None:
        self._seats.move_to_end(seat.peer)
        seat.heard, seat.opened = now, b""
        if kind is Kind.DATA:
            self._do(seat, asked, now)
        elif kind is Kind.PING:
            self._resend(seat, asked, now)
            self._tell(seat, Kind.PONG, head=seat.hall.room.log.head)
        elif kind is Kind.END:
            self._tell(seat, Kind.RESULT, seq=self._leave(seat, "left"))

    def _do(self, seat: Seat, asked: Fields, now: float) -> None:
        """Do what a member asks for, once, or refuse it."""
        name = asked.text("id", most=LONGEST_ID)
        if name in seat.ids:
            self._tell(seat, Kind.PONG, head=seat.hall.room.log.head)  # it did not get the event
            return
        try:
            if seat.member.flood.early(now) > HASTE_SECONDS:
                raise OperationError("busy", f"more than {seat.member.flood.rate:g} messages a second")
            seat.member.flood.take(now)
            if asked.text("type") == "who":
                self._tell(seat, Kind.DATA, type="who", id=name, **seat.hall.who())
            else:
                seat.member.obey(asked)
                seat.ids.append(name)
                self._spread(seat.hall)
        except OperationError as error:
            self._tell(seat, Kind.DATA, type="refused", id=name, code=error.code, message=error.message)

    def _resend(self, seat: Seat, asked: Fields, now: float) -> None:
        """Send a member what is missing, or the events behind the last one that it has."""
        log, numbers = seat.hall.room.log, missing(asked)
        seq = asked.integer("seq")
        numbers = numbers or list(range(seq + 1, min(log.head, seq + MOST_RESENT) + 1))
        if not numbers or seat.resends.early(now):
            return
        seat.resends.take(now)
        if min(numbers) < log.first:
            self._tell(seat, Kind.DATA, type="gap", next=log.first)
        for event in seat.hall.find(numbers):
            self._post(seat.peer, event)

    def _tell(self, seat: Seat, kind: Kind, **fields: Any) -> None:
        self._post(seat.peer, encode(kind, {"to": seat.member.secret} | fields))

    def _post(self, peer: Peer, answer: bytes) -> None:
        self._out.setdefault(peer.endpoint, []).append((answer, peer.address))

    def _spread(self, hall: Hall) -> None:
        """Have the news of a room go to everybody there."""
        for endpoint, events in hall.news():
            self._out.setdefault(endpoint, []).extend(events)

    def _send_all(self) -> None:
        out, self._out = self._out, {}
        for endpoint, answers in out.items():
            endpoint.send_many(answers)


class Server:
    """A server as `host.run` runs it."""

    def __init__(self, server: datagram.DatagramServer, chat: Chat) -> None:
        self.accepting = True
        self._server = server
        self._chat = chat
        self._expiring = asyncio.create_task(self._expire())

    @property
    def addresses(self) -> list[str]:
        return [f"udp {address}" for address in self._server.addresses]

    @property
    def connections(self) -> int:
        return len(self._chat)

    @property
    def counters(self) -> dict[str, int]:
        counters = dict.fromkeys(COUNTERS, 0) | self._server.counters
        return {f"datagrams_{name}": count for name, count in counters.items()}

    async def close(self, grace: float = 0.0) -> None:
        """Close it. Whoever is there is told, and finds it out if that gets lost."""
        if self.accepting:
            self.accepting = False
            self._expiring.cancel()
            self._chat.drain()
        await self._server.close(grace)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_PULSE)
            self._chat.expire()


async def serve(chat: Chat, *, sockets: list[socket.socket], **_: Any) -> Server:
    """Serve rooms on bound sockets, as `host.run` wants it."""
    return Server(await datagram.serve(chat, sockets=sockets, format=None), chat)


def run(parser: argparse.ArgumentParser, options: argparse.Namespace, chat: Chat) -> int:
    """Run the server until a signal ends it; return the exit status."""
    if useless := arguments.for_connections(options):
        parser.error(f"datagrams have no connections: --udp leaves no use for {' and '.join(useless)}")
    return host.run(options, functools.partial(serve, chat), datagram.bind, socket.SOCK_DGRAM)
