"""Chat rooms: who is in them, what was said, and in which order. No input and no output: `chat.py` and `chat_udp.py` carry it.

    say(member, text) -> log: | 5 | 6 | 7 |        an event has a number, one more than the event before it, and is encoded once
                                    ^   ^          a member is a place in the log: what is behind it was handed over
                                  bob   ann

So a room has one order for everybody, a slow member costs no memory of its own, and who comes back says where it had been. The
log holds the last events only: who falls behind its beginning has a gap.
"""

from __future__ import annotations

import re
import secrets
import time
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from .errors import OperationError, about
from .messages import ENCODER, MAX_CONTROL
from .session import DATA_TYPE

if TYPE_CHECKING:
    from .messages import Fields

LONGEST_NAME: Final = 32  # characters of a member's name: a line of a terminal has 80
LONGEST_ROOM: Final = 64
LONGEST_TEXT: Final = 4096  # bytes of UTF-8: a page; what is longer is a file
LONGEST_ID: Final = 32  # characters
HISTORY: Final = 1000  # events that a room keeps
SHOWN: Final = 50  # of these who comes gets the last, unless it says how many: about two screens
MOST_HISTORY: Final = 100_000  # events; the bytes are bounded anyway
HISTORY_BYTES: Final = 256 * 1024  # and not more than these: 1,000 messages of 200 bytes with what is around them
MOST_ROOMS: Final = 1000  # with what they keep, 256 MiB at most
MOST_MEMBERS: Final = 10_000  # of a room; as many connections as a server has by default
RATE: Final = 5.0  # messages a second that a member may go on with
BURST: Final = 20  # and at once: a text that somebody pastes
MOST_NAMES: Final = 400  # that who tells: of 4 bytes a character they have 51 KiB, and a message of JSON may have 64
# Which no `str.isprintable` refuses, and nobody sees: Unicode's Default_Ignorable_Code_Point, fillers of Hangul among them, and
# the blank of Braille. An emoji may have one, so names may; two that differ by these alone are the same.
INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class Flood:
    """What a member may send: `BURST` at once, and `rate` a second afterwards. A token bucket that is kept as one time."""

    def __init__(self, rate: float = RATE, burst: int = BURST) -> None:
        self.rate = rate
        self.burst = burst
        self._pause = 1 / rate
        self._ahead = burst * self._pause
        self._free_at = 0.0  # when it is as if nothing had been sent

    def take(self, now: float) -> float:
        """Count a message that comes at `now` (monotonic); return how many seconds it is too early."""
        wait = self.early(now)
        self._free_at = max(self._free_at, now) + self._pause
        return wait

    def early(self, now: float) -> float:
        """Return how many seconds a message would be too early."""
        return max(0.0, self._free_at + self._pause - self._ahead - now)


class Member:
    """Somebody in a room. `secret`: with which the name can be taken back by who was cut off."""

    def __init__(self, room: Room, name: str, rate: float) -> None:
        self.room = room
        self.name = name
        self.secret = secrets.token_hex(16)
        self.flood = Flood(rate)

    def described(self) -> dict[str, Any]:
        """Return what OPENED says."""
        room = self.room
        return {
            "room": room.name,
            "name": self.name,
            "topic": room.topic,
            "log": room.log.id,
            "head": room.log.head,
            "members": len(room),
            "secret": self.secret,
            "limits": {"text": LONGEST_TEXT, "rate": self.flood.rate, "burst": self.flood.burst},
        }

    def obey(self, asked: Fields) -> bytes:
        """Do what the member asks for; return the payload that answers it alone, b"" for none. Raise OperationError."""
        match asked.text("type", most=LONGEST_ID):
            case "say":
                self.room.say(self, asked.text("text", most=MAX_CONTROL), asked.text("id", default="", most=LONGEST_ID))
            case "topic":
                self.room.set_topic(self, asked.text("topic", most=MAX_CONTROL))
            case "who":
                names = self.room.names
                return encode(type="who", count=len(names), members=names[:MOST_NAMES])
            case kind:
                raise OperationError("unsupported", f"{kind!r} is nothing that a member may ask for")
        return b""


