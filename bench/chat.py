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
- All run with the same settings of glibc (`STEADY`, see `echo.py`).

Then some members do not take anything any more: when does the server give them up, and do the others notice?
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .bars import MOST_CHAT_MS, MOST_CHAT_TIMES, chat_verdicts
from .chats import Crowd, Heard
from .command import ended_by_signals
from .connections import OWN_FILES, Tls, allow_files, certificate, connect
from .echotables import page, print_report
from .entry import BenchError, LeftOutError
from .machine import STEADY, machine
from .measure import Results, Spread, on_core, quiet, spread, two_cores
from .options import names_of, whole_number
from .otherchats import CONTENDERS, chosen, versions
from .processes import Server, serving
from .report import add_file_options, save, say
from .tables import ratio_text

if TYPE_CHECKING:
    from .family import Table

MEMBERS, QUICK_MEMBERS = 1000, 200
SLOW: Final = 10  # who do not take anything
RATE: Final = 100  # texts a second
SIZE: Final = 200  # bytes of a text
TURNS, QUICK_TURNS, MOST_TURNS = 7, 3, 3
SECONDS, QUICK_SECONDS = 4.0, 0.4  # of a turn
MOST_TURN_SECONDS: Final = 2.0  # of one that looks whether a rate holds
WARM_SECONDS: Final = 0.3
LONGEST: Final = 15.0  # seconds until a slow member counts as never cut
HURRY: Final = 4  # times the rate with --quick, to fill sooner what holds the bytes for a slow member
STEP: Final = 1.25  # from one rate to the next, on the way to the most
LEAST: Final = 1  # text a second
MIB: Final = 1 << 20

Row = dict[str, Any]


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


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    args = parse(argv)
    report = new_report(args)
    client_core, server_core = two_cores()
    try:
        with ended_by_signals(), on_core(client_core), quiet(), contextlib.ExitStack() as stack:
            if sys.platform != "linux":
                raise BenchError("it asks Linux for the servers' processor time, and whether they have cut somebody")
            allow_files((args.members + SLOW) * (len(chosen(args.only)) + 1) + OWN_FILES)
            started = start_all(args, server_core, report["left_out"], stack)
            report["versions"] = versions(list(started))
            report["contenders"] = {name: CONTENDERS[name].kind for name in started}
            report["settings"] |= {name: CONTENDERS[name].settings for name in started}
            for table in (most_rows,) if args.most else (talk_rows, slow_rows):
                report["chat"] += table(started, args, report["left_out"])
    except (BenchError, OSError) as error:
        say(f"fastframe bench chat: {error}")
        return 1
    report["bars"] = chat_verdicts(report)
    print_report(report, tables(report))
    return save(args, report, markdown)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastframe bench chat",
        description="Measure what it costs to tell everybody in a room what one says: our server beside a bare loop in C,"
        " broadcast() of websockets, and asyncio's streams.",
        epilog="example: fastframe bench chat --only fastframe/uvloop,websockets/uvloop --members 500 --json chat.json",
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MEMBERS} members, fewer and shorter turns")
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
    add_file_options(parser)
    args = parser.parse_args(argv)
    args.members = args.members or (QUICK_MEMBERS if args.quick else MEMBERS)
    args.turns = args.turns or (MOST_TURNS if args.most else QUICK_TURNS if args.quick else TURNS)
    args.seconds = QUICK_SECONDS if args.quick else MOST_TURN_SECONDS if args.most else SECONDS
    return args


def new_report(args: argparse.Namespace) -> Row:
    """Return a report without contenders and results."""
    return {
        "benchmark": "chat",
        "machine": machine(),
        "settings": {
            "members": args.members,
            "texts_a_second": args.rate,
            "bytes_of_a_text": SIZE,
            "turns": f"{args.turns} of {args.seconds:g} s",
            "environment": " ".join(f"{key}={value}" for key, value in STEADY.items()),
        },
        "left_out": [],
        "chat": [],
    }


