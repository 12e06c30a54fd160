"""`fastframe bench codec`: what the codec costs a frame, beside the physical limit of CPython and everybody else's decoders.

Decoding: a decoder is fed a stream chunk by chunk, over and over. The limit is a C loop that reads the length, makes the bytes
object and stores it, and checks nothing. How the two are made comparable, found by trial:

- The limit is given pieces of whole frames of about a chunk's size, not the stream at once: that would keep all payloads alive
  and pay for fresh memory, 56 ns for each frame of 16 bytes instead of 18.
- The last result is kept until the next one is there, as in `payloads = feed(chunk)`. Otherwise a decoder alone has two large
  payloads alive, the one that it hands out and the one that it has begun, and pays for the cache that this takes.
- The stream is short, 1 MiB or four frames, and is gone through again and again, like the block that a server receives into.
  Over 8 MiB the memory is measured: the ratios of 16 KiB and more all come near 1.
- Where a frame is longer than a chunk, the limit is called once a frame, but a decoder once a chunk. So `limit by chunk` is
  called as often as the decoder, with nothing each time but one: the difference to `limit` is what the calls alone cost.
- Our own and the limits are first timed without the peers, which leave holes in the heap: with them the limit takes a quarter
  longer for 1 MiB, and the codec seems faster than it.
- The time is that on the processor, medians of turns, and ratios taken turn by turn (`measure.py`). Whoever is slow goes
  through the stream fewer times a turn: what counts is the time of a frame.

From 16 KiB on, copying is nearly all there is, and where malloc happens to put things is worth 10 percent: a decoder that only
made one more temporary object when it was built was that much slower. Smaller differences there mean nothing.

Batches: `feed_batch` makes no object of a frame; its limit only walks from length to length. Encoding: one payload a call, and
64 in one call; the limit allocates, writes the length, copies. Doubling: is the time linear (`linear.py`)?
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .bars import verdicts
from .contenders import find_contenders
from .linear import linear_rows
from .machine import machine
from .measure import Results, measure
from .report import add_file_options, save
from .tables import markdown, print_heading, print_machine, print_row, print_verdicts
from .workloads import Workload, some_payloads, workload

if TYPE_CHECKING:
    from .entry import Contenders, DecodeContender, EncodeContender, Feed

KIB, MIB = 1 << 10, 1 << 20
PAYLOADS = (16, 64, 256, KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB)
CHUNKS = (KIB, 16 * KIB, 64 * KIB, 256 * KIB)
QUICK_PAYLOADS, QUICK_CHUNKS = (16, KIB, 64 * KIB), (64 * KIB,)
BATCHES = (1, 64)

STREAM_SIZE = MIB
TURN_SIZE = 16 * MIB  # a turn goes through so many bytes, a small frame counting more: a millisecond or more for the limit
TURN_NS = 20_000_000  # or through fewer, so that it takes about so long
WALK_TURN = 64  # so many times more where nothing is copied, and a frame of 1 MiB is walked past in half a microsecond
REPETITIONS = 15
LINEAR_SIZE, QUICK_LINEAR_SIZE = 64 * MIB, 8 * MIB

Row = dict[str, Any]


def main(argv: list[str], *, stream_size: int = STREAM_SIZE, turn_size: int = TURN_SIZE, linear_size: int | None = None) -> int:
    """Run the command and return its exit status; the sizes can be small for tests."""
    args = parser().parse_args(argv)
    payloads, chunks = (QUICK_PAYLOADS, QUICK_CHUNKS) if args.quick else (PAYLOADS, CHUNKS)
    contenders = find_contenders()
    report = new_report(contenders)
    print_machine(report)
    for table, decoders, turn in (("decode", contenders.decode, turn_size), ("batch", contenders.batch, WALK_TURN * turn_size)):
        print_heading(report, table)
        for payload, chunk in itertools.product(payloads, chunks):
            work = workload(payload, chunk, stream_size)
            cell = in_groups(decoders, partial(decode_rows, work=work, turn_size=turn))
            report[table] += print_row(report, table, cell)
    print_heading(report, "encode")
    for payload, batch in itertools.product(payloads, BATCHES):
        cell = in_groups(contenders.encode, partial(encode_rows, payload_length=payload, batch=batch, turn_size=turn_size))
        report["encode"] += print_row(report, "encode", cell)
    report["linear"] = linear_rows(linear_size or (QUICK_LINEAR_SIZE if args.quick else LINEAR_SIZE))
    report["bars"] = verdicts(report)
    print_verdicts(report)
    return save(args, report, markdown)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="fastframe bench codec",
        description="Measure what decoding and encoding cost a frame, compiled and pure, beside the physical limit of CPython"
        " and beside msgpack, hiredis, picows, Twisted, asyncio's streams and framing by hand.",
        epilog="example: fastframe bench codec --quick --json codec.json",
    )
    result.add_argument("--quick", action="store_true", help="three payload sizes and one chunk size, in seconds")
    add_file_options(result)
    return result


def new_report(contenders: Contenders) -> Row:
    """Return a report without results. In `contenders` each table has the kinds of its contenders by name, in order."""
    tables: dict[str, Mapping[str, DecodeContender | EncodeContender]] = {
        "decode": contenders.decode,
        "batch": contenders.batch,
        "encode": contenders.encode,
    }
    return {
        "benchmark": "codec",
        "machine": machine(),
        "peers": contenders.versions,
        "left_out": contenders.left_out,
        "contenders": {
            table: {name: contender.kind for name, contender in entered.items()} for table, entered in tables.items()
        },
        "decode": [],
        "batch": [],
        "encode": [],
    }


def in_groups(contenders: Mapping[str, Any], rows_of: Callable[[Mapping[str, Any]], list[Row]]) -> list[Row]:
    """Return the rows of all: what our own and the limits take from a run without peers, the rest from one with them."""
    close = {name: contender for name, contender in contenders.items() if contender.kind in ("limit", "ours")}
    rows = {row["contender"]: row for row in rows_of(close)}
    if len(close) < len(contenders):
        for row in rows_of(contenders):
            kept = rows.setdefault(row["contender"], row)
            kept["ratio"] = row["ratio"] | kept["ratio"]
    return [rows[name] for name in contenders if name in rows]


def decode_rows(contenders: Mapping[str, DecodeContender], work: Workload, turn_size: int) -> list[Row]:
    runs = {}
    for name, contender in contenders.items():
        pieces = contender.cut(work)
        if pieces is None:
            continue
        feed = contender.start()
        if not gives_back(feed, pieces, work.payloads):
            raise RuntimeError(f"{name} does not give the payloads of {work.payload_length} bytes that went in")
        runs[name] = partial(decode, feed, pieces)
    cell = {"payload": work.payload_length, "chunk": work.chunk_size}
    most = passes_a_turn(len(work.payloads), 4 + work.payload_length, turn_size)
    return cell_rows(cell, contenders, runs, len(work.payloads), most)


def decode(feed: Feed, pieces: list[bytes], passes: int) -> None:
    for _ in range(passes):
        for piece in pieces:
            payloads = feed(piece)  # noqa: F841  kept until the next ones are there


def gives_back(feed: Feed, pieces: list[bytes], payloads: list[bytes]) -> bool:
    """Return whether `feed` gives `payloads`, or all told how many they are."""
    results = [feed(piece) for piece in pieces]
    if all(isinstance(result, int) for result in results):
        return bool(sum(results) == len(payloads))
    return [payload for result in results for payload in result] == payloads


def encode_rows(contenders: Mapping[str, EncodeContender], payload_length: int, batch: int, turn_size: int) -> list[Row]:
    payloads = some_payloads(payload_length, batch)
    runs = {}
    for name, contender in contenders.items():
        call: Callable[[Any], bytes] = contender.encode if batch == 1 else contender.encode_many
        argument = payloads[0] if batch == 1 else payloads
        if call(argument) != contender.wire(payloads):
            raise RuntimeError(f"{name} does not give the frames of {payload_length} bytes that it should")
        runs[name] = partial(encode, call, argument)
    cell = {"payload": payload_length, "batch": batch}
    return cell_rows(cell, contenders, runs, batch, passes_a_turn(batch, 4 + payload_length, turn_size))


def encode(call: Callable[[Any], bytes], argument: bytes | list[bytes], passes: int) -> None:
    for _ in range(passes):
        encoded = call(argument)  # noqa: F841  kept until the next one is there


def cell_rows(
    cell: Row,
    contenders: Mapping[str, DecodeContender | EncodeContender],
    runs: Mapping[str, Callable[[int], None]],
    frames: int,
    most: int,
) -> list[Row]:
    """Measure `run(passes)` of each, at most `most` passes of `frames` frames a turn, and return a row for each."""
    passes = {name: passes_in_time(run, most) for name, run in runs.items()}
    calls = {name: partial(run, passes[name]) for name, run in runs.items()}
    results = measure(calls, REPETITIONS, units={name: passes[name] * frames for name in runs})
    return [
        {
            **cell,
            "contender": name,
            "ns": results.ns(name)._asdict(),
            "ratio": {base: results.ratio(name, base)._asdict() for base in bases(name, contenders, results)},
        }
        for name in runs
    ]


def bases(name: str, contenders: Mapping[str, DecodeContender | EncodeContender], results: Results) -> list[str]:
    """Return what `name` is compared with: our own with everybody, the others with the limits, or the first one."""
    names = list(results.turns)
    if contenders[name].kind == "ours":
        return names
    return [base for base in names if contenders[base].kind == "limit"] or names[:1]


def passes_a_turn(frames: int, frame_length: int, turn_size: int) -> int:
    """Return how often to go through `frames` frames in a turn of about `turn_size` bytes, in which a frame counts 160."""
    return max(1, turn_size // (frames * max(frame_length, 160)))


def passes_in_time(run: Callable[[int], None], most: int) -> int:
    """Return how many passes, at most `most`, take about TURN_NS."""
    passes = 1
    while True:
        start = time.thread_time_ns()
        run(passes)
        took = max(1, time.thread_time_ns() - start)
        if passes >= most or took > TURN_NS // 20:
            return max(1, min(most, passes * TURN_NS // took))
        passes *= 4
