"""Is decoding linear? Twice the bytes may take 2.2 times as long; where each chunk copies what is held, they take four times.

    tiny      frames of 16 bytes, all in one chunk
    large     one frame, in chunks of 1 KiB
    at once   frames of 2 KiB, all in one chunk

Half and whole are timed in turn in one process. Where half fits into a cache and whole does not, linear work looks worse than
it is: that is why the sizes are large.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastframe import FrameFormat

from .contenders import find_codecs
from .measure import measure
from .workloads import cut, frame, some_payloads

if TYPE_CHECKING:
    from .entry import Feed

KIB = 1 << 10
REPETITIONS = 9
# Frames of 16 bytes are as many as there are 64ths of the size: a million of 64 MiB.
TINY_SHARE = 64


def linear_rows(size: int) -> list[dict[str, Any]]:
    """Return a row for each shape, codec and way to feed it: what `size` bytes take, and how many times half of it."""
    fmt = FrameFormat("u32be", max_payload_length=size)
    found = []
    for shape in ("tiny", "large", "at once"):
        half, whole = stream(shape, size // 2), stream(shape, size)
        for name, codec in find_codecs([]).items():
            for way in ("feed", "feed_batch"):
                calls = {
                    part: partial(decode, codec.Decoder, fmt, way, chunks)
                    for part, chunks in (("half", half), ("whole", whole))
                }
                results = measure(calls, REPETITIONS)
                found.append(
                    {
                        "shape": shape,
                        "bytes": sum(map(len, whole)),
                        "chunks": len(whole),
                        "contender": name,
                        "way": way,
                        "ns": results.ns("whole")._asdict(),
                        "ratio": {"half": results.ratio("whole", "half")._asdict()},
                    }
                )
    return found


def stream(shape: str, size: int) -> list[bytes]:
    """Return the chunks of a stream of about `size` bytes of payload."""
    if shape == "tiny":
        return [frame(some_payloads(16, size // TINY_SHARE))]
    if shape == "large":
        return cut(frame(some_payloads(size, 1)), KIB)
    return [frame(some_payloads(2 * KIB, size // (2 * KIB)))]


def decode(decoder: Any, fmt: FrameFormat, way: str, chunks: list[bytes]) -> None:
    feed: Feed = getattr(decoder(fmt), way)
    for chunk in chunks:
        payloads = feed(chunk)  # noqa: F841  kept until the next ones are there
