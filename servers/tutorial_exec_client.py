"""The clients of the tutorials' exec servers: send a command line, print the output, as far as its end can be told.

exec-plain    one recv(): what a long answer has beyond that stands before the next one, which is what this kind is for
exec-struct   a frame: its payload is the output
exec-json     a frame, whose payload is JSON; `detach`; then bytes, as many as it says, compared by their MD5
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from fastframe import EndOfStreamError, FrameFormat, sync

from . import arguments, host, messages, tutorial
from .errors import OperationError
from .tutorial_answers import FORMAT
from .tutorial_streams import BLOCK

if TYPE_CHECKING:
    import socket

QUIT: Final = b"q"
LINE_END: Final = b"\n"  # a shell does not mind, and a server that looks for it need not wait whether more comes
RECV_SIZE: Final = 1024  # the tutorials' own
DESCRIPTION: Final = FrameFormat("i32le", max_payload_length=64 * 1024)  # a name and three numbers


def client_exec_plain(argv: list[str]) -> int:
    parser = _parser("exec-plain", "Send each COMMAND, and print what one recv() returns: of a long answer, its beginning.")
    parser.add_argument(
        "--recv", type=arguments.size, default=RECV_SIZE, metavar="BYTES", help="of that recv() (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    return tutorial.run_client(options, functools.partial(_plain, _commands(options), options.recv))


def client_exec_struct(argv: list[str]) -> int:
    options = _parser("exec-struct", "Send each COMMAND, and print its output.").parse_args(argv)
    return tutorial.run_client(options, functools.partial(_struct, _commands(options)))


def client_exec_json(argv: list[str]) -> int:
    options = _parser("exec-json", "Send each COMMAND, and print its output; exit with the last one's status.").parse_args(argv)
    return tutorial.run_client(options, functools.partial(_json, _commands(options)))


def _plain(commands: Iterable[bytes], size: int, connection: socket.socket) -> int:
    for command in commands:
        connection.sendall(command + LINE_END)
        if not (answer := connection.recv(size)):
            raise EndOfStreamError
        tutorial.print_bytes(answer)
    return 0


def _struct(commands: Iterable[bytes], connection: socket.socket) -> int:
    answers = sync.FrameSocket(connection, FORMAT)
    for command in commands:
        if command == QUIT:
            break
        connection.sendall(command + LINE_END)
        tutorial.print_bytes(answers.recv())
    connection.sendall(QUIT)
    return 0


def _json(commands: Iterable[bytes], connection: socket.socket) -> int:
    status = 0
    for command in commands:
        connection.sendall(command + LINE_END)
        frames = sync.FrameSocket(connection, DESCRIPTION)
        try:
            size, md5, told = _description(frames.recv())
        except OperationError as error:
            return host.fail(f"what stands before the output is no description: {error}")
        connection, tail = frames.detach()
        status = told
        if _print_body(connection, tail, size) != md5:
            status = host.fail("the output is not what the server has described: its MD5 is another")
    return status


def _description(payload: bytes) -> tuple[int, str, int]:
    """Return size and MD5 of an output, and what to exit with; raise OperationError if it tells none of that."""
    fields = messages.decode_fields(payload)
    status = fields.get("status", 0)
    status = status if isinstance(status, int) and 0 <= status <= 255 else 1
    return fields.integer("total_size"), fields.text("md5"), status


def _print_body(connection: socket.socket, tail: bytes, size: int) -> str:
    """Print `size` bytes, of which `tail` came already; return their MD5 in hex."""
    md5 = hashlib.md5(usedforsecurity=False)
    data = tail[:size]
    while size:
        tutorial.print_bytes(data)
        md5.update(data)
        size -= len(data)
        if size and not (data := connection.recv(min(size, BLOCK))):
            raise EndOfStreamError
    return md5.hexdigest()


def _parser(kind: str, description: str) -> argparse.ArgumentParser:
    parser = tutorial.client_parser(kind, description, f"fastframe tutorial {kind} 'disk -h' date")
    parser.add_argument(
        "commands", nargs="*", metavar="COMMAND", help="a whole line each; without any, those of standard input"
    )
    return parser


def _commands(options: argparse.Namespace) -> Iterable[bytes]:
    """Return the command lines; an empty one would be no request at all."""
    given = map(os.fsencode, options.commands) if options.commands else tutorial.typed("> ")
    return filter(None, map(bytes.strip, given))
