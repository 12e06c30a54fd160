"""The encoders under an input: the twins have to agree, a decoder gives each payload back, and no byte is written outside.

The input is a format as in `inputs.py`, then payloads, each of them encoded in every way.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from test_agreement import outcome

from .inputs import MAX_REPEAT, Reader, good_frame, read_format

if TYPE_CHECKING:
    from fastframe import FrameFormat

MAX_PAYLOADS = 20
BLANK = b"\xee"


def check(data: bytes, twins: list[ModuleType]) -> None:
    reader = Reader(data)
    described = read_format(reader)
    if described is None:
        return
    fmt = described[0]
    payloads: list[bytes] = []
    while reader and len(payloads) < MAX_PAYLOADS:
        payloads.append(_payload(reader, fmt))
        offset, spare = reader.byte() - 1, reader.byte() - 1
        first, second = (_encode(twin.Encoder(fmt), payloads[-1], offset, spare) for twin in twins)
        assert first == second, f"{payloads[-1]!r} differs: {first} and {second}"
        _check_frame(first[0], payloads[-1], [twin.Decoder(fmt) for twin in twins])
    _check_many(payloads, fmt, twins)


def _payload(reader: Reader, format: FrameFormat) -> bytes:
    """Return a payload: any bytes, or what a decoder hands out, perhaps with one byte of it changed."""
    how = reader.byte() % 4
    if how == 0:
        return reader.take(reader.byte())
    if how == 1:
        return bytes([reader.byte()]) * min(reader.size(), MAX_REPEAT)
    payload = bytearray(good_frame(reader, format)[0])
    if how == 3 and payload:
        payload[reader.byte() % len(payload)] = reader.byte()
    return bytes(payload)


def _encode(encoder: Any, payload: bytes, offset: int, spare: int) -> list[Any]:
    """Return what becomes of `payload` in each way to encode it."""
    whole = outcome(encoder.encode, payload)
    length = (len(whole[1]) if whole[0] == "returned" else len(payload)) + spare
    room, shared = (array("B", BLANK * max(0, offset + length)) for _ in range(2))
    inside = memoryview(shared)[: len(payload)]  # overlaps the place where it goes
    inside[:] = payload[: len(inside)]
    results = [
        whole,
        outcome(encoder.encode, memoryview(array("B", payload))),
        outcome(encoder.header, len(payload) + spare),
        outcome(encoder.encode_into, room, offset, payload),
        outcome(encoder.encode_into, shared, offset, inside),
        outcome(encoder.encode_around, payload),
        room.tobytes(),
        shared.tobytes(),
    ]
    assert results[1] == whole
    if results[3][0] == "raised":
        assert room.tobytes() == BLANK * len(room)
    else:
        end = offset + results[3][1]
        assert room.tobytes() == BLANK * offset + whole[1] + BLANK * (len(room) - end)
    return results


def _check_frame(encoded: tuple[Any, ...], payload: bytes, decoders: list[Any]) -> None:
    if encoded[0] == "returned":
        for decoder in decoders:
            assert decoder.feed(encoded[1]) == [payload]
            decoder.finish()


def _check_many(payloads: list[bytes], format: FrameFormat, twins: list[ModuleType]) -> None:
    first, second = (outcome(twin.Encoder(format).encode_many, payloads) for twin in twins)
    assert first == second
    for twin in twins:
        encoder = twin.Encoder(format)
        each = [outcome(encoder.encode, payload) for payload in payloads]
        bad = [done for done in each if done[0] == "raised"]
        assert first == (bad[0] if bad else ("returned", b"".join(done[1] for done in each)))
        assert outcome(encoder.encode_many, _refilled(payloads)) == first


def _refilled(payloads: list[bytes]) -> Iterator[bytearray]:
    """Yield one buffer again and again, filled with each payload in turn."""
    buffer = bytearray()
    for payload in payloads:
        buffer[:] = payload
        yield buffer


if __name__ == "__main__":
    from .harness import main

    main(check)