def start_all(
    args: argparse.Namespace, core: int | None, left_out: list[str], stack: contextlib.ExitStack
) -> dict[str, Started]:
    """Start all that can be started, and have members join them."""
    found = {}
    tls = None
    if any(contender.tls for contender in chosen(args.only).values()):
        try:
            tls = stack.enter_context(certificate(wanted=True))
        except BenchError as error:
            say(str(error))
    for name in chosen(args.only):
        say(f"starting {name}")
        with forgiven(name, left_out):
            found[name] = start(name, args.members, tls, core, stack)
    return found


@contextlib.contextmanager
def forgiven(name: str, left_out: list[str]) -> Iterator[None]:
    """Leave out a contender that cannot go on; one of ours or the one to compare with is a `BenchError`."""
    try:
        yield
    except (LeftOutError, BenchError) as error:
        if CONTENDERS[name].kind == "limit" or (CONTENDERS[name].kind == "ours" and isinstance(error, BenchError)):
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


def in_turns(started: dict[str, Started], turns: int, left_out: list[str], play: Callable[[str, Started], object]) -> None:
    """Have everybody play so many turns; who fails is left out from then on."""
    order = list(started)
    for _ in range(turns):
        for name in list(order):
            failed = len(left_out)
            with forgiven(name, left_out):
                play(name, started[name])
            if len(left_out) > failed:
                started.pop(name).crowd.close()
                order.remove(name)
        order = order[1:] + order[:1]  # nobody always follows the same neighbour


