"""The processes of the benchmarks: servers, each on a port of its own, and the client of echoes; pinned, accounted, ended.

A server prints `listening on 127.0.0.1:PORT` when it accepts, with `udp` before the address if it takes datagrams. What it uses
is asked of the kernel: the time on the processor of all its threads, also of those that have ended, in nanoseconds; and the
memory that is its own (Pss).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from .entry import BenchError, LeftOutError
from .measure import cpu_ns, on_core

LISTENING: Final = re.compile(r"listening on (?:udp )?127\.0\.0\.1:([0-9]+)\n")


class Turn(NamedTuple):
    """What some frames took: nanoseconds altogether, and with one frame outstanding the median and 99th percentile of one."""

    ns: int
    median: int
    slow: int


class Server:
    """A server process that listens."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def cpu_ns(self) -> int:
        """Return the time that all its threads have had on the processor, in nanoseconds."""
        return cpu_ns(self.process.pid)

    def memory(self) -> int:
        """Return its own memory in bytes: what it shares with others counts in part."""
        return memory_of(self.process.pid, "Pss")

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def memory_of(process: int | Literal["self"], kind: Literal["Pss", "Private_Dirty"]) -> int:
    """Return the memory of a process in bytes: where what it shares counts in part, or what it alone has written to."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return next(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith(f"{kind}:"))


@contextlib.contextmanager
def serving(command: list[str], environment: Mapping[str, str], core: int | None = None) -> Iterator[Server]:
    """Run a server; raise `LeftOutError` with the last thing that it said if it does not come to listen."""
    with tempfile.TemporaryFile("w+") as complaints:
        with on_core(core):
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=os.environ | environment
            )
        with process, ending(process):
            assert process.stdout is not None
            line = process.stdout.readline()
            listening = LISTENING.fullmatch(line)
            if not listening:
                complaints.seek(0)
                raise LeftOutError((complaints.read().strip().splitlines() or ["it does not start"])[-1])
            yield Server(process, int(listening[1]))


class Client:
    """The client process, on a connection that stands; `client.c` tells what it does."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def run(self, count: int) -> Turn:
        """Send `count` frames and await their answers; raise `BenchError` if they are not what they should be."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"%d\n" % count)
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            reason = self.process.stderr.read().decode().strip()
            raise BenchError(reason or f"the client ended with status {self.process.wait()}")
        return Turn(*map(int, line.split()))


@contextlib.contextmanager
def client(command: list[str], connection: socket.socket) -> Iterator[Client]:
    """Run the client on `connection`, which becomes its own; the number of its socket is put behind the program's name."""
    number, pipe = connection.fileno(), subprocess.PIPE
    arguments = [command[0], str(number), *command[1:]]
    process = subprocess.Popen(arguments, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[number])
    connection.close()
    with process, ending(process):
        yield Client(process)


@contextlib.contextmanager
def ending(process: subprocess.Popen[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
