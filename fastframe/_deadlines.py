"""Deadlines: which connections owe something, and since when.

All have the same patience, so the first that began to owe is the first that is late: a dict in the order of time and one timer
for its oldest entry serve ten thousand connections. To start or to stop costs as much as a dict's item; a timer of the loop for
each would cost ten times that, at every read.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

Debtor = TypeVar("Debtor")


class Deadlines(Generic[Debtor]):
    """Call `expire(debtor)` when one has owed for `timeout` seconds; with None nobody is ever late."""

    def __init__(self, timeout: float | None, expire: Callable[[Debtor], None]) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()  # asked once: before 3.12 that is a system call
        self._expire = expire
        self._since: dict[Debtor, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def restart(self, debtor: Debtor) -> None:
        """Count from now on."""
        if self._timeout is None:
            return
        self._since.pop(debtor, None)
        self._since[debtor] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._check)

    def stop(self, debtor: Debtor) -> None:
        """Owe nothing. Safe to repeat."""
        self._since.pop(debtor, None)

    def close(self) -> None:
        """Forget all of them."""
        self._since.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        assert self._timeout is not None
        self._timer = None
        latest = self._loop.time() - self._timeout
        late = [debtor for debtor, _ in itertools.takewhile(lambda item: item[1] <= latest, self._since.items())]
        for debtor in late:
            self.stop(debtor)
        if self._since:
            self._timer = self._loop.call_at(next(iter(self._since.values())) + self._timeout, self._check)
        for debtor in late:
            self._expire(debtor)
