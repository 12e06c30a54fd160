"""What the chat server over datagrams has of a room: who has a seat in it, and the datagrams that its events are.

log of the room: | 5 | 6 | 7 | 8 |
                           ^             `sent`: 8 goes to everybody, once
                   ^                     who has not got 5 says so, and it is sent again, as long as it is kept
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from fastframe import datagram

from . import messages
from .errors import OperationError
from .rooms import Flood
from .session import frame_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .chat_door import Peer
    from .messages import Fields, Kind
    from .rooms import Member, Room

CODEC: Final = datagram.DatagramCodec(frame_format(messages.MAX_PAYLOAD))
MOST_IDS: Final = 64  # of a member's messages: of 20 at once and 5 a second, those of 9 s; no datagram is later than that
MOST_RESENT: Final = 32  # events for one PING: 8 KiB, unless the texts are long
RESENDS: Final = 20.0, 40  # such PINGs, a second and at once: all that a room keeps fits into the latter
WHO_LENGTH: Final = 1000  # bytes of names: a datagram that every path takes in one piece


class Seat:
    """A member's place at the server. `opened`: what is said again if OPEN comes again; b"" once the client has heard it."""

    __slots__ = ("hall", "heard", "ids", "member", "nonce", "opened", "peer", "resends")

    def __init__(self, hall: Hall, member: Member, peer: Peer, nonce: str, now: float) -> None:
        self.hall = hall
        self.member = member
        self.peer = peer
        self.nonce = nonce  # of the OPEN with which it came
        self.heard = now
        self.opened = b""
        self.ids: deque[str] = deque(maxlen=MOST_IDS)  # of what was done
        self.resends = Flood(*RESENDS)


class Hall:
    """A room and who has a seat in it. `sent`: the number of the event that was sent last."""

    def __init__(self, room: Room, sent: int) -> None:
        self.room = room
        self.seats: dict[Member, Seat] = {}
        self.sent = sent
        self._mark = f'"log":"{room.log.id}",'.encode()  # who is not in the room cannot forge an event of it

    def news(self) -> Iterator[tuple[datagram.DatagramEndpoint, list[tuple[bytes, datagram.Address]]]]:
        """Yield what each endpoint has to send of the events since the last time."""
        start, self.sent = self.sent, self.room.log.head
        events = [self._encode(payload) for payload in self.room.log.behind(start)]
        addresses: dict[datagram.DatagramEndpoint, list[datagram.Address]] = {}
        for seat in self.seats.values() if events else ():
            addresses.setdefault(seat.peer.endpoint, []).append(seat.peer.address)
        for endpoint, receivers in addresses.items():
            yield endpoint, [(event, address) for event in events for address in receivers]

    def find(self, numbers: list[int]) -> list[bytes]:
        """Return the datagrams for the events of these numbers that are kept."""
        log = self.room.log
        kept = [number for number in numbers if log.first <= number <= log.head]
        payloads = log.behind(min(kept) - 1) if kept else []
        return [self._encode(payloads[number - min(kept)]) for number in kept]

    def who(self) -> dict[str, Any]:
        """Return how many are in the room, and as many of their names as fit."""
        names, length = [], 0
        for name in self.room.names:
            length += len(name.encode()) + 3  # quotes and a comma
            if length > WHO_LENGTH:
                break
            names.append(name)
        return {"count": len(self.room), "members": names}

    def _encode(self, payload: bytes) -> bytes:
        """Return the datagram for an event of the log, which is a byte for the type, and an object in JSON."""
        return CODEC.encode(b"".join((payload[:2], self._mark, payload[2:])))


def encode(kind: Kind, fields: dict[str, Any]) -> bytes:
    """Return the datagram that carries a message in JSON."""
    return CODEC.encode(messages.encode(kind, fields))


def missing(asked: Fields) -> list[int]:
    """Return the numbers of the events that a PING asks for; raise OperationError for what is no list of such."""
    numbers = asked.get("missing", [])
    if not isinstance(numbers, list) or len(numbers) > MOST_RESENT or not all(type(number) is int for number in numbers):
        raise OperationError("bad_request", f"'missing' is not a list of at most {MOST_RESENT} numbers")
    return numbers
