"""The client of the chat server: a room that one is in, what happens there in its order, and what one says.

    async with chat_client.connect("127.0.0.1", 9000, room="lobby", name="ann") as room:
        await room.say("hello")
        async for event in room:
            print(event.name, event.text)

A task keeps the connection and puts events aside, up to a bound: who does not read them is slow to the server, too. When the
connection is lost the task comes back, asks for what it missed, and once it has seen all of that it says again what it has not
seen: each text is said once, unless the server does not keep as much any more, which is an event `gap`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import math
import os
import random
import secrets
import ssl as tls
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from fastframe import EndOfStreamError

from . import messages, session
from .chat_events import Event, Inbox
from .errors import OperationError, in_words
from .messages import Fields, Kind

if TYPE_CHECKING:
    from .session import ClientSession

HISTORY: Final = 50  # old events that one who comes is shown: about two screens
MOST_UNSEEN: Final = 256  # texts that may be on their way: 1 MiB at most
LONGEST_TEXT: Final = 4096  # bytes, unless the server says otherwise
FIRST_PAUSE: Final = 0.5  # seconds until the connection is tried again, twice as many each time
LONGEST_PAUSE: Final = 30.0  # a visit that took longer than that was a good one: then it begins with the first pause again
LEAVE_SECONDS: Final = 5.0  # for the server to answer that one has left
PASSING: Final = frozenset({"busy", "going_away", "internal"})  # errors that may be over when one comes again


class StreamStay:
    """A `Stay` over connections that come and go: `connect` makes it."""

    def __init__(
        self, dial: Callable[[], session.connect] | None, asked: dict[str, Any], timeout: float | None, retry: float | None
    ) -> None:
        self.name: str = asked.get("name", "")
        self._dial = dial
        self._asked = asked  # of the server, in OPEN
        self._timeout = timeout
        self._retry = retry
        self._inbox = Inbox()
        self._seq = 0  # of the last event that came
        self._head = 0  # of the own `joined`, when this connection began
        self._entered = Event("entered")
        self._longest = LONGEST_TEXT
        self._unseen: dict[str, bytes] = {}  # what was said, by its id, in that order
        self._outbox: list[bytes] = []  # what is to be sent on this connection
        self._is_open = False  # the connection
        self._is_here = False  # up to date, that is: what was missed has come
        self._is_leaving = False
        self._change = asyncio.Event()  # of any of these
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> None:
        """Go to the room for the first time; raise what goes wrong."""
        self._task = asyncio.create_task(self._stay())
        self._task.add_done_callback(self._end)
        try:
            while "log" not in self._asked:
                self._check()
                await self._changed()
        except BaseException:  # who is cancelled here has no room to leave
            self._task.cancel()
            raise

    @property
    def unseen(self) -> int:
        return len(self._unseen)

    async def read(self) -> list[Event]:
        return await self._inbox.read()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while events := await self.read():
            for event in events:
                yield event

    async def say(self, text: str) -> str:
        """Say a text, and return its id; see `Stay`. Raise OperationError (bad_request, too_large) for what cannot be said."""
        if not text:
            raise OperationError("bad_request", "there is nothing to say")
        name = secrets.token_hex(8)
        message = self._message(text, type="say", text=text, id=name)
        while len(self._unseen) >= MOST_UNSEEN:
            self._check()
            await self._changed()
        self._check()
        self._unseen[name] = message
        if self._is_here:
            self._send(message)
        return name

    async def topic(self, text: str) -> None:
        self._send_now(self._message(text, type="topic", topic=text))

    async def who(self) -> None:
        self._send_now(self._message("", type="who"))

    async def settle(self) -> None:
        while self._unseen:
            self._check()
            await self._changed()

    async def leave(self) -> None:
        if self._task is None or self._task.done():
            return
        self._is_leaving = True
        self._inbox.widen()
        self._tell()
        try:
            if self._is_open:
                await asyncio.wait((self._task,), timeout=LEAVE_SECONDS)
        finally:
            self._task.cancel()  # who has no patience for that is not to wait when it leaves again
        await asyncio.wait((self._task,))

    async def _stay(self) -> None:
        """Be in the room, and come back to it, until it is left, or lost for good."""
        loop = asyncio.get_running_loop()
        pause, deadline = FIRST_PAUSE, 0.0
        while True:
            began = loop.time()
            try:
                return await self._visit()
            except (OperationError, *session.GONE) as error:
                if self._is_leaving:
                    return None
                if "log" not in self._asked or not is_passing(error):
                    raise
                was_open, self._is_open = self._is_open, False
                if was_open:
                    pause = FIRST_PAUSE if loop.time() - began > LONGEST_PAUSE else pause
                    deadline = loop.time() + (math.inf if self._retry is None else self._retry)
                if loop.time() + pause > deadline:
                    raise
                if was_open:
                    text = error.message if isinstance(error, OperationError) else reason(error)
                    await self._inbox.put(Event("lost", reason=text))
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  so that not all come at once
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _visit(self) -> None:
        """Be in the room as long as a connection lasts."""
        assert self._dial is not None  # who has other connections has another visit
        async with (
            asyncio.timeout(self._timeout) as patience,
            self._dial() as client,
            client.operation("chat", **self._asked) as opened,
        ):
            patience.reschedule(None)
            await self._enter(opened)
            sending = asyncio.create_task(self._send_all(client))
            try:
                while chunks := await client.receive_data():
                    for chunk in chunks:
                        await self._take(Event.from_fields(messages.decode_fields(chunk)))
                await client.result()
            finally:
                self._is_here = False
                sending.cancel()
                await asyncio.wait((sending,))

    async def _enter(self, opened: Fields) -> None:
        """Take note of what the server says of the room."""
        log, self._head = opened.text("log", most=64), opened.integer("head")
        is_same = log == self._asked.get("log")
        self._entered = Event(
            "back" if "log" in self._asked else "entered",
            name=opened.text("name", most=256),
            room=opened.text("room", most=256),
            topic=opened.text("topic", default=""),
            count=opened.integer("members"),
            missed=0 if is_same else None,
        )
        self.name = self._entered.name
        self._longest = opened.object("limits").integer("text", default=LONGEST_TEXT)
        self._seq = self._seq if is_same else 0
        self._asked |= {"log": log, "secret": opened.text("secret", most=64)}
        if not is_same:
            self._asked.pop("since", None)
        self._outbox, self._is_open = [], True
        if self._entered.type == "entered":
            await self._inbox.put(self._entered)
        self._tell()

    async def _take(self, event: Event) -> None:
        """Take an event that came."""
        if event.type == "gap":
            event = dataclasses.replace(event, missed=max(0, event.next - self._seq - 1) if self._seq else None)
        elif 0 < event.seq <= self._seq:
            return  # it came before
        if event.seq:
            self._asked["since"] = self._seq = event.seq
        if event.type == "refused" or (event.type == "said" and event.name == self.name):
            self._unseen.pop(event.id, None)
            self._tell()
        await self._inbox.put(event)
        if event.seq and not self._is_here:
            await self._catch_up(event)

    async def _catch_up(self, event: Event) -> None:
        """Count an event that was missed; behind the last one all that was said has been seen, if it arrived."""
        entered = self._entered
        if event.seq < self._head:
            if event.name != self.name and entered.missed is not None:
                self._entered = dataclasses.replace(entered, missed=entered.missed + 1)
            return
        self._is_here = True
        self._send(*self._unseen.values())
        if entered.type == "back":
            await self._inbox.put(entered)

    async def _send_all(self, client: ClientSession) -> None:
        """Send what is to be sent, and in the end that one leaves."""
        with contextlib.suppress(*session.GONE):  # who receives hears of it
            while not self._is_leaving or self._outbox:
                pieces, self._outbox = self._outbox, []
                await client.send_many_data(pieces)
                if not self._outbox and not self._is_leaving:
                    await self._changed()
            await client.send(Kind.END)

    def _message(self, content: str, /, **fields: str) -> bytes:
        """Return a message that has `content` in it; raise OperationError if it may not have that."""
        try:
            size = len(content.encode())
        except UnicodeEncodeError:
            raise OperationError("bad_request", "a text that is not Unicode") from None
        if size > self._longest:
            raise OperationError("too_large", f"{size} bytes of text, and {self._longest} may be")
        return messages.ENCODER.encode(fields).encode()

    def _send_now(self, message: bytes) -> None:
        self._check()
        if not self._is_open:
            raise ConnectionError("there is no connection now")
        self._send(message)

    def _send(self, *pieces: bytes) -> None:
        self._outbox += pieces
        self._tell()

    def _check(self) -> None:
        """Raise the error for which the room was lost, or one that says that it was left."""
        self._inbox.check()
        if self._is_leaving or self._task is None or self._task.done():
            raise ConnectionError("the room was left")

    def _end(self, task: asyncio.Task[None]) -> None:
        self._inbox.end(None if task.cancelled() else task.exception())
        self._tell()

    def _tell(self) -> None:
        self._change.set()

    async def _changed(self) -> None:
        self._change.clear()
        await self._change.wait()


class connect:  # noqa: N801  it is called like a function
    """Enter a room: `async with connect(...) as room`, or `await` it, and `leave` it in the end.

    The address, TLS and `token` as for `session.connect`; `room` and `name`: texts, the latter not needed where a token names
    the user; `history`: how many old events are wanted; `timeout`: seconds until one is in the room, each time; `retry`: for
    how many seconds it is tried to come back when the connection is lost (None: for ever; 0: not at all).

    Raise what `session.connect` does, and OperationError if the server does not let one in: name_taken, bad_name, busy.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        room: str,
        name: str | None = None,
        history: int = HISTORY,
        path: str | os.PathLike[str] | None = None,
        ssl: tls.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        token: tuple[str, str] | None = None,
        timeout: float | None = None,
        retry: float | None = None,
    ) -> None:
        dial = functools.partial(
            session.connect, host, port, path=path, ssl=ssl, server_hostname=server_hostname, token=token, timeout=timeout
        )
        asked = {"room": room, "history": history} | ({} if name is None else {"name": name})
        self._stay = StreamStay(dial, asked, timeout, retry)

    def __await__(self) -> Generator[Any, None, StreamStay]:
        return self._enter().__await__()

    async def __aenter__(self) -> StreamStay:
        return await self._enter()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self._stay.leave()

    async def _enter(self) -> StreamStay:
        await self._stay.enter()
        return self._stay


def is_passing(error: Exception) -> bool:
    """Return whether it makes sense to come again, since it worked before."""
    return not isinstance(error, OperationError) or error.code in PASSING


def reason(error: Exception) -> str:
    """Return what a person is told of an error that ended a connection."""
    if isinstance(error, EndOfStreamError):
        return "the server hung up"
    if isinstance(error, TimeoutError) and error.errno is None:
        return "no answer"
    return in_words(error) if isinstance(error, OSError) else str(error)
