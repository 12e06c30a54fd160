"""The sweep of transfers: a file goes from one process to another in frames, and the receiver reads so many bytes at a time.

Sender and receiver (`chunkends.py`) stay for all transfers; the file and its copy are in memory, so no disk takes part, and
each is free to use all cores. A turn has a length and not a number of bytes: who is slow sends less of the file. All sizes of
reads take turns with frames of one size.

The same ends show how many small frames to send in one call; their copy is forgotten.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from .chunkdecode import DEFAULT_READ, ns_of
from .chunkecho import MOST_READS
from .chunkends import BATCH, Job
from .entry import BenchError
from .machine import STEADY
from .measure import Results, cpu_ns, take_turns
from .pairs import READY, exchange, hear, talking
from .processes import Server, serving
from .report import say, size_text
from .transferfiles import available_memory, make_files

MIB: Final = 1 << 20
PLACE: Final = Path("/dev/shm")  # noqa: S108  a folder with a random name is made there
FILE_SIZE: Final = 128 << 20
WARM_SIZE: Final = 64 << 10  # bytes of the first, short transfer
MODULE: Final = "fastframe.bench.chunkends"
WAYS: Final = {
    "get_buffer": (
        DEFAULT_READ,
        "the receiver lends the decoder's memory: of a large payload its own, else a block of 256 KiB",
    ),
    "feed": (sys.maxsize, "the receiver has memory of its own and feeds the decoder"),
}
SENDER: Final = (
    f"the sender is FrameSocket: send_many of {size_text(BATCH)} at a time, send_file for frames of so much and more;"
    " what a read completed is written in one call"
)
BATCHES: Final = (1, 4, 16, 64, 256, 1024, 4096)
BATCH_PAYLOADS: Final = (64, 1024)

Row = dict[str, Any]


class Took(NamedTuple):
    """What a transfer took: nanoseconds of everybody's time, and of the processor of each end."""

    ns: int
    sender: int
    receiver: int


class Ends(NamedTuple):
    receiver: Server
    sender: subprocess.Popen[bytes]
    complaints: IO[str]
    source: Path
    copy: Path

    def run(self, job: Job) -> Took:
        """Make a transfer; raise `BenchError` if not all arrives."""
        before = cpu_ns(self.sender.pid), self.receiver.cpu_ns()
        answer = json.loads(exchange(self.sender, json.dumps(job), "{", self.complaints))
        if "error" in answer:
            raise BenchError(f"{job.way}, {size_text(job.payload)}, reads of {size_text(job.read)}: {answer['error']}")
        after = cpu_ns(self.sender.pid), self.receiver.cpu_ns()
        return Took(answer["ns"], after[0] - before[0], after[1] - before[1])


def transfer_rows(payloads: Sequence[int], reads: Sequence[int], repetitions: int, turn_ns: int) -> Iterator[Row]:
    """Yield a row for each way, size of payloads and size of reads: nanoseconds a frame, of both and of each processor."""
    with ends() as pair:
        for payload in payloads:
            say(f"transfer, {size_text(payload)}")
            jobs = {
                (way, read): Job(payload, 0, 0, way, read, str(pair.copy))
                for way, (most, _) in WAYS.items()
                for read in reads
                if read <= most and payload <= MOST_READS * read
            }
            turns = in_turns(pair, jobs, repetitions, turn_ns)
            check_copy(pair, payload)
            for way, read in jobs:
                own = {size: turns[way, size] for other, size in jobs if other == way}
                yield {"payload": payload, "read": read, "contender": way, **figures_of(own, read)}


def batch_rows(batches: Sequence[int], repetitions: int, turn_ns: int) -> Iterator[Row]:
    """Yield a row for each size of payloads and number of frames in one call of `send_many`, `send` for 1."""
    with ends() as pair:
        for payload in BATCH_PAYLOADS:
            say(f"batches, {size_text(payload)}")
            jobs = {("feed", batch): Job(payload, 0, batch, "feed", DEFAULT_READ, "") for batch in batches}
            turns = in_turns(pair, jobs, repetitions, turn_ns)
            for _, batch in jobs:
                own = {each: turns["feed", each] for each in batches}
                yield {"payload": payload, "batch": batch, "contender": "send_many", **figures_of(own, batch)}


@contextlib.contextmanager
def ends() -> Iterator[Ends]:
    place = PLACE if PLACE.is_dir() and available_memory() > 4 * FILE_SIZE else None
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastframe-bench-", dir=place)))
        folders = make_files(folder, {"source": FILE_SIZE})
        server = stack.enter_context(serving([sys.executable, "-m", MODULE, "receive"], STEADY))
        source = folders.own / "source"
        command = [sys.executable, "-m", MODULE, "send", str(server.port), str(source)]
        sender, complaints = stack.enter_context(talking(command, STEADY))
        hear(sender, READY, complaints)
        yield Ends(server, sender, complaints, source, folders.served / "copy")


def in_turns(
    pair: Ends, jobs: Mapping[tuple[str, int], Job], repetitions: int, turn_ns: int
) -> dict[tuple[str, int], list[tuple[float, ...]]]:
    """Return what a frame took in each turn, of both and of each processor, by job."""
    keys = {f"{way} {size}": (way, size) for way, size in jobs}
    counted = {label: in_time(pair, jobs[key], turn_ns) for label, key in keys.items()}

    def player(job: Job) -> Any:
        return lambda: tuple(max(1, ns) / job.frames for ns in pair.run(job))

    turns = take_turns({label: player(job) for label, job in counted.items()}, repetitions)
    return {keys[label]: took for label, took in turns.items()}


def in_time(pair: Ends, job: Job, turn_ns: int) -> Job:
    """Warm both ends up, and return the job with so many frames as keep one of them busy for about `turn_ns`."""
    most = max(1, FILE_SIZE // job.payload)
    count = max(1, WARM_SIZE // job.payload)
    while True:
        took = pair.run(job._replace(frames=count))
        ns = max(1, took.sender, took.receiver)
        if ns > turn_ns // 4 or count == most:
            return job._replace(frames=min(most, max(1, count * turn_ns // ns)))
        count = min(most, count * 4)


def check_copy(pair: Ends, payload: int) -> None:
    """Raise `BenchError` unless the last copy is the beginning of the file."""
    size = pair.copy.stat().st_size
    with pair.source.open("rb") as source, pair.copy.open("rb") as copy:
        for start in range(0, size, MIB):
            if copy.read(MIB) != source.read(min(MIB, size - start)):
                raise BenchError(f"{size_text(payload)}: what arrived is not what was sent")


def figures_of(turns: Mapping[int, list[tuple[float, ...]]], size: int) -> Row:
    """Return what a row has of one size: everybody's time, and the processor's of each end."""
    walls, senders, receivers = (
        Results({str(each): [took[at] for took in own] for each, own in turns.items()}) for at in range(3)
    )
    received = ns_of(receivers, size, list(turns))
    return {
        **ns_of(walls, size, list(turns)),
        "sender_ns": senders.ns(str(size))._asdict(),
        "receiver_ns": received["ns"],
        "receiver_ratio": received["ratio"],
    }
