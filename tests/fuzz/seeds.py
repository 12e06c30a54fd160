"""What the fuzzer begins with: the streams of `vectors.py` and a few big ones, as inputs of each target.

`python -m fuzz.seeds DIRECTORY` writes them, each target's in a directory of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from vectors import BAD_VECTORS, SKIP_VECTORS, VECTORS

from fastframe import FrameFormat

from .inputs import SETTINGS, size, write_case

_ALL, _NO_LIMIT = size(0), 0
_RECEIVE_IN_TWO = [("receive", 0, _NO_LIMIT, size(3)), ("receive", 0, _NO_LIMIT, _ALL)]
_KEEP_AND_WRITE = 1 | 2 | 4
_ROOM = bytes([3, 2])  # at offset 2, and one byte to spare


def decoder_seeds() -> Iterator[bytes]:
    for vector in VECTORS:
        for _, wire in vector.frames[:2]:
            yield _sent(vector.format, "raise", wire + wire)
    for vector in BAD_VECTORS:
        yield _sent(vector.format, "raise", vector.wire)
    for vector in SKIP_VECTORS:
        yield _sent(vector.format, "skip", vector.wire)
    for text in ("u32be", "u24le,strip=0", "varint", "netstring"):
        yield from _big(FrameFormat.parse(text))


def _sent(text: str, on_oversize: str, wire: bytes) -> bytes:
    """Return the input that sends `wire`, some of it through lent memory; nearly that where the format is not in the tables."""
    literal = ("literal", len(wire[:255]), wire[:255])
    batch = ("feed_batch", 0, _NO_LIMIT, size(3))
    return write_case(FrameFormat.parse(text), on_oversize, literal, ("feed", 0, _NO_LIMIT, size(5)), batch, *_RECEIVE_IN_TWO)


def _big(format: FrameFormat) -> Iterator[bytes]:
    """Yield big frames that come in pieces, through lent memory that is kept and written to, and behind one that never ends."""
    two = [("frame", size(300 << 10), 1), ("frame", size(70 << 10), 2)]
    receive = ("receive", _KEEP_AND_WRITE, _NO_LIMIT, size(64 << 10))
    rest = ("receive", 0, _NO_LIMIT, _ALL)
    yield write_case(format, "raise", *two, receive, receive, ("scribble",), ("release",), receive, rest)
    yield write_case(format, "raise", *two, ("feed", 2, _NO_LIMIT, size(128 << 10)), receive, ("call", 3), ("scribble",))
    batch = ("receive_batch", _KEEP_AND_WRITE, _NO_LIMIT, size(64 << 10))
    yield write_case(
        format, "raise", *two, ("feed_batch", 0, 0, size(70)), batch, batch, ("feed_batch", 1, 0, _ALL), ("scribble",)
    )
    yield write_case(format, "raise", ("announce", 20, 128), *two, receive, ("feed", 1, _NO_LIMIT, size(200)), rest)


def encoder_seeds() -> Iterator[bytes]:
    for vector in VECTORS:
        head = write_case(FrameFormat.parse(vector.format), "raise")[: len(SETTINGS)]
        payload = vector.payloads[0][:255]
        any_bytes, frames_own = bytes([0, len(payload)]) + payload, bytes([2, 9, 0])
        changed, long = bytes([3, 9, 0, 1, 1]), bytes([1, 1, size(4096)])
        yield head + b"".join(each + _ROOM for each in (any_bytes, frames_own, changed, long))


TARGETS = {"decoder": decoder_seeds, "encoder": encoder_seeds}

if __name__ == "__main__":
    for target, seeds in TARGETS.items():
        directory = Path(sys.argv[1], target)
        directory.mkdir(parents=True, exist_ok=True)
        for at, seed in enumerate(seeds()):
            (directory / f"seed-{at:03}").write_bytes(seed)
