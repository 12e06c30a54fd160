"""What happens in a room, as a client tells it: events, where they wait to be read, and what every client of a room can do.

Events come from a server that may lie: each field is asked for with its type and its bounds. The client over connections is
`chat_client`, the one over datagrams `chat_udp_client`; whoever uses one of them can use the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from . import messages
from .errors import OperationError

if TYPE_CHECKING:
    from .messages import Fields

MOST_EVENTS: Final = 1024  # that are put aside: as many as a busy room has in some seconds
MOST_MEMBERS: Final = messages.MAX_CONTROL  # of a room: more have no place in a message
# What an event of each type says, besides its type.
_NUMBERED: Final = ("seq", "time", "name")
FIELDS: Final = {
    "said": (*_NUMBERED, "id", "text"),
    "joined": _NUMBERED,
    "left": (*_NUMBERED, "reason"),
    "topic": (*_NUMBERED, "topic"),
    "gap": ("next", "missed"),
    "who": ("count", "members"),
    "refused": ("id", "code", "message"),
    "entered": ("room", "name", "topic", "count"),
    "back": ("room", "name", "topic", "count", "missed"),
    "lost": ("reason",),
    "unknown": ("seq",),
}
OWN: Final = frozenset({"entered", "lost", "back", "unknown"})  # which no server tells of
LATEST: Final = 253_402_300_799  # seconds: the end of the year 9999, behind which there are no dates


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a room, or to this client there; which fields count says `FIELDS`.

    `said`, `joined`, `left` and `topic` are the room's, with rising numbers. `who` and `refused` answer this client; a `gap` is
    where it missed events that are not kept any more; `unknown` is of a newer server. The client makes three itself: `entered`
    at first, `lost` when the connection is lost and it tries to come back, and `back` behind what was missed meanwhile.
    """

    type: str
    seq: int = 0  # the event's number
    time: float = 0.0  # seconds since 1970
    name: str = ""  # who did it; `entered`, `back`: as whom one is in the room
    id: str = ""  # of a text, as `say` returned it
    text: str = ""
    reason: str = ""  # `left`: left, lost, slow, replaced or expired; `lost`: a sentence
    topic: str = ""
    next: int = 0  # the first number behind a gap
    missed: int | None = None  # `back`: events that came meanwhile; `gap`: that are in it; None if the room began anew
    members: tuple[str, ...] = ()
    code: str = ""
    message: str = ""
    room: str = ""
    count: int = 0  # of members

    @classmethod
    def from_fields(cls, fields: Fields) -> Event:
        """Return the event that a server told of; raise OperationError for what is none."""
        kind = fields.text("type", most=64)
        if kind not in FIELDS or kind in OWN:
            return cls("unknown", seq=fields.integer("seq", default=0))
        return cls(kind, **{name: _READERS[name](fields) for name in FIELDS[kind] if name in _READERS})

    def as_object(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {"type": self.type, **{name: getattr(self, name) for name in FIELDS[self.type]}}


class Stay(Protocol):
    """A stay in a room: what `connect` gives, in `chat_client` and in `chat_udp_client`.

    All methods raise OperationError, OSError or FrameError if it is over for good. Anything else is a bug.
    """

    name: str  # as whom one is in the room

    @property
    def unseen(self) -> int:
        """How many texts were said whose events have not come yet."""

    async def read(self) -> list[Event]:
        """Return the events that are here, at least one, as soon as there are some; [] when one has left."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Yield each event, until one has left."""

    async def say(self, text: str) -> str:
        """Say a text, and return its id; without a connection it is said later. Wait while too many have not been seen."""

    async def topic(self, text: str) -> None:
        """Change the topic. Raise ConnectionError if there is no connection now."""

    async def who(self) -> None:
        """Ask who is there; an event answers. Raise ConnectionError if there is no connection now."""

    async def settle(self) -> None:
        """Wait until everything that was said has been seen, or refused."""

    async def leave(self) -> None:
        """Leave the room, and tell so. Safe to repeat."""


class Inbox:
    """Events that have come and nobody has read yet, up to a bound."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._change = asyncio.Event()
        self._is_bounded = True
        self._is_over = False
        self._error: BaseException | None = None

    async def put(self, event: Event) -> None:
        """Put an event aside; wait until there is room."""
        while self._is_bounded and len(self._events) >= MOST_EVENTS:
            await self._changed()
        self._events.append(event)
        self._change.set()

    def widen(self) -> None:
        """Have room for all that still comes, so that nobody has to read."""
        self._is_bounded = False
        self._change.set()

    def end(self, error: BaseException | None = None) -> None:
        """Take note that no more events come, and of the error that is why."""
        self._is_over, self._error = True, error
        self._change.set()

    def check(self) -> None:
        """Raise the error that is why no more events come."""
        if self._error is not None:
            raise self._error

    async def read(self) -> list[Event]:
        """Return the events that are here, at least one; [] if no more come. Raise the error that is why."""
        while not self._events and not self._is_over:
            await self._changed()
        events = list(self._events)
        self._events.clear()
        self._change.set()
        if not events:
            self.check()
        return events

    async def _changed(self) -> None:
        self._change.clear()
        await self._change.wait()


def _seconds(fields: Fields) -> float:
    value = fields.get("time")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LATEST:
        raise OperationError("bad_request", "'time' is not a number of seconds")
    return float(value)


_READERS: Final[dict[str, Callable[[Fields], Any]]] = {
    "seq": lambda fields: fields.integer("seq", least=1),
    "time": _seconds,
    "name": lambda fields: fields.text("name", most=256),
    "id": lambda fields: fields.text("id", default="", most=64),
    "text": lambda fields: fields.text("text", most=messages.MAX_CONTROL),
    "reason": lambda fields: fields.text("reason", most=64),
    "topic": lambda fields: fields.text("topic", most=messages.MAX_CONTROL),
    "next": lambda fields: fields.integer("next", least=1),
    "members": lambda fields: tuple(fields.texts("members", most=MOST_MEMBERS)),
    "code": lambda fields: fields.text("code", most=64),
    "count": lambda fields: fields.integer("count", default=0),
    "message": lambda fields: fields.text("message", default=""),
}
