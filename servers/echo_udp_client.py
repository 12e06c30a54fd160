"""The client of echo over datagrams: `echo_udp.py` has the bytes.

It asks one thing at a time, asks again after a pause that doubles, and gives every try an id of its own. So it knows which one
was answered: how long that took, what got lost, what came twice (RFC 8085, section 3.1; RFC 8961).
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from fastframe import FrameError, datagram

from . import arguments, host, tls
from .echo_udp import HEAD_LENGTH, PING, PONG
from .reaching import Unreachable, reaching

RETRY_SECONDS: Final = 1.0  # RFC 8961, section 4: no less, unless the path is known
JITTER: Final = 0.5  # what chance may add to a pause, so that clients that lost together do not retry together (RFC 7252, 4.2)
REMEMBERED: Final = 1024  # tries of which a late or a second answer is told from a stray one
SAMPLES: Final = 10_000  # round trips that the quantiles are of

Statistics = dict[str, Any]


def add_client_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("datagrams")
    group.add_argument("--udp", action="store_true", help="ask a server that has --udp, and ask again if no answer comes")
    group.add_argument(
        "--retry-after",
        type=arguments.seconds,
        metavar="S",
        help=f"until the first retry, and twice as long until each further one (default: {RETRY_SECONDS:g})",
    )
    group.add_argument(
        "--stats", action="store_true", help="at the end print to stderr what got lost, came twice, how long it took"
    )
    group.add_argument("--json", action="store_true", help="print that as JSON, instead of the answers")


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


def run(parser: argparse.ArgumentParser, options: argparse.Namespace, texts: Iterable[bytes]) -> int:
    """Print the answers, a line each, or the statistics alone as JSON; return the exit status."""
    if tls.is_wanted(options):
        parser.error("there is no TLS for datagrams: leave out --udp or --tls")
    try:
        with reaching(options):
            sock = datagram.connect(**options.address, format=options.format)
    except (Unreachable, ValueError) as error:  # ValueError: a format that is too long for datagrams
        return host.fail(error)
    with sock:
        asker, status = Client(sock, options.retry_after or RETRY_SECONDS), 0
        try:
            for text in texts:
                answer = asker.ask(text, options.timeout)
                if not options.json:
                    sys.stdout.buffer.write(answer + b"\n")
                    sys.stdout.buffer.flush()
        except (FrameError, TimeoutError) as error:
            status = host.fail(error)
        finally:  # also at Ctrl-C, as ping does
            if options.json:
                print(json.dumps(asker.statistics()))
            elif options.stats:
                print(statistics_text(asker.statistics()), file=sys.stderr)
    return status


def statistics_text(statistics: Statistics) -> str:
    flat = {name: value for name, value in statistics.items() if name != "errors"} | statistics["errors"]
    return ", ".join(f"{name} {value}" for name, value in flat.items())
