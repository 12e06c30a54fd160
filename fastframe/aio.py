"""The asyncio front: frames over any transport that asyncio, uvloop or aiofastnet make: TCP, Unix sockets, TLS.

Two ways, over one endpoint. `FrameProtocol` calls `frames_received` with every payload that a read completed: no task, no
queue, the fast way. `FrameStream` is for `await`: it decodes a payload when `recv` asks for one, and not before, so that what
follows may belong to another protocol (`detach`) and a peer that sends faster than anybody reads is not read any more.

A stream ends in one of three ways, told apart everywhere: cleanly, at a frame boundary (`EndOfStreamError`); truncated
(`IncompleteFrameError`); or by a failure of the connection (`OSError`) or of the bytes (another `FrameError`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Final

from . import _errors
from ._limits import Limits
from ._listening import BACKLOG, bind
from ._parts import DEFAULT_FORMAT, OnOversize
from ._protocol import FrameProtocol
from ._server import FrameServer
from ._stream import FrameStream

if TYPE_CHECKING:
    import ssl as tls
    from types import TracebackType

    from ._format import FrameFormat

__all__ = ["FrameProtocol", "FrameServer", "FrameStream", "Limits", "bind", "connect", "serve"]

DEFAULT_LIMITS: Final = Limits()


class connect:  # noqa: N801  it is called like a function
    """Connect to `host` and `port`, or to the Unix socket `path`: `async with connect(...) as stream`, or `await` it.

    `format`: of the frames in both directions; `on_oversize`: as for `Decoder`; `ssl`: a context, or True for the usual one;
    `server_hostname`: the name on the certificate, if it is not `host`; `timeout`: seconds until the connection must stand.

    Raise OSError if there is no connection, TimeoutError after `timeout`, ValueError unless there is one address.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        format: FrameFormat = DEFAULT_FORMAT,
        on_oversize: OnOversize = "raise",
        ssl: tls.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self._where = _where(host, port, path)
        self._tls: dict[str, Any] = {"ssl": ssl or None, "server_hostname": server_hostname}
        self._make = lambda: FrameStream(format, on_oversize)
        self._timeout = timeout

    def __await__(self) -> Generator[Any, None, FrameStream]:
        return self._connect().__await__()

    async def __aenter__(self) -> FrameStream:
        self._stream = await self._connect()
        return self._stream

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self._stream.close()

    async def _connect(self) -> FrameStream:
        loop = asyncio.get_running_loop()
        create = loop.create_unix_connection if "path" in self._where else loop.create_connection
        async with asyncio.timeout(self._timeout):
            _, stream = await create(self._make, **self._where, **self._tls)
        return stream


async def serve(
    handler: Callable[[FrameStream], Awaitable[None]] | type[FrameProtocol],
    host: str | None = None,
    port: int | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    sockets: Sequence[socket.socket] | None = None,
    format: FrameFormat = DEFAULT_FORMAT,
    on_oversize: OnOversize = "raise",
    ssl: tls.SSLContext | None = None,
    backlog: int = BACKLOG,
    limits: Limits = DEFAULT_LIMITS,
) -> FrameServer:
    """Listen on `host` and `port` (0 picks a free one), or on the Unix socket `path`; `async with` closes the server.

    `handler`: `async def handler(stream)`, a task for each connection, which is closed when it returns; or a class derived from
    `FrameProtocol`, of which each connection makes one. A handler need not catch what its peer does (an end, a bad frame, a
    lost connection, silence past a timeout); other exceptions go to the loop's exception handler. `sockets`: listening sockets
    instead of an address, as `bind` or systemd makes them; the server closes them. `limits`: what it grants its peers.

    Raise OSError if the address cannot be bound, ValueError unless there is one.
    """
    given = [host is not None or port is not None, path is not None, sockets is not None]
    if sum(given) != 1:
        raise _errors.no_address()
    listeners = bind(host, port, path=path, backlog=backlog) if sockets is None else sockets
    owned = os.fspath(path) if path is not None else None
    if isinstance(handler, type):
        return FrameServer(lambda: handler(format, on_oversize), None, listeners, limits=limits, ssl=ssl, path=owned)
    return FrameServer(lambda: FrameStream(format, on_oversize), handler, listeners, limits=limits, ssl=ssl, path=owned)


def _where(host: str | None, port: int | None, path: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return the address as the loops' keyword arguments."""
    if path is not None and host is None and port is None:
        return {"path": os.fspath(path)}
    if path is None and host is not None and port is not None:
        return {"host": host, "port": port}
    raise _errors.no_address()
