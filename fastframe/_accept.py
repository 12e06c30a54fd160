"""Accepting connections, without the loop's own server: that one cannot pause, and meets an end of the descriptors with a
traceback for each place in its backlog (asyncio), or by giving up.

While there is no room nobody is accepted: those who want in wait in the kernel's backlog, which costs this process nothing.
When descriptors run out all listeners pause for a moment, or until a connection ends, and one line says so.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

logger = logging.getLogger("fastframe.aio")

# Connections of one listener that are accepted before the other sockets have their turn.
ACCEPTS_PER_TURN: Final = 64
RETRY_SECONDS: Final = 1.0  # asyncio's own pause; descriptors come free at any time, of other parts of the process too
COMPLAINT_SECONDS: Final = 10.0  # between two lines about the same trouble
# What accept(2) says when there is no room for one more connection: descriptors of the process, of the system; memory.
NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# What it says of a connection that is gone already, or of its network: the next one may be well (accept(2), "Error handling").
GONE: Final = (
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.EPERM,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
)


class Acceptor:
    """Hand each new connection's socket and address to `accepted` while `has_room()`; `resume` tells that there may be room."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        has_room: Callable[[], bool],
        accepted: Callable[[socket.socket, Any], None],
    ) -> None:
        self.listeners = listeners
        self._has_room = has_room
        self._accepted = accepted
        self._paused = True
        self._closed = False
        self._retry: asyncio.TimerHandle | None = None
        self._silent_until = 0.0

    @property
    def paused(self) -> bool:
        """Nobody is accepted now."""
        return self._paused

    def resume(self) -> None:
        """Accept, while there is room. Safe to repeat."""
        if not self._paused or self._closed:
            return
        self._paused = False
        self._cancel_retry()
        for listener in self.listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept_some, listener)

    def close(self) -> None:
        """Stop listening. Safe to repeat."""
        self._pause()
        self._cancel_retry()
        self._closed = True
        for listener in self.listeners:
            listener.close()

    def _accept_some(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if not self._has_room():
                self._pause()
                return
            try:
                connection, address = listener.accept()
            except (BlockingIOError, InterruptedError):  # all are accepted, perhaps by another process
                return
            except OSError as error:
                if error.errno in GONE:
                    continue
                self._wait_for_room(error)
                return
            self._accepted(connection, address)

    def _wait_for_room(self, error: OSError) -> None:
        """Pause after an error: the connection stays in the backlog, and the listener readable, so that going on would spin."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._silent_until:
            self._silent_until = loop.time() + COMPLAINT_SECONDS
            level = logging.WARNING if error.errno in NO_ROOM else logging.ERROR
            logger.log(level, "no connection can be accepted for now: %s", error.strerror or error)
        self._pause()
        self._retry = loop.call_later(RETRY_SECONDS, self.resume)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            for listener in self.listeners:
                asyncio.get_running_loop().remove_reader(listener)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
