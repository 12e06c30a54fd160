"""`fastframe bench chunks`: what chunk size does: frames of so much, read so much at a time, from 64 B to 4 MiB each.

Three sweeps, with every size of frames and every size of reads: decoding alone (`chunkdecode.py`), an echo server on a socket
(`chunkecho.py`), a file from one process to another (`chunktransfer.py`); and how many small frames to send in one call. With
them is measured what explains where the lines bend (`knees.py`): a system call, a turn of the loop, the caches, the socket's
buffers, Nagle's algorithm.

A size is that of payloads: a frame has four bytes more, so that the borders of reads fall anywhere in frames. A turn has a
length and not a number of frames. All sizes of reads take turns with frames of one size, and each is compared with reads of
256 KiB in the same turn, which is what our fronts do.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final

from . import chunkdecode, chunkecho, chunktransfer
from .chunktables import CONTENTS, chunk_charts, chunk_tables
from .command import run
from .family import Family, Figure, Report, new_report
from .knees import measured_facts
from .machine import STEADY, environment_text, package_versions
from .measure import Spread, cores_used
from .options import numbers, whole_number
from .race import turns_text
from .report import size_text

KIB, MIB = 1 << 10, 1 << 20
SIZES: Final = (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
QUICK_FRAMES: Final = (64, 4 * KIB, MIB)
QUICK_READS: Final = (256, 4 * KIB, 64 * KIB, 256 * KIB)
QUICK_BATCHES: Final = (1, 16, 256)
REPETITIONS, QUICK_REPETITIONS = 5, 3
TURN_NS, QUICK_TURN_NS = 40_000_000, 15_000_000
SWEEPS: Final = ("decode", "echo", "transfer", "batch")


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    return run(FAMILY, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sweeps", type=sweeps, default=SWEEPS, metavar="NAME,...", help=f"some of: {', '.join(SWEEPS)}")
    parser.add_argument("--frames", type=numbers, metavar="SIZE,...", help="payloads (default: 64 to 4MiB by powers of four)")
    parser.add_argument("--reads", type=numbers, metavar="SIZE,...", help="bytes of a read (default: the same)")
    parser.add_argument("--repetitions", type=whole_number, metavar="N", help=f"turns of each (default: {REPETITIONS})")


def sweeps(text: str) -> list[str]:
    parts = text.split(",")
    for part in parts:
        if part not in SWEEPS:
            raise argparse.ArgumentTypeError(f"there is no {part!r}; there are {', '.join(SWEEPS)}")
    return parts


def measured(args: argparse.Namespace) -> Report:
    frames = args.frames or (QUICK_FRAMES if args.quick else SIZES)
    reads = args.reads or (QUICK_READS if args.quick else SIZES)
    repetitions = args.repetitions or (QUICK_REPETITIONS if args.quick else REPETITIONS)
    turn_ns = QUICK_TURN_NS if args.quick else TURN_NS
    report = new_report("chunks", quick=args.quick, settings=settings(repetitions, turn_ns))
    left_out = report["left_out"]
    report |= {sweep: [] for sweep in SWEEPS}
    if "decode" in args.sweeps:
        report["decode"] = chunkdecode.decode_rows(frames, reads, repetitions, turn_ns, left_out)
    if "echo" in args.sweeps:
        report["echo"] = list(chunkecho.echo_rows(frames, reads, repetitions, turn_ns, left_out))
    if "transfer" in args.sweeps:
        report["transfer"] = list(chunktransfer.transfer_rows(frames, reads, repetitions, turn_ns))
    if "batch" in args.sweeps:
        batches = QUICK_BATCHES if args.quick else chunktransfer.BATCHES
        report["batch"] = list(chunktransfer.batch_rows(batches, repetitions, turn_ns))
    report["facts"] = measured_facts()
    report["versions"] = package_versions(["uvloop"])
    name_contenders(report)
    return report


def settings(repetitions: int, turn_ns: int) -> dict[str, str]:
    return {
        "turns": turns_text(repetitions, turn_ns),
        "outstanding": f"{size_text(chunkecho.OUTSTANDING)} of an echo, at least two frames",
        "cores_used": f"echo: {cores_used()}; transfer: all, by both ends",
        "sender": chunktransfer.SENDER,
        "not_measured": f"echo and transfer: more than {chunkecho.MOST_READS:,} reads for a frame",
        "environment": environment_text(STEADY),
    }


def name_contenders(report: Report) -> None:
    """Say who took part: names are those of the sweep and of the way, since ways of several sweeps are called alike."""
    does = {
        "decode": chunkdecode.DOES,
        "echo": {name: way.does for name, way in chunkecho.WAYS.items()},
        "transfer": {name: what for name, (_, what) in chunktransfer.WAYS.items()},
        "batch": {"send_many": "FrameSocket.send_many of so many frames, send for one; the receiver forgets them"},
    }
    for sweep in SWEEPS:
        for name in dict.fromkeys(row["contender"] for row in report[sweep]):
            report["contenders"][f"{sweep} {name}"] = "ours"
            report["does"][f"{sweep} {name}"] = does[sweep][name]


def figures(report: Report) -> Iterator[Figure]:
    """Yield what a frame takes in each cell: of the processor where that was asked for, of everybody's time in transfers."""
    for sweep, unit in CONTENTS.items():
        for row in report[sweep]:
            size = f"{row['batch']} in a call" if sweep == "batch" else f"reads of {size_text(row['read'])}"
            name = f"{sweep}, {size_text(row['payload'])}, {size}, {row['contender']}"
            yield Figure(name, unit, Spread(**row["ns"]), Spread(**row["ratio"]))


INTRODUCTION: Final = (
    "Frames of so many bytes, read so many bytes at a time: decoding alone, an echo server on a socket, a file from one process"
    " to another. A figure is a median of turns, the spread of a row the widest of its cells; a ratio is taken to reads of"
    " 256 KiB in the same turn. A *knee* is the smallest read that takes at most 5 % longer than the best. Left of it what"
    " counts is the read itself, whatever it brings: a system call, and on asyncio a turn of the loop for each (uvloop reads up"
    " to 32 times in one). An echo pays for answers besides: one write answers what one read completed, so that reads of"
    " several frames save writes too. Right of the knee the calls no longer count, only bytes do; something is lost again, most"
    " with small frames: blocks larger than the caches are slower to copy, and the objects of so many frames at once are more"
    " memory than was just freed, which costs page faults."
)
FAMILY: Final = Family(
    "chunks",
    summary="chunk size",
    description="Measure what the size of frames and the size of reads do to decoding, to an echo server and to a transfer,"
    " from 64 B to 4 MiB each, and what explains it: system calls, loops, caches, socket buffers, Nagle.",
    example="chunks --quick --json chunks.json",
    introduction=INTRODUCTION,
    add_options=add_options,
    measure=measured,
    bars=lambda _: [],
    tables=chunk_tables,
    figures=figures,
    charts=chunk_charts,
)
