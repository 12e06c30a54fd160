"""`fastframe bench chat`: what it costs a server to tell everybody in a room what one of them says.

N members are in one room, over TCP on loopback; all together they say some texts a second, each another one. What is counted
are deliveries: a text that is told to 1,000 members is 1,000 of them. How they are comparable:

- Each server tells each member the same bytes: a text of 200 B, and around it what our server says of it. WebSocket frames are
  headed otherwise, and TLS encrypts.
- The members of all are the same code in this process, on a core of its own; the servers have another core.
- All servers are up, with their members, from the start. They take turns, and each is compared with the base's turn beside it;
  medians of turns. A turn is over when everybody has everything, and not before it was seen to be right.
- A delivery takes from before the text is given to the kernel until it was taken from the kernel: this process has its part in
  it, and when a thousand members have something to take, the last of them has waited for the others.
- All run with the same settings of glibc (`STEADY`, see `machine.py`).

Then some members do not take anything any more: when does the server give them up, and do the others notice? Or, with --most:
how many texts a second can each server do, until they come late?
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from .bars import MOST_CHAT_MS, MOST_CHAT_TIMES, chat_verdicts
from .chats import Crowd, Heard
from .chattables import INTRODUCTION, charts, figures, tables
from .command import run
from .connections import OWN_FILES, Tls, allow_files, certificate, connect
from .entry import BenchError, LeftOutError
from .family import Family, Report, new_report
from .machine import STEADY, environment_text
from .measure import Results, Spread, cores_used, on_core, quiet, spread, take_turns, two_cores
from .options import names_of, whole_number
from .otherchats import CONTENDERS, chosen, versions
from .processes import Server, serving
from .report import say

MEMBERS, QUICK_MEMBERS = 1000, 200
SLOW: Final = 10  # who do not take anything
RATE: Final = 100  # texts a second
SIZE: Final = 200  # bytes of a text
TURNS, QUICK_TURNS, MOST_TURNS = 5, 3, 3
SECONDS, QUICK_SECONDS = 2.0, 0.3  # of a turn
WARM_SECONDS: Final = 0.3
LONGEST: Final = 12.0  # seconds until a slow member counts as never cut
HURRY: Final = 4  # times the rate with --quick, to fill sooner what holds the bytes for a slow member
STEP: Final = 1.25  # from one rate to the next, on the way to the most
LEAST: Final = 1  # text a second

Row = dict[str, Any]
T = TypeVar("T")


class Setup(NamedTuple):
    """What holds for all. `left_out`: why somebody is missing, a line each."""

    members: int
    rate: int  # texts a second
    turns: int
    seconds: float  # of a turn
    quick: bool
    left_out: list[str]


class Started(NamedTuple):
    """A contender that runs; `each`: bytes of the server's memory that a member takes."""

    server: Server
    crowd: Crowd
    each: float


class Turn(NamedTuple):
    """`cpu_ns`, `client_ns`: nanoseconds of the processor that the server and this process took."""

    heard: Heard
    cpu_ns: int
    client_ns: int


