"""Where the scenes of `fastframe demo sticky` are played: it makes their connections, keeps the log, and counts.

What a cure costs is counted in the log, call by call; nobody states it.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass

from .sticky_wire import Call, Entry, Remark, Tap, tcp_pair, udp_pair


@dataclass(frozen=True)
class Costs:
    """What messages took: calls of both ends, how often the client had to wait for an answer, bytes besides them."""

    name: str
    sends: int
    recvs: int
    trips: int
    extra: int
    fails: str


class Stage:
    """Where a scene is played: `log` has its calls and what is said of them, `costs` what it counted."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.log: list[Entry] = []
        self.costs: Costs | None = None

    def tcp(self, *, nodelay: bool = True) -> tuple[Tap, Tap]:
        client, server = self._stack.enter_context(tcp_pair(self.log))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
        return client, server

    def udp(self) -> tuple[Tap, Tap]:
        return self._stack.enter_context(udp_pair(self.log))

    def say(self, text: str) -> None:
        self.log.append(Remark(text))

    def show(self, *functions: Callable[..., object]) -> None:
        """Show the source of functions that are called next."""
        self.log.append(Remark("\n".join(map(inspect.getsource, functions)).rstrip(), code=True))

    def count(self, name: str, payload: int, fails: str) -> None:
        """Count what the calls so far took, which moved `payload` bytes of messages; `fails` says when it does not work."""
        calls = [call for call in self.log if isinstance(call, Call)]
        sends = [call for call in calls if call.sends]
        mine = [call.sends for call in calls if call.who == "client"]
        waits = sum(before and not after for before, after in itertools.pairwise(mine))
        extra = sum(len(call.data) for call in sends) - payload
        self.costs = Costs(name, len(sends), len(calls) - len(sends), waits, extra, fails)
