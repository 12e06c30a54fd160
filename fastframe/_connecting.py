"""How an accepted socket becomes a connection of the running loop, plain or with TLS, in as little memory as that loop allows.

An idle TLS connection of asyncio's own takes 280 KiB, of which 256 KiB are memory to receive into that each has for itself.
With the memory that all plain connections share it takes 22 KiB. What uvloop and aiofastnet have takes 25 and 34 KiB, since
nothing was ever written to most of it; but 48 and 54 KiB where the C library gives them memory that was in use before.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from asyncio import sslproto
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ._receive import READ_SIZE, receive_memory

if TYPE_CHECKING:
    from ._limits import Limits

# All that waits when TLS begins to end has to be taken within this, at whatever pace: the loops know no other deadline. Who
# takes too little, or has all and does not end its side, is cut long before.
SHUTDOWN_TIMEOUT: Final = 600.0

Connect: TypeAlias = Callable[[asyncio.BufferedProtocol, socket.socket], Awaitable[Any]]


def connector(context: tls.SSLContext | None, limits: Limits) -> Connect:
    """Return what makes a connection of a protocol and an accepted socket, on the running loop.

    It is awaited until TLS stands, and raises OSError if that fails; the socket is closed then.
    """
    loop = asyncio.get_running_loop()
    options = {} if context is None else _tls_options(limits)
    if _is_fastnet(loop):
        import aiofastnet  # noqa: PLC0415  it is there: the loop is its

        return lambda protocol, connection: aiofastnet.connect_accepted_socket(
            loop, lambda: protocol, connection, ssl=context, **options
        )
    if context is not None and isinstance(loop, asyncio.SelectorEventLoop):
        return lambda protocol, connection: _connect_with_tls(loop, context, protocol, connection, limits)
    return lambda protocol, connection: loop.connect_accepted_socket(lambda: protocol, connection, ssl=context, **options)


def _is_fastnet(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether aiofastnet patched this loop: it does so to all methods but the one that is wanted here, as of 1.x."""
    return getattr(getattr(loop.create_server, "func", None), "__module__", "").startswith("aiofastnet.")


class _TlsProtocol(sslproto.SSLProtocol):
    """asyncio's TLS, receiving into the memory that all connections of the thread share.

    That is right because it takes over what was received before it does anything else, and reads the frames in it afterwards.
    """

    _outgoing: Any  # what is encrypted and not yet given to the transport
    _transport: Any
    max_size = 1  # of the memory that each would have for itself

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ssl_buffer_view = receive_memory.view
        self.max_size = READ_SIZE  # type: ignore[misc]  # of what another protocol, which gets bytes, is given at once

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        # Its own connection_lost is still to come; these would keep it, and with it all of this, until garbage is collected.
        self._app_protocol_get_buffer = self._app_protocol_buffer_updated = None

    def _on_shutdown_complete(self, shutdown_exc: BaseException | None) -> None:
        # The transport is about to be closed, and what a closed one is given is lost from 3.12 on: in a loop without end.
        if shutdown_exc is None and (held := self._outgoing.read()):
            self._transport.write(held)
        super()._on_shutdown_complete(shutdown_exc)  # type: ignore[misc]

    def get_buffer(self, n: int) -> memoryview:  # noqa: ARG002
        return self._ssl_buffer_view


async def _connect_with_tls(
    loop: asyncio.AbstractEventLoop,
    context: tls.SSLContext,
    protocol: asyncio.BufferedProtocol,
    connection: socket.socket,
    limits: Limits,
) -> None:
    waiter: asyncio.Future[None] = loop.create_future()
    protect = _TlsProtocol(loop, protocol, context, waiter, server_side=True, **_tls_options(limits))
    transport, _ = await loop.connect_accepted_socket(lambda: protect, connection)
    transport.set_write_buffer_limits(limits.high_water, limits.low_water)  # what is encrypted already waits there
    await waiter


def _tls_options(limits: Limits) -> dict[str, Any]:
    return {"ssl_handshake_timeout": limits.handshake_timeout, "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT}
