"""What every FrameBatch has to be, given the frames that are in it, and the ways to get one."""

from __future__ import annotations

from typing import Any


def feed_batch(decoder: Any, chunk: bytes) -> Any:
    return decoder.feed_batch(chunk)


def receive_batch(decoder: Any, chunk: bytes) -> Any:
    view = decoder.get_buffer()
    view[: len(chunk)] = chunk
    return decoder.buffer_updated_batch(len(chunk))


def store_then_batch(decoder: Any, chunk: bytes) -> Any:
    assert decoder.feed(chunk, 0) == []
    return decoder.feed_batch(b"")


def check(batch: Any, frames: list[tuple[bytes, bytes]]) -> None:
    """Assert that `batch` has `frames`, each a payload and its wire bytes, whatever one asks it."""
    payloads = [payload for payload, _ in frames]
    assert len(batch) == len(payloads)
    assert list(batch) == payloads
    assert [batch[at] for at in range(-len(payloads), 0)] == payloads
    assert [bytes(batch.view(at)) for at in range(len(payloads))] == payloads
    places = list(zip(batch.offsets, batch.lengths, strict=True))
    assert [batch.data[offset : offset + length] for offset, length in places] == payloads
    assert bytes(batch.wire) == b"".join(batch.wire_parts) == b"".join(wire for _, wire in frames)
    assert repr(batch).startswith(f"<FrameBatch: {len(payloads)} frames in ")
