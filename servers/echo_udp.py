"""The server of echo over datagrams: a request comes back as an answer of the same length, and an answer is never answered.

One frame a datagram, in any format that strips its header. With u32be, for a text of n bytes:

    byte   0 .. 3                 4 .. 7              8 .. 15                     16 .. 15 + n
         | length: u32be, 12 + n | "PING" or "PONG" | id: any 8 bytes           | text |
                                   request, answer    the answer has the same     so too, or in upper case

A server answers each PING, whomever it comes from, and no PONG. So two servers that are pointed at each other by a forged
sender address fall silent after one answer, where others never end (CVE-2024-2169), and nobody gets more bytes than were sent
in his name. Such a frame that was cut or padded is refused.

Plain datagrams, of `nc -u` for instance, have no room for such a mark; an empty one comes back empty. They go back byte for
byte on loopback addresses, on others with `--plain`, and only if they came from a client's port to a server's: from 32768 on
are those that systems give to clients, servers are below. OpenBSD's inetd has such a rule, for ports below 1024. It leaves one
loop: with somebody else's plain echo server on a client's port.
"""

from __future__ import annotations

import argparse
import errno
import functools
import ipaddress
import json
import random
import socket
import sys
from collections import Counter
from typing import Any, Final

from fastframe import FrameError, FrameFormat, datagram

from . import arguments, host

PING: Final = b"PING"
PONG: Final = b"PONG"
HEAD_LENGTH: Final = 12  # kind and id
CLIENT_PORTS: Final = 32768  # Linux begins here, IANA, macOS and Windows at 49152
# One of these is taken for port 0, for which the kernel would pick a client's. Below are the ports that programs like best.
SERVER_PORTS: Final = range(20_000, CLIENT_PORTS)
ATTEMPTS: Final = 100  # to find a free one
# What is shown from the start, at 0; errors of the network are counted by name when there are some.
COUNTERS: Final = ("received", "sent", "plain", "answers", "own", "nameless", "bad", "cut", "dropped")


def add_server_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("datagrams")
    group.add_argument("--udp", action="store_true", help="answer datagrams instead of connections, one frame each")
    group.add_argument(
        "--plain",
        action=argparse.BooleanOptionalAction,
        help="send back what is no frame, too, as for nc -u (default: on loopback addresses)",
    )
    group.add_argument(
        "--stats", action="store_true", help="at the end print what was counted, as JSON, to stderr; each worker its own"
    )


class Echo:
    """What a server does with datagrams. It keeps nothing of any peer, so nobody changes what others get.

    It counts in the endpoint's counters what it answers as `plain`, and what it does not answer at all: `answers` to somebody
    else, datagrams from its `own` address or from a `nameless` one, and `bad` ones.
    """

    def __init__(self, fmt: FrameFormat, *, upper: bool = False, plain: bool | None = None) -> None:
        self._codec = datagram.DatagramCodec(fmt)
        self._start = fmt.initial_bytes_to_strip or 0  # of the payload, where that does not vary
        self._upper = upper
        self._plain = plain

    def __call__(self, endpoint: datagram.DatagramEndpoint, received: list[datagram.Datagram]) -> None:
        own, counters, answers = endpoint.address, endpoint.counters, []
        for request, sender in received:
            answer = self.answer(request, sender, own, counters)
            if answer is not None:
                answers.append((answer, sender))
        endpoint.send_many(answers)

    def answer(self, request: bytes, sender: datagram.Address, own: datagram.Address, counters: Counter[str]) -> bytes | None:
        """Return the datagram that answers `request`, as long as that, or None for none."""
        if sender is None or sender == own:
            counters["own" if sender else "nameless"] += 1
            return None
        try:
            payload = self._codec.decode(request)
        except FrameError:
            payload = b""
        if payload.startswith(PING) and len(payload) >= HEAD_LENGTH:
            if self._upper:
                payload = payload[:HEAD_LENGTH] + payload[HEAD_LENGTH:].upper()
            return self._codec.encode(PONG + payload[len(PING) :])
        if payload.startswith(PONG):
            counters["answers"] += 1
        elif not request.startswith((PING, PONG), self._start) and self._answers_plain(sender, own):
            counters["plain"] += 1
            return request.upper() if self._upper else request
        else:
            counters["bad"] += 1
        return None

    def _answers_plain(self, sender: datagram.Address, own: datagram.Address) -> bool:
        """Tell whether a sender that says nothing of itself is a client."""
        if not isinstance(sender, tuple) or not isinstance(own, tuple) or not sender[1] >= CLIENT_PORTS > own[1]:
            return False
        return is_loopback(own[0]) if self._plain is None else self._plain


@functools.lru_cache(maxsize=16)
def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


class Server:
    """A server as `host.run` runs it; when it closes it prints what it counted to stderr, if that is wanted."""

    connections = 0

    def __init__(self, server: datagram.DatagramServer, *, prints_counters: bool) -> None:
        self.accepting = True
        self._server = server
        self._prints_counters = prints_counters

    @property
    def addresses(self) -> list[str]:
        return [f"udp {address}" for address in self._server.addresses]

    @property
    def counters(self) -> dict[str, int]:
        counters = dict.fromkeys(COUNTERS, 0) | self._server.counters
        return {f"datagrams_{name}": count for name, count in counters.items()}

    async def close(self, grace: float = 0.0) -> None:
        self.accepting = False
        await self._server.close(grace)
        if self._prints_counters:
            self._prints_counters = False  # a second signal closes once more
            print(json.dumps(self._server.counters), file=sys.stderr)


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Run the server until a signal ends it; return the exit status."""
    if useless := arguments.for_connections(options):
        parser.error(f"datagrams have no connections: --udp leaves no use for {' and '.join(useless)}")
    if options.plain and (options.port >= CLIENT_PORTS or (options.unix and not options.host)):
        parser.error(f"plain datagrams are answered by UDP ports below {CLIENT_PORTS} alone")
    try:
        handler = Echo(options.format, upper=options.upper, plain=options.plain)
    except ValueError as error:
        parser.error(f"no datagram can carry such a frame: {error}")

    async def serve(*, sockets: list[socket.socket], **_: Any) -> Server:
        return Server(await datagram.serve(handler, sockets=sockets, format=None), prints_counters=options.stats)

    return host.run(options, serve, bind, socket.SOCK_DGRAM)


def bind(host: str | None = None, port: int | None = None, path: str | None = None) -> list[socket.socket]:
    return bind_free(host) if host is not None and port == 0 else datagram.bind(host, port, path=path)


def bind_free(host: str) -> list[socket.socket]:
    """Bind a free port that no client gets."""
    *others, last = random.sample(SERVER_PORTS, ATTEMPTS)
    for port in others:
        try:
            return datagram.bind(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return datagram.bind(host, last)
