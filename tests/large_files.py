"""Put and get a file of 10 GiB through real processes, and look at what they take of memory.

    python tests/large_files.py [--size 10GiB] [--source DIR] [--sink /dev/shm]

    put      a sparse file of --source to a server whose root is in --sink
    get      the same file from a server to a client whose standard output is /dev/null
    resume   a put whose client is killed when nine tenths have come, and is started again

All with sha256. For each the peak of resident memory (VmHWM) of both processes, less what the same server had after a `stat`,
and a client that asked for one: at most 32 MiB. The sink takes the whole size, in memory if it is /dev/shm. Ends with status 1
if something was not so. Takes minutes; less than some GiB are through before they can be killed.
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
from collections.abc import Callable
from pathlib import Path

from crash_upload import FASTFRAME, Server, kill, start

from fastframe.servers import arguments
from fastframe.servers.staging import Staging

MOST_GROWTH = 32 << 20  # bytes
LOOK_SECONDS = 0.02
NAME = "large"


class Watched:
    """A client that runs, and the most memory it had."""

    def __init__(self, *words: str, **options: int) -> None:
        self._begin = time.monotonic()
        self.process = start([*FASTFRAME, *words], **options)
        self.peak = 0
        self.seconds = 0.0

    def watch(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Look at it until it ends, or that is enough."""
        while self.process.poll() is None and not enough():
            self.peak = max(self.peak, peak(self.process.pid))
            time.sleep(LOOK_SECONDS)
        self.seconds = time.monotonic() - self._begin

    def output(self) -> str:
        """Wait for its end, which has to be a good one; return what it said."""
        self.watch()
        stdout, stderr = self.process.communicate()
        assert self.process.returncode == 0, stderr
        return stdout or ""


def peak(pid: int) -> int:
    """Return the most resident memory that a process ever had, in bytes; 0 if it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


class Trial:
    """A server on `root`, and what it and its clients took at first."""

    def __init__(self, root: Path) -> None:
        self.server = Server(root)
        asking = Watched("stat", self.server.address, "", stdout=subprocess.DEVNULL)
        asking.output()
        self._client_base, self._server_base = asking.peak, peak(self.server.process.pid)

    def report(self, what: str, size: int, client: Watched) -> bool:
        """Print what a transfer of `size` bytes took; tell whether it was no more than it may."""
        growth = client.peak - self._client_base, peak(self.server.process.pid) - self._server_base
        print(
            f"{what:<7} {size >> 20:>6} MiB {client.seconds:6.1f} s {(size >> 20) / client.seconds:6.0f} MiB/s   "
            f"client {self._client_base >> 20} MiB + {growth[0] / (1 << 20):.1f}   "
            f"server {self._server_base >> 20} MiB + {growth[1] / (1 << 20):.1f}",
            flush=True,
        )
        return max(growth) <= MOST_GROWTH


def put(source: Path, sink: Path, size: int) -> bool:
    trial = Trial(sink)
    try:
        client = Watched("put", "--quiet", trial.server.address, str(source), NAME)
        client.output()
        assert (sink / NAME).stat().st_size == size
        return trial.report("put", size, client)
    finally:
        trial.server.close()
        (sink / NAME).unlink(missing_ok=True)


def get(source: Path, size: int) -> bool:
    trial = Trial(source.parent)
    try:
        client = Watched("get", "--quiet", trial.server.address, source.name, "-", stdout=subprocess.DEVNULL)
        client.output()
        return trial.report("get", size, client)
    finally:
        trial.server.close()


def resume(source: Path, sink: Path, size: int) -> bool:
    trial = Trial(sink)
    try:
        client = Watched("put", "--quiet", trial.server.address, str(source), NAME)
        client.watch(lambda: came(sink) >= size // 10 * 9)
        kill(client.process)
        trial.server.settle()
        there = came(sink)
        well = trial.report("killed", there, client)
        client = Watched("put", "--quiet", "--json", trial.server.address, str(source), NAME, stdout=subprocess.PIPE)
        resumed = json.loads(client.output())["resumed_from"]
        assert resumed == there >= size // 10 * 9, (resumed, there)
        assert (sink / NAME).stat().st_size == size
        return trial.report("resumed", size - resumed, client) and well
    finally:
        trial.server.close()
        for path in (sink / NAME, *(sink / Staging.DIRECTORY).glob("*")):
            path.unlink(missing_ok=True)


def came(sink: Path) -> int:
    """Return how many bytes of an upload are there."""
    return sum(path.stat().st_size for path in (sink / Staging.DIRECTORY).glob("*"))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Put and get a large file, and look at what that takes of memory.")
    parser.add_argument("--size", type=arguments.long_size, default=10 << 30, help="of the file (default: 10GiB)")
    parser.add_argument("--source", metavar="DIR", help="for a sparse file")
    parser.add_argument("--sink", metavar="DIR", default="/dev/shm", help="for its bytes (default: %(default)s)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.source) as here, tempfile.TemporaryDirectory(dir=options.sink) as there:
        source, sink = Path(here) / NAME, Path(there)
        source.touch()
        os.truncate(source, options.size)
        well = [get(source, options.size), put(source, sink, options.size), resume(source, sink, options.size)]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
