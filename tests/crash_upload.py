"""Kill a file server or its client with SIGKILL at random moments of a transfer, and look at what is there then.

    python tests/crash_upload.py [--points 100] [--size 32MiB] [--victim server|client|both] [--transfer put|get|both]
                                 [--seed 1] [--directory DIR]

Each point is a real `fastframe put` or `get` between two directories, through a real server; the victim's whole process group
is killed at a moment of one of four kinds, scaled to a run that was measured before:

    start    before the first byte is there: while the processes start, shake hands, ask
    data     when so many bytes are in the part file
    end      when all bytes are in it: END, digest, fsync, rename, RESULT
    any      any time at all

Every other point replaces a file, whose name must be its own, whole, or the new one, whole, at any moment. What has to be true:

- the name is absent, or is one of the two files, whole; no other name has appeared beside it;
- the same command again, to the same server or to its successor on the same root, succeeds, and goes on with each byte that
  was in the part file; then the new file is there, and nothing else.

Power failures are not simulated: what the kernel has been given survives a killed process. Ends with status 1 if anything was
not so, and tells which points those were. Takes about a second for each point.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import filecmp
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fastframe.servers import arguments, local
from fastframe.servers.staging import Staging

FASTFRAME = [sys.executable, "-m", "fastframe"]
TARGET = "target"
PATIENCE = 120.0  # seconds: nothing here takes as long, unless the machine is asleep
LOOK_SECONDS = 0.0002  # between two looks at a part file
MOMENTS = ("start", "data", "end", "any")
CYCLE = ("data", "end", "start", "data", "end", "any", "end")  # an odd number of them: each comes with and without a file
WIDTHS = (9, 8, 7, 7, 7, 7, 7, 8, 12)
HEAD = ("transfer", "victim", "moment", "points", "absent", "old", "new", "resumed", "of its bytes")


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long a transfer takes that nobody disturbs, in seconds from the start of its client."""

    first: float  # until there is a part file
    whole: float  # until all bytes are in it
    named: float  # until the file has its name
    total: float


class Place:
    """Where files go from and to: a root that is served, and a client's directory."""

    def __init__(self, top: Path, transfer: str, size: int) -> None:
        self.transfer = transfer
        self.size = size
        self.root, self.here = top / "root", top / "here"
        self.root.mkdir()
        self.here.mkdir()
        source_side, self.directory = (self.here, self.root) if transfer == "put" else (self.root, self.here)
        self.source, self.target = source_side / "source", self.directory / TARGET
        self.source.write_bytes(os.urandom(size))
        self.old = top / "old"
        self.old.write_bytes(b"what was there before" * 1000)

    def words(self, address: str) -> list[str]:
        names = [str(self.source), TARGET] if self.transfer == "put" else [self.source.name, str(self.target)]
        return [*FASTFRAME, self.transfer, "--quiet", "--json", "--timeout", str(PATIENCE), address, *names]

    def clear(self, *, replaced: bool) -> None:
        self.target.unlink(missing_ok=True)
        for part in self.parts():
            part.unlink()
        if replaced:
            self.target.write_bytes(self.old.read_bytes())

    def parts(self) -> list[Path]:
        if self.transfer == "put":
            return list((self.root / Staging.DIRECTORY).glob("*"))
        part = self.here / local.part_name(TARGET)
        return [part] if part.exists() else []

    def part_size(self) -> int:
        """Return how many bytes are in the part file, 0 if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return sum(part.stat().st_size for part in self.parts())
        return 0

    def found(self) -> str:
        """Tell what the name is: absent, old, new; or torn."""
        if not self.target.exists():
            return "absent"
        if filecmp.cmp(self.target, self.source, shallow=False):
            return "new"
        return "old" if filecmp.cmp(self.target, self.old, shallow=False) else "torn"

    def strangers(self) -> list[str]:
        """Return the names that nobody asked for."""
        known = {TARGET, Staging.DIRECTORY, local.part_name(TARGET)}
        return sorted({path.name for path in self.directory.iterdir()} - known) + [part.name for part in self.parts()[1:]]


class Server:
    """A server process that accepts, in a process group of its own."""

    def __init__(self, root: Path) -> None:
        words = [*FASTFRAME, "serve", "files", "--root", str(root), "--write", "--port", "0"]
        self.process = start(words, stdout=subprocess.PIPE)
        assert self.process.stdout
        self.address = self.process.stdout.readline().removeprefix("listening on ").strip()
        self._idle = self._sockets()

    def _sockets(self) -> int:
        return sum(target(link).startswith("socket:") for link in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def settle(self) -> None:
        """Return when it has no connection any more."""
        latest = time.monotonic() + PATIENCE
        while self._sockets() != self._idle:
            assert time.monotonic() < latest, "the server does not let go of a connection"
            time.sleep(0.001)

    def close(self) -> None:
        kill(self.process)
        assert self.process.stdout
        self.process.stdout.close()


@dataclasses.dataclass
class Point:
    """A moment at which the victim was killed, and what came of it."""

    transfer: str
    victim: str
    moment: str
    number: int
    found: str = ""
    part: int = 0  # bytes that the part file had
    resumed: int = 0  # bytes that were gone on with
    wrong: str = ""  # what should not be

    @property
    def replaces(self) -> bool:
        return self.number % 2 == 1


def start(words: list[str], **options: int) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(words, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload,no-any-return]


def target(descriptor: Path) -> str:
    """Tell what a descriptor of a process is, "" if it was closed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(descriptor)
    return ""


def kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stderr:
        process.stderr.close()


def look_until(reached: Callable[[], bool], client: subprocess.Popen[str]) -> None:
    """Look until it is so, or the client has ended."""
    while not reached() and client.poll() is None:
        time.sleep(LOOK_SECONDS)


