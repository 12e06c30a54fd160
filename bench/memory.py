"""`fastframe bench memory`: what a decoder holds, and what connections cost a server while nobody speaks on them.

`decoders.py` measures the one, `connections.py` the other.
"""

from __future__ import annotations

import argparse
import math
import ssl
from collections.abc import Iterator, Mapping
from typing import Final

from . import connections, decoders
from .bars import MOST_CONNECTION_KIB, connection_verdicts
from .charts import Axis, Bar, Bars, Chart
from .command import run
from .connections import Effort
from .decoders import DECODERS
from .echoes import ECHOES, chosen, versions
from .entry import BenchError
from .family import Family, Figure, Report, new_report
from .machine import package_versions
from .measure import Spread, cores_used
from .memorytables import MEMORY_INTRODUCTION, memory_tables
from .options import names_of, whole_number
from .race import TURN_NS, turns_text

COUNT: Final = 10_000
TLS_COUNT: Final = 5_000
QUICK_COUNT: Final = 1_000
ROUNDS: Final = 3  # with new servers in each
REPETITIONS: Final = 21  # turns of a server with connections, and one without, in all rounds
QUICK_REPETITIONS, QUICK_TURN_NS = 6, 10_000_000
HOLDINGS: Final = 5  # of each decoder's processes; what they hold hardly differs
QUICK_HOLDINGS: Final = 2
SERVERS: Final = ["callback", "stream", "readexactly/asyncio", "twisted", "picows/asyncio"]
QUICK_SERVERS: Final = ["callback/asyncio", "callback/uvloop", "stream/asyncio", "readexactly/asyncio", "twisted"]
KIB: Final = 1 << 10


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    return run(FAMILY, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--count",
        type=whole_number,
        metavar="N",
        help=f"connections, and decoders (default: {COUNT:,}; {TLS_COUNT:,} with --tls; {QUICK_COUNT:,} with --quick)",
    )
    parser.add_argument(
        "--repetitions",
        type=whole_number,
        metavar="N",
        help=f"turns of each server in all {ROUNDS} rounds (default: {REPETITIONS})",
    )
    parser.add_argument("--tls", action="store_true", help="connections over TLS, with a certificate made by trustme")
    parser.add_argument(
        "--only",
        type=names_of(entered),
        metavar="NAME,...",
        help=f"decoders ({', '.join(DECODERS)}) and servers, as for bench echo (default: all decoders, {', '.join(SERVERS)})",
    )


def entered(parts: list[str]) -> tuple[list[str], list[str]]:
    """Return the decoders and the servers that `parts` name; raise ValueError for a part that names nobody."""
    own = {part: [name for name in DECODERS if name == part or name.startswith(part + "/")] for part in parts}
    others = [part for part in parts if not own[part] or any(name.startswith(part + "/") for name in ECHOES)]
    named = {name for names in own.values() for name in names}
    return [name for name in DECODERS if name in named], list(chosen(others)) if others else []


def measured(args: argparse.Namespace) -> Report:
    """Let connections be idle, which may be refused, and then decoders."""
    count = args.count or (QUICK_COUNT if args.quick else TLS_COUNT if args.tls else COUNT)
    everybody = list(DECODERS), list(chosen(QUICK_SERVERS if args.quick else SERVERS))
    holding, serving = entered(args.only) if args.only else everybody
    effort = effort_of(args)
    settings = {"tls": "yes" if args.tls else "no", "count": f"{count:,}", "turns": text(effort), "cores_used": cores_used()}
    report = new_report("memory", quick=args.quick, settings=settings)
    left_out = report["left_out"]
    report["versions"] = package_versions(PACKAGES[name] for name in holding if name in PACKAGES) | versions(serving)
    if args.tls:
        report["versions"]["OpenSSL"] = ssl.OPENSSL_VERSION
    report["connections"] = connections.rows(serving, count, effort, left_out, tls=args.tls)
    report["decoders"] = decoders.rows(holding, count, QUICK_HOLDINGS if args.quick else HOLDINGS, left_out)
    here = [row["contender"] for row in (*report["decoders"], *report["connections"])]
    if not here:
        raise BenchError("; ".join(left_out))
    report["contenders"] = {name: each.kind for name, each in (DECODERS | ECHOES).items() if name in here}
    report["does"] = {name: each.does for name, each in (DECODERS | ECHOES).items() if name in here}
    return report


