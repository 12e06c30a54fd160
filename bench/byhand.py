"""What Python programmers write by hand instead of a codec: pure Python and the standard library, on u32be frames.

All look at the limit, as any sane one has to, and at nothing else: no misuse, no wrong type, no end inside a frame.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

from .entry import Contenders, DecodeContender, EncodeContender, first_line
from .workloads import FORMAT, frame

MAX_LENGTH: Final = FORMAT.max_payload_length

Decode = Callable[[bytes], list[bytes]]


def add_by_hand(found: Contenders) -> None:
    for name, start in {"asyncio streams": streams, "by hand, rolling": rolling, "by hand, direct": direct}.items():
        found.decode[name] = DecodeContender("python", first_line(start), start, lambda workload: workload.chunks)
    found.encode["pack + payload"] = EncodeContender("python", first_line(pack_and_add), pack_and_add, frame, frame)
    found.encode["pack, join"] = EncodeContender("python", first_line(pack_and_join), pack_and_join, pack_and_join_many, frame)


def rolling() -> Decode:
    """Append each chunk to a bytearray, cut frames off its front: what most programs do."""
    buffer = bytearray()

    def feed(chunk: bytes) -> list[bytes]:
        nonlocal buffer
        payloads = []
        buffer += chunk
        while len(buffer) >= 4:
            (length,) = struct.unpack_from(">I", buffer)
            if length > MAX_LENGTH:
                raise ValueError(length)
            if len(buffer) < 4 + length:
                break
            payloads.append(bytes(buffer[4 : 4 + length]))
            del buffer[: 4 + length]
        return payloads

    return feed


def direct() -> Decode:
    """Cut frames out of the chunk at hand, keep the tail, join the pieces of a large frame: as good as it gets."""
    unpack_from = struct.Struct(">I").unpack_from
    header = b""
    pieces: list[bytes] = []
    missing = 0  # bytes of the payload of which `pieces` are the beginning

    def feed(chunk: bytes) -> list[bytes]:
        nonlocal header, pieces, missing
        payloads: list[bytes] = []
        pos = 0
        if missing:
            if len(chunk) < missing:
                pieces.append(chunk)
                missing -= len(chunk)
                return payloads
            pieces.append(chunk[:missing])
            payloads.append(b"".join(pieces))
            pos, pieces, missing = missing, [], 0
        elif header:
            chunk = header + chunk
        end = len(chunk)
        append = payloads.append
        while pos + 4 <= end:
            (length,) = unpack_from(chunk, pos)
            if length > MAX_LENGTH:
                raise ValueError(length)
            pos += 4
            if pos + length > end:
                pieces.append(chunk[pos:])
                missing = pos + length - end
                pos = end
                break
            append(chunk[pos : pos + length])
            pos += length
        header = chunk[pos:]
        return payloads

    return feed


def streams() -> Decode:
    """Await `readexactly` of a StreamReader twice a frame, the coroutine stepped by hand, which spares it the loop."""
    loop = asyncio.new_event_loop()
    loop.close()  # a reader wants one, and only makes futures with it
    reader = asyncio.StreamReader(loop=loop)
    payloads: list[bytes] = []

    async def read() -> None:
        while True:
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            if length > MAX_LENGTH:
                raise ValueError(length)
            payload = await reader.readexactly(length)
            payloads.append(payload)  # the list of now, not that of when the reading began

    reading = read()
    step: Callable[[Any], object] = reading.send
    step(None)

    def feed(chunk: bytes) -> list[bytes]:
        nonlocal payloads
        payloads = []
        if chunk:
            reader.feed_data(chunk)
            step(None)
        return payloads

    return feed


def pack_and_add(payload: bytes) -> bytes:
    """Add the payload to `struct.pack(">I", length)`, as every tutorial does; many: join those frames."""
    return struct.pack(">I", len(payload)) + payload


def pack_and_join(payload: bytes) -> bytes:
    """Join the payload to `struct.pack(">I", length)`; many: join all of both at once."""
    return b"".join((struct.pack(">I", len(payload)), payload))


def pack_and_join_many(payloads: list[bytes]) -> bytes:
    parts: list[bytes] = []
    for payload in payloads:
        parts += (struct.pack(">I", len(payload)), payload)
    return b"".join(parts)
