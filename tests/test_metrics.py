import asyncio
import contextlib
import socket
import sys
import time
from pathlib import Path

import pytest
from serving import refused

from fastframe import IMPLEMENTATION, __version__, _server
from fastframe.servers import arguments, echo_udp, metrics, service
from fastframe.servers.board import STUCK_SECONDS, Board


@pytest.fixture
def board():
    """A server with two workers: one has served two connections, one has died and counted three before."""
    made = Board(2)
    made.write(0, {"stopping": False, "restarts": 1})
    now = time.monotonic()
    made.write(1, {"state": "accepting", "beat": now, "connections": 2, "counters": {"accepted": 4, "bad_frames": 1}})
    made.write(2, {"state": "gone", "beat": now - 100, "connections": 0, "counters": {"accepted": 3}})
    return made


def get(board, path, method="GET", headers=""):
    return metrics.answer(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode(), board)


def test_metrics_are_the_sums_over_the_workers(board):
    answer = get(board, "/metrics?name=x")
    lines = [line for line in answer.text.decode().splitlines() if not line.startswith("#")]
    assert answer.status == 200
    assert answer.kind.startswith("text/plain; version=")
    assert lines == [
        f'fastframe_info{{implementation="{IMPLEMENTATION}",version="{__version__}"}} 1.0',
        "fastframe_workers_accepting 1.0",
        "fastframe_restarts_total 1.0",
        "fastframe_connections 2.0",
        "fastframe_accepted_total 7.0",
        "fastframe_bad_frames_total 1.0",
    ]


def test_openmetrics_on_demand(board):
    answer = get(board, "/metrics", headers="accept: application/openmetrics-text; version=1.0.0\r\n")
    assert answer.kind.startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith(b"# EOF\n")


def test_liveness_is_that_loops_turn(board):
    assert get(board, "/livez")[:2] == (200, b"ok\n")
    board.write(1, {"state": "accepting", "beat": time.monotonic() - STUCK_SECONDS - 2})
    assert get(board, "/livez")[:2] == (503, b"worker 1 is stuck: its last beat was 7 s ago\n")


def test_readiness_is_that_connections_are_accepted(board):
    assert get(board, "/readyz")[:2] == (200, b"ok\n")
    board.write(0, {"stopping": True})
    assert get(board, "/readyz")[:2] == (503, b"no connections are accepted\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/LIVEZ", "", "*", "//livez"])
def test_anything_else_is_not_found(path, board):
    assert get(board, path).status == 404


@pytest.mark.parametrize("method", ["POST", "get", "DELETE", "OPTIONS"])
def test_only_get_and_head_are_answered(method, board):
    answer = get(board, "/livez", method)
    assert (answer.status, answer.headers) == (405, "Allow: GET, HEAD\r\n")


@pytest.mark.parametrize("request_line", [b"", b"GET", b"GET /livez", b"GET /livez HTTP/2.0", b"\xff\x00 / SSH-2.0"])
def test_what_is_no_request_is_a_bad_one(request_line, board):
    assert metrics.answer(request_line + b"\r\n\r\n", board).status == 400


def run(board, scenario):
    """Serve `board` while `scenario(connect)` runs, in the same loop."""

    async def main():
        scrapes = metrics.listen(0)
        serving = asyncio.create_task(metrics.serve(scrapes, board))
        try:
            await scenario(lambda: asyncio.open_connection(*scrapes.sockets[0].getsockname()))
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            scrapes.close()

    asyncio.run(asyncio.wait_for(main(), 20))


async def exchange(connect, request) -> bytes:
    reader, writer = await connect()
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def test_an_answer_is_http(board):
    async def scenario(connect):
        expected = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n"
        expected += b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        assert await exchange(connect, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") == expected + b"ok\n"
        assert await exchange(connect, b"HEAD /livez HTTP/1.0\r\n\r\n") == expected

    run(board, scenario)


def test_who_says_too_much_is_cut_at_once(board):
    async def scenario(connect):
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(metrics.SCRAPE_SECONDS / 2):
                assert await exchange(connect, b"GET /" + b"x" * 100_000) == b""

    run(board, scenario)


def test_who_is_slow_is_cut_and_holds_nobody_up(board, monkeypatch):
    monkeypatch.setattr(metrics, "SCRAPE_SECONDS", 1.0)

    async def scenario(connect):
        slow = [await connect() for _ in range(metrics.MOST_SCRAPERS - 1)]
        slow[0][1].write(b"GET /livez HT")
        assert b"200 OK" in await exchange(connect, b"GET /livez HTTP/1.1\r\n\r\n")
        assert [await reader.read() for reader, _ in slow] == [b""] * len(slow)
        for _, writer in slow:
            writer.close()

    run(board, scenario)


def test_only_the_loopback_interface_is_bound():
    scrapes = metrics.listen(0)
    assert scrapes.sockets[0].getsockname()[0] == "127.0.0.1"
    scrapes.close()


def test_a_port_in_use_is_status_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = refused("--metrics-port", port)
    assert (status, said) == (1, f"fastframe: cannot listen on 127.0.0.1, port {port}: Address already in use\n")


def test_without_the_library_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(arguments.UsageError, match=r"pip install 'fastframe\[servers\]'"):
        metrics.listen(0)


def test_every_metric_is_in_the_documents():
    text = (Path(__file__).parent.parent / "docs" / "serving.md").read_text()
    datagrams = (f"datagrams_{name}" for name in echo_udp.COUNTERS)
    assert set(metrics.COUNTED) == {*_server.COUNTERS, *service.COUNTERS, *datagrams}
    assert all(f"fastframe_{name}_total" in text for name in metrics.COUNTED)