class Most(NamedTuple):
    """`rate`: deliveries a second. `server_busy`, `client_busy`: how much of the time they had on the processor."""

    rate: float
    server_busy: float
    client_busy: float


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    return run(FAMILY, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--most", action="store_true", help="find out how many texts a second each server can do instead")
    parser.add_argument(
        "--only",
        type=names_of(chosen),
        default=[],
        metavar="NAME,...",
        help=f"c and some of: {', '.join(list(CONTENDERS)[1:])}",
    )
    parser.add_argument("--members", type=whole_number, metavar="N", help=f"in the room (default: {MEMBERS:,})")
    parser.add_argument(
        "--rate", type=whole_number, default=RATE, metavar="N", help="texts a second, of all together (default: %(default)s)"
    )
    parser.add_argument("--turns", type=whole_number, metavar="N", help=f"of each (default: {TURNS})")


def measured(args: argparse.Namespace) -> Report:
    """Have the members of each server talk, and some of them fall asleep."""
    if sys.platform != "linux":
        raise BenchError("it asks Linux for the servers' processor time, and whether they have cut somebody")
    setup = setup_for(args)
    report = new_report("chat", quick=args.quick, settings=settings(setup))
    report["chat"] = []
    client_core, server_core = two_cores()
    with on_core(client_core), quiet(), contextlib.ExitStack() as stack:
        allow_files((setup.members + SLOW) * (len(chosen(args.only)) + 1) + OWN_FILES, "--members")
        started = start_all(args.only, setup, server_core, stack)
        report["versions"] = versions(list(started))
        report["contenders"] = {name: CONTENDERS[name].kind for name in started}
        report["does"] = {name: CONTENDERS[name].does for name in started}
        for table in (most_rows,) if args.most else (talk_rows, slow_rows):
            report["chat"] += table(started, setup)
    report["left_out"] = setup.left_out
    return report


def setup_for(args: argparse.Namespace) -> Setup:
    turns = args.turns or (MOST_TURNS if args.most else QUICK_TURNS if args.quick else TURNS)
    members = args.members or (QUICK_MEMBERS if args.quick else MEMBERS)
    return Setup(members, args.rate, turns, QUICK_SECONDS if args.quick else SECONDS, args.quick, [])


def settings(setup: Setup) -> Row:
    return {
        "members": setup.members,
        "texts_a_second": setup.rate,
        "bytes_of_a_text": SIZE,
        "turns": f"{setup.turns} of {setup.seconds:g} s",
        "cores_used": cores_used(),
        "environment": environment_text(STEADY),
    }


def start_all(only: list[str], setup: Setup, core: int | None, stack: contextlib.ExitStack) -> dict[str, Started]:
    """Start all that can be started, and have members join them."""
    found = {}
    tls = None
    if any(contender.tls for contender in chosen(only).values()):
        try:
            tls = stack.enter_context(certificate(wanted=True))
        except BenchError as error:
            say(str(error))
    for name in chosen(only):
        say(f"starting {name}")
        try:
            found[name] = start(name, setup.members, tls, core, stack)
        except BenchError as error:
            leave_out(name, error, setup.left_out)
    return found


def leave_out(name: str, error: BenchError, left_out: list[str]) -> None:
    """Note why a contender cannot go on; one of ours or the one to compare with is a `BenchError`."""
    if CONTENDERS[name].kind == "base" or (CONTENDERS[name].kind == "ours" and not isinstance(error, LeftOutError)):
        raise BenchError(f"{name}: {error}") from None
    left_out.append(f"{name}: {error}")


def start(name: str, members: int, tls: Tls | None, core: int | None, stack: contextlib.ExitStack) -> Started:
    contender = CONTENDERS[name]
    if contender.tls and tls is None:
        raise LeftOutError("trustme, which makes the certificate, is not installed")
    own = tls if contender.tls else None
    server = stack.enter_context(serving([*contender.command(), *([own.certificate] if own else [])], STEADY, core))
    crowd = Crowd(contender.wire(SIZE), lambda number: connect(server, number, own))
    stack.callback(crowd.close)
    crowd.join(1)
    before = server.memory()
    crowd.join(members - 1)
    return Started(server, crowd, (server.memory() - before) / max(1, members - 1))


def turn(started: Started, rate: float, seconds: float, over: Callable[[], bool] = lambda: False) -> Turn:
    server, client = started.server.cpu_ns(), time.process_time_ns()
    heard = started.crowd.talk(rate, seconds, over)
    return Turn(heard, max(1, started.server.cpu_ns() - server), time.process_time_ns() - client)


def in_turns(
    started: dict[str, Started], turns: int, left_out: list[str], play: Callable[[str, Started], T]
) -> dict[str, list[T]]:
    """Have everybody play so many turns, and return what that gave; who fails is left out from then on."""

    def forgive(name: str, error: BenchError) -> None:
        leave_out(name, error, left_out)
        started.pop(name).crowd.close()

    return take_turns({name: functools.partial(play, name, each) for name, each in started.items()}, turns, forgive)


def talk_rows(started: dict[str, Started], setup: Setup) -> list[Row]:
    """Have everybody say and hear what there is, and return a row for each."""
    say(f"{setup.members:,} members, {setup.rate:,} texts a second")
    in_turns(started, 1, setup.left_out, lambda _, each: turn(each, setup.rate, WARM_SECONDS))
    turns = in_turns(started, setup.turns, setup.left_out, lambda _, each: turn(each, setup.rate, setup.seconds))
    cpu = Results({name: [turn.cpu_ns / len(turn.heard.latencies) for turn in own] for name, own in turns.items()})
    base = next(iter(turns))
    return [
        {
            "table": "talk",
            "contender": name,
            "rate": spread([len(turn.heard.latencies) * 1e9 / turn.heard.ns for turn in own])._asdict(),
            "late": spread([turn.heard.ns / 1e9 * setup.rate / turn.heard.said for turn in own])._asdict(),
            "cpu_ns": cpu.ns(name)._asdict(),
            "ratio": {base: cpu.ratio(name, base)._asdict()},
            "client_ns": spread([turn.client_ns / len(turn.heard.latencies) for turn in own])._asdict(),
            **{kind: quantile(own, share)._asdict() for kind, share in (("median", 0.5), ("slow", 0.99), ("slowest", 1))},
            "memory": started[name].server.memory(),
            "each": started[name].each,
        }
        for name, own in turns.items()
    ]


def quantile(turns: list[Turn], share: float) -> Spread:
    """Return in how many nanoseconds that share of a turn's deliveries was made."""
    return spread([float(at_share(turn.heard.latencies, share)) for turn in turns])


def at_share(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def slow_rows(started: dict[str, Started], setup: Setup) -> list[Row]:
    """Have some not take anything any more, at one after the other; with --quick at the first of ours only."""

    def play(name: str, each: Started) -> Row:
        say(f"{name}: {SLOW} slow members")
        each.crowd.slow_down(each.crowd.join(SLOW))
        before = each.server.memory()
        own = turn(each, setup.rate * (HURRY if setup.quick else 1), LONGEST, each.crowd.all_cut)
        grown = each.server.memory() - before
        each.crowd.dismiss_slow()
        row = {"table": "slow", "contender": name, "members": SLOW, "longest": LONGEST, "cut": each.crowd.cut, "grown": grown}
        return row | {"slow": at_share(own.heard.latencies, 0.99), "slowest": own.heard.latencies[-1]}

    ours = [name for name in started if CONTENDERS[name].kind == "ours"]
    # No loop cuts anybody: others are asked once, on asyncio.
    asked = [name for name in started if name in ours or not name.endswith("/uvloop")]
    tried = {name: started[name] for name in (ours[:1] if setup.quick else asked)}
    return [row for rows in in_turns(tried, 1, setup.left_out, play).values() for row in rows]


def most_rows(started: dict[str, Started], setup: Setup) -> list[Row]:
    """Find out at each turn how many texts a second everybody can do, beginning with what it was the last time."""
    last: dict[str, float] = {}

    def play(name: str, each: Started) -> Most:
        tried: dict[float, Turn] = {}

        def can(rate: float) -> bool:
            own = tried[rate] = turn(each, rate, setup.seconds)
            return holds(own, rate)

        # Whoever else uses the machine may fail one try, and hardly two.
        rate = last[name] = most(lambda rate: can(rate) or can(rate), last.get(name) or setup.rate)
        say(f"{name}: {rate:.0f} texts a second to {setup.members:,} members")
        own = tried[rate] if rate else Turn(Heard(0, 1, []), 0, 0)
        return Most(rate * setup.members, own.cpu_ns / own.heard.ns, own.client_ns / own.heard.ns)

    turns = in_turns(started, setup.turns, setup.left_out, play)
    return [{"table": "most", "contender": name, **spreads(own)} for name, own in turns.items()]


def spreads(turns: list[Most]) -> Row:
    return {field: spread([getattr(turn, field) for turn in turns])._asdict() for field in Most._fields}


def most(can: Callable[[float], bool], rate: float) -> float:
    """Return the highest rate that can be held, in steps up or down from `rate`."""
    if can(rate):
        while can(rate * STEP):
            rate *= STEP
        return rate
    while rate > LEAST:
        rate /= STEP
        if can(rate):
            return rate
    return 0.0


def holds(own: Turn, rate: float) -> bool:
    """Tell whether what was said came as fast as it was said, and 99 % of it in time."""
    return (
        own.heard.ns / 1e9 <= MOST_CHAT_TIMES * own.heard.said / rate
        and at_share(own.heard.latencies, 0.99) <= MOST_CHAT_MS * 1e6
    )


FAMILY: Final = Family(
    "chat",
    summary="the chat server",
    description="Measure what it costs to tell everybody in a room what one says: our server beside a bare loop in C,"
    " broadcast() of websockets, and asyncio's streams.",
    example="chat --only fastframe/uvloop,websockets/uvloop --members 500 --json chat.json",
    introduction=INTRODUCTION,
    add_options=add_options,
    measure=measured,
    bars=chat_verdicts,
    tables=tables,
    figures=figures,
    charts=charts,
)
