"""`fastframe bench udp`: what an echo of a datagram costs a server, how many a second it makes, how many get lost when paced.

A server runs in a process of its own on one core, the client on another. All servers are up from the start and take turns; what
one took is compared with what the first took in the same turn.

- *Full*: the client keeps 256 requests under way. What counts is the processor time of the server for each that was answered:
  the rate says as much of the client, of the scheduler, and of whoever else uses the machine.
- *Paced*: 30,000 requests a second, whatever is answered; then the answers are counted. Not one should be missing.

A datagram is a request of `fastframe echo --udp`, of the length asked for, header and all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastframe import datagram
from fastframe.servers.echo_udp import HEAD_LENGTH, PING

from .entry import LeftOutError
from .machine import machine
from .measure import Results, cpu_ns, quiet, spread
from .report import size_text
from .tables import table_text
from .udp_servers import SERVERS, UdpServer

SIZE: Final = 512  # bytes of a datagram
WINDOW: Final = 256  # requests under way: a quarter of what the kernel holds for a socket that asks for nothing
TURNS, QUICK_TURNS = 9, 3
TURN_SECONDS: Final = 0.4
PACE: Final = 30_000  # requests a second
TICKS: Final = 500  # of the pace, a second
PACED_SECONDS, QUICK_PACED_SECONDS = 3.0, 1.0
PATIENCE: Final = 0.1  # seconds without any answer, after which what is under way counts as lost
# What the figures ask for: 80,000 datagrams a second in and out on one core, and no loss at the pace.
MOST_NS: Final = 1e9 / 80_000

Row = dict[str, Any]


@dataclass
class Running:
    """A server that is up: its process, and a socket that is connected to it."""

    pid: int
    sock: datagram.DatagramSocket

    def cpu_ns(self) -> int:
        return cpu_ns(self.pid)


@dataclass
class Flow:
    """What went to a server and came back, in how many seconds."""

    sent: int
    answered: int
    seconds: float


def main(argv: list[str], *, turn_seconds: float = TURN_SECONDS) -> int:
    """Run the command and return its exit status; a turn can be short for tests."""
    args = parser().parse_args(argv)
    if not sys.platform.startswith("linux"):
        print("fastframe bench udp: it reads Linux's clock of another process", file=sys.stderr)
        return 1
    report = new_report(args.size)
    with contextlib.ExitStack() as stack:
        running = start_all(report, stack)
        if not running:
            print("fastframe bench udp: no server starts here", file=sys.stderr)
            return 1
        request = some_request(args.size)
        report["full"] = full_rows(running, request, QUICK_TURNS if args.quick else TURNS, turn_seconds)
        report["paced"] = paced_rows(running, request, QUICK_PACED_SECONDS if args.quick else PACED_SECONDS)
    report["bars"] = verdicts(report)
    print(text(report))
    try:
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n")
        if args.markdown:
            args.markdown.write_text(markdown(report), encoding="utf-8")
    except OSError as error:
        print(f"fastframe bench udp: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="fastframe bench udp",
        description="Measure what an echo of a datagram costs `fastframe serve echo --udp`, beside a server in C and what"
        " people write with asyncio, uvloop and socketserver.",
        epilog="example: fastframe bench udp --quick --json udp.json",
    )
    result.add_argument("--quick", action="store_true", help="fewer and shorter turns, in seconds")
    result.add_argument("--size", type=size, default=SIZE, help="bytes of a datagram, 16 to 65507 (default: %(default)s)")
    result.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE, quartiles and machine included")
    result.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to FILE")
    return result


def size(argument: str) -> int:
    if not argument.isdecimal() or not 4 + HEAD_LENGTH <= int(argument) <= datagram.MAX_DATAGRAM:
        raise argparse.ArgumentTypeError(f"{argument!r} is not from {4 + HEAD_LENGTH} to {datagram.MAX_DATAGRAM}")
    return int(argument)


def new_report(size: int) -> Row:
    return {
        "benchmark": "udp",
        "machine": machine(),
        "size": size,
        "window": WINDOW,
        "pace": PACE,
        "servers": {},
        "left_out": [],
    }


def some_request(size: int) -> bytes:
    text = bytes(size - 4 - HEAD_LENGTH)
    return datagram.DatagramCodec().encode(PING + b"fastfram" + text)


def start_all(report: Row, stack: contextlib.ExitStack) -> dict[str, Running]:
    """Start every server that can be had here, on the first core, and leave the last one to this process."""
    cores = sorted(os.sched_getaffinity(0))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastframe-bench-")))
    running = {}
    for name, server in SERVERS.items():
        try:
            running[name] = stack.enter_context(started(name, server, folder, cores[0]))
            report["servers"][name] = server.kind
        except LeftOutError as error:
            report["left_out"].append(str(error))
    stack.callback(os.sched_setaffinity, 0, cores)
    os.sched_setaffinity(0, cores[-1:])
    return running


@contextlib.contextmanager
def started(name: str, server: UdpServer, folder: Path, core: int) -> Iterator[Running]:
    environment = {**os.environ, **server.environment}
    with subprocess.Popen(server.command(folder), stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            os.sched_setaffinity(process.pid, [core])
            assert process.stdout is not None
            host, _, port = process.stdout.readline().removeprefix("listening on udp ").rpartition(":")
            if not host:
                raise LeftOutError(f"{name}: the server does not start")
            with datagram.connect(host, int(port), format=None) as sock:
                yield Running(process.pid, sock)
        finally:
            process.terminate()


def full_rows(running: Mapping[str, Running], request: bytes, turns: int, seconds: float) -> list[Row]:
    """Keep each server busy in each of `turns` turns, and return a row for each: rates and processor time."""
    cpu: dict[str, list[float]] = {name: [] for name in running}
    rates: dict[str, list[float]] = {name: [] for name in running}
    lost = dict.fromkeys(running, 0)
    order = list(running)
    with quiet():
        for turn in range(-1, turns):  # the one before the first is for warming up
            for name in order:
                before = running[name].cpu_ns()
                flow = keep_busy(running[name].sock, request, seconds)
                if turn >= 0:
                    cpu[name].append(max(1, running[name].cpu_ns() - before) / max(1, flow.answered))
                    rates[name].append(flow.answered / flow.seconds)
                    lost[name] += flow.sent - flow.answered
            order.append(order.pop(0))
    results, base = Results(cpu), next(iter(running))
    return [
        {
            "server": name,
            "cpu_ns": results.ns(name)._asdict(),
            "ratio": {base: results.ratio(name, base)._asdict()},
            "rate": spread(rates[name])._asdict(),
            "lost": lost[name],
        }
        for name in running
    ]


def keep_busy(sock: datagram.DatagramSocket, request: bytes, seconds: float) -> Flow:
    """Keep WINDOW requests under way for so long, and then wait for the last answers."""
    requests: list[tuple[bytes, None]] = [(request, None)] * WINDOW
    began = time.perf_counter()
    sent = answered = under_way = 0
    while under_way or time.perf_counter() - began < seconds:
        if time.perf_counter() - began < seconds:
            took = sock.send_many(requests[: WINDOW - under_way])
            sent, under_way = sent + took, under_way + took
        came = answers(sock, PATIENCE)
        answered, under_way = answered + came, max(0, under_way - came) if came else 0
    return Flow(sent, answered, time.perf_counter() - began)


def paced_rows(running: Mapping[str, Running], request: bytes, seconds: float) -> list[Row]:
    rows = []
    with quiet():
        for name, server in running.items():
            before = server.cpu_ns()
            flow = keep_pace(server.sock, request, seconds)
            row = {"server": name, "sent": flow.sent, "answered": flow.answered, "rate": flow.sent / flow.seconds}
            rows.append({**row, "cpu_ns": (server.cpu_ns() - before) / max(1, flow.answered)})
    return rows


def keep_pace(sock: datagram.DatagramSocket, request: bytes, seconds: float) -> Flow:
    """Send PACE requests a second for so long, whatever is answered, and then wait for the last answers."""
    sent = answered = 0
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        sent += sock.send_many([(request, None)] * (int(PACE * passed) - sent))
        answered += answers(sock, 1 / TICKS)
    while came := answers(sock, PATIENCE):
        answered += came
    return Flow(sent, answered, passed)


def answers(sock: datagram.DatagramSocket, timeout: float) -> int:
    """Return how many answers came, none after `timeout` seconds."""
    try:
        return len(sock.recv_many(timeout))
    except TimeoutError:
        return 0


def verdicts(report: Row) -> list[Row]:
    """Return what our servers reached of what they should."""
    found = []
    for row, pace in zip(report["full"], report["paced"], strict=True):
        if report["servers"][row["server"]] == "ours":
            reached = 1e9 / row["cpu_ns"]["median"]
            bar = f"{row['server']}: {1e9 / MOST_NS:,.0f} datagrams a second in and out of one core"
            found.append({"bar": bar, "passed": row["cpu_ns"]["median"] <= MOST_NS, "reached": f"{reached:,.0f}"})
            bar = f"{row['server']}: no loss at {report['pace']:,}/s"
            lost = pace["sent"] - pace["answered"]
            found.append({"bar": bar, "passed": lost == 0, "reached": f"{lost} of {pace['sent']:,} lost"})
    return found


def text(report: Row) -> str:
    """Return the report to read on a terminal."""
    heads, *rows = table(report)
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [f"{key + ':':<18}{value}" for key, value in report["machine"].items()]
    lines += [f"left out: {reason}" for reason in report["left_out"]]
    lines += ["", f"echo of datagrams of {size_text(report['size'])}"]
    for first, *rest in (heads, *rows):
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    lines += ["", *(f"{'reached' if bar['passed'] else 'MISSED '}  {bar['bar']}: {bar['reached']}" for bar in report["bars"])]
    return "\n".join(lines)


def table(report: Row) -> list[list[str]]:
    base = next(iter(report["servers"]))
    heads = ["server", "CPU µs", f"times {base}", "of one core/s", "measured/s", "lost", f"lost at {report['pace']:,}/s"]
    rows = []
    for row, pace in zip(report["full"], report["paced"], strict=True):
        cpu = row["cpu_ns"]["median"]
        cells = [
            f"{cpu / 1000:.1f}",
            f"{row['ratio'][base]['median']:.2f}",
            f"{1e9 / cpu:,.0f}",
            f"{row['rate']['median']:,.0f}",
        ]
        rows.append([row["server"], *cells, f"{row['lost']:,}", f"{pace['sent'] - pace['answered']:,} of {pace['sent']:,}"])
    return [heads, *rows]


def markdown(report: Row) -> str:
    """Return the report as a page of the documentation."""
    heads, *rows = table(report)
    introduction = (
        f"Made by `fastframe bench udp --markdown`: datagrams of {size_text(report['size'])}, {report['window']} under way. A"
        " server has one core, the client another. Figures are medians of turns in which the servers alternate; *CPU µs* is the"
        " server's processor time for a datagram in and out, *of one core/s* what that allows. *measured/s* has the client and"
        " the machine in it."
    )
    parts = [
        "# Benchmarks: echo of datagrams",
        introduction,
        table_text(["", ""], [[key, str(value)] for key, value in report["machine"].items() if value != ""]),
        table_text(heads, rows),
        "\n".join(
            f"- {'reached' if bar['passed'] else '**missed**'}: {bar['bar']}: {bar['reached']}" for bar in report["bars"]
        ),
    ]
    if report["left_out"]:
        parts.append("\n".join(f"- left out: {reason}" for reason in report["left_out"]))
    return "\n\n".join(parts) + "\n"
