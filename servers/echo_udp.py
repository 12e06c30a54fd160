"""Echo over datagrams: a request comes back as an answer of the same length, and an answer is never answered.

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

The client asks one thing at a time, asks again after a pause that doubles, and gives every try an id of its own. So it knows
which one was answered: how long that took, what got lost, what came twice (RFC 8085, section 3.1; RFC 8961).
"""

from __future__ import annotations

import argparse
import errno
import functools
import ipaddress
import json
import random
import secrets
import socket
import sys
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from fastframe import FrameError, FrameFormat, datagram

from . import host

PING: Final = b"PING"
PONG: Final = b"PONG"
HEAD_LENGTH: Final = 12  # kind and id
CLIENT_PORTS: Final = 32768  # Linux begins here, IANA, macOS and Windows at 49152
# One of these is taken for port 0, for which the kernel would pick a client's. Below are the ports that programs like best.
SERVER_PORTS: Final = range(20_000, CLIENT_PORTS)
ATTEMPTS: Final = 100  # to find a free one
RETRY_SECONDS: Final = 1.0  # RFC 8961, section 4: no less, unless the path is known
JITTER: Final = 0.5  # what chance may add to a pause, so that clients that lost together do not retry together (RFC 7252, 4.2)
REMEMBERED: Final = 1024  # tries of which a late or a second answer is told from a stray one
SAMPLES: Final = 10_000  # round trips that the quantiles are of

Statistics = dict[str, Any]


def add_server_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("datagrams")
    group.add_argument("--udp", action="store_true", help="answer datagrams, one frame each; with --unix of a Unix socket")
    group.add_argument(
        "--plain",
        action=argparse.BooleanOptionalAction,
        help="send back what is no frame, too, as for nc -u (default: on loopback addresses)",
    )
    group.add_argument("--stats", action="store_true", help="at the end print what was counted, as JSON, to stderr")


