"""Where the lines of the sweeps bend, and why: each cause beside what was measured of it on this machine.

A knee is the smallest read that takes at most 5 % longer than the best one. What is said here is made of figures of the same
report; where a sweep was not made, its line is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from .chunkdecode import DEFAULT_READ
from .report import size_text
from .tables import ns_text, ratio_text

if TYPE_CHECKING:
    from .family import Report, Table

TOLERANCE: Final = 1.05
SHOWN: Final = (64, 4 << 10, 64 << 10, 1 << 20)  # sizes of frames whose lines and knees are shown
BULK: Final = 1 << 20
LARGE: Final = 64 << 10  # frames of this size and more: what they cost is reading, there are few to answer

Row = dict[str, Any]


def knees_table(report: Report) -> Table:
    """Return for each sweep, way and some sizes of frames: the knee, and what other sizes of reads cost."""
    heads = ["", "a read of", "takes ns", "of the next size", "knee", "GB/s there", "of the largest size"]
    lines = []
    for sweep in ("decode", "echo", "transfer"):
        for contender, payload, own in series(of_reading(report, sweep)):
            if payload in SHOWN and len(own) > 1:
                lines.append([f"{sweep}, {contender}, {size_text(payload)}", *knee_cells(own)])
    return "where the lines bend: processor time of the codec, the server, the receiver", heads, lines


def of_reading(report: Report, sweep: str) -> list[Row]:
    """Return the rows of a sweep with the processor time of the end that reads."""
    return [row | {"ns": row.get("receiver_ns", row["ns"])} for row in report[sweep]]


def series(rows: Sequence[Row]) -> Iterator[tuple[str, int, list[Row]]]:
    """Yield for each way and size of frames its rows by the size of reads."""
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        found.setdefault((row["contender"], row["payload"]), []).append(row)
    for (contender, payload), own in found.items():
        yield contender, payload, sorted(own, key=lambda row: int(row["read"]))


def knee_cells(own: Sequence[Row]) -> list[str]:
    first, second, knee, last = own[0], own[1], knee_of(own), own[-1]
    return [
        size_text(first["read"]),
        ns_text(read_ns(first)),
        f"{size_text(second['read'])}: {ratio_text(ns(first) / ns(second))} faster",
        size_text(knee["read"]),
        f"{knee['payload'] / ns(knee):.2f}",
        f"{size_text(last['read'])}: {ratio_text(ns(last) / ns(knee))} the time",
    ]


def knee_of(own: Sequence[Row]) -> Row:
    """Return the row of the smallest read that is about as good as the best."""
    best = min(map(ns, own))
    return next(row for row in own if ns(row) <= TOLERANCE * best)


def ns(row: Row) -> float:
    return float(row["ns"]["median"])


def read_ns(row: Row) -> float:
    """Return what one read takes, and all that comes with it."""
    return ns(row) / max(1.0, (int(row["payload"]) + 4) / int(row["read"]))


# The causes


def facts_table(report: Report) -> Table:
    lines = [[what, text] for what, text in facts_lines(report["facts"])]
    return "what was measured of the causes", ["", "here"], lines


def facts_lines(facts: Row) -> Iterator[tuple[str, str]]:
    read, recv, copies = facts["read_ns"], facts["recv_ns"], facts["copy_gb_s"]
    yield "a system call that does nothing, from Python", f"{us(read['system call'])} us"
    yield "a recv of 1 B from TCP", f"{us(read['recv'])} us"
    for loop in ("asyncio", "uvloop"):
        if loop in read:
            yield f"the same through {loop}: a turn of the loop for each read", f"{us(read[loop])} us"
    yield "a send of 64 B to TCP", f"{us(facts['send_ns'])} us"
    for size, spread in recv.items():
        yield f"a recv of {size_text(int(size))}", f"{us(spread)} us, {int(size) / spread['median']:.2f} GB/s"
    yield "caches for data", ", ".join(f"{level} {size_text(size)}" for level, size in facts["caches"].items()) or "unknown"
    for size, spread in copies.items():
        yield f"copying {size_text(int(size))}", f"{spread['median']:.1f} GB/s"
    for name, fresh in facts["fresh"].items():
        yield f"filling a block of 256 KiB, {name}", f"{us(fresh)} us, {fresh['faults']:.0f} page faults"
    yield from socket_lines(facts["socket"])
    for name, spread in facts["nagle_ns"].items():
        yield f"two small writes until they are answered, {name}", f"{us(spread)} us"


def socket_lines(sockets: Row) -> Iterator[tuple[str, str]]:
    for when in ("fresh", "used"):
        own = sockets[when]
        sizes = f"{own['receive_buffer']:,} and {own['send_buffer']:,} B"
        yield f"a {when} socket's buffers, for receiving and sending", sizes
    yield "the longest segment on loopback", f"{sockets['used']['segment']:,} B"
    flood = sockets["flood"]
    brought = f"{flood['lower']:,.0f} to {flood['upper']:,.0f} B, at most {flood['most']:,}"
    yield "one recv of a flood brings, quartiles", brought


def us(spread: Row) -> str:
    value = spread["median"] / 1000
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def words_table(report: Report) -> Table:
    """Return a sentence for each cause, with its figures: in one column, since only the first one is broken if it is long."""
    return "why the lines bend", [""], [[f"{what.capitalize()}. {text}"] for what, text in words(report)]


def words(report: Report) -> Iterator[tuple[str, str]]:
    facts = report["facts"]
    yield from small_reads(report["echo"], facts["read_ns"])
    yield from answers(report["echo"])
    yield from large_reads(report)
    yield from chunk_words(report["decode"], facts["caches"])
    yield from batch_words(report["batch"])
    fresh = facts["fresh"]
    text = f"A block of 256 KiB that malloc maps anew takes {us(fresh['mapped anew'])} us to fill, a kept one"
    yield "fresh memory", f"{text} {us(fresh['kept'])}: reuse what reads go to."
    waits = facts["nagle_ns"]
    text = f"Header and payload written apart wait {us(waits['Nagle'])} us for an answer, with TCP_NODELAY"
    yield "Nagle", f"{text} {us(waits['TCP_NODELAY'])}: a frame leaves in one write."


def small_reads(rows: Sequence[Row], read_costs: Row) -> Iterator[tuple[str, str]]:
    """Say what a read costs in the echo of the largest frames, where there is little to answer."""
    largest = max((row["payload"] for row in rows), default=0)
    for contender, payload, own in series(rows):
        if payload == largest >= LARGE:
            loop = contender.rpartition("/")[2]
            bare = f"a bare one of 1 B {us(read_costs[loop if loop in read_costs else 'recv'])}"
            text = f"{contender}: a read of {size_text(own[0]['read'])} of a frame of {size_text(payload)} takes"
            yield "small reads", f"{text} {read_ns(own[0]) / 1000:.2f} us, {bare}."


def answers(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Say what it is worth to read several frames at once, and so to answer them with one write."""
    for contender, payload, own in series(rows):
        larger = [row for row in own if row["read"] >= payload]
        if payload == SHOWN[1] and len(larger) > 1 and larger[0]["read"] == payload:
            one, more = larger[:2]
            text = f"{contender}: a frame of {size_text(payload)} takes {ns(one) / 1000:.2f} us if a read brings about one,"
            yield "answers", f"{text} {ns(more) / 1000:.2f} with reads of {size_text(more['read'])}: one write for several."


