"""The tutorial's programs over UDP: an echo that `bye` ends, and a chat room. A datagram is a message, plain bytes.

    client -> server | hello |    server -> client | hello |    udp-echo: each comes back as it came, the empty one too
    client -> server | hello |    server -> others | hello |    udp-chat: each goes to all others, as it came, if it is UTF-8

`bye` ends the talk of whoever sends it, and comes back as a receipt. Nothing that one peer sends ends anything for another.

Bytes like these do not tell an answer from a request, and senders of datagrams can be forged: of two such servers that are
pointed at each other, each would answer the other's answers for ever (CVE-2024-2169). So what is answered comes from a client's
port, which no server here has; `echo_udp.py` has more on that, and on what it leaves. In a room a forger can still speak for
somebody else, make him a member, or send his `bye`, and a message of his goes to all members, `MOST_MEMBERS` at most. The
format has no room for a cure: this is for one machine alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TextIO, TypeAlias

from fastframe import datagram

from . import echo_udp, host, tutorial
from .reaching import Unreachable, reaching

BYE: Final = b"bye"
MOST_MEMBERS: Final = 64  # of a room: so many datagrams may one that comes cost
SILENCE_SECONDS: Final = 300.0  # until a member is no longer one
ALIVE_SECONDS: Final = SILENCE_SECONDS / 4  # between two signs of a client that it is there: most of them may be lost
READ_SIZE: Final = 64 * 1024  # bytes of standard input at a time

Member: TypeAlias = tuple[datagram.DatagramEndpoint, datagram.Address]


# The servers


def from_clients(endpoint: datagram.DatagramEndpoint, received: Iterable[datagram.Datagram]) -> Iterator[datagram.Datagram]:
    """Yield what came from a client's port to a server's, and count the rest as `bad`."""
    own = endpoint.address
    for message, sender in received:
        if isinstance(sender, tuple) and isinstance(own, tuple) and sender[1] >= echo_udp.CLIENT_PORTS > own[1]:
            yield message, sender
        else:
            endpoint.counters["bad"] += 1


def echo(endpoint: datagram.DatagramEndpoint, received: list[datagram.Datagram]) -> None:
    """Send everything back. Nothing is kept of anybody, so a `bye` is no more than that to the server."""
    endpoint.send_many(list(from_clients(endpoint, received)))


class Room:
    """Who is in the room: whoever has sent a datagram, until he sends `bye`, or is silent for too long.

    An empty datagram is one as well, and is not sent on. What is no UTF-8 does nothing but count, as `bad` in the endpoint's
    counters, and so does, as `full`, what comes from somebody for whom there is no room.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._heard: dict[Member, float] = {}  # when

    @property
    def members(self) -> int:
        return len(self._heard)

    def __call__(self, endpoint: datagram.DatagramEndpoint, received: list[datagram.Datagram]) -> None:
        self._forget_silent()
        for message, sender in from_clients(endpoint, received):
            member = (endpoint, sender)
            if not is_text(message):
                endpoint.counters["bad"] += 1
            elif message.rstrip(b"\r\n") == BYE:  # nc(1) sends lines
                self._heard.pop(member, None)
                endpoint.send(message, sender)
            elif self._keep(member):
                self._send_to_others(message, member)
            else:
                endpoint.counters["full"] += 1

    def _forget_silent(self) -> None:
        latest = self._now() - SILENCE_SECONDS
        for member in [member for member, heard in self._heard.items() if heard < latest]:
            del self._heard[member]

    def _keep(self, member: Member) -> bool:
        """Note that a member was heard, and tell whether he is one: there may be no room."""
        if member in self._heard or len(self._heard) < MOST_MEMBERS:
            self._heard[member] = self._now()
        return member in self._heard

    def _send_to_others(self, message: bytes, speaker: Member) -> None:
        if message:
            for member in self._heard:
                if member != speaker:
                    endpoint, address = member
                    endpoint.send(message, address)


def is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


def serve_udp_echo(argv: list[str]) -> int:
    parser = tutorial.server_parser(
        "udp-echo",
        "Send each datagram back to the client that it came from, until SIGTERM or Ctrl-C.",
        "fastframe serve tutorial udp-echo --port 9000",
    )
    return _serve(parser, parser.parse_args(argv), echo)


def serve_udp_chat(argv: list[str]) -> int:
    parser = tutorial.server_parser(
        "udp-chat",
        f"Send each datagram of UTF-8 on to all others who have sent one in the last {SILENCE_SECONDS:g} seconds, "
        f"{MOST_MEMBERS} at most, until SIGTERM or Ctrl-C. Who sends `bye` leaves.",
        "fastframe serve tutorial udp-chat --port 9000",
    )
    options = parser.parse_args(argv)
    if options.workers > 1:
        parser.error("each worker would have a room of its own: leave out --workers")
    return _serve(parser, options, Room())


def _serve(parser: argparse.ArgumentParser, options: argparse.Namespace, handler: datagram.Handler) -> int:
    if options.unix or options.port >= echo_udp.CLIENT_PORTS:
        parser.error(
            f"clients are told from servers by their ports: give --port below {echo_udp.CLIENT_PORTS}, or 0, and no --unix"
        )

    async def serve(*, sockets: list[socket.socket], **_: Any) -> echo_udp.Server:
        return echo_udp.Server(await datagram.serve(handler, sockets=sockets, format=None), prints_counters=False)

    return tutorial.run(parser, options, serve, socket.SOCK_DGRAM)


