"""What the fronts share: their defaults, and how a transport is handed a frame: in one part or in two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeGuard

from ._format import FrameFormat

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._codec import Encoder

DEFAULT_FORMAT: Final = FrameFormat("u32be")
# From here on a payload is handed to the kernel as it is. Copying it behind its header was as fast at 16 KiB and slower by
# 9 to 27 % from 256 KiB on; below 4 KiB the longer system call loses.
GATHER_SIZE: Final = 64 * 1024

OnOversize = Literal["raise", "skip"]


def encode_parts(encoder: Encoder, payload: Buffer) -> list[bytes]:
    """Return the parts of a frame; a payload that might change before it is sent is copied, whatever its size."""
    if _stays_apart(payload) and not encoder.format.trailer_length:
        return [encoder.header(len(payload)), payload]
    return [encoder.encode(payload)]


def encode_many_parts(encoder: Encoder, payloads: Iterable[Buffer]) -> list[bytes]:
    """Return the parts of many frames, in order; each payload as it is when `payloads` yields it."""
    if isinstance(payloads, list | tuple) and not any(map(_stays_apart, payloads)):
        return [encoder.encode_many(payloads)]
    return [part for payload in payloads for part in encode_parts(encoder, payload)]


def _stays_apart(payload: Buffer) -> TypeGuard[bytes]:
    return type(payload) is bytes and len(payload) >= GATHER_SIZE
