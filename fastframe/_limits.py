"""Limits: what a server grants each of its peers, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from . import _errors

# A frame, or what waits to be sent, is as slow as its slowest 64 KiB: with the default deadlines 2 KiB/s is enough.
PACE: Final = 64 * 1024
# What must be a number: None would be no limit at all.
REQUIRED: Final = ("handshake_timeout", "linger_timeout", "high_water", "low_water", "frames_per_turn")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server grants each of its peers, in seconds and bytes; None is no limit. The defaults are safe in public.

    `handshake_timeout`: until TLS stands. Absolute, since a trickle of bytes restarts an idle timer for ever.
    `frame_timeout`: for a frame that has begun to be whole, or to bring 64 KiB more; silence between frames costs nothing.
    `write_timeout`: for a peer to take 64 KiB of what waits for it, or all of it; taken is what its kernel acknowledged. It is
    looked at as often, so that a peer which takes nothing more is cut after one to two of them.
    `idle_timeout`: silence of the peer, in a frame or between frames; None, since keepalive finds the dead ones.
    `linger_timeout`: for a peer that is told to leave to take its last answers and hang up; a close before that destroys them.
    `keepalive`: silence until TCP asks whether the other machine is there at all; three times without an answer is the end.

    `high_water`, `low_water`: bytes that wait in user memory for a peer to take them: from the first on its frames are not
    read, down to the second they are again. asyncio's own numbers.
    `unsent`: bytes that wait in the kernel beyond what the peer's own window allows (TCP_NOTSENT_LOWAT, on Linux and macOS):
    a peer that never reads costs this and not the 2.8 MB to which a socket's buffer grows. More gains nothing; with an eighth
    of it frames of 1 MiB cost a third more. Where frames are small, 128 KiB are as good.
    `frames_per_turn`: a flood of tiny frames is decoded in portions, and others have their turn in between. A read of 256 KiB
    with frames of 256 bytes is still one portion. Batches are taken whole: who wants them looks at no single frame.

    `max_connections`: from there on nobody is accepted, and the kernel's backlog waits.
    `max_connections_per_source`: of one IPv4 address or IPv6 network of 64 bits; more of them are closed at once. None by
    default, because behind a proxy or on one machine all share one.

    Raise ValueError for a number that is not above 0 (`low_water` may be 0), or marks in the wrong order.
    """

    handshake_timeout: float = 5.0
    frame_timeout: float | None = 30.0
    write_timeout: float | None = 30.0
    idle_timeout: float | None = None
    linger_timeout: float = 2.0
    keepalive: int | None = 60
    high_water: int = 64 * 1024
    low_water: int = 16 * 1024
    unsent: int | None = 1024 * 1024
    frames_per_turn: int = 1024
    max_connections: int | None = 10_000
    max_connections_per_source: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                fits = field.name not in REQUIRED
            elif field.name == "low_water":
                fits = value >= 0
            else:
                fits = value > 0
            if not fits:
                raise _errors.bad_limit(field.name, value)
        if self.low_water > self.high_water:
            raise _errors.bad_marks(self.low_water, self.high_water)
