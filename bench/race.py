"""A race of servers: each answers some frames in its turn, and what the kernel charged the server for that is noted.

Processor time is the figure: how long a turn took tells as much of the client, which has a core of its own and is kept busy by
every fast server. A slow server gets fewer frames, so that each has turns of about the same length, by the same measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from .measure import Results, take_turns

if TYPE_CHECKING:
    from .entry import BenchError
    from .processes import Server, Turn

TURN_NS: Final = 50_000_000  # of the server's processor: long against a tick of the kernel


class Runs(Protocol):
    """A client, whatever it speaks."""

    def run(self, count: int, /) -> Turn: ...


class Runner(NamedTuple):
    server: Server
    client: Runs
    frames: int  # a turn


class Race(NamedTuple):
    """What a frame took, by name and turn, in nanoseconds.

    `cpu`: of the server's processor. `wall`: of everybody's time. `median`, `slow`: the median and the 99th percentile of the
    time from sending a frame until its answer was here, if there was one at a time, else 0.
    """

    cpu: Results
    wall: Results
    median: Results
    slow: Results


def runner(server: Server, client: Runs, least: int, turn_ns: int) -> Runner:
    """Warm both up, and find out how many frames, `least` or more, take the server `turn_ns` of its processor.

    Not by the clock: a short trial may fall into a moment when others have the core, and then every turn is too short. Of nine
    trials on a busy machine the longest turn had 2 to 60 times the frames of the shortest, by the server's processor 1.3 to 1.6
    times; where a turn was a tenth of the window, a frame cost three times as much. The client's processor does not count: by
    the clock a turn takes at most 2.8 times as long, with one frame at a time, when both mostly wait, or with a server in C,
    whose client is the slower one. That is not too long.
    """
    count = least
    while True:
        before = server.cpu_ns()
        client.run(count)
        took = server.cpu_ns() - before
        if took > turn_ns // 4:
            return Runner(server, client, max(least, count * turn_ns // took))
        count *= 2


def joined(races: Sequence[Race]) -> Race:
    """Return several races of the same names as one."""

    def whole(parts: Sequence[Results]) -> Results:
        return Results({name: [took for part in parts for took in part.turns[name]] for name in parts[0].turns})

    return Race(*map(whole, zip(*races, strict=True)))


def turns_text(repetitions: int, turn_ns: int) -> str:
    """Return in words how many turns there are of each, and how long they are: of the server's processor, or of who works."""
    return f"{repetitions} of about {turn_ns / 1e6:g} ms of the processor"


def race(runners: Mapping[str, Runner], repetitions: int, forgive: Callable[[str, BenchError], None] | None = None) -> Race:
    """Have each run once in each of `repetitions` turns.

    An answer that is not what it should be, or none, is a `BenchError`, and handed to `forgive` as in `take_turns`.
    """

    def player(each: Runner) -> Callable[[], tuple[float, float, int, int]]:
        def play() -> tuple[float, float, int, int]:
            before = each.server.cpu_ns()
            turn = each.client.run(each.frames)
            cpu = max(1, each.server.cpu_ns() - before)
            return cpu / each.frames, turn.ns / each.frames, turn.median, turn.slow

        return play

    took = take_turns({name: player(each) for name, each in runners.items()}, repetitions, forgive)
    return Race(*(Results({name: [turn[at] for turn in turns] for name, turns in took.items()}) for at in range(4)))