def large_reads(report: Report) -> Iterator[tuple[str, str]]:
    """Say what is gained beyond what our fronts read, where that was measured, and how fast a large recv is."""
    recv = {int(size): int(size) / spread["median"] for size, spread in report["facts"]["recv_ns"].items()}
    rates = ", ".join(f"{rate:.1f} GB/s with {size_text(size)}" for size, rate in recv.items() if size >= LARGE)
    for sweep in ("echo", "transfer"):
        for contender, payload, own in series(of_reading(report, sweep)):
            by_read = {row["read"]: ns(row) for row in own}
            last = max(by_read)
            if payload == BULK and DEFAULT_READ in by_read and last > DEFAULT_READ:
                times = by_read[last] / by_read[DEFAULT_READ]
                text = f"{sweep}, {contender}: with reads of {size_text(last)} a frame of {size_text(payload)} takes"
                yield (
                    "large reads",
                    f"{text} {times:.2f} times what it takes with {size_text(DEFAULT_READ)}; a bare recv runs at {rates}.",
                )


def chunk_words(rows: Sequence[Row], caches: Row) -> Iterator[tuple[str, str]]:
    for contender, payload, own in series(rows):
        if contender == "compiled" and payload in SHOWN:
            knee, last = knee_of(own), own[-1]
            times = f"{ns(last) / ns(knee):.2f} times what it takes from {size_text(knee['read'])}"
            text = f"Decoding frames of {size_text(payload)} from chunks of {size_text(last['read'])} takes {times},"
            text = f"{text} and {1000 * last['faults']:.1f} page faults a thousand frames"
            yield "large chunks", f"{text}; L2 has {size_text(caches['L2'])}." if "L2" in caches else f"{text}."


def batch_words(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for payload in dict.fromkeys(row["payload"] for row in rows):
        own = [row for row in rows if row["payload"] == payload]
        knee = knee_of(own)
        text = f"Sent one by one a frame of {size_text(payload)} takes {ns(own[0]) / 1000:.2f} us"
        yield "system calls", f"{text}, with {knee['batch']} in a call {ns(knee) / 1000:.2f}."
