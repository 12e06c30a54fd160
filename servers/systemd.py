"""What systemd and a service tell each other: sockets that are bound already, and datagrams that say how the service is.

Nothing here needs systemd or its libraries. Without its environment variables there are no sockets, and nothing is said.
Sources: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
import time
from typing import Final, Self

FIRST_DESCRIPTOR: Final = 3  # SD_LISTEN_FDS_START: behind the three standard streams


def passed_sockets() -> list[socket.socket]:
    """Take the sockets that systemd passed to this process; none the next time, nor in processes that it starts."""
    environment = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if environment["LISTEN_PID"] != str(os.getpid()) or not environment["LISTEN_FDS"].isdecimal():
        return []  # meant for another process
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(environment["LISTEN_FDS"]))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


class Notifier:
    """Tells systemd how the service is; whoever was not asked to tells nobody."""

    def __init__(self, address: str, watchdog: float | None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = watchdog  # seconds without a word until systemd takes the service for dead

    @classmethod
    def from_environment(cls) -> Self:
        """Take what systemd asked of this process; processes that it starts are not asked."""
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        address, period, pid = (os.environ.pop(name, "") for name in names)
        watched = period.isdecimal() and int(period) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(period) / 1e6 if address and watched else None)

    def ready(self) -> None:
        self._say("READY=1")

    def reloading(self) -> None:
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def alive(self) -> None:
        if self.watchdog is not None:
            self._say("WATCHDOG=1")

    def _say(self, state: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.connect(self._address)
                sender.send(state.encode(), socket.MSG_DONTWAIT)  # who does not listen shall not stop the server
            except OSError:
                pass  # as systemd's own client does: a service is no worse for it
