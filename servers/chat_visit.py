"""One stay in a room over datagrams, without input and output: what came and what did not, what is to be said again, and when.

    came: 5 6 8 9     taken: 5 6          7 is missing: PING {"seq":6,"missing":[7]}, again after a pause that doubles
    came: 7           taken: 7 8 9
    silence           PONG {"head":10}    10 is missing

What the client asks for, it asks one thing at a time, until it sees in the room that it was done: so what somebody says stays
in its order. The server knows the ids of the last ones, and does each once.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from . import messages
from .arguments import LEAST_RATE, MOST_RATE
from .chat_events import Event
from .errors import OperationError
from .messages import Fields, Kind
from .rooms import Flood

if TYPE_CHECKING:
    from .messages import Message

WINDOW: Final = 1024  # events that are kept behind one that is missing
MOST_ASKED: Final = 32  # events in one PING, as many as a server sends for it
REORDER_SECONDS: Final = 0.02  # for what is missing to come by itself: it was overtaken
FIRST_ASK, LONGEST_ASK = 0.1, 1.0  # seconds until what is missing is asked for again
FIRST_SAY, LONGEST_SAY = 0.5, 4.0  # until something is said again
FIRST_PING, LONGEST_PING = 1.0, 5.0  # of silence until the server is asked whether there is news
MOST_TRIES: Final = 20  # then the network lets small datagrams through, and not this one: 17 s for an event, 70 s for a text
NO_WAY: Final = "it does not get through to the server: long texts do not on some networks"
LOST_SECONDS: Final = 10.0  # without an answer: eleven PINGs
JITTER: Final = 0.25  # what chance takes off a pause, so that not all members that missed an event ask at once


class Timer:
    """When something is due, after pauses that double. `tries`: how often it was since it began."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = self._pause = first
        self._longest = longest
        self.at = math.inf
        self.tries = 0

    def begin(self, at: float) -> None:
        self.at, self._pause, self.tries = at, self._first, 0

    def again(self, now: float) -> None:
        self.at = now + self._pause * _chance()
        self._pause = min(2 * self._pause, self._longest)
        self.tries += 1

    def stop(self) -> None:
        self.begin(math.inf)


