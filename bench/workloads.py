"""What the codec benchmarks work on: streams of u32be frames, cut in three ways.

    frames    |4|payload   |4|payload   |4|payload   |4|payload   |4|payload   |
    chunks    |................|................|................|................|   what a decoder is fed
    pieces    |4|payload   |   |4|payload   |   |4|payload   |   |4|payload   | ...   what the limit is given
    padded    | 0 | 0 | 0 |4|payload   | 0 | 0 | 0 |4|payload   | ...                 where a frame is longer than a chunk

Chunks have one size, whatever the borders of the frames: that is what `recv` gives. Pieces are whole frames, as many as fit in
a chunk, at least one. Padded is the pieces and so many empty ones that there are as many as chunks, and so as many calls.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from fastframe import FrameFormat

FORMAT = FrameFormat("u32be")
MAX_PAYLOADS_DIFFERENT = 251  # prime, so that no chunk size gets into step with them


@dataclass(frozen=True)
class Workload:
    payload_length: int
    chunk_size: int
    payloads: list[bytes]
    chunks: list[bytes]
    pieces: list[bytes]
    padded: list[bytes] | None


def workload(payload_length: int, chunk_size: int, stream_size: int) -> Workload:
    """Return about `stream_size` bytes of frames, at least four, all of the same length."""
    frame_length = 4 + payload_length
    payloads = some_payloads(payload_length, max(4, stream_size // frame_length))
    stream = frame(payloads)
    chunks = cut(stream, chunk_size)
    pieces = cut(stream, max(1, chunk_size // frame_length) * frame_length)
    padded = pad(pieces, len(chunks)) if frame_length > chunk_size else None
    return Workload(payload_length, chunk_size, payloads, chunks, pieces, padded)


def frame(payloads: list[bytes]) -> bytes:
    return b"".join([struct.pack(">I", len(payload)) + payload for payload in payloads])


def some_payloads(length: int, count: int) -> list[bytes]:
    """Return payloads of which neighbours differ, the same in every run."""
    pool = random.Random(1).randbytes(length + MAX_PAYLOADS_DIFFERENT)  # noqa: S311
    different = [pool[start : start + length] for start in range(min(count, MAX_PAYLOADS_DIFFERENT))]
    return [different[at % MAX_PAYLOADS_DIFFERENT] for at in range(count)]


def cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def pad(pieces: list[bytes], count: int) -> list[bytes]:
    """Return `pieces` with empty ones strewn in, `count` altogether."""
    padded: list[bytes] = []
    for at, piece in enumerate(pieces, 1):
        padded += [b""] * (count * at // len(pieces) - len(padded) - 1)
        padded.append(piece)
    return padded