def effort_of(args: argparse.Namespace) -> Effort:
    """Return as many rounds as there are turns for, ROUNDS at most, and the turns shared out among them."""
    turns = args.repetitions or (QUICK_REPETITIONS if args.quick else REPETITIONS)
    rounds = min(ROUNDS, turns)
    return Effort(rounds, math.ceil(turns / rounds), QUICK_TURN_NS if args.quick else TURN_NS)


def text(effort: Effort) -> str:
    rounds = f"in {effort.rounds} round{'s' * (effort.rounds != 1)}"
    return f"{turns_text(effort.rounds * effort.turns, effort.turn_ns)}, {rounds}"


# What is shown


def figures(report: Report) -> Iterator[Figure]:
    """Yield the bytes of a decoder in each state and of a connection, and what an echo costs beside idle connections."""
    for row in report["decoders"]:
        name = f"{row['contender']}, {row['state']}"
        yield Figure(name, "bytes a decoder", Spread(**row["bytes"]), None, row["contender"])
    for row in report["connections"]:
        name = f"{row['count']:,} connections, {row['contender']}"
        yield Figure(f"{name}, memory", "bytes a connection", Spread(**row["bytes"]), None, row["contender"])
        for kind, unit in (("slow", "ns until 99 % of the answers"), ("cpu", "ns of the server's processor")):
            own = row[kind]
            yield Figure(f"{name}, {kind}", unit, Spread(**own["with"]), Spread(**own["ratio"]), row["contender"])


def charts(report: Report) -> list[Chart]:
    """Return the bytes of each decoder by state, and of each server's connection."""
    kinds = report["contenders"]
    states: dict[str, list[Bar]] = {}
    for row in report["decoders"]:
        value = Spread(*(max(1.0, each) for each in row["bytes"].values()))  # a scale by powers of ten has no nought
        states.setdefault(row["state"], []).append(Bar(row["contender"], kinds[row["contender"]], value))
    servers = [Bar(row["contender"], kinds[row["contender"]], kib(row["bytes"])) for row in report["connections"]]
    found: list[Chart] = []
    if states:
        found.append(Bars("decoders", "What a decoder holds", Axis("bytes a decoder", "log"), states, DECODERS_NOTE))
    if servers:
        title = f"What an idle connection takes of the server, {report['connections'][0]['count']:,} of them"
        marks = {} if report["settings"]["tls"] == "yes" else {"at most, ours": MOST_CONNECTION_KIB}
        found.append(Bars("connections", title, Axis("KiB a connection"), {"": servers}, CONNECTIONS_NOTE, marks))
    return found


def kib(size: Mapping[str, float]) -> Spread:
    return Spread(*(each / KIB for each in size.values()))


PACKAGES: Final = {"msgpack": "msgpack", "hiredis": "hiredis", "picows": "picows", "Int32StringReceiver": "twisted"}
DECODERS_NOTE: Final = (
    "Less is better, and the scale goes by powers of ten. 16 MiB announced: the header of such a frame has come, and no more of"
    " it. After 1 MiB: such a frame has gone through. A frame later: and one of 64 B."
)
CONNECTIONS_NOTE: Final = "Less is better. The process alone: what the kernel holds for a socket is the same for all."
FAMILY: Final = Family(
    "memory",
    summary="memory, idle decoders and idle connections",
    description="Measure the memory that a decoder holds, idle, inside a frame and after a large one, that an idle connection"
    " takes of a server, and what many idle connections do to an echo.",
    example="memory --tls --only callback --json memory.json",
    introduction=MEMORY_INTRODUCTION,
    add_options=add_options,
    measure=measured,
    bars=connection_verdicts,
    tables=memory_tables,
    figures=figures,
    charts=charts,
)