def measured(place: Place, server: Server) -> Timing:
    place.clear(replaced=False)
    begin = time.monotonic()
    client = start(place.words(server.address), stdout=subprocess.DEVNULL)
    look_until(lambda: place.part_size() > 0, client)
    first = time.monotonic() - begin
    look_until(lambda: place.part_size() == place.size, client)
    whole = time.monotonic() - begin
    look_until(place.target.exists, client)
    named = time.monotonic() - begin
    _, stderr = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0, stderr
    return Timing(first, whole, named, time.monotonic() - begin)


def wait_for(moment: str, chance: random.Random, timing: Timing, place: Place, client: subprocess.Popen[str]) -> None:
    """Return at a random moment of that kind."""
    if moment == "data":
        position = chance.randrange(1, place.size)
        look_until(lambda: place.part_size() >= position, client)
    elif moment == "end":
        look_until(lambda: place.part_size() == place.size, client)
        time.sleep(chance.uniform(0, 1.5 * (timing.named - timing.whole)))
    else:
        time.sleep(chance.uniform(0, timing.first if moment == "start" else timing.total))


def crash(place: Place, server: Server, point: Point, chance: random.Random, timing: Timing) -> None:
    """Begin a transfer and kill its victim; return when nothing happens any more."""
    place.clear(replaced=point.replaces)
    client = start(place.words(server.address) + ["--replace"] * point.replaces, stdout=subprocess.DEVNULL)
    try:
        wait_for(point.moment, chance, timing, place, client)
        if point.victim == "server":
            kill(server.process)
            client.wait(PATIENCE)
    finally:
        kill(client)
    if point.victim == "client":
        server.settle()


def judge(place: Place, point: Point) -> None:
    """Look at what is there after the kill."""
    point.found, point.part = place.found(), place.part_size()
    allowed = ("old", "new") if point.replaces else ("absent", "new")
    if point.found not in allowed:
        point.wrong = f"the name is {point.found}"
    elif strangers := place.strangers():
        point.wrong = f"there are {strangers}"


def go_on(place: Place, server: Server, point: Point) -> None:
    """Do the same again, which has to succeed."""
    client = start([*place.words(server.address), "--replace"], stdout=subprocess.PIPE)
    stdout, stderr = client.communicate(timeout=PATIENCE)
    if client.returncode:
        point.wrong = f"the second time: {stderr.strip()}"
        return
    point.resumed = json.loads(stdout)["resumed_from"]
    server.settle()
    if point.resumed != point.part:
        point.wrong = f"{point.part} bytes were there, and {point.resumed} were gone on with"
    elif place.found() != "new":
        point.wrong = f"the second time the name is {place.found()}"
    elif left := place.strangers() + [part.name for part in place.parts()]:
        point.wrong = f"the second time there are {left}"


def points_of(transfer: str, victim: str, moments: Iterable[str], seed: int, top: Path, size: int) -> Iterator[Point]:
    """Kill the victim at each of `moments`, and yield what came of it."""
    chance = random.Random(f"{seed} {transfer} {victim}")
    place = Place(top, transfer, size)
    server = Server(place.root)
    try:
        timing = measured(place, server)
        for number, moment in enumerate(moments):
            point = Point(transfer, victim, moment, number)
            crash(place, server, point, chance, timing)
            judge(place, point)
            if victim == "server":
                server.close()
                server = Server(place.root)
            if not point.wrong:
                go_on(place, server, point)
            yield point
    finally:
        server.close()


def row(cells: tuple[object, ...]) -> str:
    return "".join(f"{cell!s:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


def summary(points: list[Point], size: int) -> Iterator[str]:
    """Yield a line for each kind of moment."""
    for moment in MOMENTS:
        those = [point for point in points if point.moment == moment]
        if not those:
            continue
        found = Counter(point.found for point in those)
        resumed = [point.resumed for point in those if point.resumed]
        share = f"{sum(resumed) / len(resumed) / size:.0%}" if resumed else "-"
        counts = (len(those), found["absent"], found["old"], found["new"], len(resumed))
        yield row((those[0].transfer, those[0].victim, moment, *counts, share))


def run(transfers: list[str], victims: list[str], points: int, size: int, seed: int, directory: str | None) -> list[Point]:
    """Print the table; return all points."""
    print(row(HEAD), flush=True)
    every: list[Point] = []
    for transfer, victim in itertools.product(transfers, victims):
        moments = itertools.islice(itertools.cycle(CYCLE), points)
        with tempfile.TemporaryDirectory(dir=directory) as top:
            these = list(points_of(transfer, victim, moments, seed, Path(top), size))
        print("\n".join(summary(these, size)), flush=True)
        every += these
    return every


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Kill file transfers at random moments, and look at what is there then.")
    parser.add_argument("--points", type=arguments.count, default=100, help="for each transfer and victim (default: 100)")
    parser.add_argument("--size", type=arguments.size, default=32 << 20, help="of the file (default: 32MiB)")
    parser.add_argument("--victim", choices=("server", "client", "both"), default="both")
    parser.add_argument("--transfer", choices=("put", "get", "both"), default="both")
    parser.add_argument("--seed", type=int, default=1, help="of the moments, as far as a machine repeats them")
    parser.add_argument("--directory", help="where to do it: the file system that is asked to sync")
    options = parser.parse_args(argv)
    transfers = ["put", "get"] if options.transfer == "both" else [options.transfer]
    victims = ["server", "client"] if options.victim == "both" else [options.victim]
    points = run(transfers, victims, options.points, options.size, options.seed, options.directory)
    wrong = [point for point in points if point.wrong]
    for point in wrong:
        print(f"{point.transfer}, {point.victim} killed, {point.moment}, point {point.number}: {point.wrong}")
    print(f"{len(points)} points, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