def talk_rows(started: dict[str, Started], args: argparse.Namespace, left_out: list[str]) -> list[Row]:
    """Have everybody say and hear what there is, and return a row for each."""
    took: dict[str, list[Turn]] = {name: [] for name in started}
    say(f"{args.members:,} members, {args.rate:,} texts a second")
    in_turns(started, 1, left_out, lambda _, each: turn(each, args.rate, WARM_SECONDS))
    in_turns(started, args.turns, left_out, lambda name, each: took[name].append(turn(each, args.rate, args.seconds)))
    turns = {name: took[name] for name in started}
    cpu = Results({name: [turn.cpu_ns / len(turn.heard.latencies) for turn in own] for name, own in turns.items()})
    base = next(iter(turns))
    return [
        {
            "table": "talk",
            "contender": name,
            "rate": spread([len(turn.heard.latencies) * 1e9 / turn.heard.ns for turn in own])._asdict(),
            "late": spread([turn.heard.ns / 1e9 * args.rate / turn.heard.said for turn in own])._asdict(),
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


def slow_rows(started: dict[str, Started], args: argparse.Namespace, left_out: list[str]) -> list[Row]:
    """Have some not take anything any more, at one after the other; with --quick at the first of ours only."""
    found: list[Row] = []

    def play(name: str, each: Started) -> None:
        say(f"{name}: {SLOW} slow members")
        each.crowd.slow_down(each.crowd.join(SLOW))
        before = each.server.memory()
        own = turn(each, args.rate * (HURRY if args.quick else 1), LONGEST, each.crowd.all_cut)
        grown = each.server.memory() - before
        each.crowd.dismiss_slow()
        row = {"table": "slow", "contender": name, "members": SLOW, "longest": LONGEST, "cut": each.crowd.cut, "grown": grown}
        found.append(row | {"slow": at_share(own.heard.latencies, 0.99), "slowest": own.heard.latencies[-1]})

    first_of_ours = [name for name in started if CONTENDERS[name].kind == "ours"][:1]
    in_turns({name: started[name] for name in (first_of_ours if args.quick else started)}, 1, left_out, play)
    return found


def most_rows(started: dict[str, Started], args: argparse.Namespace, left_out: list[str]) -> list[Row]:
    """Find out at each turn how many texts a second everybody can do, beginning with what it was the last time."""
    found: dict[str, list[float]] = {name: [] for name in started}
    busy: dict[str, list[tuple[float, float]]] = {name: [] for name in started}

    def play(name: str, each: Started) -> None:
        tried: dict[float, Turn] = {}

        def can(rate: float) -> bool:
            own = tried[rate] = turn(each, rate, args.seconds)
            return holds(own, rate)

        # Whoever else uses the machine may fail one try, and hardly two.
        rate = most(lambda rate: can(rate) or can(rate), (found[name] or [args.rate])[-1])
        say(f"{name}: {rate:.0f} texts a second to {args.members:,} members")
        found[name].append(rate)
        own = tried[rate] if rate else Turn(Heard(0, 1, []), 0, 0)
        busy[name].append((own.cpu_ns / own.heard.ns, own.client_ns / own.heard.ns))

    in_turns(started, args.turns, left_out, play)
    return [
        {
            "table": "most",
            "contender": name,
            "rate": spread([rate * args.members for rate in found[name]])._asdict(),
            "server_busy": spread([server for server, _ in busy[name]])._asdict(),
            "client_busy": spread([client for _, client in busy[name]])._asdict(),
        }
        for name in started
    ]


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


# the report


def tables(report: Row) -> list[Table]:
    """Return all tables with anything in them."""
    parts = [
        (
            "talk",
            "what a delivery takes",
            ["", "deliveries/s", "processor us", "times c", "client's us", "ms", "99 % ms", "most ms", "MiB", "KiB a member"],
            talk_cells,
        ),
        (
            "slow",
            f"{SLOW} members who do not take anything",
            ["", "cut", "s until then", "99 % of the others' ms", "most ms", "MiB more"],
            slow_cells,
        ),
        ("most", f"the most with 99 % in {MOST_CHAT_MS} ms", ["", "deliveries/s", "server busy", "client busy"], most_cells),
    ]
    found: list[Table] = []
    for table, title, heads, cells in parts:
        lines = [[row["contender"], *cells(row)] for row in report["chat"] if row["table"] == table]
        if lines:
            found.append((title, heads, lines))
    return found


def talk_cells(row: Row) -> list[str]:
    times = [f"{row[kind]['median'] / 1e6:,.1f}" for kind in ("median", "slow", "slowest")]
    memory = [f"{row['memory'] / MIB:.1f}", f"{row['each'] / 1024:.1f}"]
    return [
        f"{row['rate']['median']:,.0f}",
        f"{row['cpu_ns']['median'] / 1e3:.2f} {deviation(row['cpu_ns'])}",
        *(ratio_text(ratio["median"]) for ratio in row["ratio"].values()),
        f"{row['client_ns']['median'] / 1e3:.2f}",
        *times,
        *memory,
    ]


def slow_cells(row: Row) -> list[str]:
    cut = row["cut"]
    when = f"{min(cut):.1f} to {max(cut):.1f}" if cut else f"not in {LONGEST:g}"
    times = [f"{row[kind] / 1e6:,.1f}" for kind in ("slow", "slowest")]
    return [f"{len(cut)} of {row['members']}", when, *times, f"{row['grown'] / MIB:.1f}"]


def most_cells(row: Row) -> list[str]:
    busy = [f"{100 * row[kind]['median']:.0f} %" for kind in ("server_busy", "client_busy")]
    return [f"{row['rate']['median']:,.0f} {deviation(row['rate'])}", *busy]


def deviation(values: Row) -> str:
    return f"±{50 * (values['upper'] - values['lower']) / (values['median'] or 1):.0f} %"


INTRODUCTION: Final = (
    "Made by `fastframe bench chat --markdown`. Members of one room say texts, and each text is told to all: a delivery is one"
    " text to one member. Servers have one core, all members together another; contenders take turns with the same number of"
    " members, the same texts and the same bytes, and a figure is the median of the turns ± half of what lies between the"
    " quartiles. Processor time is the server's alone, as the kernel accounts for it; a ratio is taken turn by turn. What a"
    " delivery takes is from saying to hearing, with the client's part in it. Every byte that every member got was compared: no"
    " text was missing, none came twice, and all came in the same order. *c* is the base: a loop of `send`, in C."
)


def markdown(report: Row) -> str:
    """Return the whole report as a page of the documentation."""
    return page(report, "# Benchmarks: the chat server", INTRODUCTION, tables(report))
