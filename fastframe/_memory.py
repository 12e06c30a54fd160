"""What both codecs need of memory and arguments apart from their hot loops, so that it is written once.

A receive block is what `get_buffer` lends. One block serves all decoders in turn, for page faults on fresh memory cost more
than decoding does. It goes from hand to hand like this: `borrow` gives it to one decoder alone; `give_back` makes it the spare
one; the next `borrow` takes the spare block only if no view of it is alive any more, else leaves it to whoever holds that view
and makes another. So nobody can see or change what somebody else receives.
"""

from __future__ import annotations

import operator
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from . import _errors

if TYPE_CHECKING:
    from typing_extensions import Buffer

# As much as asyncio reads at once; since there is mostly one block, its size costs nothing.
RECEIVE_BLOCK_SIZE: Final = 256 * 1024
# A payload of which so much is missing is received in its own memory. Less is copied: a block may take the next frames too.
LEND_SIZE: Final = 64 * 1024
# Smaller pieces are joined: a peer that sends two bytes at a time would fill memory with object headers instead.
PIECE_SIZE: Final = 512

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
    """Append to `pieces`, where neighbours that are both small are joined and empty ones left out."""
    if len(piece) < PIECE_SIZE and pieces and len(pieces[-1]) < PIECE_SIZE:
        pieces[-1] += piece
    elif piece:
        pieces.append(piece)


class Unread:
    """Chunks that wait to be decoded, in the order they came."""

    __slots__ = ("_chunks", "_length", "_start")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._start = 0  # of the first one, where what waits begins
        self._length = 0

    def __len__(self) -> int:
        """How many bytes wait."""
        return self._length

    def append(self, chunk: bytes) -> None:
        append_piece(self._chunks, chunk)
        self._length += len(chunk)

    def put_back(self, chunk: bytes, pos: int) -> None:
        """Put what there is of `chunk` from `pos` on in front of the others."""
        length = len(chunk) - pos
        if length < len(chunk) // 2:  # so that a few bytes do not keep a large chunk; this halves, so it stays linear
            chunk, pos = chunk[pos:], 0
        self._chunks.appendleft(chunk)
        self._start = pos
        self._length += length

    def pop(self) -> tuple[bytes, int]:
        """Take the first chunk, and the position from which on it waits."""
        chunk, start, self._start = self._chunks.popleft(), self._start, 0
        self._length -= len(chunk) - start
        return chunk, start

    def join(self) -> bytes:
        """Return all that waits, in one piece."""
        return b"".join(self._chunks)[self._start :]


def most_frames(max_frames: int | None) -> int:
    """Return how many frames `max_frames` allows; raise ValueError for a negative number."""
    if max_frames is None:
        return sys.maxsize
    max_frames = operator.index(max_frames)
    if max_frames < 0:
        raise _errors.bad_max_frames(max_frames)
    return min(max_frames, sys.maxsize)


def contiguous(value: Buffer, *, writable: bool = False) -> memoryview:
    """Return a view of the bytes of `value`, or raise the error that says why there is none."""
    try:
        view = memoryview(value)
    except TypeError:
        raise _errors.not_a_buffer(value) from None
    if not view.c_contiguous or (writable and view.readonly):
        raise _errors.not_a_buffer(value, writable=writable)
    try:
        return view.cast("B")
    except TypeError:  # cast() knows the native formats only, and ctypes itself writes '<i'
        import ctypes  # noqa: PLC0415  9 ms of import that hardly anybody needs

        return memoryview((ctypes.c_char * view.nbytes).from_buffer(value) if writable else view.tobytes()).cast("B")
