"""`fastframe chat`: be in a room of a chat server, at a terminal or in a pipe.

At a terminal there is a prompt (`chat_prompt`), whose lines are said, or are commands if they begin with a slash. In a pipe
each line of standard input is said as it is, each event is a line of standard output, and all else goes to standard error; in
the end the program waits until everything that it said was seen in the room, and leaves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import json
import os
import shutil
import signal
import sys
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Protocol

from . import arguments, chat_client, chat_prompt, chat_text, logs, memory, stdio, tls
from .chat_events import OWN, Event, Stay
from .chat_screen import Screen, sentence, wants_colours
from .errors import OperationError
from .host import fail
from .reaching import Unreachable, reaching, session_options
from .session import GONE

RETRY_SECONDS: Final = 60.0  # for which a program that nobody watches tries to come back
MOST_LINE: Final = 64 * 1024  # bytes of a line that are kept: no server takes a text that is as long
MOST_DIGITS: Final = 9  # of a number of events: no room keeps as many
MOST_NAMES: Final = 1000  # that Tab knows
HELP: Final = """\
/who           who is here
/topic TEXT    set the topic; alone: show it
/quit, /bye    leave, as Ctrl-C and Ctrl-D do
//TEXT         say a text that begins with a slash"""
COMMANDS: Final = ("/who", "/topic", "/quit", "/bye", "/help")


def chat_main(argv: list[str]) -> int:
    options = _parse(argv)
    try:
        entrance = _entrance(options)
    except arguments.UsageError as error:
        return fail(error, 2)
    memory.keep()
    try:
        return asyncio.run(_run(entrance, options))
    except stdio.Unread:
        raise BrokenPipeError from None  # which main() knows
    except Interrupted as error:
        return fail("interrupted", 128 + error.number)
    except (Unreachable, stdio.Unusable) as error:
        return fail(error)
    except (OperationError, *GONE) as error:
        return fail(logs.escape(chat_client.reason(error)))  # a server may have written it


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastframe chat",
        description="Be in a room of a chat server. At a terminal there is a prompt, where /help tells what can be done; "
        "otherwise each line of standard input is said, and each event is a line of standard output.",
        epilog="example: fastframe chat chat.example:9000 lobby --name ann --tls",
    )
    arguments.add_client_options(parser)
    parser.add_argument("room", type=_text, metavar="ROOM", help="is made if it is not there")
    parser.add_argument("--name", type=_text, help="as whom (default: the user's here, or with --token the token's)")
    parser.add_argument(
        "--history",
        type=_number,
        default=chat_client.HISTORY,
        metavar="N",
        help="how many old events to show (default: %(default)s)",
    )
    parser.add_argument(
        "--reconnect",
        type=arguments.wait,
        metavar="S",
        help="for how long to try to come back if the connection is lost; 0: not at all (default: for ever at a terminal, "
        f"otherwise {RETRY_SECONDS:g})",
    )
    arguments.add_token_option(parser)
    parser.add_argument("--udp", action="store_true", help="over datagrams, for a server with --udp; there is no TLS for them")
    parser.add_argument("--json", action="store_true", help="a JSON object for each event, in a line of standard output")
    options = parser.parse_intermixed_args(argv)
    if options.udp and tls.is_wanted(options):
        parser.error("there is no TLS for datagrams: --udp goes without")
    if options.name is None and options.token is None:
        options.name = _user(parser)
    return options


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{logs.escape(text)} is not UTF-8, as names at a server are") from None
    return unicodedata.normalize("NFC", text)  # as a server wants names, and some keyboards do not write them


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of events, or 0")
    return int(text)


def _user(parser: argparse.ArgumentParser) -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        parser.error("say who you are with --name")


def _entrance(options: argparse.Namespace) -> chat_client.connect:
    """Return what enters the room; raise UsageError for a file that is not right."""
    address = session_options(options)
    asked = {"room": options.room, "name": options.name, "history": options.history, "retry": options.reconnect}
    if asked["retry"] is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        asked["retry"] = RETRY_SECONDS
    if not options.udp:
        return chat_client.connect(**address, **asked)
    from . import chat_udp_client  # noqa: PLC0415  most do without

    for name in ("ssl", "server_hostname"):
        del address[name]
    return chat_udp_client.connect(**address, **asked)


class Interrupted(Exception):  # noqa: N818
    """A signal wants the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


async def _run(entrance: chat_client.connect, options: argparse.Namespace) -> int:
    """Enter the room, be there, leave it, and return the exit status."""
    with Signals() as signals:
        with reaching(options):
            room = await entrance
        try:
            talk = Talk(room)
            with _front(talk, options) as front:
                signals.are_gentle = True
                return await talk.run(front, signals)
        finally:
            await room.leave()


class Signals:
    """What SIGINT, SIGTERM and SIGHUP do: the first sets `came`, if it may be gentle; otherwise the task ends: Interrupted."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.are_gentle = False
        self._number = 0
        self._task = asyncio.current_task()

    def __enter__(self) -> Signals:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup(1) has it
                loop.add_signal_handler(number, self._take, number)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._number and (error is None or isinstance(error, asyncio.CancelledError)):
            raise Interrupted(self._number) from None

    def _take(self, number: int) -> None:
        if (self._number or not self.are_gentle) and self._task is not None:
            self._task.cancel()
        self._number = self._number or number
        self.came.set()


class Front(Protocol):
    """Where a person or a program is: lines come from there, events go there."""

    has_commands: bool  # and somebody who sees what becomes of what was said
    failures: int  # of what was to be said and was not

    def lines(self) -> AsyncIterator[str]:
        """Yield what is typed, until that ends."""

    async def show(self, events: list[Event]) -> None:
        """Show what happened."""

    async def tell(self, text: str) -> None:
        """Tell what the program has to say to its user."""


