"""Servers on a loop in a thread of their own, so that a test can be a plain client with plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

PATIENCE = 10.0  # seconds: nothing here takes as long


@contextlib.contextmanager
def threaded(start: Callable[[], Coroutine[Any, Any, Any]]) -> Iterator[Any]:
    """Yield the server that `start` starts; close it in the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)

    try:
        server = run(start())
        try:
            yield server
        finally:
            run(server.close())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
