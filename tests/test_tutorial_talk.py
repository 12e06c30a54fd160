"""Chat, echo and hello of the tutorials: minimal clients that speak the tutorials' bytes, and our own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import socket
import subprocess
import threading

import pytest
from executing import until
from serving import FASTFRAME, connect, serving
from sessions import PATIENCE, played, where
from threaded import against, received
from wires import read_all, reset

from fastframe import aio
from fastframe.servers import tutorial_streams, tutorial_talk

CHAT = [*FASTFRAME, "serve", "tutorial", "chat", "--port", "0"]


@contextlib.asynccontextmanager
async def served(handler):
    sockets = aio.bind("127.0.0.1", 0)
    async with await tutorial_streams.serve(handler, sockets=sockets, ssl=None, limits=aio.Limits()) as server:
        yield server


def talked(handler):
    return against(functools.partial(served, handler))


@talked(functools.partial(tutorial_talk.echo, upper=True))
def test_upper_case_echo_serves_many_and_outlives_those_who_leave(address):
    with connect(address) as first, connect(address) as second:
        for raw in (second, first, second):
            raw.sendall(b"hello 1 \xff\n")
            assert received(raw, 10) == b"HELLO 1 \xff\n"
        reset(first)
        second.sendall(b"on")
        assert received(second, 2) == b"ON"
        second.shutdown(socket.SHUT_WR)
        assert read_all(second) == b""


@talked(tutorial_talk.echo)
def test_plain_echo_answers_to_the_last_byte(address):
    data = os.urandom(1 << 20)
    with connect(address) as raw:
        answers = []
        reader = threading.Thread(target=lambda: answers.append(read_all(raw)))
        reader.start()
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        reader.join()
    assert answers == [data]


@played
async def test_a_client_that_has_left_costs_no_processor_time():
    async with served(tutorial_talk.echo) as server:
        reader, writer = await asyncio.open_connection(**where(server))
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        _, idle_writer = await asyncio.open_connection(**where(server))
        writer.close()
        await writer.wait_closed()
        await until(lambda: server.connections == 1)
        before = len(asyncio.all_tasks())
        began = os.times()
        await asyncio.sleep(0.2)
        ended = os.times()
        assert ended.user - began.user < 0.1
        assert len(asyncio.all_tasks()) <= before
        idle_writer.close()


@talked(tutorial_talk.hello)
def test_hello_to_who_speaks_first_and_to_who_only_listens(address):
    with connect(address) as speaker, connect(address) as listener:
        speaker.sendall(b"hi")
        assert received(speaker, 5) == b"hello"
        speaker.sendall(b"again")
        assert received(speaker, 5) == b"hello"
        assert received(listener, 5) == b"hello"


class Terminal:
    """A chat server whose operator is the test."""

    def __init__(self, served) -> None:
        self._server = served.process
        self.address = served.address
        self._shown = b""  # and not looked for yet

    def shows(self, *parts: bytes) -> None:
        """Wait until each of `parts` is shown, in that order."""
        screen = self._server.stdout.fileno()
        for part in parts:
            while part not in self._shown:
                assert select.select([screen], [], [], PATIENCE)[0], f"only {self._shown!r} was shown"
                self._shown += os.read(screen, 1 << 16) or pytest.fail(f"only {self._shown!r} was shown")
            self._shown = self._shown.partition(part)[2]

    def hangs_up(self) -> None:
        self._server.stdin.close()
        self._server.stdin = None  # or `communicate` flushes it

    def types(self, line: bytes) -> None:
        os.write(self._server.stdin.fileno(), line)


@contextlib.contextmanager
def operated():
    with serving(command=CHAT, stdin=subprocess.PIPE) as server:
        yield Terminal(server)
        assert server.end()[0] == 0


def name(raw: socket.socket) -> bytes:
    host, port = raw.getsockname()
    return f"{host}:{port}".encode()


def test_an_operator_answers_each_client_by_its_name():
    with operated() as terminal, connect(terminal.address) as first, connect(terminal.address) as second:
        first.sendall("你好".encode())
        terminal.shows(name(first) + " says: 你好".encode(), b"answer to " + name(first))
        second.sendall(b"me too \x1b[31m")
        terminal.types("答\n".encode())
        assert received(first, 3) == "答".encode()
        terminal.shows(name(second) + rb" says: me too \x1b[31m", b"answer to " + name(second))
        terminal.types(b"\n")  # hangs nobody: it is asked again
        terminal.shows(b"answer to " + name(second))
        terminal.types(b"yes\n")
        assert received(second, 3) == b"yes"
        first.sendall(b"000001")
        assert read_all(first) == b""
        second.sendall("é".encode() * 1000)  # the originals cut it at 1,024 bytes, here within a character
        terminal.shows(b"says: " + "é".encode() * 1000 + b"\n")
        terminal.types(b"x" * 3000 + b"\n")
        assert received(second, 3000) == b"x" * 3000


class Keyboard:
    def __init__(self) -> None:
        self._typed = asyncio.Queue()
        self.types = self._typed.put_nowait
        self.read = self._typed.get


class Screen:
    shown = b""

    async def write(self, pieces) -> None:
        self.shown += b"".join(pieces)


@played
async def test_who_has_left_is_not_answered_and_holds_up_nobody():
    keyboard, screen, streams = Keyboard(), Screen(), []
    operator = tutorial_talk.Operator(keyboard, screen)

    async def handler(stream):
        streams.append(stream)
        await operator.chat(stream)

    async with served(handler) as server:
        _, first = await asyncio.open_connection(**where(server))
        first.write(b"one")
        await until(lambda: screen.shown.endswith(b"> "))
        reader, second = await asyncio.open_connection(**where(server))
        second.write(b"two")
        await until(lambda: len(streams) == 2 and streams[1].in_message)
        await asyncio.sleep(2 * tutorial_streams.QUIET_SECONDS)
        assert b"two" not in screen.shown  # while somebody else is answered
        first.close()
        await until(streams[0].has_left.is_set)
        keyboard.types(b"for the first\nfor the second\n")
        assert await reader.read(100) == b"for the second"
        assert f"{streams[0].peername} has left\n{streams[1].peername} says: two\n".encode() in screen.shown
        second.close()


def test_lines_as_nc_sends_them_are_shown_without_their_ends_and_one_of_them_leaves():
    with operated() as terminal, connect(terminal.address) as raw:
        raw.sendall(b"hello\n")
        terminal.shows(name(raw) + b" says: hello\n", b"answer to ")
        terminal.types(b"yes\n")
        assert received(raw, 3) == b"yes"
        raw.sendall(b"000001\n")
        assert read_all(raw) == b""


def test_without_an_operator_nobody_is_left_waiting():
    with operated() as terminal, connect(terminal.address) as raw:
        terminal.hangs_up()
        raw.sendall(b"anybody there?")
        assert read_all(raw) == b""


def test_the_last_line_of_an_operator_needs_no_end():
    with operated() as terminal, connect(terminal.address) as raw:
        terminal.types(b"last words")
        terminal.hangs_up()
        raw.sendall(b"anything else?")
        assert received(raw, 10) == b"last words"
        raw.sendall(b"and now?")
        assert read_all(raw) == b""


def peer(answers: list[bytes]) -> tuple[str, list[bytes], threading.Thread]:
    """Play a tutorial's server for one client; return its address, and what it will have heard."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def play():
        with listener, listener.accept()[0] as raw:
            for answer in answers:
                heard.append(raw.recv(1024))
                raw.sendall(answer)
            heard.append(raw.recv(1024))

    thread = threading.Thread(target=play)
    thread.start()
    return f"127.0.0.1:{listener.getsockname()[1]}", heard, thread