class Log:
    """The last events of a room, as the payloads that carry them. `head`: the number of the last one, 0 while there is none."""

    def __init__(self, most: int) -> None:
        self.id = secrets.token_hex(8)
        self.head = 0
        self._most = most
        self._payloads: deque[bytes] = deque()
        self._size = 0
        self._held: int | None = None

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept; one more than `head` if none is."""
        return self.head - len(self._payloads) + 1

    def append(self, kind: str, **fields: Any) -> int:
        """Add an event; return its number."""
        self.head += 1
        payload = DATA_TYPE + encode(seq=self.head, time=round(time.time(), 3), type=kind, **fields)
        self._payloads.append(payload)
        self._size += len(payload)
        self._trim()
        return self.head

    def behind(self, seq: int, most: int = HISTORY_BYTES) -> list[bytes]:
        """Return what is kept of the events after that number: the first of them, at least one, of `most` bytes in all."""
        payloads: list[bytes] = []
        for at in range(max(0, seq + 1 - self.first), len(self._payloads)):
            most -= len(self._payloads[at])
            if payloads and most < 0:
                break
            payloads.append(self._payloads[at])
        return payloads

    def hold(self, seq: int | None) -> None:
        """Keep what comes after that number, however much it is; None: keep only as much as there may be."""
        self._held = seq
        self._trim()

    def _trim(self) -> None:
        while len(self._payloads) > self._most or self._size > HISTORY_BYTES:
            if self._held is not None and self.first > self._held:
                break
            self._size -= len(self._payloads.popleft())


class Room:
    """A room. `name`: as who came first wrote it; `topic`: what it is about."""

    def __init__(self, name: str, history: int, rate: float) -> None:
        self.name = name
        self.topic = ""
        self.log = Log(history)
        self._rate = rate
        self._members: dict[str, Member] = {}  # by folded name, in the order of their coming

    def __len__(self) -> int:
        return len(self._members)

    @property
    def names(self) -> list[str]:
        return [member.name for member in self._members.values()]

    def start(self, since: int | None, log: str, history: int) -> int:
        """Return behind which event a member begins that has a log up to `since`, or else wants the last `history` events.

        It may be the number of one that is not kept any more, or -1 if the log is another one since: then there is a gap.
        """
        if since is None:
            return max(self.log.first - 1, self.log.head - history)
        return since if log == self.log.id and since <= self.log.head else -1

    def join(self, name: str, secret: str = "") -> tuple[Member, Member | None]:
        """Let somebody in; return the member, and the one in whose place it comes since it has the secret.

        Raise OperationError: name_taken, or busy if the room is full.
        """
        old = self._members.get(folded(name))
        if old is not None:
            if not secrets.compare_digest(old.secret.encode(), secret.encode()):
                raise about(name, "name_taken")
            self.leave(old, "replaced")
        elif len(self._members) >= MOST_MEMBERS:
            raise OperationError("busy", f"{self.name} is full")
        member = Member(self, name, self._rate)
        if old is not None:
            member.secret, member.flood = old.secret, old.flood
        self._members[folded(name)] = member
        self.log.append("joined", name=name)
        return member, old

    def leave(self, member: Member, reason: str) -> int | None:
        """Let a member go; return the number of that event, None if it has gone already."""
        if self._members.get(folded(member.name)) is not member:
            return None
        del self._members[folded(member.name)]
        return self.log.append("left", name=member.name, reason=reason)

    def say(self, member: Member, text: str, id: str = "") -> int:
        """Add what a member says; return its number. Raise OperationError: bad_request, too_large."""
        return self.log.append("said", name=member.name, id=id, text=_checked_text(text))

    def set_topic(self, member: Member, topic: str) -> int:
        """Set the topic; return the number of that event. Raise OperationError: too_large."""
        self.topic = _checked_text(topic, least=0)
        return self.log.append("topic", name=member.name, topic=topic)


class Rooms:
    """All rooms of a server. One that is empty keeps its log until its place is wanted."""

    def __init__(self, history: int = HISTORY, most: int = MOST_ROOMS, rate: float = RATE) -> None:
        self._history = history
        self._most = most
        self._rate = rate
        self._rooms: OrderedDict[str, Room] = OrderedDict()  # by folded name, the one that was asked for last at the end

    def __iter__(self) -> Iterator[Room]:
        return iter(self._rooms.values())

    def find(self, name: str) -> Room:
        """Return the room of that name, a new one if there is none. Raise OperationError: bad_name, busy."""
        key = folded(checked_name(name, LONGEST_ROOM))
        if key not in self._rooms:
            self._make_place()
            self._rooms[key] = Room(name, self._history, self._rate)
        self._rooms.move_to_end(key)
        return self._rooms[key]

    def _make_place(self) -> None:
        if len(self._rooms) < self._most:
            return
        oldest = next((key for key, room in self._rooms.items() if not room), None)
        if oldest is None:
            raise OperationError("busy", f"there are {self._most} rooms, and somebody is in each")
        del self._rooms[oldest]


def encode(**fields: Any) -> bytes:
    """Return the body of a DATA message."""
    return ENCODER.encode(fields).encode()


def gap(following: int) -> bytes:
    """Return what tells a member that the events between what it has and `following` are not kept any more."""
    return encode(type="gap", next=following)


def refusal(asked: Fields, error: OperationError) -> bytes:
    """Return what tells a member that what it asked for was not done."""
    return encode(type="refused", id=str(asked.get("id", ""))[:LONGEST_ID], code=error.code, message=error.message)


def checked_name(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name that looks like what it is; raise OperationError (bad_name) for another.

    No control characters, no marks that turn the direction of what follows: `str.isprintable` knows them. And something to see.
    """
    seen = INVISIBLE.sub("", name)
    fits = len(name) <= longest and name.isprintable() and seen == seen.strip() and unicodedata.is_normalized("NFC", name)
    if not (fits and seen):
        raise OperationError("bad_name", f"a name has 1 to {longest} printable characters in NFC, no space at its ends")
    return name


def folded(name: str) -> str:
    """Return what two names have in common that differ in case, in the width or form of letters, or in nothing visible."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", INVISIBLE.sub("", name)).casefold())


def _checked_text(text: str, least: int = 1) -> str:
    """Return a text that is neither empty nor too long; raise OperationError: bad_request, too_large."""
    if len(text) < least:
        raise OperationError("bad_request", "an empty text")
    if len(text.encode()) > LONGEST_TEXT:
        raise OperationError("too_large", f"a text has at most {LONGEST_TEXT} bytes of UTF-8")
    return text