class Visit:
    """A stay in a room: `take` what comes, send what is `due`, be back at `next_due` at the latest.

    `opened`: what the server said to OPEN. `is_over`: it has heard that one leaves.
    """

    def __init__(self, opened: Fields, now: float) -> None:
        self.log = opened.text("log", most=64)
        self.secret = opened.text("secret", most=64)
        self.name = opened.text("name", most=256)
        self.is_over = False
        limits = opened.object("limits")
        self._flood = Flood(_rate(limits), limits.integer("burst", default=1, least=1, most=1000))
        self._next = opened.integer("next", least=1)  # event
        self._head = opened.integer("head")  # the last one that there is, as far as is known
        self._held: dict[int, Event] = {}  # that have come, and others are missing before them
        self._asked = 0  # the last event that was asked for
        self._wishes: deque[dict[str, Any]] = deque()  # the first one is on its way
        self._silent_since: float | None = None
        self._asking = Timer(FIRST_ASK, LONGEST_ASK)
        self._saying = Timer(FIRST_SAY, LONGEST_SAY)
        self._pinging = Timer(FIRST_PING, LONGEST_PING)
        self._leaving = Timer(FIRST_ASK, LONGEST_ASK)
        if self._next <= self._head:
            self._asking.begin(now if self._next < self._head else now + REORDER_SECONDS)
        self._pinged = now
        self._pinging.again(now)

    @property
    def next_due(self) -> float:
        return min(timer.at for timer in (self._asking, self._saying, self._pinging, self._leaving))

    @property
    def is_idle(self) -> bool:
        """Whether everything has been done that was wished for."""
        return not self._wishes

    def wish(self, fields: dict[str, Any], now: float) -> None:
        """Have the server do something, which has an `id`."""
        self._wishes.append(fields)
        if len(self._wishes) == 1:
            self._begin_wish(now)

    def leave(self, now: float) -> None:
        """Tell the server that one leaves. Safe to repeat."""
        if self._leaving.at == math.inf:
            self._leaving.begin(now)

    # What comes

    def take(self, message: Message, now: float) -> list[Event]:
        """Return the events that a message lets happen now. Raise OperationError or OSError if the server says it is over."""
        if message.kind is Kind.ERROR and message.fields.get("to") == self.secret:
            raise _told(message.fields)
        with contextlib.suppress(OperationError):  # a message that is none
            fields = messages.decode_fields(message.data) if message.kind in messages.BYTES else message.fields
            if message.kind is Kind.DATA and fields.get("log") == self.log:
                self._silent_since = None
                return self._take_event(Event.from_fields(fields), now)
            if fields.get("to") == self.secret:  # otherwise it is anybody's, or of an earlier stay
                self._silent_since = None
                return self._take_answer(message.kind, fields, now)
        return []

    def _take_answer(self, kind: Kind, fields: Fields, now: float) -> list[Event]:
        """Take what is for this client alone."""
        if kind is Kind.PONG:
            return self._take_pong(fields.integer("head"), now)
        if kind is Kind.DATA:
            return self._take_granted(Event.from_fields(fields), fields.get("id"), now)
        self.is_over = kind is Kind.RESULT
        return []

    def _take_event(self, event: Event, now: float) -> list[Event]:
        if self._next <= event.seq < self._next + WINDOW:
            self._held[event.seq] = event
            if self._wishes and _is_done(self._wishes[0], event, self.name):
                self._end_wish(now)
        self._note_head(event.seq, now)
        return self._advance(now)

    def _take_granted(self, event: Event, name: object, now: float) -> list[Event]:
        """Take what came of something that this client asked for."""
        if event.type == "gap":
            return self._skip(event.next, now)
        if not self._wishes or self._wishes[0]["id"] != name:
            return []  # it came twice
        if event.code == "busy":  # the server counted more than was sent here: what came twice, or a client before this one
            self._saying.at = now + 1 / self._flood.rate
            return []
        self._end_wish(now)
        return [event]

    def _advance(self, now: float) -> list[Event]:
        """Return the events of which none is missing before them."""
        events: list[Event] = []
        while self._next in self._held:
            events.append(self._held.pop(self._next))
            self._next += 1
        if self._next > self._head:
            self._asking.stop()
        elif events:  # at once, if all has come that was asked for: it is a long way to the head
            self._asking.begin(now if self._next == self._asked + 1 else now + REORDER_SECONDS)
        return events

    def _skip(self, number: int, now: float) -> list[Event]:
        """Go on with the event of that number, since those before it do not come any more."""
        if number <= self._next:
            return []
        before = [self._held.pop(seq) for seq in sorted(self._held) if seq < number]
        self._next = number
        return [*before, Event("gap", next=number), *self._advance(now)]

    def _take_pong(self, head: int, now: float) -> list[Event]:
        """Take what shows that the network lets something through; what was tried often enough is given up."""
        self._note_head(head, now)
        self._pinging.again(now)
        events: list[Event] = []
        if self._saying.tries >= MOST_TRIES:
            events.append(Event("refused", id=self._wishes[0]["id"], code="timeout", message=NO_WAY))
            self._end_wish(now)
        if self._asking.tries >= MOST_TRIES:
            events += self._skip(min(self._held, default=self._head + 1), now)
        return events

    def _note_head(self, head: int, now: float) -> None:
        """Take note that there is an event of that number; ask a while later whether there is another."""
        if head > self._head:
            self._head = head
            self._pinging.begin(min(now + FIRST_PING * _chance(), self._pinged + LONGEST_PING))
        if self._next <= self._head and self._asking.at == math.inf:
            self._asking.begin(now + REORDER_SECONDS)

    # What is due

    def due(self, now: float) -> list[bytes]:
        """Return the payloads to send now; raise TimeoutError if the server has been silent for too long."""
        if self._silent_since is not None and now - self._silent_since > LOST_SECONDS:
            raise TimeoutError("the server is silent")
        payloads = []
        if now >= self._asking.at or now >= self._pinging.at:
            payloads.append(self._ping(now))
        if now >= self._saying.at:
            payloads.append(self._say(now))
        if now >= self._leaving.at:
            self._leaving.again(now)
            payloads.append(self.farewell())
        return payloads

    def farewell(self) -> bytes:
        """Return the payload that tells that one leaves."""
        return self._message(Kind.END)

    def _ping(self, now: float) -> bytes:
        """Ask for what is missing, and whether there is more."""
        numbers = itertools.islice(range(self._next, self._head + 1), WINDOW)
        missing = list(itertools.islice((number for number in numbers if number not in self._held), MOST_ASKED))
        if missing:
            self._asked = missing[-1]
            self._asking.again(now)
        if self._silent_since is None:
            self._silent_since = now
        self._pinged = now
        self._pinging.at = now + FIRST_PING * _chance()  # if nothing comes
        return self._message(Kind.PING, seq=self._next - 1, missing=missing)

    def _say(self, now: float) -> bytes:
        if self._saying.tries == 0:
            self._flood.take(now)
        self._saying.again(now)
        return self._message(Kind.DATA, **self._wishes[0])

    def _begin_wish(self, now: float) -> None:
        """Say the next one as soon as the server allows it."""
        self._saying.begin(now + self._flood.early(now) if self._wishes else math.inf)

    def _end_wish(self, now: float) -> None:
        self._wishes.popleft()
        self._begin_wish(now)

    def _message(self, kind: Kind, **fields: Any) -> bytes:
        return messages.encode(kind, {"secret": self.secret} | fields)


def _is_done(wish: dict[str, Any], event: Event, name: str) -> bool:
    """Return whether an event is what somebody of that name wished for."""
    if event.type == "topic":
        return event.name == name and event.topic == wish.get("topic")
    return event.type == "said" and event.name == name and event.id == wish["id"]


def _told(fields: Fields) -> Exception:
    """Return the error that a server tells of."""
    code = fields.text("code", most=64)
    if code == "unauthenticated":  # it began anew, or has not heard of this client for long: one may come again
        return ConnectionResetError("the server does not know this client any more")
    return OperationError(code, fields.text("message", default=""))


def _rate(limits: Fields) -> float:
    rate = limits.get("rate", 1.0)
    if not isinstance(rate, int | float) or not LEAST_RATE <= rate <= MOST_RATE:
        raise OperationError("bad_message", "a rate that cannot be")
    return float(rate)


def _chance() -> float:
    return random.uniform(1 - JITTER, 1)  # noqa: S311