def add_client_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("datagrams")
    group.add_argument("--udp", action="store_true", help="ask a server that has --udp, and ask again if no answer comes")
    group.add_argument(
        "--retry-after",
        type=host.seconds,
        default=RETRY_SECONDS,
        metavar="SECONDS",
        help="until the first retry, and twice as long until each further one (default: %(default)s)",
    )
    group.add_argument(
        "--stats", action="store_true", help="at the end print to stderr what got lost, came twice, how long it took"
    )
    group.add_argument("--json", action="store_true", help="print that as JSON, instead of the answers")


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

    def __init__(self, server: datagram.DatagramServer, *, prints_counters: bool) -> None:
        self._server = server
        self._prints_counters = prints_counters

    @property
    def addresses(self) -> list[str]:
        return [f"udp {address}" for address in self._server.addresses]

    async def close(self, grace: float = 0.0) -> None:
        await self._server.close(grace)
        if self._prints_counters:
            print(json.dumps(self._server.counters), file=sys.stderr)


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Run the server until a signal ends it; return the exit status."""
    try:
        handler = Echo(options.format, upper=options.upper, plain=options.plain)
    except ValueError as error:
        parser.error(f"no datagram can carry such a frame: {error}")

    async def serve(**where: Any) -> Server:
        if where.get("port") == 0:
            where = {"sockets": bind_free(where["host"])}
        return Server(await datagram.serve(handler, format=None, **where), prints_counters=options.stats)

    return host.run(options, serve)


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


@dataclass(slots=True)
class Try:
    """A request that was sent: for which text, how long that is, when, and whether an answer came."""

    text: int
    length: int
    sent: float
    answered: bool = False


class Client:
    """Get texts echoed, one at a time. `sock`: connected to the server; `retry_after`: seconds until the first retry."""

    def __init__(self, sock: datagram.DatagramSocket, retry_after: float = RETRY_SECONDS) -> None:
        self._socket = sock
        self._retry_after = retry_after
        self._tries: OrderedDict[bytes, Try] = OrderedDict()  # by id, the last ones
        self._round_trips: deque[float] = deque(maxlen=SAMPLES)
        self._counts: Counter[str] = Counter()

    def ask(self, text: bytes, timeout: float) -> bytes:
        """Return the answer; raise TimeoutError if none came within `timeout` seconds, FrameTooLargeError for a long text."""
        deadline = time.monotonic() + timeout
        pause = self._retry_after
        self._counts["texts"] += 1
        while True:
            self._send(text)
            answer = self._wait(min(deadline, time.monotonic() + pause * (1 + JITTER * random.random())))  # noqa: S311
            if answer is not None:
                self._counts["answered"] += 1
                return answer
            if time.monotonic() >= deadline:
                raise TimeoutError(self._why_none(timeout))
            pause *= 2

    def statistics(self) -> Statistics:
        """Return what was counted; times in milliseconds, of the last 10,000 answers.

        `lost`: requests that were sent and not answered so far; the answer may have been lost, too. `late`: answers to another
        try than the last. `strays`: datagrams that answer nothing which was asked. `errors`: of the network, by name.
        """
        counts, counted, times = self._counts, self._socket.counters, sorted(self._round_trips)
        return {
            "texts": counts["texts"],
            "answered": counts["answered"],
            "sent": counted["sent"],
            "retries": counts["tries"] - counts["texts"],
            "lost": counted["sent"] - counts["answered tries"],
            "late": counts["late"],
            "duplicates": counts["duplicates"],
            "strays": counts["strays"] + counted["bad"],
            "errors": {name: count for name, count in counted.items() if name.isupper()},
            "rtt_p50_ms": quantile(times, 0.50),
            "rtt_p99_ms": quantile(times, 0.99),
        }

    def _send(self, text: bytes) -> None:
        name = secrets.token_bytes(HEAD_LENGTH - len(PING))
        self._socket.send(PING + name + text)
        self._counts["tries"] += 1
        self._tries[name] = Try(self._counts["texts"], len(text), time.monotonic())
        if len(self._tries) > REMEMBERED:
            self._tries.popitem(last=False)

    def _wait(self, until: float) -> bytes | None:
        """Return the answer to the text at hand, or None if none came."""
        while (remaining := until - time.monotonic()) > 0:
            try:
                payload, _ = self._socket.recv(remaining)
            except TimeoutError:
                break
            answer = self._take(payload)
            if answer is not None:
                return answer
        return None

    def _take(self, payload: bytes) -> bytes | None:
        """Count what came; return the text if it answers the one at hand."""
        one = self._tries.get(payload[len(PONG) : HEAD_LENGTH])
        if one is None or not payload.startswith(PONG) or len(payload) != HEAD_LENGTH + one.length:
            self._counts["strays"] += 1
            return None
        if one.answered:
            self._counts["duplicates"] += 1
            return None
        one.answered = True
        self._counts["answered tries"] += 1
        self._counts["late"] += one is not next(reversed(self._tries.values()))
        self._round_trips.append(time.monotonic() - one.sent)
        return payload[HEAD_LENGTH:] if one.text == self._counts["texts"] else None

    def _why_none(self, timeout: float) -> str:
        errors = ", ".join(f"{name} {count} times" for name, count in self.statistics()["errors"].items())
        return f"no answer within {timeout:g} s" + (f"; the network said {errors}" if errors else "")


def quantile(times: list[float], share: float) -> float | None:
    """Return in milliseconds what `share` of the sorted `times` do not exceed."""
    return round(1000 * times[min(int(share * len(times)), len(times) - 1)], 3) if times else None


def client(options: argparse.Namespace, texts: Iterable[bytes]) -> int:
    """Print the answers, a line each, or the statistics alone as JSON; return the exit status."""
    try:
        sock = datagram.connect(**options.address, format=options.format)
    except (OSError, ValueError) as error:  # a host name that cannot be one, a format that is too long for datagrams
        return host.fail(error)
    with sock:
        asker, status = Client(sock, options.retry_after), 0
        try:
            for text in texts:
                answer = asker.ask(text, options.timeout)
                if not options.json:
                    sys.stdout.buffer.write(answer + b"\n")
                    sys.stdout.buffer.flush()
        except (FrameError, TimeoutError) as error:
            status = host.fail(error)
        if options.json:
            print(json.dumps(asker.statistics()))
        elif options.stats:
            print(statistics_text(asker.statistics()), file=sys.stderr)
    return status


def statistics_text(statistics: Statistics) -> str:
    flat = {name: value for name, value in statistics.items() if name != "errors"} | statistics["errors"]
    return ", ".join(f"{name} {value}" for name, value in flat.items())
