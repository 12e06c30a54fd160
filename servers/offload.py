"""Work of the disk, off the event loop: in threads, and never abandoned half-way.

A thread cannot be stopped. Who is cancelled while one works for it, because its client has gone, waits until the thread has let
go of what both use; a descriptor that was closed meanwhile could be somebody else's file already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

# More operations than this wait for each other on the disk, not on the network. A thread that waits costs 100 KiB.
THREADS: Final = 32

# Bytes of a file that a thread hashes before somebody else gets it: some ten milliseconds.
TURN: Final = 16 * 1024 * 1024

P = ParamSpec("P")
T = TypeVar("T")

_pool: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")  # starts a thread when none is free


def start(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Begin `work` in a thread; whoever started it has to see it end (`settle`)."""
    return asyncio.get_running_loop().run_in_executor(_pool, lambda: work(*args, **kwargs))


async def settle(jobs: Collection[asyncio.Future[Any]]) -> None:
    """Return when all of `jobs` have ended, well or not, and not before; if this is cancelled, raise that then.

    An error of theirs that nobody asks for is forgotten.
    """
    cancelled: asyncio.CancelledError | None = None
    while pending := [job for job in jobs if not job.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    for job in jobs:
        job.exception()
    if cancelled is not None:
        raise cancelled


async def run(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns, which a thread does meanwhile. If this is cancelled, close what nobody gets."""
    job = start(work, *args, **kwargs)
    try:
        await settle([job])
    except asyncio.CancelledError:
        if job.exception() is None and hasattr(result := job.result(), "close"):
            result.close()
        raise
    return job.result()


async def in_turns(work: Callable[[int, int], object], stop: int, check: Callable[[], None]) -> None:
    """Have `work(start, end)` done for all bytes of a file up to `stop`, a part at a time, which may take minutes.

    Between two parts others get their turn, this can be cancelled, and `check` may raise why to end.
    """
    for start in range(0, stop, TURN):
        check()
        await run(work, start, min(start + TURN, stop))