def client(kind, address, *words, stdin=b""):
    return subprocess.run(
        [*FASTFRAME, "tutorial", kind, "--address", address, *words], input=stdin, capture_output=True, timeout=30, check=False
    )


def test_the_chat_client_alternates_and_says_that_it_leaves():
    address, heard, thread = peer(["答".encode(), b"\x1b[2J" + b"y" * 2000])
    result = client("chat", address, stdin="你好\n\nand?\n".encode())
    thread.join()
    assert heard == ["你好".encode(), b"and?", b"000001"]
    assert result.stdout.decode().splitlines() == ["答", "\\x1b[2J" + "y" * 2000]
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("kind", ["chat", "echo"])
def test_a_client_whose_output_nobody_reads_any_more_ends_without_a_complaint(kind):
    address, _, thread = peer([b"1"])
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as unread:
        result = subprocess.run(
            [*FASTFRAME, "tutorial", kind, "--address", address],
            input=b"a\nb\n",
            stdout=unread,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    thread.join()
    assert (result.returncode, result.stderr) == (1, b"")


def test_the_echo_and_hello_clients():
    address, heard, thread = peer([b"HELLO"])
    result = client("echo", address, "hello")
    thread.join()
    assert (result.returncode, result.stdout, result.stderr, heard) == (0, b"HELLO\n", b"", [b"hello", b""])
    address, heard, thread = peer([])
    result = client("hello", address)
    thread.join()
    assert (result.returncode, result.stdout) == (1, b"")
    assert heard == [b"hi"]
    assert result.stderr == b"fastframe: the server hung up before it had answered\n"
