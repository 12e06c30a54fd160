"""What the lines of the sweeps bend at, measured here and now: small measurements, a few seconds in all.

    a read       a system call; a `recv` by how much it brings; the same through a loop, which comes around once for each
    memory       copies by size, beside the sizes of the caches; a large block that is mapped anew each time
    a socket     its buffers, and how much one `recv` brings of them at most; the longest segment; Nagle's algorithm

Everything is on loopback and in this process. Each is one function that returns plain numbers for the report.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import mmap
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from .measure import Results, measure, spread, take_turns
from .serve import HOST, loop_factory

KIB, MIB = 1 << 10, 1 << 20
REPETITIONS: Final = 9
READS: Final = 1000  # a turn: so many reads
RECEIVED: Final = (64, 4 * KIB, 64 * KIB, 256 * KIB, MIB)  # by one recv
COPIED: Final = tuple(4 * KIB << shift for shift in range(0, 13, 2))  # 4 KiB to 16 MiB
COPIED_A_TURN: Final = 16 * MIB
FRESH_SIZE, FILLED = 256 * KIB, 20  # bytes of a block, blocks a turn
FLOOD: Final = 64 * MIB
WARM: Final = 20  # exchanges: a new connection acknowledges everything at once for a while
LARGEST_READ: Final = 16 * MIB
CACHES: Final = Path("/sys/devices/system/cpu/cpu0/cache")

Facts = dict[str, Any]


def measured_facts() -> Facts:
    """Return all, by name; what cannot be found out here is missing."""
    return {
        "read_ns": read_costs(),
        "recv_ns": recv_costs(),
        "send_ns": send_cost(),
        "copy_gb_s": copy_rates(),
        "caches": caches(),
        "fresh": fresh_memory(),
        "socket": socket_facts(),
        "nagle_ns": nagle(),
    }


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a TCP connection."""
    with socket.create_server((HOST, 0)) as listener, socket.create_connection(listener.getsockname()[:2]) as one:
        other = listener.accept()[0]
        with other:
            for end in (one, other):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield one, other


# A read


def read_costs() -> Facts:
    """Return nanoseconds of a system call that does nothing, of a `recv` of 1 B, and of one that a loop makes."""
    with contextlib.ExitStack() as stack:
        contenders: dict[str, Callable[[], object]] = {
            "system call": lambda: [os.getppid() for _ in range(READS)],
            "recv": one_by_one(*stack.enter_context(connected())),
        }
        for name in ("asyncio", "uvloop"):
            if importlib.util.find_spec(name):
                contenders[name] = stack.enter_context(one_by_one_on(name))
        return by_name(measure(contenders, REPETITIONS, units=READS))


def one_by_one(sender: socket.socket, receiver: socket.socket) -> Callable[[], None]:
    memory = bytearray(1)

    def turn() -> None:
        sender.sendall(bytes(READS))
        for _ in range(READS):
            receiver.recv_into(memory)

    return turn


@contextlib.contextmanager
def one_by_one_on(name: str) -> Iterator[Callable[[], None]]:
    """Yield what sends READS bytes, and has a loop read them one by one."""
    with asyncio.Runner(loop_factory=loop_factory(name)) as runner, connected() as (sender, receiver):
        transport, counter = runner.run(counting(receiver.dup()))

        async def turn() -> None:
            counter.all_read = asyncio.get_running_loop().create_future()
            sender.sendall(bytes(READS))
            await counter.all_read

        yield lambda: runner.run(turn())
        transport.close()
        runner.run(asyncio.sleep(0))


async def counting(receiver: socket.socket) -> tuple[asyncio.BaseTransport, Counter]:
    return await asyncio.get_running_loop().create_connection(Counter, sock=receiver)


