"""What a contender is: how it is started, what it is fed, and what it is to the others.

Every contender decodes the same payloads, each in its own project's wire format, cut into chunks of the same size whatever the
borders of its frames. What it gives back is compared with what went in before anything is timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from .workloads import Workload, cut

# "limit": what nobody can pass. "ours": the two codecs. "compiled", "python": peers, by what their own code is.
Kind = Literal["limit", "ours", "compiled", "python"]
Feed = Callable[[bytes], Any]
Wire = Callable[[list[bytes]], bytes]
T = TypeVar("T")


class BenchError(Exception):
    """A measurement cannot be made; the text says why in one line."""


class LeftOutError(BenchError):
    """A contender cannot take part; the text says which and why, in one line."""


def choose(contenders: Mapping[str, T], parts: list[str]) -> dict[str, T]:
    """Return the contenders that `parts` name and the first, all without any; raise ValueError for a part that names nobody."""
    for part in parts:
        if part not in contenders:
            raise ValueError(f"there is no {part!r}; there are {', '.join(contenders)}")
    base = next(iter(contenders))
    return {name: contender for name, contender in contenders.items() if not parts or name in parts or name == base}


def installed(package: str, command: list[str]) -> list[str]:
    """Return a command that takes a package; raise `LeftOutError` if that is not installed."""
    if importlib.util.find_spec(package) is None:
        raise LeftOutError(f"{package} is not installed; the extra `bench` brings it")
    return command


class DecodeContender(NamedTuple):
    """`start()` returns the `feed` of a fresh decoder; `cut` picks what it is fed, None where it has no part in it.

    `does`: what it does, and how it is configured, in a line.
    """

    kind: Kind
    does: str
    start: Callable[[], Feed]
    cut: Callable[[Workload], list[bytes] | None]


class EncodeContender(NamedTuple):
    """`wire` tells what both have to give, `does` what they do."""

    kind: Kind
    does: str
    encode: Callable[[bytes], bytes]
    encode_many: Callable[[list[bytes]], bytes]
    wire: Wire


class Contenders(NamedTuple):
    """By name, the one to compare with first.

    `batch`: who makes no object of a frame; their feeds return a sequence of payloads, or how many there are. `versions`: of
    the packages that take part. `left_out`: why somebody is missing, a line each.
    """

    decode: dict[str, DecodeContender]
    batch: dict[str, DecodeContender]
    encode: dict[str, EncodeContender]
    versions: dict[str, str]
    left_out: list[str]

    def kinds(self) -> dict[str, Kind]:
        return {name: contender.kind for table in self.tables() for name, contender in table.items()}

    def does(self) -> dict[str, str]:
        """Return what each does, in all the tables that it is in."""
        lines: dict[str, list[str]] = {}
        for table in self.tables():
            for name, contender in table.items():
                lines.setdefault(name, []).append(contender.does)
        return {name: ". ".join(own) for name, own in lines.items()}

    def tables(self) -> tuple[Mapping[str, DecodeContender | EncodeContender], ...]:
        return self.decode, self.batch, self.encode


def first_line(adapter: Callable[..., object]) -> str:
    """Return what an adapter says it does, without the full stop; nothing if Python runs without docstrings."""
    return (adapter.__doc__ or "").partition("\n")[0].removesuffix(".")


def fed(wire: Wire) -> Callable[[Workload], list[bytes]]:
    """Return what cuts the payloads of a workload, in the given wire format, into its chunks."""
    return lambda workload: cut(wire(workload.payloads), workload.chunk_size)


def decoded(feed: Feed, pieces: list[bytes]) -> list[bytes]:
    return [payload for piece in pieces for payload in feed(piece)]
