"""The sweep of decoding: what chunk size costs when there is no kernel and no loop, only the codec.

A decoder is fed chunks of one size, over and over. The stream is as long as one chunk or four frames, whichever is more, 64 KiB
at least: like the block that a server receives into, it is as warm in the cache as its size allows, and a chunk that is larger
than the cache pays for that. The borders of chunks fall anywhere in frames. All chunk sizes take turns, processor time counts.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final

from .codec import decode, gives_back
from .contenders import find_codecs
from .entry import BenchError
from .measure import Results, measure, passes_in_time
from .report import say, size_text
from .workloads import FORMAT, Workload, workload

STREAM_SIZE: Final = 64 << 10  # at the least
MOST_PASSES: Final = 1 << 16
DEFAULT_READ: Final = 256 << 10  # what our fronts read at once
PURE_PAYLOADS: Final = (64, 4 << 10, 64 << 10)  # of the pure codec the lines are shown, not all cells
DOES: Final = {
    "compiled": "Decoder.feed of the compiled codec, fed chunks of the read size; no I/O",
    "pure": "the same of the codec in Python, for a few sizes of frames",
}

Row = dict[str, Any]


def decode_rows(
    payloads: Sequence[int], reads: Sequence[int], repetitions: int, turn_ns: int, left_out: list[str]
) -> list[Row]:
    """Return a row for each codec, size of payloads and of chunks: what a frame takes of the processor, and page faults."""
    rows = []
    for name, codec in find_codecs(left_out).items():
        for payload in payloads:
            if name == "compiled" or payload in PURE_PAYLOADS:
                say(f"decode, {name}, {size_text(payload)}")
                works = [workload(payload, read, max(STREAM_SIZE, read)) for read in reads]
                rows += cells(name, codec, works, repetitions, turn_ns)
    return rows


def cells(name: str, codec: ModuleType, works: Sequence[Workload], repetitions: int, turn_ns: int) -> list[Row]:
    runs, units, faults = {}, {}, {}
    for work in works:
        run = partial(decode, warm_feed(name, codec, work), work.chunks)
        passes = passes_in_time(run, MOST_PASSES, turn_ns)
        label = str(work.chunk_size)
        runs[label], units[label] = partial(run, passes), passes * len(work.payloads)
        faults[label] = page_faults(runs[label]) / units[label]
    results = measure(runs, repetitions, units=units)
    reads = [work.chunk_size for work in works]
    cell = {"payload": works[0].payload_length, "contender": name}
    return [{**cell, "read": read, "faults": faults[str(read)], **ns_of(results, read, reads)} for read in reads]


def page_faults(run: Callable[[], object]) -> int:
    """Return how often the kernel has to give memory: objects of many frames at once are more than was freed before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def warm_feed(name: str, codec: ModuleType, work: Workload) -> Any:
    """Return the `feed` of a decoder that was seen to give what went in."""
    feed = codec.Decoder(FORMAT).feed
    if not gives_back(feed, work.chunks, work.payloads):
        raise BenchError(f"{name} does not give the payloads of {work.payload_length} bytes that went in")
    return feed


def ns_of(results: Results, read: int, reads: Sequence[int]) -> Row:
    """Return what a row has of one size: the spread, and that of the ratio to what the base took in the same turn."""
    ratio = results.ratio(str(read), str(base_of(reads)))
    return {"ns": results.ns(str(read))._asdict(), "ratio": ratio._asdict()}


def base_of(reads: Sequence[int]) -> int:
    """Return what the others are compared with: the largest read that the fronts make, or the largest there is below it."""
    return max((read for read in reads if read <= DEFAULT_READ), default=min(reads))
