"""A file through an echo server, cut into frames of one size after the other: what does the size of a chunk do?

Each way of framing has a server and a client of its own kind, each in a process of its own, so that a process has one codec:

    compiled, pure   servers/echo.py and a `FrameProtocol` here, with FASTFRAME_IMPLEMENTATION=cython or python
    readexactly      what one writes by hand: asyncio streams, `readexactly(4)`, `readexactly(n)`, `drain`

`python -m fastframe.bench.sweep serve` is the server by hand, `... send WAY ADDR FILE` a client. The client prints an Event as
a JSON line whenever there is news; it exits 1 unless every byte came back and every frame had its length.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from fastframe import FrameFormat, aio

FORMAT: Final = FrameFormat("u32be", max_payload_length=16 << 20)
ENVIRONMENTS: Final = {
    "compiled": {"FASTFRAME_IMPLEMENTATION": "cython"},
    "pure": {"FASTFRAME_IMPLEMENTATION": "python"},
    "readexactly": {},
}
BATCH_BYTES: Final = 64 * 1024  # what the clients hand to the transport, and hash, at once
NEWS_SECONDS: Final = 0.1  # between two events
PATIENCE: Final = 30.0  # seconds without a byte after which the other end is taken for dead


@dataclass(frozen=True)
class Event:
    """How far a transfer is: `received` of `total` bytes have come back, in `frames` frames of `size` bytes, in `seconds`.

    At the end `problem` is empty, or says what did not come back as it was sent; before, it is None.
    """

    size: int
    received: int
    total: int
    frames: int
    seconds: float
    problem: str | None = None


class Transfer:
    """The bookkeeping of one transfer: which frames go out, and whether the same come back.

    After `seconds` no new frame is begun, so that slow ways send the beginning of the file; `total` is then what was sent.
    """

    def __init__(self, data: memoryview, size: int, seconds: float) -> None:
        self.data = data
        self.size = size
        self.total = len(data)
        self.sent = self.received = self.frames = 0
        self.problem: str | None = None
        self.began = time.perf_counter()
        self._stop = self.began + seconds
        self._news = self.began
        self._digest = hashlib.sha256()

    def next_batch(self) -> list[memoryview]:
        """Return the next payloads to send, at least one and about `BATCH_BYTES`; none at the end."""
        if self.sent and time.perf_counter() > self._stop:
            self.total = self.sent
        start = self.sent
        self.sent = min(self.total, start + max(self.size, BATCH_BYTES // self.size * self.size))
        return [self.data[at : min(at + self.size, self.sent)] for at in range(start, self.sent, self.size)]

    def take(self, payloads: Sequence[bytes]) -> None:
        """Check payloads that came back."""
        for payload in payloads:
            if len(payload) != min(self.size, len(self.data) - self.received):
                self.problem = f"frame {self.frames} came back with {len(payload)} bytes"
            self.received += len(payload)
            self.frames += 1
        self._digest.update(b"".join(payloads))
        if (now := time.perf_counter()) - self._news > NEWS_SECONDS:
            self._news = now
            self._print(None)

    def conclude(self, seconds: float) -> bool:
        """Print the last event; tell whether all is well."""
        if self.problem is None and self.received != self.total:
            self.problem = f"{self.received} of {self.total} bytes came back"
        if self.problem is None and self._digest.digest() != hashlib.sha256(self.data[: self.total]).digest():
            self.problem = "the sha256 of what came back is not that of what was sent"
        self._print(self.problem or "", seconds)
        return self.problem is None

    def _print(self, problem: str | None, seconds: float | None = None) -> None:
        seconds = time.perf_counter() - self.began if seconds is None else seconds
        event = Event(self.size, self.received, self.total, self.frames, seconds, problem)
        print(json.dumps(asdict(event)), flush=True)


class Sender(aio.FrameProtocol):
    """Send as fast as the peer takes it, and receive at the same time."""

    def __init__(self, transfer: Transfer) -> None:
        super().__init__(FORMAT)
        self.transfer = transfer
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held_back = False

    def connected(self) -> None:
        self._send_more()

    def frames_received(self, frames: list[bytes]) -> None:
        self.transfer.take(frames)
        if self.transfer.problem:
            self.abort()

    def ended(self, error: Exception | None) -> None:
        if error is not None:
            self.transfer.problem = self.transfer.problem or str(error)
        self.done.set_result(None)

    def pause_writing(self) -> None:  # instead of pausing to read: answers that nobody reads would hold the server back
        self._held_back = True

    def resume_writing(self) -> None:
        self._held_back = False
        self._send_more()

    def _send_more(self) -> None:
        if self._held_back or self.done.done():
            return
        if batch := self.transfer.next_batch():
            self.send_many(batch)
            asyncio.get_running_loop().call_soon(self._send_more)
        else:
            self.send_eof()


async def send_with_protocol(transfer: Transfer, host: str, port: int) -> None:
    _, sender = await asyncio.get_running_loop().create_connection(lambda: Sender(transfer), host, port)
    while not sender.done.done():
        received = transfer.received
        await asyncio.wait([sender.done], timeout=PATIENCE)
        if transfer.received == received and not sender.done.done():
            transfer.problem = f"nothing came back for {PATIENCE:g} s"
            sender.abort()


async def send_by_hand(transfer: Transfer, host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)

    async def send() -> None:
        while batch := transfer.next_batch():
            for payload in batch:
                writer.write(len(payload).to_bytes(4, "big") + payload)
                await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    payloads: list[bytes] = []
    held = 0
    try:
        while not transfer.problem:
            async with asyncio.timeout(PATIENCE):
                length = int.from_bytes(await reader.readexactly(4), "big")
                payloads.append(await reader.readexactly(length))
            held += length
            if held >= BATCH_BYTES:
                transfer.take(payloads)
                payloads, held = [], 0
    except TimeoutError:
        transfer.problem = f"nothing came back for {PATIENCE:g} s"
    except (asyncio.IncompleteReadError, OSError) as error:
        transfer.take(payloads)
        if not isinstance(error, asyncio.IncompleteReadError) or error.partial:
            transfer.problem = transfer.problem or str(error)
    finally:
        sending.cancel()
        writer.close()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending


async def echo_by_hand(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            header = await reader.readexactly(4)
            payload = await reader.readexactly(int.from_bytes(header, "big"))
            writer.write(header + payload)
            await writer.drain()
    writer.close()


async def serve_by_hand() -> None:
    server = await asyncio.start_server(echo_by_hand, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


@contextlib.contextmanager
def server(way: str) -> Iterator[str]:
    """Run the server of one way in a process of its own; yield its address."""
    module = ["fastframe.bench.sweep", "serve"] if way == "readexactly" else ["fastframe", "serve", "echo", "--port", "0"]
    with _python(way, module) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise ValueError(f"the {way} server did not start")
        yield line.removeprefix("listening on ").strip()


def transfers(way: str, address: str, path: str, sizes: Sequence[int], seconds: float) -> Iterator[Event]:
    """Send the file in frames of each size, in a client process of its own; yield its events; raise ValueError if it fails."""
    command = ["fastframe.bench.sweep", "send", way, address, path, "--seconds", str(seconds), "--sizes", *map(str, sizes)]
    with _python(way, command) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = Event(**json.loads(line))
            if event.problem:
                raise ValueError(f"{way}, {event.size} B: {event.problem}")
            yield event
        if process.wait() != 0:
            raise ValueError(f"the {way} client ended with status {process.returncode}")


@contextlib.contextmanager
def _python(way: str, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | ENVIRONMENTS[way]
    with subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.terminate()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastframe.bench.sweep")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve")
    send = commands.add_parser("send")
    send.add_argument("way", choices=ENVIRONMENTS)
    send.add_argument("address")
    send.add_argument("path")
    send.add_argument("--sizes", type=int, nargs="+", required=True)
    send.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args(argv)
    if options.command == "serve":
        asyncio.run(serve_by_hand())
        return 0
    host, _, port = options.address.rpartition(":")
    way = send_by_hand if options.way == "readexactly" else send_with_protocol
    with open(options.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for size in options.sizes:
            with memoryview(data) as view:
                transfer = Transfer(view, size, options.seconds)
                try:
                    asyncio.run(way(transfer, host, int(port)))
                except OSError as error:
                    transfer.problem = str(error)
                if not transfer.conclude(time.perf_counter() - transfer.began):
                    return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
