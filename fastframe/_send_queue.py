"""SendQueue: what leaves, as a Decoder is for what comes. Payloads go in, buffers for gathered writes come out, without I/O.

    put    small, large, small
    parts  | frame + header | the caller's own memory | frame |

Small frames are encoded at once and joined; a large payload stays where it is, between the bytes that stand around it. A part
never changes once it was handed out, it only gets shorter: TLS insists on that, and whoever looks twice sees the same bytes.
"""

from __future__ import annotations

import itertools
import operator
import os
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from . import _errors
from ._parts import GATHER_SIZE, frame_parts

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._codec import Encoder, FrameBatch


def _max_parts() -> int:
    """Return how many parts one sendmsg takes: 1024 on Linux, and 16 on any system (POSIX, `_XOPEN_IOV_MAX`)."""
    try:
        limit = os.sysconf("SC_IOV_MAX")
    except (AttributeError, ValueError, OSError):  # not on Windows, and not everywhere else
        return 16
    return min(limit, 1024) if limit > 0 else 16


MAX_PARTS: Final = _max_parts()


class SendQueue:
    """Hold frames until the kernel has taken them, and hand them out as it takes them: in parts, any number of bytes at a time.

        queue.put(payload)
        while queue:
            queue.advance(sock.sendmsg(queue.buffers()))

    A payload of 64 KiB or more is **lent, not copied**, whatever contiguous bytes-like object it is: do not change it before it
    is sent. Until then a bytearray cannot be resized, nor a mmap closed. A smaller payload is copied, and may change at once.

    `encoder`: the `Encoder`, which may be replaced: what waits stays as it is. `copy_mutable`: copy large payloads too, except
    `bytes`, which cannot change. A queue serves one stream, and one caller at a time. What its operations cost does not depend
    on how much waits.
    """

    __slots__ = (
        "_copy_mutable",
        "_lent",
        "_parts",
        "_pending",
        "_small",
        "_small_length",
        "encoder",
    )

    def __init__(self, encoder: Encoder, *, copy_mutable: bool = False) -> None:
        self.encoder = encoder
        self._copy_mutable = copy_mutable
        self._parts: deque[memoryview] = deque()  # none of them empty
        self._small: list[bytes | memoryview] = []  # to be joined to the part behind those
        self._small_length = 0
        self._pending = 0
        self._lent = 0  # bytes that buffers() has handed out and advance() has not heard of

    @property
    def pending(self) -> int:
        """Bytes that wait to be sent, headers included."""
        return self._pending

    def __bool__(self) -> bool:
        return self._pending > 0

    def put(self, payload: Buffer) -> None:
        """Queue the frame that carries `payload`, which is lent if it is large: see above.

        Raise as `Encoder.encode` does, and queue nothing then. Anything else is a bug.
        """
        if self._is_lent(payload):
            self._append_all(self._lend(payload))
        else:
            self._append(self.encoder.encode(payload))

    def put_many(self, payloads: Iterable[Buffer]) -> None:
        """Queue the frames of all `payloads`, any iterable, or none of them; otherwise as `put`.

        Large ones are lent: a generator may refill one buffer for each payload only if that is small, or with `copy_mutable`.
        """
        # A list of small ones, which is what is sent in haste, takes a tenth of the time in one go.
        if type(payloads) is list and (frames := self.encoder.encode_small(payloads, GATHER_SIZE)) is not None:
            self._append_all([frames])
            return
        parts: list[bytes | memoryview] = []
        for lent, run in itertools.groupby(payloads, self._is_lent):  # looks at a payload only when it was yielded
            if lent:
                parts += itertools.chain.from_iterable(map(self._lend, run))
            else:
                parts.append(self.encoder.encode_many(run))
        self._append_all(parts)

    def put_parts(self, pieces: Sequence[Buffer]) -> None:
        """Queue one frame whose payload is `pieces`, one behind the other, of which large ones are lent; otherwise as `put`."""
        pieces = [*pieces]
        if self.encoder.format.payload_brings_header or not any(map(self._is_lent, pieces)):
            self.put(b"".join(pieces))
            return
        apart = [memoryview(piece).cast("B") if self._is_lent(piece) else b"".join((piece,)) for piece in pieces]
        self._append_all(frame_parts(self.encoder, apart))

    def put_batch(self, batch: FrameBatch) -> None:
        """Queue the frames of `batch` as they came, without a copy if they are many; its format has to be the encoder's."""
        self._append_all(batch.wire_parts)

    def put_encoded(self, wire: bytes) -> None:
        """Queue bytes that are frames already, or the rest of one."""
        self._append(wire)

    def buffers(self, max_parts: int = MAX_PARTS) -> list[memoryview]:
        """Lend what the next `socket.sendmsg` takes: the first parts, in order, none of them empty; [] if nothing waits.

        At most `max_parts` of them, and never more than a system call takes (`IOV_MAX`); 1 is for what cannot gather, such as
        TLS. The views are lent, not given: `advance()` releases those that are sent. Raise ValueError for less than 1.
        """
        if max_parts < 1:
            raise _errors.bad_max_parts(max_parts)
        max_parts = min(max_parts, MAX_PARTS)
        if len(self._parts) < max_parts:  # else more small frames may join them yet
            self._seal()
        if len(self._parts) <= max_parts:
            self._lent = self._pending - self._small_length
            return list(self._parts)
        parts = list(itertools.islice(self._parts, max_parts))
        self._lent = sum(map(len, parts))
        return parts

    def advance(self, nbytes: int) -> None:
        """Tell that the first `nbytes` bytes of what `buffers()` lent are sent; their memory is the caller's again.

        Raise ValueError unless `nbytes` is from 0 to the length lent.
        """
        nbytes = operator.index(nbytes)
        if not 0 <= nbytes <= self._lent:
            raise _errors.bad_count(nbytes, self._lent)
        self._lent -= nbytes
        self._pending -= nbytes
        while nbytes:
            part = self._parts.popleft()
            length = len(part)
            if length > nbytes:
                self._parts.appendleft(part[nbytes:])
                length = nbytes
            nbytes -= length
            _release(part)

    def clear(self) -> None:
        """Forget everything that waits, and give back what was lent."""
        while self._parts:
            _release(self._parts.popleft())
        self._small = []
        self._small_length = self._pending = self._lent = 0

    def __repr__(self) -> str:
        return f"<SendQueue {self.encoder.format}: pending={self._pending}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise _errors.not_copyable("SendQueue")

    def _is_lent(self, payload: Buffer) -> bool:
        """Tell whether a payload stays apart. What is no flat memory does not: `encode` copies it, or says what is wrong."""
        if type(payload) is bytes:
            return len(payload) >= GATHER_SIZE
        if self._copy_mutable:
            return False
        try:
            view = memoryview(payload)
            return view.nbytes >= GATHER_SIZE and len(view.cast("B")) > 0
        except TypeError:
            return False

    def _lend(self, payload: Buffer) -> tuple[bytes | memoryview, ...]:
        """Return the parts of a large payload's frame."""
        view = memoryview(payload).cast("B")
        header, trailer = self.encoder.encode_around(view)
        return header, view, trailer

    def _append_all(self, parts: Iterable[bytes | memoryview]) -> None:
        for part in parts:
            self._append(part)

    def _append(self, part: bytes | memoryview) -> None:
        length = len(part)
        self._pending += length
        if length >= GATHER_SIZE:
            self._seal()
            self._parts.append(memoryview(part))
        elif length:
            self._small.append(part)
            self._small_length += length
            if self._small_length >= GATHER_SIZE:  # so never 128 KiB, from which on the C library asks for fresh pages
                self._seal()

    def _seal(self) -> None:
        """Make one part of the small frames."""
        if self._small:
            self._parts.append(memoryview(b"".join(self._small)))
            self._small = []
            self._small_length = 0


def _release(part: memoryview) -> None:
    try:  # noqa: SIM105  contextlib.suppress is a fifth of what a small frame costs here
        part.release()
    except BufferError:
        pass  # whoever took a view of this view keeps that one
