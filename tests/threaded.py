"""Servers and clients in threads of their own, so that a test can be a plain client with plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PATIENCE = 30.0  # seconds: nothing here takes as long, on a busy machine either


@contextlib.contextmanager
def threaded(
    start: Callable[[], Coroutine[Any, Any, Any]], new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> Iterator[Any]:
    """Yield the server that `start` starts; close it in the end."""
    loop = new_loop()
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


@contextlib.contextmanager
def scripted(script: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address of a server that plays `script` with the first client, and has to end well."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(PATIENCE)

        def play() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                script(connection)

        playing = pool.submit(play)
        host, port = listener.getsockname()
        yield f"{host}:{port}"
        playing.result(PATIENCE)


def against(
    served: Callable[[], contextlib.AbstractAsyncContextManager[Any]],
) -> Callable[[Callable[[str], None]], Callable[[], None]]:
    """Have a test, a plain function of a blocking client's address, played against the server that `served()` gives."""

    def decorate(test: Callable[[str], None]) -> Callable[[], None]:
        def play() -> None:  # not as functools.wraps has it: pytest would take the address for a fixture
            asyncio.run(_play(served, test))

        return play

    return decorate


async def _play(served: Callable[[], contextlib.AbstractAsyncContextManager[Any]], test: Callable[[str], None]) -> None:
    async with asyncio.timeout(2 * PATIENCE), served() as server:
        await asyncio.to_thread(test, server.addresses[0])


def received(connection: socket.socket, count: int) -> bytes:
    """Return exactly so many bytes, or all there are."""
    data = b""
    while len(data) < count and (chunk := connection.recv(count - len(data))):
        data += chunk
    return data