class Talk:
    """A room, and who is there with it at a `Front`."""

    def __init__(self, room: Stay) -> None:
        self._room = room
        self._topic = ""
        self._is_away = False
        self._names: dict[str, None] = {}  # who is there, or spoke, the last one last

    def status(self) -> str:
        """Return what stands in the prompt."""
        waiting = f", {self._room.unseen} waiting" if self._room.unseen else ""
        return f"away{waiting}> " if self._is_away else "> "

    def words(self, text: str) -> list[str]:
        """Return what Tab may complete `text` to: commands and names."""
        if text.startswith("/") and " " not in text:
            return [command for command in COMMANDS if command.startswith(text)]
        start = text.rpartition(" ")[2]
        names = [name for name in reversed(self._names) if name.casefold().startswith(start.casefold())]
        return [text.removesuffix(start) + name for name in names] if start else []

    async def run(self, front: Front, signals: Signals) -> int:
        """Say what is typed, and show what happens, until one of it ends or a signal comes; return the exit status."""
        showing = asyncio.create_task(self._show(front))
        typing = asyncio.create_task(self._type(front))
        stopping = asyncio.create_task(signals.came.wait())
        try:
            await asyncio.wait((showing, typing, stopping), return_when=asyncio.FIRST_COMPLETED)
            signals.are_gentle = not front.has_commands  # Ctrl-C behind Ctrl-D is from somebody who has no patience
            if not showing.done():
                await self._room.leave()
            await showing
            if typing.done():
                await typing
            if unseen := self._room.unseen:
                await front.tell(f"texts that were not seen in the room: {unseen}")
        finally:
            for task in (showing, typing, stopping):
                task.cancel()
            await asyncio.wait((showing, typing, stopping))
        return 1 if unseen or (front.failures and not front.has_commands) else 0

    async def _show(self, front: Front) -> None:
        while events := await self._room.read():
            for event in events:
                self._learn(event)
            await front.show(events)

    async def _type(self, front: Front) -> None:
        async for line in front.lines():
            try:
                if not (await self._obey(line, front) if front.has_commands else await self._say(line)):
                    return
            except (OperationError, ConnectionError) as error:
                front.failures += 1
                await front.tell(logs.escape(str(error)))
        if not front.has_commands:
            await self._room.settle()

    async def _say(self, line: str) -> bool:
        if line:
            await self._room.say(line)
        return True

    async def _obey(self, line: str, front: Front) -> bool:
        """Do what a line asks for; return whether one stays."""
        command, _, text = line.strip().partition(" ")
        match command:
            case "/quit" | "/bye":
                return False
            case "/who":
                await self._room.who()
            case "/topic" if text:
                await self._room.topic(text.strip())
            case "/topic":
                await front.tell(f"the topic: {chat_text.plain(self._topic)}" if self._topic else "there is no topic")
            case "/help":
                await front.tell(HELP)
            case "":
                pass
            case _ if line.startswith("/") and not line.startswith("//"):
                await front.tell(f"there is no {command}: /help tells what there is, and //{line[1:]} says it")
            case _:
                await self._say(line[1:] if line.startswith("//") else line)
        return True

    def _learn(self, event: Event) -> None:
        """Take note of what the prompt tells, and what Tab knows."""
        if event.type in ("entered", "back", "lost"):
            self._is_away = event.type == "lost"
        if event.type in ("entered", "back", "topic"):
            self._topic = event.topic
        for name in (event.name, *event.members):
            self._names.pop(name, None)
            if name and event.type != "left":
                self._names[name] = None
        while len(self._names) > MOST_NAMES:
            del self._names[next(iter(self._names))]


@contextlib.contextmanager
def _front(talk: Talk, options: argparse.Namespace) -> Iterator[Front]:
    if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        with contextlib.closing(Lines(as_json=options.json)) as lines:
            yield lines
    elif not chat_prompt.is_installed():
        print("fastframe: pip install 'fastframe[servers]' for a prompt that what comes does not tear", file=sys.stderr)
        with contextlib.closing(Lines(as_json=False)) as lines:
            yield lines
    else:
        yield chat_prompt.Prompt(talk.status, talk.words)


class Lines:
    """Standard input and output, line by line."""

    def __init__(self, *, as_json: bool) -> None:
        self.has_commands = sys.stdin.isatty()
        self.failures = 0
        self._as_json = as_json
        self._output = stdio.Output(1, "standard output")
        columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns  # noqa: E731
        is_terminal = sys.stdout.isatty()
        self._screen = Screen(columns if is_terminal else None, colours=wants_colours(is_terminal=is_terminal))

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines of standard input. What is not UTF-8 in them is replaced by U+FFFD."""
        with contextlib.closing(stdio.Input()) as source:
            rest = b""
            while data := await source.read():
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[:MOST_LINE]
                for line in lines:
                    yield _decoded(line)
            yield _decoded(rest)

    async def show(self, events: list[Event]) -> None:
        self.failures += sum(event.type == "refused" for event in events)
        if self._as_json:
            text = "".join(json.dumps(event.as_object()) + "\n" for event in events)
        else:
            for event in events:
                if event.type in OWN or event.type == "refused":
                    await self.tell(sentence(event))
            text = self._screen.text([event for event in events if event.type not in OWN and event.type != "refused"])
        await self._output.write([text.encode(sys.stdout.encoding, "backslashreplace")])

    async def tell(self, text: str) -> None:
        print(*(f"fastframe: {line}" for line in text.split("\n")), sep="\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._output.close()


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "replace").removesuffix("\r")
