"""What the fronts share: their defaults, and how a transport is handed a frame: in one part or in two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeGuard

from ._codec import Decoder, Encoder, FrameBatch
from ._format import FrameFormat

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_FORMAT: Final = FrameFormat("u32be")
# From here on a payload is handed to the kernel as it is. Copying it behind its header was as fast at 16 KiB and slower by
# 9 to 27 % from 256 KiB on; below 4 KiB the longer system call loses.
GATHER_SIZE: Final = 64 * 1024
# Frames of one turn of the loop leave in one write, but no more than this is held back for it.
FLUSH_SIZE: Final = 64 * 1024

OnOversize = Literal["raise", "skip"]


def encode_parts(encoder: Encoder, payload: Buffer) -> list[bytes]:
    """Return the parts of a frame; a payload that might change before it is sent is copied, whatever its size."""
    if _stays_apart(payload):
        header, trailer = encoder.encode_around(payload)
        return [part for part in (header, payload, trailer) if part]
    return [encoder.encode(payload)]


def encode_joined_parts(encoder: Encoder, pieces: Sequence[Buffer]) -> list[bytes | memoryview]:
    """Return the parts of one frame whose payload is `pieces`, one behind the other; what might change is copied."""
    pieces = tuple(pieces)
    length = sum(map(len, pieces))  # type: ignore[arg-type]  # what is bytes-like has one
    if length < GATHER_SIZE or encoder.format.payload_brings_header:
        return [encoder.encode(b"".join(pieces))]
    return frame_parts(encoder, [piece[:] if _is_lasting(piece) else b"".join((piece,)) for piece in pieces])


def frame_parts(encoder: Encoder, pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return a frame whose payload is `pieces`, as they are."""
    header = encoder.header(sum(map(len, pieces)))
    return [part for part in (header, *pieces, trailer_of(encoder.format)) if part]


def trailer_of(format: FrameFormat) -> bytes:
    """Return what stands behind a payload: a netstring's comma."""
    return b"," if format.trailer_length else b""


def encode_many_parts(encoder: Encoder, payloads: Iterable[Buffer]) -> list[bytes]:
    """Return the parts of many frames, in order; each payload as it is when `payloads` yields it."""
    if type(payloads) is list and (frames := encoder.encode_small(payloads, GATHER_SIZE)) is not None:
        return [frames]
    return [part for payload in payloads for part in encode_parts(encoder, payload)]


def batch_of(format: FrameFormat, payloads: Sequence[bytes]) -> FrameBatch:
    """Return payloads that are objects already as a batch, which they are rarely: encoded, and decoded again.

    What a header says beside the length is lost with that: its `wire` has what the encoder writes there.
    """
    return Decoder(format).feed_batch(Encoder(format).encode_many(payloads))


def _stays_apart(payload: Buffer) -> TypeGuard[bytes]:
    return type(payload) is bytes and len(payload) >= GATHER_SIZE


def _is_lasting(piece: Buffer) -> TypeGuard[bytes | memoryview]:
    """Tell whether a piece stays apart: large `bytes`, or a plain view of some."""
    if type(piece) is not memoryview:
        return _stays_apart(piece)
    return (
        type(piece.obj) is bytes and len(piece) >= GATHER_SIZE and piece.c_contiguous and (piece.ndim, piece.format) == (1, "B")
    )


def join_small(parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the same bytes in fewer parts: small ones joined, large ones as they are."""
    joined: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for part in parts:
        if len(part) < GATHER_SIZE:
            small.append(part)
        else:
            joined += b"".join(small), part
            small = []
    return [*joined, b"".join(small)] if small else joined