class Counter(asyncio.BufferedProtocol):
    """Read 1 B at a time."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(1))
        self.read = 0
        self.all_read: asyncio.Future[None]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self.memory

    def buffer_updated(self, nbytes: int) -> None:
        self.read += nbytes
        if self.read % READS == 0:
            self.all_read.set_result(None)


def recv_costs() -> Facts:
    """Return nanoseconds of a `recv` that brings so many bytes."""
    with contextlib.ExitStack() as stack:
        turns = {str(size): stack.enter_context(whole_reads(size)) for size in RECEIVED}
        return {size: spread(took)._asdict() for size, took in take_turns(turns, REPETITIONS).items()}


@contextlib.contextmanager
def whole_reads(size: int) -> Iterator[Callable[[], float]]:
    """Yield what times a `recv` of `size` bytes that are all there."""
    with connected() as (sender, receiver):
        sender.setblocking(False)
        memory = memoryview(bytearray(size))
        count = max(1, MIB // 4 // size)

        def turn() -> float:
            view = memoryview(bytes(size * count))
            while view:
                view = view[sender.send(view) :]
            start = time.thread_time_ns()
            for _ in range(count):
                receiver.recv_into(memory, size, socket.MSG_WAITALL)
            return (time.thread_time_ns() - start) / count

        turn()
        yield turn


def send_cost() -> Facts:
    """Return nanoseconds of a `send` of 64 B, which on loopback is its receipt as well, to nobody who waits for it."""
    payload = bytes(64)
    with connected() as (sender, receiver):
        memory = bytearray(READS * len(payload))

        def turn() -> float:
            start = time.thread_time_ns()
            for _ in range(READS):
                sender.send(payload)
            took = time.thread_time_ns() - start
            receiver.recv_into(memory, len(memory), socket.MSG_WAITALL)
            return took / READS

        return spread(take_turns({"send": turn}, REPETITIONS)["send"])._asdict()


# Memory


def copy_rates() -> Facts:
    """Return GB/s of copies by their size; both blocks begin at a page's border, so that no copy stumbles (`machine.py`)."""

    def copies(size: int) -> Callable[[], None]:
        source, target = mapped(size), mapped(size)

        def turn() -> None:
            for _ in range(COPIED_A_TURN // size):
                target[:] = source

        return turn

    results = measure({str(size): copies(size) for size in COPIED}, REPETITIONS, units=COPIED_A_TURN)
    return {size: spread([1 / ns for ns in turns])._asdict() for size, turns in results.turns.items()}


def caches() -> Facts:
    """Return the bytes of the caches that hold data, by level: what the kernel says of the first core."""
    found = {}
    with contextlib.suppress(OSError, ValueError):
        for index in sorted(CACHES.glob("index*")):
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                found[f"L{level}"] = int(size.removesuffix("K")) * KIB
    return found


def fresh_memory() -> Facts:
    """Return nanoseconds and page faults of filling a block, mapped anew each time, as malloc does with large ones, or kept."""
    source, kept = bytes(FRESH_SIZE), mapped(FRESH_SIZE)
    faults: dict[str, int] = {}

    def filling(name: str, block: Callable[[], memoryview]) -> Callable[[], None]:
        def turn() -> None:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(FILLED):
                block()[:] = source
            faults[name] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        return turn

    contenders = {"mapped anew": filling("mapped anew", lambda: mapped(FRESH_SIZE)), "kept": filling("kept", lambda: kept)}
    facts = by_name(measure(contenders, REPETITIONS, units=FILLED))
    return {name: {**facts[name], "faults": faults[name] / FILLED} for name in contenders}


def mapped(size: int) -> memoryview:
    """Return memory that begins at a page's border, and is given back when nobody has it any more."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


# A socket


def socket_facts() -> Facts:
    """Return the buffers of a new connection, those of one that carried much, and what one `recv` brings of a flood."""
    facts: Facts = {}
    for name in ("tcp_rmem", "tcp_wmem"):
        with contextlib.suppress(OSError):
            facts[name] = [int(part) for part in Path("/proc/sys/net/ipv4", name).read_text().split()]
    with connected() as (sender, receiver):
        facts["fresh"] = sizes(sender, receiver)
        counts = flood(sender, receiver)
        facts["used"] = sizes(sender, receiver)
    facts["flood"] = spread([float(count) for count in counts])._asdict() | {"most": max(counts)}
    return facts


def sizes(sender: socket.socket, receiver: socket.socket) -> Facts:
    return {
        "send_buffer": sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        "receive_buffer": receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        "segment": sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
    }


def flood(sender: socket.socket, receiver: socket.socket) -> list[int]:
    """Return how many bytes each `recv` brought while somebody sent as fast as he could."""
    thread = threading.Thread(target=sender.sendall, args=(bytes(FLOOD),), daemon=True)
    thread.start()
    memory, counts = bytearray(LARGEST_READ), [0]
    while sum(counts) < FLOOD and (count := receiver.recv_into(memory)):
        counts.append(count)
    thread.join()
    return counts[1:]


def nagle() -> Facts:
    """Return nanoseconds until the answer to two small writes was here, with Nagle's algorithm and without."""
    with contextlib.ExitStack() as stack:
        turns = {
            "TCP_NODELAY": stack.enter_context(asking(1)),
            "Nagle": stack.enter_context(asking(0)),
        }
        return {name: spread(took)._asdict() for name, took in take_turns(turns, REPETITIONS).items()}


@contextlib.contextmanager
def asking(nodelay: int) -> Iterator[Callable[[], float]]:
    """Yield what writes a header and a payload, and times how long it takes until somebody who waits for both has answered."""
    with connected() as (client, server):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
        thread = threading.Thread(target=answer, args=(server,), daemon=True)
        thread.start()

        def turn() -> float:
            start = time.perf_counter_ns()
            client.sendall(b"h")
            client.sendall(b"p")
            client.recv(1)
            return time.perf_counter_ns() - start

        for _ in range(WARM):
            turn()
        yield turn
        client.shutdown(socket.SHUT_WR)
        thread.join()


def answer(server: socket.socket) -> None:
    while len(server.recv(2, socket.MSG_WAITALL)) == len(b"hp"):
        server.sendall(b"a")


def by_name(results: Results) -> Facts:
    return {name: results.ns(name)._asdict() for name in results.turns}
