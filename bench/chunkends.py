"""Both ends of the sweep of transfers: `python -m fastframe.bench.chunkends receive | send PORT SOURCE`.

    get_buffer   the receiver lends the memory of the decoder: where a large payload is at hand, its own
    feed         it has memory of its own, of the size of a read, and feeds the decoder

The sender is our blocking front. It takes jobs as lines of JSON, sends the beginning of a file for each, and answers with how
long it took. Frames that are less than BATCH are read from the file and sent many at a time (`send_many`); larger ones are sent
from the file (`send_file`). The receiver writes what a read completed to its file in one call, and says in the end how many
bytes there were; the sender's clock runs until then.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from fastframe import Decoder, sync

from .pairs import READY
from .serve import FORMAT, HOST, say_where

BATCH: Final = 256 << 10
HEAD: Final = 1024  # bytes that announce a job, filled up with spaces


class Job(NamedTuple):
    """`frames` to be sent, with payloads of `payload` bytes, `batch` in one call, 0 for BATCH bytes; they are received `way`.

    `copy`: the receiver's file; "" to forget what comes.
    """

    payload: int
    frames: int
    batch: int
    way: str
    read: int
    copy: str


def main(argv: list[str]) -> None:
    if argv[0] == "receive":
        serve()
    else:
        print(READY, flush=True)
        for line in sys.stdin:
            try:
                answer: dict[str, Any] = {"ns": send(int(argv[1]), Path(argv[2]), Job(*json.loads(line)))}
            except Exception as error:  # whatever it is, the bench says it
                answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
            print(json.dumps(answer), flush=True)


# The receiver


def serve() -> None:
    with socket.create_server((HOST, 0)) as listener:
        say_where(listener.getsockname()[1])
        while True:
            connection = listener.accept()[0]
            with connection, contextlib.suppress(OSError):  # a sender that has gone: the next one may stay
                receive(connection, Job(*json.loads(connection.recv(HEAD, socket.MSG_WAITALL))))


def receive(connection: socket.socket, job: Job) -> None:
    received = 0
    with Path(job.copy).open("wb", buffering=0) if job.copy else contextlib.nullcontext() as file:
        for frames in READERS[job.way](connection, job.read):
            received += take(frames, file)
    connection.sendall(b"%d" % received)


def take(frames: list[bytes], file: BinaryIO | None) -> int:
    """Write what came, and return how many bytes that are."""
    if not frames:
        return 0
    data = frames[0] if len(frames) == 1 else b"".join(frames)
    if file:
        file.write(data)
    return len(data)


def with_get_buffer(connection: socket.socket, read: int) -> Iterator[list[bytes]]:
    decoder = Decoder(FORMAT)
    while nbytes := connection.recv_into(decoder.get_buffer()[:read]):
        yield decoder.buffer_updated(nbytes)
    decoder.finish()


def with_feed(connection: socket.socket, read: int) -> Iterator[list[bytes]]:
    decoder, memory = Decoder(FORMAT), memoryview(bytearray(read))
    while nbytes := connection.recv_into(memory):
        yield decoder.feed(memory[:nbytes])
    decoder.finish()


READERS: Final[dict[str, Callable[[socket.socket, int], Iterator[list[bytes]]]]] = {
    "get_buffer": with_get_buffer,
    "feed": with_feed,
}

# The sender


def send(port: int, source: Path, job: Job) -> int:
    with sync.connect(HOST, port, format=FORMAT) as peer, source.open("rb", buffering=0) as file:
        start = time.perf_counter_ns()
        peer.socket.sendall(json.dumps(job).encode().ljust(HEAD))
        if job.batch or job.payload < BATCH:
            send_batches(peer, file, job)
        else:
            for offset in range(0, job.payload * job.frames, job.payload):
                peer.send_file(file, offset, job.payload)
        peer.send_eof()
        received = int(peer.socket.recv(HEAD) or b"0")
        took = time.perf_counter_ns() - start
    if received != job.payload * job.frames:
        raise ConnectionError(f"{received:,} of {job.payload * job.frames:,} bytes arrived")
    return took


def send_batches(peer: sync.FrameSocket, file: BinaryIO, job: Job) -> None:
    block = max(job.batch, BATCH // job.payload)  # frames that are read at once
    step = job.batch or block
    left = job.frames
    while left:
        data = file.read(job.payload * min(left, block))
        payloads = [data[start : start + job.payload] for start in range(0, len(data), job.payload)]
        if step == 1:
            for payload in payloads:
                peer.send(payload)
        else:
            for start in range(0, len(payloads), step):
                peer.send_many(payloads[start : start + step])
        left -= len(payloads)


if __name__ == "__main__":
    main(sys.argv[1:])
