"""The bars that the benchmarks hold the codec and the fronts to: of what, against what, in which cells, how much at most.

A verdict is made of the report alone, so a report that was written as JSON can be judged again. Ratios are medians of turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from .report import size_text

Row = dict[str, Any]
KIB, MIB = 1 << 10, 1 << 20
ENDS = ("server", "client")
LEAST_COMMANDS = {"fastframe/plain": 600, "fastframe/sandbox": 300}  # `true` a second, several at once
MOST_UDP_US = 12.5  # of the server's processor, for a datagram in and out: 80,000 a second of one core
MOST_CONNECTION_KIB = 4  # of an idle one
MOST_CHAT_MS = 100  # for 99 % of the deliveries
MOST_CHAT_TIMES = 1.1  # for all deliveries, times what it took to say the texts; a short turn has its last ones in it


def verdicts(report: Row) -> list[Row]:
    """Return all bars of which the report has the cells, as `verdict` shapes them."""
    found = [*decode_verdicts(report), *batch_verdicts(report), *encode_verdicts(report), *linear_verdicts(report)]
    return [each for each in found if each["cells"]]


def decode_verdicts(report: Row) -> Iterator[Row]:
    def compiled_to(*bases: str) -> dict[str, float]:
        return ratios(report, "decode", "compiled", lambda row: next((base for base in bases if base in row["ratio"]), None))

    yield verdict("compiled decode, times the limit", compiled_to("limit"), median=1.10, worst=1.25)
    yield verdict("compiled decode, times the limit called by chunk", compiled_to("limit by chunk", "limit"), 1.10, 1.25)
    yield verdict("compiled decode, times the best peer", best(report, "compiled", ("compiled", "python")), worst=1)
    yield verdict("pure decode, times the best pure-Python peer", best(report, "pure", ("python",)), worst=1)


def batch_verdicts(report: Row) -> Iterator[Row]:
    for text, bases in (("the walk", ("walk",)), ("the walk called by chunk", ("walk by chunk", "walk"))):
        for where, at_least, below, worst in (("under 64 B", 0, 64, 2.5), ("from 64 B", 64, 1 << 62, 1.5)):

            def base(row: Row, at_least: int = at_least, below: int = below, bases: tuple[str, ...] = bases) -> str | None:
                in_cell = (base for base in bases if base in row["ratio"])
                return next(in_cell, None) if at_least <= row["payload"] < below else None

            yield verdict(f"compiled feed_batch, times {text}, {where}", ratios(report, "batch", "compiled", base), worst=worst)


def encode_verdicts(report: Row) -> Iterator[Row]:
    for text, batch, at_least, below, worst in (
        ("encode", 1, 0, 1 << 62, 1.2),
        ("encode_many of 64, 64 B to 1 KiB", 64, 64, KIB, 1.5),
        ("encode_many of 64, from 1 KiB", 64, KIB, 1 << 62, 1.15),
    ):

        def base(row: Row, batch: int = batch, at_least: int = at_least, below: int = below) -> str | None:
            return "limit" if "limit" in row["ratio"] and row["batch"] == batch and at_least <= row["payload"] < below else None

        yield verdict(f"compiled {text}, times the limit", ratios(report, "encode", "compiled", base), worst=worst)


def linear_verdicts(report: Row) -> Iterator[Row]:
    for name in ("compiled", "pure"):
        cells = {
            f"{row['shape']}, {row['way']}": row["ratio"]["half"]["median"]
            for row in report["linear"]
            if row["contender"] == name
        }
        yield verdict(f"{name}, twice the bytes, times the time", cells, worst=2.2)


def echo_verdicts(report: Row) -> list[Row]:
    """Return the bars of the echo benchmark: the callback way of each loop, in every cell. They are the compiled codec's."""
    if not_judged(report):
        return []
    found = []
    for name in (name for name in report["contenders"] if name.startswith("callback/")):
        for base, text, worst in (("c", "C", 1.3), ("go", "Go", 1)):
            against = lambda row, base=base: base if base in row["ratio"] else None  # noqa: E731  bound now
            found.append(verdict(f"{name}, times {text}", ratios(report, "echo", name, against), worst=worst))
    return [each for each in found if each["cells"]]


def not_judged(report: Row) -> str:
    """Return why a report is held to no bars, nothing if it is: nobody expects of the pure codec what the C server takes."""
    pure = report["machine"].get("implementation") == "python"
    return "the bars are the compiled codec's: the pure one is held to none" if pure and report["benchmark"] == "echo" else ""


def connection_verdicts(report: Row) -> list[Row]:
    """Return the bars of idle connections: their memory, where they are plain, and the echo beside them."""
    rows = {row["contender"]: row for row in report["connections"] if report["contenders"][row["contender"]] == "ours"}
    memory = {name: row["bytes"]["median"] / KIB for name, row in rows.items() if report["settings"]["tls"] == "no"}
    echo = {name: row["slow"]["ratio"]["median"] for name, row in rows.items()}
    found = [
        verdict("KiB an idle connection", memory, worst=MOST_CONNECTION_KIB),
        verdict("99 % of the echoes, times without idle connections", echo, worst=1.2),
    ]
    return [each for each in found if each["cells"]]


