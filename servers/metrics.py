"""How a server is, for Prometheus and for probes, over HTTP on a port of the loopback interface.

    /metrics   counters and gauges, of all workers together
    /livez     200 while every worker's loop turns
    /readyz    200 while connections are accepted; 503 from the moment the server is told to end

It is a process of its own, which reads what the workers pinned up on the board: neither a slow scraper nor a thousand of them
hold a worker up, and a worker that is stuck is seen to be. Each request has a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import fastframe
from fastframe import aio

from .arguments import UsageError
from .listeners import Listeners

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from .board import Board

HOST: Final = "127.0.0.1"
BACKLOG: Final = 16
MOST_SCRAPERS: Final = 16  # at once; one Prometheus and a few probes are two or three
SCRAPE_SECONDS: Final = 5.0  # for a request to come and its answer to go, in all
LONGEST_REQUEST: Final = 8192  # bytes
COUNTED: Final = {
    "accepted": "Connections accepted",
    "refused": "Connections refused, since their source had its share",
    "handshakes_failed": "TLS handshakes that failed",
    "bad_frames": "Connections that ended with what is no frame",
    "frames_overdue": "Connections cut because a frame did not become whole in time",
    "writes_overdue": "Connections cut because the peer did not take what was sent to it",
    "idle": "Connections cut for their silence",
    "cut": "Connections cut because they had not ended when the server did",
    "authentications_failed": "Clients that did not know their token",
    "operations": "Operations begun",
    "operations_failed": "Operations that ended with an error",
    "datagrams_received": "Datagrams received",
    "datagrams_sent": "Datagrams sent",
    "datagrams_plain": "Datagrams that are no frame and went back as they came",
    "datagrams_answers": "Datagrams not answered, since they are answers",
    "datagrams_own": "Datagrams not answered, since they came from the server's own address",
    "datagrams_nameless": "Datagrams not answered, since they came from a Unix socket without a name",
    "datagrams_bad": "Datagrams not answered, since they are no request",
    "datagrams_cut": "Datagrams not answered, since they are longer than 65,507 bytes",
    "datagrams_dropped": "Answers that the kernel had no room for",
}
PLAIN: Final = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    status: HTTPStatus
    text: bytes
    kind: str = PLAIN
    headers: str = ""


def listen(port: int) -> Listeners:
    """Bind `port` of the loopback interface; raise UsageError without prometheus-client, ListenError if that port is taken."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise UsageError("--metrics-port needs prometheus-client: pip install 'fastframe[servers]'")
    scrapes = Listeners()
    scrapes.bind(functools.partial(aio.bind, backlog=BACKLOG), HOST, port)
    return scrapes


def run(scrapes: Listeners, board: Board) -> int:
    """Answer until this process is killed."""
    asyncio.run(serve(scrapes, board))
    return 0


async def serve(scrapes: Listeners, board: Board) -> None:
    free = asyncio.Semaphore(MOST_SCRAPERS)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(SCRAPE_SECONDS), free:
                with contextlib.suppress(asyncio.LimitOverrunError, asyncio.IncompleteReadError, ConnectionError):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_on_wire(answer(request, board), body=not request.startswith(b"HEAD ")))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except TimeoutError:
            pass
        finally:
            writer.transport.abort()  # nobody is waited for any longer

    server = await asyncio.start_server(talk, sock=scrapes.sockets[0], limit=LONGEST_REQUEST)
    await server.serve_forever()


def answer(request: bytes, board: Board) -> Answer:
    """Return the answer to `request`: a request line and header lines."""
    line, *headers = request.decode("latin-1").split("\r\n")
    method, _, rest = line.partition(" ")
    target, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        return Answer(HTTPStatus.BAD_REQUEST, b"not HTTP/1\n")
    if method not in ("GET", "HEAD"):
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"GET and HEAD alone\n", headers="Allow: GET, HEAD\r\n")
    path = target.partition("?")[0]
    if path == "/metrics":
        accept = ",".join(
            value.strip() for name, _, value in (header.partition(":") for header in headers) if name.lower() == "accept"
        )
        return _metrics(board, accept)
    if path == "/livez":
        return _probe([f"worker {slot} is stuck: its last beat was {age:.0f} s ago" for slot, age in board.stuck().items()])
    if path == "/readyz":
        return _probe([] if board.is_ready() else ["no connections are accepted"])
    return Answer(HTTPStatus.NOT_FOUND, b"/metrics, /livez and /readyz\n")


def _probe(troubles: list[str]) -> Answer:
    if troubles:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "".join(f"{trouble}\n" for trouble in troubles).encode())
    return Answer(HTTPStatus.OK, b"ok\n")


def _metrics(board: Board, accept: str) -> Answer:
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415  an extra

    encode, kind = choose_encoder(accept)
    return Answer(HTTPStatus.OK, encode(_Collector(board)), kind)


class _Collector:
    """What the board says, as Prometheus's library wants it."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily  # noqa: PLC0415

        reports = [self._board.read(slot) for slot in self._board.workers]
        running = {"version": fastframe.__version__, "implementation": fastframe.IMPLEMENTATION}
        yield InfoMetricFamily("fastframe", "What runs", running)
        accepting = self._board.states().count("accepting")
        yield GaugeMetricFamily("fastframe_workers_accepting", "Workers that accept connections", accepting)
        restarts = self._board.read(0).get("restarts", 0)
        yield CounterMetricFamily("fastframe_restarts", "Processes that ended and were started again", restarts)
        connections = sum(report.get("connections", 0) for report in reports)
        yield GaugeMetricFamily("fastframe_connections", "Connections that stand", connections)
        counters = [report.get("counters", {}) for report in reports]
        for name in sorted(set().union(*counters)):
            about = COUNTED.get(name, name.replace("_", " "))
            yield CounterMetricFamily(f"fastframe_{name}", about, sum(each.get(name, 0) for each in counters))


def _on_wire(given: Answer, *, body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {given.status.value} {given.status.phrase}\r\nContent-Type: {given.kind}\r\n"
        f"Content-Length: {len(given.text)}\r\nCache-Control: no-store\r\nConnection: close\r\n{given.headers}\r\n"
    )
    return head.encode("ascii") + (given.text if body else b"")
