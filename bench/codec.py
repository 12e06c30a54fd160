"""`fastframe bench codec`: what the codec costs a frame, beside the physical limit of CPython.

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
- The time is that on the processor, medians of turns, and ratios taken turn by turn (`measure.py`).

From 16 KiB on, copying is nearly all there is, and where malloc happens to put things is worth 10 percent: a decoder that only
made one more temporary object when it was built was that much slower. Smaller differences there mean nothing.

Encoding: one payload a call, and 64 in one call; the limit allocates, writes the length, copies.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .contenders import Contenders, find_contenders
from .measure import STEADY_MEMCPY, Results, machine, measure
from .workloads import Workload, frame, some_payloads, workload

KIB, MIB = 1 << 10, 1 << 20
PAYLOADS = (16, 64, 256, KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB)
CHUNKS = (KIB, 16 * KIB, 64 * KIB, 256 * KIB)
QUICK_PAYLOADS, QUICK_CHUNKS = (16, KIB, 64 * KIB), (64 * KIB,)
BATCHES = (1, 64)

STREAM_SIZE = MIB
TURN_SIZE = 16 * MIB  # a turn goes through so many bytes, a small frame counting more: a millisecond or more for the limit
REPETITIONS = 15

Row = dict[str, Any]


def main(argv: list[str], *, stream_size: int = STREAM_SIZE, turn_size: int = TURN_SIZE) -> int:
    """Run the command and return its exit status; the two sizes can be small for tests."""
    args = parser().parse_args(argv)
    payloads, chunks = (QUICK_PAYLOADS, QUICK_CHUNKS) if args.quick else (PAYLOADS, CHUNKS)
    contenders = find_contenders()
    report: Row = {"benchmark": "codec", "machine": machine(), "left_out": contenders.left_out, "decode": [], "encode": []}
    print_machine(report)
    print_heading("decode", "chunk", list(contenders.decode))
    for payload in payloads:
        for chunk in chunks:
            work = workload(payload, chunk, stream_size)
            report["decode"] += print_rows(decode_rows(contenders, work, turn_size), list(contenders.decode))
    print_heading("encode", "a call", list(contenders.encode))
    for payload in payloads:
        for batch in BATCHES:
            report["encode"] += print_rows(encode_rows(contenders, payload, batch, turn_size), list(contenders.encode))
    print_summary(report)
    if args.json:
        try:
            args.json.write_text(json.dumps(report, indent=1) + "\n")
        except OSError as error:
            print(f"fastframe bench codec: {error}", file=sys.stderr)
            return 1
    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="fastframe bench codec",
        description="Measure what decoding and encoding cost a frame, compiled and pure, beside the physical limit of CPython.",
        epilog="example: fastframe bench codec --quick --json codec.json",
    )
    result.add_argument("--quick", action="store_true", help="three payload sizes and one chunk size, in seconds")
    result.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE, quartiles and machine included")
    return result


def decode_rows(contenders: Contenders, work: Workload, turn_size: int) -> list[Row]:
    passes = passes_a_turn(len(work.payloads), 4 + work.payload_length, turn_size)
    calls: dict[str, Callable[[], object]] = {}
    for name, contender in contenders.decode.items():
        pieces = contender.cut(work)
        if pieces is not None:
            calls[name] = partial(decode, contender.start, pieces, passes)
            if decoded(contender.start(), pieces) != work.payloads:
                raise RuntimeError(f"{name} does not give the payloads of {work.payload_length} bytes that went in")
    results = measure(calls, REPETITIONS, units=passes * len(work.payloads))
    return rows({"payload": work.payload_length, "chunk": work.chunk_size}, results)


def decode(start: Callable[[], Callable[[bytes], list[bytes]]], pieces: list[bytes], passes: int) -> None:
    feed = start()
    for _ in range(passes):
        for piece in pieces:
            payloads = feed(piece)  # noqa: F841  kept until the next ones are there


def decoded(feed: Callable[[bytes], list[bytes]], pieces: list[bytes]) -> list[bytes]:
    return [payload for piece in pieces for payload in feed(piece)]


def encode_rows(contenders: Contenders, payload_length: int, batch: int, turn_size: int) -> list[Row]:
    payloads = some_payloads(payload_length, batch)
    passes = passes_a_turn(batch, 4 + payload_length, turn_size)
    calls: dict[str, Callable[[], object]] = {}
    for name, contender in contenders.encode.items():
        encoded = contender.encode(payloads[0]) if batch == 1 else contender.encode_many(payloads)
        if encoded != frame(payloads):
            raise RuntimeError(f"{name} does not give the frames of {payload_length} bytes that it should")
        if batch == 1:
            calls[name] = partial(repeat, contender.encode, payloads[0], passes)
        else:
            calls[name] = partial(repeat, contender.encode_many, payloads, passes)
    return rows({"payload": payload_length, "batch": batch}, measure(calls, REPETITIONS, units=passes * batch))


def repeat(call: Callable[[Any], bytes], argument: bytes | list[bytes], passes: int) -> None:
    for _ in range(passes):
        encoded = call(argument)  # noqa: F841  kept until the next one is there


def passes_a_turn(frames: int, frame_length: int, turn_size: int) -> int:
    """Return how often to go through `frames` frames in a turn of about `turn_size` bytes, in which a frame counts 160."""
    return max(1, turn_size // (frames * max(frame_length, 160)))


def rows(cell: Row, results: Results) -> list[Row]:
    """Return a row for each contender. The ratios are to the first one, and to `limit by chunk` where it takes part."""
    names = list(results.turns)
    bases = [names[0], *(name for name in names[1:] if name.startswith("limit"))]
    return [
        {
            **cell,
            "contender": name,
            "ns": results.ns(name)._asdict(),
            "ratio": {base: results.ratio(name, base)._asdict() for base in bases},
        }
        for name in names
    ]


def print_machine(report: Row) -> None:
    for key, value in report["machine"].items():
        print(f"{key + ':':<18}{value}")
    if report["machine"]["memcpy_stumble"] > 2:
        print(f"payloads of 4 KiB and more are partly luck here; {STEADY_MEMCPY} in the environment makes them steady")
    for reason in report["left_out"]:
        print("left out:", reason)


def print_heading(what: str, second: str, names: list[str]) -> None:
    print(f"\n{what}, ns a frame and times {names[0]}\n{'payload':>8}{second:>9}" + "".join(f"{name:>19}" for name in names))


def print_rows(measured: list[Row], names: list[str]) -> list[Row]:
    first, *_ = measured
    line = f"{size_text(first['payload']):>8}" + (
        f"{size_text(first['chunk']):>9}" if "chunk" in first else f"{first['batch']:>9}"
    )
    by_name = {row["contender"]: row for row in measured}
    for name in names:
        if name not in by_name:
            line += f"{'':>19}"
            continue
        ratio = by_name[name]["ratio"][names[0]]["median"]
        line += f"{ns_text(by_name[name]['ns']['median']):>11}{ratio:>7.2f}x"
    print(line, flush=True)
    return measured


def print_summary(report: Row) -> None:
    """Say what codec.md sets bars for: the ratio at the median of the cells, and in the worst."""
    print()
    for what in ("decode", "encode"):
        names = dict.fromkeys(row["contender"] for row in report[what])
        for name in (name for name in names if not name.startswith("limit")):
            for base in (base for base in names if base.startswith("limit")):
                print_ratios(name, base, [row for row in report[what] if row["contender"] == name and base in row["ratio"]])


def print_ratios(name: str, base: str, cells: list[Row]) -> None:
    if not cells:
        return
    ratios = [row["ratio"][base]["median"] for row in cells]
    worst = cells[ratios.index(max(ratios))]
    where = f"in chunks of {size_text(worst['chunk'])}" if "chunk" in worst else f"{worst['batch']} a call"
    print(
        f"{'decode' if 'chunk' in worst else 'encode'}: {name} takes {statistics.median(ratios):.2f} times {base} at the"
        f" median of {len(cells)} cells, {max(ratios):.2f} at worst ({size_text(worst['payload'])} {where})"
    )


def size_text(size: int) -> str:
    for unit, text in ((MIB, "MiB"), (KIB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {text}"
    return f"{size} B"


def ns_text(ns: float) -> str:
    return f"{ns:.1f}" if ns < 100 else f"{ns:,.0f}"
