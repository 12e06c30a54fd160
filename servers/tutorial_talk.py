"""Three tutorial programs that talk in raw bytes: chat, echo and hello, each server with its client.

    chat    client: 你好   server: what its operator types   ...   client: 000001, and leaves
    echo    client: any bytes   server: the same, or with --upper the ASCII letters among them in upper case
    hello   client: anything, or nothing   server: hello

Chat is UTF-8 and alternates: a client waits for its answer. Many may wait; the prompt says whose answer is typed.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import functools
import os
import select
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from fastframe import EndOfStreamError

from . import stdio, tutorial
from .errors import OperationError
from .tutorial_streams import BLOCK, MOST_REQUEST, QUIET_SECONDS, RawStream, serve

if TYPE_CHECKING:
    import socket

    from fastframe import aio

LEAVES: Final = b"000001"  # what a client of chat sends last
HELLO: Final = b"hello"
SPEAKS_FIRST: Final = 0.5  # seconds: some clients say something, and others only listen


async def echo(stream: RawStream, *, upper: bool = False) -> None:
    while data := await stream.recv():
        await stream.sendall(data.upper() if upper else data)


async def hello(stream: RawStream) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SPEAKS_FIRST):
            if not await stream.recv():
                return
    await stream.sendall(HELLO)
    while await stream.recv():
        await stream.sendall(HELLO)


class Operator:
    """Who types the answers at the server's terminal, one at a time, in the order in which they were asked for."""

    def __init__(self, keyboard: stdio.Input, screen: stdio.Output) -> None:
        self._keyboard = keyboard
        self._screen = screen
        self._typed = b""  # and not sent yet
        self._turn = asyncio.Lock()  # first come, first served

    async def chat(self, stream: RawStream) -> None:
        """Answer a client until it leaves, or nobody types any more."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # what came may end within a character
        try:
            while (message := await stream.recv_request()) and message.rstrip(b"\r\n") != LEAVES:  # nc(1) sends lines
                if text := decoder.decode(message):
                    await stream.sendall(await self._answer(stream, text))
        except OperationError as error:
            await stream.sendall(str(error).encode())
        except (EndOfStreamError, stdio.Unusable):
            await self._show("\nnobody types answers any more\n")

    async def _answer(self, stream: RawStream, text: str) -> bytes:
        async with self._turn:
            await self._show(f"{stream.peername} says: {tutorial.printable(text)}\n")
            while not stream.has_left.is_set():
                await self._show(f"answer to {stream.peername}> ")
                answer = await self._line()  # whoever leaves meanwhile: half a line may be typed, and is for nobody else
                if answer and not stream.has_left.is_set():  # a client would wait for ever for an empty one
                    return answer
            await self._show(f"{stream.peername} has left\n")
            return b""

    async def _line(self) -> bytes:
        while b"\n" not in self._typed:
            if not (typed := await self._keyboard.read()):
                if not self._typed:
                    raise EndOfStreamError
                typed = b"\n"  # the last line may end without
            self._typed += typed
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode(errors="replace").strip().encode()

    async def _show(self, text: str) -> None:
        with contextlib.suppress(stdio.Unread):
            await self._screen.write([text.encode(sys.stdout.encoding, "replace")])


def serve_chat(argv: list[str]) -> int:
    parser = tutorial.server_parser(
        "chat", "Show what each client says, and send it the line that is typed next.", "fastframe serve tutorial chat"
    )
    options = parser.parse_args(argv)
    if options.workers > 1 or options.metrics_port is not None:
        parser.error("an operator has one terminal: there is no use for --workers and --metrics-port")

    async def start(**settings: Any) -> aio.FrameServer:
        return await serve(Operator(stdio.Input(), stdio.Output(1, "standard output")).chat, **settings)

    return tutorial.run(parser, options, start)


def serve_echo(argv: list[str]) -> int:
    parser = tutorial.server_parser("echo", "Send back what comes.", "fastframe serve tutorial echo --upper --port 8888")
    parser.add_argument("--upper", action="store_true", help="in upper case (ASCII)")
    options = parser.parse_args(argv)
    return tutorial.run(parser, options, functools.partial(serve, functools.partial(echo, upper=options.upper)))


def serve_hello(argv: list[str]) -> int:
    parser = tutorial.server_parser("hello", "Answer whatever comes with `hello`.", "fastframe serve tutorial hello")
    return tutorial.run(parser, parser.parse_args(argv), functools.partial(serve, hello))


def client_chat(argv: list[str]) -> int:
    parser = tutorial.client_parser(
        "chat", "Send each line that is typed, and show its answer; leave at the end of the input.", "fastframe tutorial chat"
    )
    return tutorial.run_client(parser.parse_args(argv), _chat)


def client_echo(argv: list[str]) -> int:
    parser = tutorial.client_parser("echo", "Send each TEXT, and print what comes back.", "fastframe tutorial echo hello")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="without any, the lines of standard input")
    options = parser.parse_args(argv)
    return tutorial.run_client(options, functools.partial(_echo, list(map(os.fsencode, options.texts)) or tutorial.typed("> ")))


def client_hello(argv: list[str]) -> int:
    parser = tutorial.client_parser("hello", "Send TEXT, and print what is answered.", "fastframe tutorial hello")
    parser.add_argument("text", nargs="?", default="hi", metavar="TEXT", help="what is sent (default: %(default)s)")
    options = parser.parse_args(argv)
    return tutorial.run_client(options, functools.partial(_hello, os.fsencode(options.text)))


def _chat(connection: socket.socket) -> int:
    connection.settimeout(None)  # somebody has to type
    try:
        for line in filter(None, tutorial.typed("> ")):  # an empty one would be nothing at all
            connection.sendall(line.decode(errors="replace").encode())
            answer = tutorial.printable(_answer(connection).decode(errors="replace"))
            tutorial.print_bytes(f"{answer}\n".encode(sys.stdout.encoding, "replace"))
    finally:
        with contextlib.suppress(OSError):
            connection.sendall(LEAVES)
    return 0


def _echo(texts: Iterable[bytes], connection: socket.socket) -> int:
    for text in texts:
        for start in range(0, len(text), BLOCK):
            connection.sendall(text[start : start + BLOCK])
            tutorial.print_bytes(b"".join(_exactly(connection, len(text[start : start + BLOCK]))))
        tutorial.print_bytes(b"\n")
    return 0


def _hello(text: bytes, connection: socket.socket) -> int:
    connection.sendall(text)
    tutorial.print_bytes(_answer(connection) + b"\n")
    return 0


def _answer(connection: socket.socket) -> bytes:
    """Return what comes until nothing more does for a moment: one recv() might cut it, even within a character."""
    answer = connection.recv(BLOCK)
    if not answer:
        raise EndOfStreamError
    while len(answer) < MOST_REQUEST and select.select([connection], [], [], QUIET_SECONDS)[0]:
        if not (more := connection.recv(BLOCK)):
            break
        answer += more
    return answer


def _exactly(connection: socket.socket, count: int) -> Iterator[bytes]:
    while count:
        data = connection.recv(min(count, BLOCK))
        if not data:
            raise EndOfStreamError
        count -= len(data)
        yield data
