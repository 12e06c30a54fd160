"""FrameBatch in pure Python: many frames, and no object for any of them.

A batch has the chunk that the frames came in, and two arrays that say where each payload is. Its `data` is what came, from the
first frame's first byte on. That is the chunk itself, unless the first frame began in an earlier one:

    data     |..held..|.................chunk.................|      `base` is where the chunk begins in it
             |h|first payload|h|second payload|h|third payl            held and chunk are joined when somebody asks for `data`

The first payload is whole then, an object by itself (`front`), which the decoder had assembled. Where an oversize frame was
skipped there is a gap between two frames. Everything here is immutable, so a batch stays what it is.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, overload

from . import _errors
from ._arrow import INLINE_LENGTH, INLINE_VIEW, MAX_LENGTH, VIEW, WINDOW_SIZE, export_views, windows


class Parts(NamedTuple):
    """What a batch consists of."""

    chunk: bytes
    base: int
    held: bytes  # the first bytes of data, as far as they are not in front
    front: bytes  # the payload that begins before the chunk
    offsets: memoryview  # in data
    lengths: memoryview
    start: int  # in data: where the first frame begins, and where the last one ends
    stop: int
    gaps: list[tuple[int, int]]  # in data: what was skipped
    trailer: int  # bytes of a frame behind its payload


NO_NUMBERS: Final = memoryview(b"").cast("q")
NOTHING: Final = Parts(b"", 0, b"", b"", NO_NUMBERS, NO_NUMBERS, 0, 0, [], 0)


class FrameBatch:
    """Many payloads in the memory they came in: a sequence of bytes that makes an object only of what is asked for.

    `Decoder.feed_batch` makes it. It stays valid for ever, whatever the decoder does next or the caller does with the chunk,
    and it keeps the whole chunk alive; `batch[i]` of a few payloads is the way to keep only those.
    """

    __slots__ = ("_data", "_parts")

    _parts: Parts
    _data: bytes | None

    def __init__(self) -> None:
        raise _errors.not_constructible("FrameBatch", "Decoder.feed_batch")

    def __len__(self) -> int:
        return len(self._parts.offsets)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> FrameBatch: ...
    def __getitem__(self, index: int | slice) -> bytes | FrameBatch:
        if isinstance(index, slice):
            return self._slice(index)
        memory, start, stop = self._place(index)
        return memory[start:stop]

    def __iter__(self) -> Iterator[bytes]:
        for index in range(len(self)):
            yield self[index]

    def view(self, index: int) -> memoryview:
        """Return a read-only memoryview of payload `index`, which keeps its memory alive; raise IndexError if there is none."""
        memory, start, stop = self._place(index)
        return memoryview(memory)[start:stop]

    @property
    def offsets(self) -> memoryview:
        """Where each payload begins in `data`: a read-only memoryview of 64-bit integers (format `q`)."""
        return self._parts.offsets

    @property
    def lengths(self) -> memoryview:
        """How many bytes each payload has: a read-only memoryview of 64-bit integers (format `q`)."""
        return self._parts.lengths

    @property
    def data(self) -> bytes:
        """The memory that `offsets` speak of.

        It is the chunk itself if that was bytes and the first frame began in it; otherwise it is made when first asked for.
        """
        if self._data is None:
            self._data = (
                (self._parts.held + self._parts.front)[: self._parts.base] + self._parts.chunk
                if self._parts.base
                else self._parts.chunk
            )
        return self._data

    @property
    def wire(self) -> memoryview:
        """The frames as they came, headers and all, back to back: what a relay forwards in one write. Read-only."""
        parts, start = [], self._parts.start
        for gap_start, gap_stop in self._parts.gaps:
            if start < gap_start < self._parts.stop:
                parts.append(memoryview(self.data)[start:gap_start])
                start = gap_stop
        if start == 0 and self._parts.stop == len(self.data):
            return memoryview(self.data)
        last = memoryview(self.data)[start : self._parts.stop]
        return memoryview(b"".join([*parts, last])) if parts else last

    @property
    def wire_parts(self) -> list[bytes | memoryview]:
        """The bytes of `wire` in the pieces that they lie in, for a gathered write: a large first payload is not copied."""
        held, front, base = self._parts.held, self._parts.front, self._parts.base
        end = len(held) + len(front)
        if not (base or self._parts.start or self._parts.gaps) and self._parts.stop == len(self._parts.chunk):
            return [self._parts.chunk]
        cut = any(gap_start < self._parts.stop for gap_start, _ in self._parts.gaps)
        if cut or self._parts.start or not front or self._parts.offsets[0] != len(held):
            return [self.wire]
        parts: list[bytes | memoryview] = [held, front, memoryview(self._parts.chunk)[end - base : self._parts.stop - base]]
        return [part for part in parts if part]

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        """Return the payloads as an Arrow `binary_view` array, in two capsules; the payloads' bytes are not copied.

        `requested_schema`: a wish that Arrow's protocol allows to ignore, and this does. Raise OverflowError if a payload has
        2 GiB or more, which Arrow cannot say, ImportError if the pure codec finds no pyarrow, which it needs for this. Source:
        arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
        """
        return export_views(len(self), self._views(), [memoryview(self._parts.front), *windows(self._parts.chunk)])

    def __repr__(self) -> str:
        return f"<FrameBatch: {len(self)} frames in {self._parts.stop - self._parts.start} bytes>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise _errors.not_copyable("FrameBatch")

    def _place(self, index: int) -> tuple[bytes, int, int]:
        """Return the memory that holds a payload, and where it starts and stops in it."""
        index = operator.index(index)
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise _errors.no_such_frame()
        start, length = self._parts.offsets[index] - self._parts.base, self._parts.lengths[index]
        return (self._parts.front, 0, length) if start < 0 else (self._parts.chunk, start, start + length)

    def _slice(self, index: slice) -> FrameBatch:
        start, stop, step = index.indices(len(self))
        if step != 1:
            raise _errors.bad_step(step)
        if start >= stop:
            return make_batch(NOTHING)
        begin = self._parts.start
        if start:
            begin = self._end_of(start - 1)
            begin = dict(self._parts.gaps).get(begin, begin)
        offsets, lengths = self._parts.offsets[start:stop], self._parts.lengths[start:stop]
        return make_batch(self._parts._replace(offsets=offsets, lengths=lengths, start=begin, stop=self._end_of(stop - 1)))

    def _end_of(self, index: int) -> int:
        return self._parts.offsets[index] + self._parts.lengths[index] + self._parts.trailer

    def _views(self) -> bytes:
        """Return Arrow's 16 bytes for each payload: a short one itself, else its first bytes and where it is."""
        views = bytearray()
        for offset, length in zip(self._parts.offsets, self._parts.lengths, strict=True):
            start = offset - self._parts.base
            memory = self._parts.front if start < 0 else self._parts.chunk
            if length > MAX_LENGTH:
                raise _errors.too_long_for_arrow(length)
            if length <= INLINE_LENGTH:
                views += INLINE_VIEW.pack(length, memory[max(start, 0) : max(start, 0) + length])
            elif start < 0:
                views += VIEW.pack(length, memory[:4], 0, 0)
            else:
                window, begin = divmod(start, WINDOW_SIZE)
                views += VIEW.pack(length, memory[start : start + 4], 1 + window, begin)
        return bytes(views)