# The clients


def client_udp_echo(argv: list[str]) -> int:
    parser = tutorial.client_parser(
        "udp-echo",
        "Send each TEXT in a datagram and print what comes back, a line each; `bye` is the last one.",
        "fastframe tutorial udp-echo hello bye",
    )
    parser.add_argument("texts", nargs="*", default=[], metavar="TEXT", help="without any, the lines of standard input")
    options = parser.parse_args(argv)
    texts = map(os.fsencode, options.texts) if options.texts else (line.rstrip(b"\n") for line in sys.stdin.buffer)

    def ask(sock: datagram.DatagramSocket) -> None:
        for text in texts:
            _say(sock, text)
            _wait(sock, text, options.timeout)
            sys.stdout.buffer.write(text + b"\n")
            sys.stdout.buffer.flush()
            if text == BYE:
                break

    return _run(parser, options, ask)


def client_udp_chat(argv: list[str]) -> int:
    parser = tutorial.client_parser(
        "udp-chat",
        "Send the lines of standard input to a chat room, print what others say, and leave at its end or the line `bye`.",
        "fastframe tutorial udp-chat --name alice",
    )
    parser.add_argument("--name", help="say with each line who says it, and that you come and go (default: the lines alone)")
    options = parser.parse_args(argv)
    name = os.fsencode(options.name or "")

    def talk(sock: datagram.DatagramSocket) -> None:
        _say(sock, name and name + b" is here")  # the empty one, which nobody gets, makes a member, too
        try:
            _talk(sock, name and name + b": ")
        finally:  # also at Ctrl-C
            with contextlib.suppress(OSError):
                if name:
                    _say(sock, name + b" leaves")
                _say(sock, BYE)
        _wait(sock, BYE, options.timeout, show)

    return _run(parser, options, talk)


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace, talk: Callable[[datagram.DatagramSocket], None]) -> int:
    if "path" in options.address:
        parser.error("this is UDP: an address is host:port or [v6]:port")
    try:
        with reaching(options):
            sock = datagram.connect(**options.address, format=None)
        with sock:
            talk(sock)
    except BrokenPipeError:
        raise  # nobody reads what is printed, which main() knows
    except (Unreachable, OSError) as error:
        return host.fail(error)
    return 0


def _talk(sock: datagram.DatagramSocket, prefix: bytes) -> None:
    """Send lines and show messages, until a line is `bye` or standard input ends."""
    typed, alive = Typed(), time.monotonic()
    while not typed.ended:
        messages, ready = _hear(sock, ALIVE_SECONDS, sys.stdin)
        for message in messages:
            show(message)
        for line in typed.read() if sys.stdin in ready else ():
            if line == BYE:
                return
            _say(sock, prefix + line)
        if time.monotonic() - alive >= ALIVE_SECONDS:
            _say(sock, b"")
            alive = time.monotonic()


class Typed:
    """The lines of standard input, without waiting for the end of one."""

    def __init__(self) -> None:
        self.ended = False
        self._unfinished = b""

    def read(self) -> list[bytes]:
        """Return the lines that the next bytes complete; at the end what is left, if anything is."""
        data = os.read(sys.stdin.fileno(), READ_SIZE)
        self.ended = not data
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        return [self._unfinished] if self.ended and self._unfinished else lines


def _say(sock: datagram.DatagramSocket, message: bytes) -> None:
    """Send a datagram; raise OSError if it does not go."""
    if not sock.send(message):
        raise OSError(_why(sock, f"a message of {len(message)} bytes was not sent"))


def _hear(sock: datagram.DatagramSocket, seconds: float, *inputs: TextIO) -> tuple[list[bytes], list[Any]]:
    """Return messages and what can be read, as soon as there is any, or after `seconds`; raise OSError if nobody is there."""
    watched: list[Any] = [sock, *inputs]
    ready, _, _ = select.select(watched, [], [], seconds)
    messages: list[bytes] = []
    if sock in ready:
        with contextlib.suppress(TimeoutError):
            messages = [message for message, _ in sock.recv_many(0)]
        if sock.counters["ECONNREFUSED"]:
            raise ConnectionRefusedError(_why(sock, "nobody is there"))
    return messages, ready


def _wait(
    sock: datagram.DatagramSocket, wanted: bytes, seconds: float, take: Callable[[bytes], object] = lambda _: None
) -> None:
    """Return when `wanted` has come; `take` what comes before that. Raise TimeoutError."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        messages, _ = _hear(sock, left)
        for message in messages:
            if message == wanted:
                return
            take(message)
    raise TimeoutError(_why(sock, f"no answer within {seconds:g} s"))


def _why(sock: datagram.DatagramSocket, what: str) -> str:
    errors = ", ".join(f"{name} {count} times" for name, count in sock.counters.items() if name.isupper())
    return f"{what}; the network said {errors}" if errors else what


def show(message: bytes) -> None:
    """Print a message as a line, which steers no terminal."""
    print(tutorial.printable(message.decode(errors="backslashreplace")), flush=True)
