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
  through the stream fewer times a turn, once at least: what counts is the time of a frame.

From 16 KiB on, copying is nearly all there is, and where malloc happens to put things is worth 10 percent: a decoder that only
made one more temporary object when it was built was that much slower. Smaller differences there mean nothing.

Batches: `feed_batch` makes no object of a frame; its limit only walks from length to length. Encoding: one payload a call, and
64 in one call; the limit allocates, writes the length, copies. Doubling: is the time linear (`linear.py`)?
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .bars import verdicts
from .codectables import CODEC_INTRODUCTION, codec_charts, codec_figures, codec_tables
from .command import run
from .contenders import find_contenders
from .entry import BenchError
from .family import Family, Report, new_report
from .linear import linear_rows
from .measure import Results, measure, passes_in_time
from .options import numbers, whole_number
from .report import say, size_text
from .workloads import Workload, some_payloads, workload

if TYPE_CHECKING:
    from .entry import DecodeContender, EncodeContender, Feed

KIB, MIB = 1 << 10, 1 << 20
PAYLOADS: Final = (16, 64, 256, KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB)
CHUNKS: Final = (KIB, 16 * KIB, 64 * KIB, 256 * KIB)
QUICK_PAYLOADS: Final = (16, 64, KIB, 16 * KIB, MIB)
QUICK_CHUNKS: Final = (64 * KIB,)
BATCHES: Final = (1, 64)
QUICK_CALL: Final = 16 * MIB  # most bytes in a call to encode; 64 MiB take 60 ms, most of them for pages from the kernel

STREAM_SIZE = MIB
LINEAR_SIZE, QUICK_LINEAR_SIZE = 64 * MIB, 8 * MIB


class Effort(NamedTuple):
    """How long it is measured: `turns` of each, which take about `turn_ns` nanoseconds, or are over sooner.

    They are over once they went through `turn_size` bytes, a small frame counting more: a millisecond or more for the limit.
    """

    turns: int
    turn_ns: int
    turn_size: int


FULL, QUICK = Effort(15, 20_000_000, 16 * MIB), Effort(5, 6_000_000, 16 * MIB)
WALK_TURN = 64  # so many times more bytes where nothing is copied, and a frame of 1 MiB is walked past in half a microsecond


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    return run(FAMILY, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=numbers, metavar="SIZE,...", help="of payloads (default: eight from 16 to 1MiB)")
    parser.add_argument("--chunks", type=numbers, metavar="SIZE,...", help="(default: 1KiB,16KiB,64KiB,256KiB)")
    parser.add_argument("--repetitions", type=whole_number, metavar="N", help=f"turns of each (default: {FULL.turns})")


def measured(args: argparse.Namespace) -> Report:
    """Let all decode and encode in each cell."""
    effort = QUICK if args.quick else FULL
    effort = effort._replace(turns=args.repetitions or effort.turns)
    sizes = args.sizes or (QUICK_PAYLOADS if args.quick else PAYLOADS)
    chunks = args.chunks or (QUICK_CHUNKS if args.quick else CHUNKS)
    contenders = find_contenders()
    report = new_report("codec", quick=args.quick, settings={"stream": size_text(STREAM_SIZE), "turns": effort.turns})
    report |= {"versions": contenders.versions, "left_out": contenders.left_out, "decode": [], "batch": [], "encode": []}
    report |= {"contenders": contenders.kinds(), "does": contenders.does()}
    walking = effort._replace(turn_size=WALK_TURN * effort.turn_size)
    for payload, chunk in itertools.product(sizes, chunks):
        say(f"decode, {size_text(payload)} in chunks of {size_text(chunk)}")
        work = workload(payload, chunk, STREAM_SIZE)
        report["decode"] += in_groups(contenders.decode, partial(decode_rows, work=work, effort=effort))
        report["batch"] += in_groups(contenders.batch, partial(decode_rows, work=work, effort=walking))
    for payload, batch in itertools.product(sizes, BATCHES):
        if args.quick and payload * batch > QUICK_CALL:
            continue
        say(f"encode, {size_text(payload)}, {batch} a call")
        rows_of = partial(encode_rows, payload_length=payload, batch=batch, effort=effort)
        report["encode"] += in_groups(contenders.encode, rows_of)
    say("twice the bytes")
    report["linear"] = linear_rows(QUICK_LINEAR_SIZE if args.quick else LINEAR_SIZE)
    return report


def in_groups(contenders: Mapping[str, Any], rows_of: Callable[[Mapping[str, Any]], list[Report]]) -> list[Report]:
    """Return the rows of all: what our own and the limits take from a run without peers, the rest from one with them."""
    close = {name: contender for name, contender in contenders.items() if contender.kind in ("limit", "ours")}
    rows = {row["contender"]: row for row in rows_of(close)}
    if len(close) < len(contenders):
        for row in rows_of(contenders):
            kept = rows.setdefault(row["contender"], row)
            kept["ratio"] = row["ratio"] | kept["ratio"]
    return [rows[name] for name in contenders if name in rows]


def decode_rows(contenders: Mapping[str, DecodeContender], work: Workload, effort: Effort) -> list[Report]:
    runs = {}
    for name, contender in contenders.items():
        pieces = contender.cut(work)
        if pieces is None:
            continue
        feed = contender.start()
        if not gives_back(feed, pieces, work.payloads):
            raise BenchError(f"{name} does not give the payloads of {work.payload_length} bytes that went in")
        runs[name] = partial(decode, feed, pieces)
    cell = {"payload": work.payload_length, "chunk": work.chunk_size}
    return cell_rows(cell, contenders, runs, len(work.payloads), effort)


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


def encode_rows(contenders: Mapping[str, EncodeContender], payload_length: int, batch: int, effort: Effort) -> list[Report]:
    payloads = some_payloads(payload_length, batch)
    runs = {}
    for name, contender in contenders.items():
        call: Callable[[Any], bytes] = contender.encode if batch == 1 else contender.encode_many
        argument = payloads[0] if batch == 1 else payloads
        if call(argument) != contender.wire(payloads):
            raise BenchError(f"{name} does not give the frames of {payload_length} bytes that it should")
        runs[name] = partial(encode, call, argument)
    cell = {"payload": payload_length, "batch": batch}
    return cell_rows(cell, contenders, runs, batch, effort)


def encode(call: Callable[[Any], bytes], argument: bytes | list[bytes], passes: int) -> None:
    for _ in range(passes):
        encoded = call(argument)  # noqa: F841  kept until the next one is there


def cell_rows(
    cell: Report,
    contenders: Mapping[str, DecodeContender | EncodeContender],
    runs: Mapping[str, Callable[[int], None]],
    frames: int,
    effort: Effort,
) -> list[Report]:
    """Measure `run(passes)` of each, `frames` frames a pass, and return a row for each."""
    most = passes_a_turn(frames, 4 + cell["payload"], effort.turn_size)
    passes = {name: passes_in_time(run, most, effort.turn_ns) for name, run in runs.items()}
    calls = {name: partial(run, passes[name]) for name, run in runs.items()}
    results = measure(calls, effort.turns, units={name: passes[name] * frames for name in runs})
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


FAMILY: Final = Family(
    "codec",
    summary="the codec",
    description="Measure what decoding and encoding cost a frame, compiled and pure, beside the physical limit of CPython"
    " and beside msgpack, hiredis, picows, Twisted, asyncio's streams and framing by hand.",
    example="codec --quick --json codec.json",
    introduction=CODEC_INTRODUCTION,
    add_options=add_options,
    measure=measured,
    bars=verdicts,
    tables=codec_tables,
    figures=codec_figures,
    charts=codec_charts,
)