class BatchBuilder:
    """A batch while it is collected from `chunk`, of whose first frame `base` bytes came before."""

    def __init__(self, chunk: bytes, base: int, trailer: int) -> None:
        self._chunk = chunk
        self._base = base
        self._trailer = trailer
        self._held = self._front = b""
        self._offsets, self._lengths = array("q"), array("q")
        self._start = 0
        self._gaps: list[tuple[int, int]] = []

    def add_first(self, held: bytes, payload: bytes, frame_length: int) -> None:
        """Take the frame that began before the chunk; `held`: its header, as far as that came before."""
        offset = frame_length - self._trailer - len(payload)
        self._held, self._front = held[:offset], payload
        self._offsets.append(offset)
        self._lengths.append(len(payload))

    def add(self, found: Iterable[tuple[int, int, int]], pos: int) -> int:
        """Take the frames that a finder found from `pos` of the chunk on, and return the position behind them."""
        base, offsets, lengths = self._base, self._offsets, self._lengths
        for start, stop, pos in found:  # noqa: B007, PLR1704  the position behind the last one is what is asked for
            offsets.append(base + start)
            lengths.append(stop - start)
        return pos

    def skip(self, start: int, stop: int) -> None:
        """Leave out what is from `start` to `stop` of the chunk: a skipped frame, or one that is not complete."""
        if not self._offsets:
            self._base, self._start = 0, stop
        elif self._gaps and self._gaps[-1][1] == self._base + start:
            self._gaps[-1] = self._gaps[-1][0], self._base + stop
        else:
            self._gaps.append((self._base + start, self._base + stop))

    def batch(self) -> FrameBatch:
        if not self._offsets:
            return make_batch(NOTHING)  # so that the chunk is not kept alive for nothing
        stop = self._offsets[-1] + self._lengths[-1] + self._trailer
        return make_batch(
            Parts(
                self._chunk,
                self._base,
                self._held,
                self._front,
                memoryview(self._offsets.tobytes()).cast("q"),  # a view of the array would lead to the array
                memoryview(self._lengths.tobytes()).cast("q"),
                self._start,
                stop,
                self._gaps,
                self._trailer,
            )
        )


def make_batch(parts: Parts) -> FrameBatch:
    batch = FrameBatch.__new__(FrameBatch)
    batch._parts, batch._data = parts, None  # noqa: SLF001  its constructor is not for users
    return batch
