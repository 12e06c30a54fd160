"""What both codecs need of memory and arguments apart from their hot loops, so that it is written once.

A receive block is what `get_buffer` lends. One block serves all decoders in turn, for page faults on fresh memory cost more
than decoding does. It goes from hand to hand like this: `borrow` gives it to one decoder alone; `give_back` makes it the spare
one; the next `borrow` takes the spare block only if no view of it is alive any more, else leaves it to whoever holds that view
and makes another. So nobody can see or change what somebody else receives.
"""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Final

from . import _errors

if TYPE_CHECKING:
    from collections import deque

# As much as asyncio reads at once; since there is mostly one block, its size costs nothing.
RECEIVE_BLOCK_SIZE: Final = 256 * 1024
# Smaller pieces are joined: a peer that sends two bytes at a time would fill memory with object headers instead.
PIECE_SIZE: Final = 4096

# The spare block and the view that was lent of it, if there is one. A list, because its pop and append are atomic.
_spare: list[tuple[bytearray, memoryview]] = []


def borrow() -> tuple[bytearray, memoryview]:
    """Return a receive block that nobody else can see, and a view of it to lend."""
    try:
        block, lent = _spare.pop()
        lent.release()
        block.append(0)  # a BufferError if somebody still holds another view
        block.pop()
    except (IndexError, BufferError):
        block = bytearray()
    if len(block) != RECEIVE_BLOCK_SIZE:
        block = bytearray(RECEIVE_BLOCK_SIZE)
    return block, memoryview(block)


def give_back(block: tuple[bytearray, memoryview]) -> None:
    if not _spare:
        _spare.append(block)


def append_piece(pieces: list[bytes] | deque[bytes], piece: bytes) -> None:
    """Append to `pieces`, where small ones are joined and empty ones left out."""
    if pieces and len(pieces[-1]) + len(piece) <= PIECE_SIZE:
        pieces[-1] += piece
    elif piece:
        pieces.append(piece)


def most_frames(max_frames: int | None) -> int:
    """Return how many frames `max_frames` allows; raise ValueError for a negative number."""
    if max_frames is None:
        return sys.maxsize
    max_frames = operator.index(max_frames)
    if max_frames < 0:
        raise _errors.bad_max_frames(max_frames)
    return min(max_frames, sys.maxsize)
