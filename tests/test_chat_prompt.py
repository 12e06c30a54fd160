"""`fastframe chat` at a terminal: what it shows is looked at in a terminal that is emulated."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pyte
from chatting import hosting, rooms_served, running
from serving import FASTFRAME
from sessions import PATIENCE

from fastframe.servers import chat_client
from fastframe.servers.messages import Kind
from fastframe.servers.session import GONE

PLAIN = [
    sys.executable,
    "-c",
    "import sys; sys.modules['prompt_toolkit'] = None; from fastframe.__main__ import main; sys.exit(main(sys.argv[1:]))",
]
COLOURED = re.compile(rb"\x1b\[[0-9;]*3[1-6]m")
MOMENT = re.compile(r"^\d\d:\d\d ")


class Terminal:
    """A terminal of so many columns, with a program in it."""

    def __init__(self, words: list[str], columns: int, **variables: str) -> None:
        self.screen = pyte.HistoryScreen(columns, 24, history=10_000, ratio=0.001)
        self.came = b""
        self._stream = pyte.ByteStream(self.screen)
        self._own, other = os.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._manner = termios.tcgetattr(other)
        environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1", "TZ": "UTC", **variables}
        self.process = subprocess.Popen(words, stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True)
        self._other = other

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def lines(self) -> list[str]:
        """Return all lines that were written, also those that have left the screen."""
        above = ["".join(line[column].data for column in range(self.screen.columns)) for line in self.screen.history.top]
        lines = [line.rstrip() for line in (*above, *self.screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def until(self, *patterns: str) -> list[str]:
        """Take what the program writes until lines match the patterns, one each; return all lines."""
        deadline = time.monotonic() + PATIENCE
        while not all(any(re.search(pattern, line) for line in self.lines()) for pattern in patterns):
            assert time.monotonic() < deadline, self.lines()
            if select.select([self._own], [], [], 0.1)[0]:
                self._take()
        return self.lines()

    def ended(self) -> int:
        """Return the exit status; the terminal has to be as it was."""
        while self.process.poll() is None or select.select([self._own], [], [], 0)[0]:
            if select.select([self._own], [], [], 0.1)[0]:
                self._take()
        assert termios.tcgetattr(self._other) == self._manner
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)
        os.close(self._other)

    def _take(self) -> None:
        data = os.read(self._own, 65536)
        self.came += data
        self._stream.feed(data)


@contextlib.contextmanager
def chatting(address, columns=80, command=FASTFRAME, **variables):
    terminal = Terminal([*command, "chat", address, "lobby", "--name", "ann"], columns, **variables)
    try:
        yield terminal
    finally:
        terminal.close()


def say_as_bob(address, texts):
    """Say texts as somebody else, in a thread that is returned."""

    async def say():
        host, _, port = address.rpartition(":")
        async with chat_client.connect(host, int(port), room="lobby", name="bob", history=0) as bob:
            reading = asyncio.create_task(read(bob))
            for text in texts:
                await bob.say(text)
                await asyncio.sleep(0.002)
            await bob.settle()
        await reading

    async def read(bob):
        async for _ in bob:
            pass

    thread = threading.Thread(target=lambda: asyncio.run(say()))
    thread.start()
    return thread


def test_what_comes_does_not_tear_what_is_typed():
    typed = "the quick brown fox jumps 中文 👋"
    with running(rooms_served()) as address, chatting(address, 40) as terminal:
        terminal.until("ann joined", "^>")
        bob = say_as_bob(address, [f"flood {number}" for number in range(300)])
        for character in typed:
            terminal.type(character)
            terminal.until("flood")
        bob.join()
        lines = terminal.until("bob left", f"^> {typed[:20]}")
        assert MOMENT.sub("", lines[0]).startswith("* in lobby as ann")
        shown = [MOMENT.sub("", line) for line in lines[1:]]
        assert shown == [
            "* ann joined",
            "* bob joined",
            *(f"<bob> flood {number}" for number in range(300)),
            "* bob left",
            shown[-1],
        ]
        assert shown[-1].replace(" ", "") == f"> {typed}".replace(" ", "")
        terminal.type("\r")
        terminal.until("<ann> the", "^>$")
        assert "".join(terminal.lines()).replace(" ", "").partition("<ann>")[2] == f"{typed}>".replace(" ", "")
        terminal.type("\x03")
        assert terminal.ended() == 0
        assert MOMENT.sub("", terminal.lines()[-1]) == "* ann left"
        assert not COLOURED.search(terminal.came)


def test_a_prompt_has_commands_and_ends_with_the_connection():
    async def script(host):
        await host.let_in()
        assert (await host.heard())["type"] == "who"
        await host.event("who", count=1, members=["ann"])
        assert [(await host.heard())["text"] for _ in range(4)] == ["/x", "two", "/quit", "lines"]
        await host.say(Kind.ERROR, code="name_taken", message="no\x1b[2J more")

    with running(hosting(script)) as address, chatting(address) as terminal:
        terminal.until("^>")
        terminal.type("/who\r/help\r")
        terminal.until("1 here: ann", "/topic TEXT")
        terminal.type("//x\r\r \r\x1b[200~two\n\n/quit\nlines\x1b[201~\r")
        assert terminal.ended() == 1
        assert terminal.lines()[-1] == "fastframe: no\\x1b[2J more (name_taken)"
        assert not any(line.startswith(">") for line in terminal.lines())


def test_who_leaves_is_told_what_was_not_seen_in_the_room():
    async def forgetful(host):
        await host.let_in()
        await host.heard()
        await host.let_go(2)

    with running(hosting(forgetful)) as address, chatting(address) as terminal:
        terminal.until("^>")
        terminal.type("hi\r\x04")
        assert terminal.ended() == 1
        assert terminal.lines()[-1] == "  texts that were not seen in the room: 1"


def test_a_signal_while_one_leaves_ends_it_at_once():
    async def stubborn(host):
        await host.let_in()
        await host.hears(Kind.END)
        is_leaving.set()
        with contextlib.suppress(*GONE):
            await host.hear()

    is_leaving = threading.Event()
    with running(hosting(stubborn)) as address, chatting(address) as terminal:
        terminal.until("^>")
        terminal.type("\x04")
        assert is_leaving.wait(PATIENCE)
        began = time.monotonic()
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended() == 128 + signal.SIGINT
        assert time.monotonic() - began < chat_client.LEAVE_SECONDS - 1


def test_a_text_that_was_typed_before_is_found_and_not_said_at_once():
    with running(rooms_served()) as address, chatting(address) as terminal:
        terminal.until("^>")
        terminal.type("have a look\r")
        terminal.until("<ann> have a look")
        terminal.type("\x12loo")
        terminal.until("search.*loo.* have a look")
        terminal.type("\r")
        terminal.until("^> have a look")
        terminal.type("\x05ing glass\r")
        terminal.until("<ann> have a looking glass")


def test_a_signal_leaves_the_terminal_as_it_was():
    with running(rooms_served()) as address, chatting(address) as terminal:
        terminal.until("^>")
        terminal.type("half a li")
        terminal.until("half a li")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == 128 + signal.SIGTERM
        assert terminal.lines()[-1] == "fastframe: interrupted"


def test_names_have_colours_and_a_text_that_is_too_long_is_told():
    with running(rooms_served()) as address, chatting(address, NO_COLOR="") as terminal:
        terminal.until("^>", "ann joined")
        terminal.type("x" * 5000 + "\r")
        terminal.until("5000 bytes of text")  # which was seen, and is no failure of the program
        terminal.type("\x04")
        assert terminal.ended() == 0
        assert COLOURED.search(terminal.came)


def test_without_the_library_there_are_lines_and_a_word_how_to_get_it():
    with running(rooms_served()) as address, chatting(address, command=PLAIN) as terminal:
        terminal.until(r"pip install 'fastframe\[servers\]'", "ann joined")
        terminal.type("hi\n/quit\n")
        assert terminal.ended() == 0
        assert MOMENT.sub("", terminal.lines()[-1]) == "* ann left"
        assert [MOMENT.sub("", line) for line in terminal.lines()].count("<ann> hi") == 1