def transfer_verdicts(report: Row) -> list[Row]:
    """Return the bars of the server of files: how long a file takes, and how much memory."""
    own = [row for row in report["transfer"] if report["contenders"][row["contender"]] == "ours"]
    as_it_comes = [row for row in own if row["table"] == "everybody"]

    def times(base: str, *digests: str) -> dict[str, float]:
        rows = [row for row in as_it_comes if row["digest"] in digests and base in row["ratio"]]
        return {f"{row['direction']}, {row['sink']}": row["ratio"][base]["median"] for row in rows}

    memory = {f"{row['direction']}, {row['label']}, the {end}": row[end]["grown"] / MIB for row in own for end in ENDS}
    found = [
        verdict(
            "get, times os.sendfile",
            {cell: ratio for cell, ratio in times("sendfile", "none").items() if "get" in cell},
            worst=1.11,
        ),
        verdict("with sha256, times socat", times("socat", "sha256"), worst=1.67),
        verdict("MiB more than before all transfers", memory, worst=32),
    ]
    return [each for each in found if each["cells"]]


def exec_verdicts(report: Row) -> list[Row]:
    """Return the bars of the server of commands: how long one of several takes, without and with its sandbox."""
    own = {row["contender"]: row for row in report["exec"] if row["table"] == "several" and row["contender"] in LEAST_COMMANDS}
    return [
        verdict(
            f"{name}, ms a command ({LEAST_COMMANDS[name]}/s)",
            {f"{row['at_once']} at once": row["ns"]["median"] / 1e6},
            worst=1000 / LEAST_COMMANDS[name],
        )
        for name, row in own.items()
    ]


def chat_verdicts(report: Row) -> list[Row]:
    """Return the bars of the chat server over plain TCP: what everybody hears in time, and that slow members are cut."""
    own = [row for row in report["chat"] if report["contenders"][row["contender"]] == "ours" and "tls" not in row["contender"]]
    talk = {row["contender"]: row for row in own if row["table"] == "talk"}
    slow = {row["contender"]: row for row in own if row["table"] == "slow"}
    cut = {name: max(row["cut"]) if len(row["cut"]) == row["members"] else row["longest"] for name, row in slow.items()}
    deliveries = report["settings"]["members"] * report["settings"]["texts_a_second"]
    late = {name: row["late"]["median"] for name, row in talk.items()}
    found = [
        verdict(f"{deliveries:,} deliveries/s, times the time", late, worst=MOST_CHAT_TIMES),
        verdict("99 % of the deliveries, ms", {n: row["slow"]["median"] / 1e6 for n, row in talk.items()}, worst=MOST_CHAT_MS),
        verdict("s until a slow member is cut", cut, worst=10),
    ]
    return [each for each in found if each["cells"]]


def udp_verdicts(report: Row) -> list[Row]:
    """Return the bars of our echo servers of datagrams: what one takes of the processor, and none lost in most paced turns."""
    own = [row for row in report["udp"] if report["contenders"][row["contender"]] == "ours"]
    cpu = {row["contender"]: row["cpu_ns"]["median"] / 1000 for row in own}
    lost = {row["contender"]: 100 - row["paced"]["percent"]["median"] for row in own}
    found = [
        verdict("us of the processor a datagram in and out", cpu, worst=MOST_UDP_US),
        verdict(f"% lost at {report['settings']['pace']:,}/s", lost, worst=0),
    ]
    return [each for each in found if each["cells"]]


def verdict(text: str, cells: dict[str, float], median: float | None = None, worst: float | None = None) -> Row:
    """Return what was reached: `cells` are the ratios by name, `median` and `worst` the bars. Over: the cells over `worst`."""
    reached = {"median": statistics.median(cells.values()), "worst": max(cells.values())} if cells else {}
    bars = {key: bar for key, bar in (("median", median), ("worst", worst)) if bar is not None}
    return {
        "bar": text,
        "at_most": bars,
        "reached": reached,
        "passed": all(reached[key] <= bar for key, bar in bars.items()) if cells else None,
        "worst_cell": max(cells, key=lambda cell: cells[cell]) if cells else None,
        "over": {cell: ratio for cell, ratio in cells.items() if worst is not None and ratio > worst},
        "cells": len(cells),
    }


def ratios(report: Row, table: str, contender: str, base: Callable[[Row], str | None]) -> dict[str, float]:
    """Return the ratio of `contender` to what `base` picks, by cell, without the cells where it picks nothing."""
    rows = [row for row in report[table] if row["contender"] == contender]
    return {cell_text(row): row["ratio"][against]["median"] for row in rows if (against := base(row)) is not None}


def best(report: Row, contender: str, kinds: tuple[str, ...]) -> dict[str, float]:
    """Return the ratio of `contender` to the fastest peer of such kinds, by cell."""
    peers = [name for name, kind in report["contenders"].items() if kind in kinds]

    def fastest(row: Row) -> str | None:
        # The highest ratio is that to the fastest.
        return max(
            (peer for peer in peers if peer in row["ratio"]), key=lambda peer: row["ratio"][peer]["median"], default=None
        )

    return ratios(report, "decode", contender, fastest)


def cell_text(row: Row) -> str:
    if "window" in row:
        return f"{size_text(row['payload'])}, window {row['window']}"
    if "chunk" in row:
        return f"{size_text(row['payload'])} in chunks of {size_text(row['chunk'])}"
    return f"{size_text(row['payload'])}, {row['batch']} a call"
