"""A server and a client, each a process or a few, that carry a file: how long a transfer took, and what both ends used.

A client is a process that is told what to do line by line, and answers when it has been done.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final, Literal, NamedTuple, Protocol

from .accounts import End, Use
from .entry import BenchError
from .processes import ending

PATIENCE: Final = 300.0  # seconds for a transfer: 2 GiB in chunks of 1 KiB took 40 on a busy machine
RECEIVED: Final = "received"  # what the copy is called
READY: Final = "ready"  # what a client in Python says when all is imported

Direction = Literal["get", "put"]
Sink = Literal["file", "null"]


class Job(NamedTuple):
    """A transfer to be made: of `size` bytes in the file `name`, by the server (get) or the client (put).

    `chunk`: bytes of a frame, or of one send and receive; 0: as the contender likes. `digest`: what is compared at the end.
    """

    direction: Direction
    sink: Sink
    name: str
    size: int
    chunk: int = 0
    digest: str = "none"


class Folders(NamedTuple):
    """`served`: the server's. `own`: the client's. Both have the files to send."""

    served: Path
    own: Path

    def source(self, job: Job) -> Path:
        return (self.served if job.direction == "get" else self.own) / job.name

    def copy(self, job: Job) -> Path:
        return (self.own if job.direction == "get" else self.served) / RECEIVED


class Turn(NamedTuple):
    ns: int
    server: Use
    client: Use


class Runs(Protocol):
    """A contender that has been started. `run` raises `BenchError` if the transfer fails, in one line."""

    def run(self, job: Job, /) -> Turn: ...


class Transfers(Protocol):
    """A client that stays; `transfer` returns how many nanoseconds it took, from asking until all had arrived."""

    @property
    def pid(self) -> int: ...
    def transfer(self, job: Job, /) -> int: ...


class Pair:
    """A server and a client that stay for all transfers."""

    def __init__(self, server: int, client: Transfers) -> None:
        self.client = client
        self.ends = End(server), End(client.pid)

    def run(self, job: Job) -> Turn:
        for end in self.ends:
            end.begin()
        ns = self.client.transfer(job)
        server, client = (end.use() for end in self.ends)
        return Turn(ns, server, client)


class PythonClient:
    """A client process in Python (`transferends.py`), which takes jobs and says how long each took, as lines of JSON."""

    def __init__(self, process: subprocess.Popen[bytes], complaints: IO[str]) -> None:
        self.process = process
        self.pid = process.pid
        self.complaints = complaints

    def transfer(self, job: Job) -> int:
        answer = json.loads(exchange(self.process, json.dumps(job), "{", self.complaints))
        if "error" in answer:
            raise BenchError(answer["error"])
        return int(answer["ns"])


@contextlib.contextmanager
def python_client(way: str, port: int, own: Path, environment: Mapping[str, str]) -> Iterator[PythonClient]:
    command = [sys.executable, "-m", "fastframe.bench.transferends", "client", way, str(port), str(own)]
    with talking(command, environment) as (process, complaints):
        hear(process, READY, complaints)
        yield PythonClient(process, complaints)


@contextlib.contextmanager
def talking(command: list[str], environment: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    """Run a program that is told what to do line by line; yield it, and the file with its complaints."""
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(command, 0, stdin=pipe, stdout=pipe, stderr=complaints, env=os.environ | environment)
        with process, ending(process):
            yield process, complaints


def exchange(process: subprocess.Popen[bytes], text: str, last: str, complaints: IO[str]) -> str:
    """Tell `process` something, and return the last line of its answer, which begins with `last`."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(text.encode() + b"\n")
    return hear(process, last, complaints)


def hear(process: subprocess.Popen[bytes], last: str, complaints: IO[str]) -> str:
    """Return the line that begins with `last`, and which nothing follows; raise `BenchError` if it does not come."""
    assert process.stdout is not None
    said = ""
    end = time.monotonic() + PATIENCE
    while select.select([process.stdout], [], [], max(0, end - time.monotonic()))[0]:
        piece = os.read(process.stdout.fileno(), 1 << 16)
        if not piece:
            complaints.seek(0)
            raise BenchError((complaints.read().strip().splitlines() or ["the client has ended"])[-1])
        said += piece.decode()
        line = said.splitlines()[-1]
        if line.startswith(last) and said.endswith("\n"):
            return line
    raise BenchError(f"not done after {PATIENCE:g} s")
