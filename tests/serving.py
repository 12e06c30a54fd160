"""`fastframe serve echo` as a process: started, talked to, told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

FASTFRAME = [sys.executable, "-m", "fastframe"]
SERVE = [*FASTFRAME, "serve", "echo", "--port", "0"]
PATIENCE = 30.0  # seconds: nothing here takes as long, on a busy machine either


class Serving:
    """A server that accepts: `addresses` as it printed them, `address` the first of them."""

    def __init__(self, process: subprocess.Popen, listeners: int, *, metrics: bool) -> None:
        self.process = process
        self.addresses = [self._said("listening on ") for _ in range(listeners)]
        self.address = self.addresses[0]
        self.metrics = self._said("metrics on ") if metrics else ""

    def _said(self, start: str) -> str:
        line = self.process.stdout.readline()
        assert line.startswith(start), (line, self.process.stderr.read())
        return line.removeprefix(start).strip()

    def connect(self) -> socket.socket:
        return connect(self.address)

    def logged(self, *parts: str) -> str:
        """Return the next line of the log that contains each of `parts`."""
        for line in self.process.stderr:
            if all(part in line for part in parts):
                return line
        raise AssertionError(f"{parts} was not logged")

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self) -> int:
        """Return the bytes that this process alone has."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))

    def scrape(self, path: str, accept: str = "") -> tuple[int, str]:
        request = urllib.request.Request(f"http://{self.metrics}{path}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def counted(self, name: str) -> float:
        status, text = self.scrape("/metrics")
        assert status == 200
        return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        """Return the exit status and the rest of both outputs."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, stdout, stderr


@contextlib.contextmanager
def serving(
    *arguments: object, listeners: int = 1, command: list[str] = SERVE, log: object = subprocess.PIPE, **options: object
) -> Iterator[Serving]:
    """Run an echo server on a free port; kill it in the end if it still runs."""
    words = [*command, *map(str, arguments)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, **options) as process:
        try:
            yield Serving(process, listeners, metrics="--metrics-port" in words)
        finally:
            process.kill()


def refused(*arguments: object) -> tuple[int, str]:
    """Run a server that does not start; return its status and what it says."""
    result = subprocess.run(
        [*SERVE, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL
    )
    assert result.stdout == ""
    return result.returncode, result.stderr


def connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(PATIENCE)
        raw.connect(address.removeprefix("unix:"))
        return raw
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)


def is_echoed(raw: socket.socket) -> bool:
    raw.sendall(b"\0\0\0\1x")
    return raw.recv(5, socket.MSG_WAITALL) == b"\0\0\0\1x"


def poll(reached: Callable[[], bool]) -> None:
    """Wait for what no line and no signal tells, but the next beat of a worker."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)
