"""Messages between a server and its keepers: one JSON object each, with descriptors, over a Unix socket that keeps borders."""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

LONGEST: Final = 128 * 1024  # bytes: an argument list is half of that at most
MOST_DESCRIPTORS: Final = 4


class Channel:
    """One end. `receive` returns None once the other end is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._memory = bytearray(LONGEST)
        self._ancillary = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Return two sockets that are connected to each other."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def fileno(self) -> int:
        return self._connection.fileno()

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message and copies of descriptors; raise OSError: EMSGSIZE if it is longer than LONGEST."""
        data = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()  # escapes take three times the room
        if len(data) > LONGEST:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self._connection.sendmsg([data], rights)

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """Return the next message and its descriptors, which are the caller's now; raise BlockingIOError if there is none."""
        try:
            size, ancillary, _, _ = self._connection.recvmsg_into([self._memory], self._ancillary, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return None
        if not size:
            return None
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        return json.loads(memoryview(self._memory)[:size].tobytes()), list(descriptors)

    def close(self) -> None:
        self._connection.close()


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
