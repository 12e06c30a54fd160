"""Decoder in pure Python: THE SPECIFICATION, of which `_codec_c.pyx` is the translation, as each `*_py` module is of its own.

Chunks go in, payloads come out; nothing here logs, waits, closes or calls back. There is no rolling buffer. Whole frames are
cut straight out of the chunk at hand (`_wire_py.py`), by what knows good frames only. At the first frame that is not whole or
not good it stops, and `_step` takes over for that one frame: it collects the header, decides (not yet, a payload of n bytes,
skip n bytes, an error), and gathers the payload in the object that will be handed out. So every error is raised in one place,
at the same byte however the stream was cut.

A decoder is in one of these states:

    HEADER    held: fewer bytes than a header           PAYLOAD   held: the header and part of the payload
    SKIP      nothing held: an oversize frame passes    FAILED, FINISHED, DETACHED    the end, each saying so when used
"""

from __future__ import annotations

import itertools
import operator
import sys
from typing import TYPE_CHECKING, Any, Final, Literal

from . import _errors
from ._batch_py import BatchBuilder, FrameBatch
from ._encoder_py import Encoder
from ._errors import CorruptFrameError, FrameError, FrameTooLargeError, IncompleteFrameError
from ._format import FrameFormat, is_plain
from ._hints import hint
from ._memory import LEND_SIZE, PIECE_SIZE, Unread, append_piece, borrow, contiguous, give_back, most_frames
from ._wire_py import COMMA, finder, loader, read_header, wanted

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["IMPLEMENTATION", "Decoder", "Encoder", "FrameBatch"]

IMPLEMENTATION: Final = "python"

HEADER, PAYLOAD, SKIP, FAILED, FINISHED, DETACHED = range(6)
STATE_NAMES = ("header", "payload", "skip", "failed", "finished", "detached")

STATE_CLOSERS = {FINISHED: "finish", DETACHED: "detach"}


class Decoder:
    """Decode frames from a stream that comes in chunks; the chunks' borders mean nothing.

    `format`: the `FrameFormat`. `on_oversize`: what to do with a frame over the limit, `"raise"` `FrameTooLargeError` or
    `"skip"` its bytes as they come, in no memory, count it in `skipped`, and go on.

    A decoder serves one stream, and one caller at a time. Two threads, or a call from within a call, raise `MisuseError`. After
    a `FrameError` it stays failed and raises the same again.
    """

    __slots__ = (
        "_failure",
        "_find",
        "_format",
        "_head",
        "_header_length",
        "_hold_back",
        "_is_plain",
        "_lent",
        "_lent_view",
        "_load",
        "_missing",
        "_offset",
        "_pieces",
        "_quick",
        "_received",
        "_room",
        "_skip_oversize",
        "_skipped",
        "_state",
        "_tail_lost",
        "_turn",
        "_unread",
    )

    def __init__(self, format: FrameFormat, on_oversize: Literal["raise", "skip"] = "raise") -> None:
        if hasattr(self, "_format"):
            raise _errors.not_initialised("Decoder")
        if not isinstance(format, FrameFormat):
            raise _errors.not_a_format(format)
        if on_oversize not in ("raise", "skip"):
            raise _errors.bad_on_oversize(on_oversize)
        self._format = format
        self._skip_oversize = on_oversize == "skip"
        self._find, self._load = finder(format), loader(format)
        self._is_plain = is_plain(format)
        self._header_length = format.header_length or 0
        self._state = HEADER
        self._offset = 0  # in the stream, of the first byte of the frame at hand
        self._head = b""  # that frame's header and stripped bytes, as far as they are here
        self._pieces: list[bytes] = []  # its payload, as far as it is here
        self._quick = self._is_plain  # _decode_plain can go on from here
        self._received = 0  # bytes of it that have come
        self._missing = 0  # bytes of it that have not, once the header told
        self._skipped = 0
        self._unread: Unread | None = None  # what is behind a `max_frames` stop, or from a bad frame on
        self._lent: tuple[bytearray, memoryview] | None = None  # a block, by get_buffer()
        self._lent_view: memoryview | None = None  # of as much of it as stands for the memory of the payload at hand:
        self._room = 0  # so much, zero if the block itself is lent
        self._hold_back = 0  # bytes of a payload that are not received in place: see _take_back
        self._failure: FrameError | None = None
        self._tail_lost = False  # it began with bytes that were skipped
        self._turn = [None]  # who has it may work. Taking it is atomic, and costs a fifth of what a lock does

    @property
    def format(self) -> FrameFormat:
        """The `FrameFormat` that is decoded."""
        return self._format

    @property
    def skipped(self) -> int:
        """How many oversize frames were skipped, each counted when its header was read."""
        return self._skipped

    @property
    def pending(self) -> int:
        """Bytes held: those of a frame that is not complete, and those that `max_frames` or an error left undecoded."""
        unread = self._unread  # read once: another thread may be in a call, and this is no call
        held = self._received if self._state in (HEADER, PAYLOAD) else 0
        return held if unread is None else held + len(unread)

    @property
    def needed(self) -> int:
        """The least number of bytes that allows progress, never past the frame's end; 0 if `feed(b"")` makes some."""
        if self._unread or self._state >= FAILED:
            return 0
        return wanted(self._format, self._received) if self._state == HEADER else self._missing

    def feed(self, chunk: Buffer, max_frames: int | None = None) -> list[bytes]:
        """Take a chunk and return every payload that is now complete, in order.

        `chunk`: any contiguous bytes-like object, of any length; the caller may reuse its memory afterwards. `max_frames`: stop
        after so many payloads and keep the rest undecoded; `feed(b"", max_frames)` goes on. Zero only stores.

        Raise `FrameError` (`FrameTooLargeError` or `CorruptFrameError`) at a bad frame, with the payloads before it in
        `frames`; the decoder is then failed. Raise TypeError or BufferError for a chunk that is not contiguous bytes,
        ValueError for a released memoryview or a negative `max_frames`, `MisuseError` when closed or in use. Anything else is
        a bug.
        """
        try:
            self._turn.pop()  # as _enter does
        except IndexError:
            raise _errors.busy() from None
        if self._quick and type(chunk) is bytes and max_frames is None:
            length = len(chunk)
            if PIECE_SIZE <= length < self._missing:  # the middle of a large frame: nearly all chunks of 1 KiB
                self._pieces.append(chunk)
                self._received += length
                self._missing -= length
                self._turn.append(None)
                return []
            return self._decode_plain(chunk)
        self._turn.append(None)
        most = sys.maxsize if max_frames is None else most_frames(max_frames)
        data = chunk if type(chunk) is bytes else contiguous(chunk).tobytes()
        self._enter()
        self._take_back()
        return self._decode(data, 0, [], most)

    def feed_batch(self, chunk: Buffer) -> FrameBatch:
        """Take a chunk and return every payload that is now complete, as a `FrameBatch`; otherwise as `feed`.

        A chunk of bytes is shared, anything else is copied once.
        """
        data = chunk if type(chunk) is bytes else contiguous(chunk).tobytes()
        self._enter()
        self._take_back()
        return self._decode_batch(data)

    def get_buffer(self, sizehint: int = -1) -> memoryview:  # noqa: ARG002
        """Lend memory to receive into, until `buffer_updated()`: the first half of `asyncio.BufferedProtocol`'s pair.

        Where some of a payload has come and at least 64 KiB of it are missing, it is that payload's own memory, so that nothing
        is copied (the pure codec only does as if). Otherwise it is a block of 256 KiB, which is also the most that is lent at
        once. `sizehint` is a wish, and not needed.

        The view is lent, not given: keep neither a view of it nor its `obj` past `buffer_updated()`. What is kept can harm no
        more than bytes of an incomplete payload, and that only until the next call begins: never a payload that was handed out,
        nor does it see another's bytes. A decoder holds a block until `buffer_updated()`, and none when it is idle. asyncio's
        TLS calls this after `eof_received` too: a protocol calls `finish()` in `connection_lost`.

        Raise `FrameError` or `MisuseError` as `feed` does. Anything else is a bug.
        """
        self._enter()
        self._take_back()
        self._quick = False
        missing = self._missing - self._format.trailer_length - self._hold_back
        self._lent = borrow()
        view = self._lent[1]
        self._room = 0
        if self._pieces and missing >= LEND_SIZE and not self._unread:
            self._room = min(missing, len(view))
            view = self._lent_view = view[: self._room]
        self._turn.append(None)
        return view

    def buffer_updated(self, nbytes: int, max_frames: int | None = None) -> list[bytes]:
        """Take `nbytes` bytes from the start of the memory lent by `get_buffer()`; otherwise as `feed`.

        Raise ValueError unless `nbytes` is from 0 to the length lent, `MisuseError` if nothing is lent, and what `feed` raises.
        """
        nbytes, most = operator.index(nbytes), most_frames(max_frames)
        self._enter()
        data = self._updated(nbytes, in_place=most > 0)
        return self._decode(data, 0, [], most)

    def buffer_updated_batch(self, nbytes: int) -> FrameBatch:
        """Take `nbytes` bytes from the start of the memory lent by `get_buffer()`; otherwise as `feed_batch`.

        Raise ValueError unless `nbytes` is from 0 to the length lent, `MisuseError` if nothing is lent, and what `feed` raises.
        """
        nbytes = operator.index(nbytes)
        self._enter()
        data = self._updated(nbytes, in_place=True)
        return self._decode_batch(data)

    def finish(self) -> None:
        """Tell that the stream ended, which is right only at a frame boundary; the decoder is then closed.

        Raise `IncompleteFrameError` inside a frame, a skipped one too; `MisuseError` while `max_frames` left bytes undecoded
        (`feed` them first), and when closed or in use. Anything else is a bug.
        """
        self._enter()
        self._take_back()
        if self._unread:
            self._turn.append(None)
            raise _errors.undecoded(len(self._unread))
        if self._received == 0:
            self._state = FINISHED
            self._quick = False
            self._turn.append(None)
            return
        missing = wanted(self._format, self._received) if self._state == HEADER else self._missing
        raise self._fail(IncompleteFrameError(self._received, self._received + missing, hint=self._hint()), [])

    def detach(self) -> bytes:
        """Hand over the `pending` bytes, exactly as they came, for another protocol to read; the decoder is then closed.

        After a `FrameError` they begin with the bad frame. Raise `MisuseError` when closed, in use, or in the middle of a
        skipped frame, whose bytes were not kept. Anything else is a bug.
        """
        self._enter(even_failed=True)
        if self._state == SKIP or self._tail_lost:
            self._turn.append(None)
            raise _errors.skipped_bytes_gone()
        self._take_back()
        self._hold_unread(b"")
        tail = self._unread.join() if self._unread else b""
        self._unread = None
        self._state = DETACHED
        self._quick = False
        self._turn.append(None)
        return tail

    def __repr__(self) -> str:
        return (
            f"<Decoder {self._format}: {STATE_NAMES[self._state]}, pending={self.pending}, needed={self.needed},"
            f" offset={self._offset}, skipped={self._skipped}>"
        )

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise _errors.not_copyable("Decoder")

    def _enter(self, *, even_failed: bool = False) -> None:
        """Begin a call, which ends by giving back the turn.

        One that is interrupted (KeyboardInterrupt, MemoryError) never does, because payloads may have been lost with it, and
        the next call has to say so.
        """
        try:
            self._turn.pop()
        except IndexError:
            raise _errors.busy() from None
        if self._state >= FAILED and not (even_failed and self._state == FAILED):
            self._turn.append(None)
            raise self._failure.again() if self._failure else _errors.closed(STATE_CLOSERS[self._state])

    def _leave(self) -> None:
        """End a call that decoded."""
        self._quick = self._is_plain and not self._unread and (bool(self._pieces) or self._received == 0)
        self._turn.append(None)

    def _updated(self, nbytes: int, *, in_place: bool) -> bytes:
        """Return what was received. What came into a payload's own memory stays there if it may, and is not returned."""
        if self._lent is None:
            self._turn.append(None)
            raise _errors.nothing_lent()
        memory = self._lent[0]
        room = self._room or len(memory)  # who releases the view can resize a block
        if not 0 <= nbytes <= room:
            self._turn.append(None)
            raise _errors.bad_count(nbytes, room)
        data = bytes(memoryview(memory)[:nbytes])
        if self._room and in_place:
            append_piece(self._pieces, data)
            self._received += nbytes
            self._missing -= nbytes
            data = b""
        self._take_back()
        return data

    def _take_back(self) -> None:
        """End what `get_buffer` lent."""
        lent, self._lent = self._lent, None
        view, self._lent_view = self._lent_view, None
        if lent is not None:
            give_back(lent)
        if view is None:
            return
        try:
            view.release()
        except BufferError:  # uvloop holds it until buffer_updated() is over: when the next call begins it will be free
            self._lent_view = view if lent is not None else None
            # The compiled codec must not hand out such memory. It has to copy a payload that is complete by then, which costs
            # as much as receiving it in place saved; so from now on the last byte of each is left to the read that follows.
            if self._missing == 0:
                self._hold_back = 1

    def _decode(self, data: bytes, pos: int, frames: list[bytes], most: int) -> list[bytes]:
        """Decode `data` from `pos` on behind what is unread, and end the call."""
        try:
            if not self._unread:
                if self._pieces and most:
                    pos = self._go_on(data, frames)
                if pos < len(data):
                    self._decode_chunk(data, pos, frames, most)
            else:
                self._unread.append(data)
                while self._unread and len(frames) < most:
                    self._decode_chunk(*self._unread.pop(), frames, most)
                self._unread = self._unread or None
        except FrameError as error:
            raise self._fail(error, frames) from None
        self._leave()
        return frames

    def _go_on(self, data: bytes, frames: list[bytes]) -> int:
        """Take what `data` has of a payload of which there is a part: `_step` without its questions, in a third of its time."""
        missing = self._missing
        if len(data) < missing:
            append_piece(self._pieces, data)
            self._received += len(data)
            self._missing -= len(data)
            return len(data)
        if self._format.trailer_length:
            return 0
        if missing:
            self._pieces.append(data[:missing])
        self._missing = 0
        self._received += missing
        self._complete(frames)
        return missing

    def _decode_plain(self, data: bytes) -> list[bytes]:
        """Decode what most formats look like, from a frame's border or the inside of a payload on, and end the call.

        `_decode` could do it all. This is in one place since in chunks of 1 KiB calls from method to method cost the most.
        """
        frames: list[bytes] = []
        append, load, header_length = frames.append, self._load, self._header_length
        max_length = self._format.max_payload_length
        pos, end = 0, len(data)
        if self._missing:
            if end < self._missing:
                append_piece(self._pieces, data)
                self._received += end
                self._missing -= end
                self._turn.append(None)
                return frames
            pos = self._missing
            self._pieces.append(data[:pos])
            append(b"".join(self._pieces))
            self._head, self._pieces = b"", []
            self._offset += self._received
            self._received = self._missing = 0
            self._state = HEADER
        last = end - header_length
        length = 0
        while pos <= last:
            (length,) = load(data, pos)
            start = pos + header_length
            stop = start + length
            if stop > end or length > max_length:
                break
            append(data[start:stop])
            pos = stop
        self._offset += pos
        if pos < last and length <= max_length:
            self._state = PAYLOAD
            self._head = data[pos:start]
            self._pieces = [data[start:]]
            self._received = end - pos
            self._missing = stop - end
        elif pos < end:
            return self._decode(data, pos, frames, sys.maxsize)
        self._turn.append(None)
        return frames

    def _decode_chunk(self, data: bytes, pos: int, frames: list[bytes], most: int) -> None:
        """Decode from `pos` on until `data` ends or `most` payloads are there; what is left goes to the unread chunks."""
        end = len(data)
        while pos < end and len(frames) < most:
            if self._received == 0:
                start = pos
                for payload, payload_end, frame_end in itertools.islice(self._find(data, pos, end), most - len(frames)):
                    frames.append(data[payload:payload_end])
                    pos = frame_end
                self._offset += pos - start
                if pos == end or len(frames) == most:
                    break
            pos = self._step_or_hold(data, pos, end, frames)
        if pos < end:
            self._put_back(data, pos)

    def _step_or_hold(self, data: bytes, pos: int, end: int, frames: list[bytes]) -> int:
        """Step, and hold what follows from the bad frame on if that is what it is."""
        received = self._received
        try:
            return self._step(data, pos, end, frames)
        except FrameError as error:
            error.hint = self._hint()  # now, while the header is here
            self._hold_unread(data[pos + self._received - received :])
            raise

    def _decode_batch(self, data: bytes) -> FrameBatch:
        """Decode `data` behind what is unread, all of it, and end the call."""
        if self._unread:
            data, self._unread = self._unread.join() + data, None
        builder = BatchBuilder(data, 0 if self._state == SKIP else self._received, self._format.trailer_length)
        pos, end = 0, len(data)
        try:
            if self._received:
                pos = self._finish_first(data, end, builder)
            while pos < end:
                start = pos
                pos = builder.add(self._find(data, pos, end), pos)
                self._offset += pos - start
                if pos < end:
                    start = pos
                    pos = self._step_or_hold(data, pos, end, [])
                    builder.skip(start, pos)
        except FrameError as error:
            raise self._fail(error, list(builder.batch())) from None
        self._leave()
        return builder.batch()

    def _finish_first(self, data: bytes, end: int, builder: BatchBuilder) -> int:
        """Go on with the frame that began in an earlier chunk."""
        held, offset = self._head, self._offset
        first: list[bytes] = []
        pos = self._go_on(data, first) if self._pieces else 0
        if self._received:
            pos = self._step_or_hold(data, pos, end, first)
        if first:
            builder.add_first(held, first[0], self._offset - offset)
        else:
            builder.skip(0, pos)
        return pos

    def _step(self, data: bytes, pos: int, end: int, frames: list[bytes]) -> int:
        """Take what `data` has of the one frame at hand; return the position behind it."""
        while self._state == HEADER:
            if pos == end:
                return pos
            taken = data[pos : pos + wanted(self._format, self._received)]
            self._head += taken
            self._received += len(taken)
            pos += len(taken)
            length = read_header(self._format, self._head)
            if length is not None:
                self._begin(length)
        take = min(self._missing, end - pos)
        trailer = self._format.trailer_length if take == self._missing else 0
        if trailer and data[pos + take - 1] != COMMA:
            trailer, take = 0, take - 1
            self._keep(data, pos, pos + take)
            raise CorruptFrameError("netstring-comma", data[pos + take])
        self._keep(data, pos, pos + take, trailer)
        if self._missing == 0:
            self._complete(frames)
        return pos + take

    def _begin(self, length: int) -> None:
        """Decide on the frame that has `length` bytes behind its length field."""
        if length <= self._format.max_payload_length:
            self._state = PAYLOAD
        elif self._skip_oversize:
            self._state = SKIP
            self._skipped += 1
            self._head = b""
        else:
            raise FrameTooLargeError(length, self._format.max_payload_length)
        self._missing = length + self._format.trailer_length

    def _keep(self, data: bytes, start: int, stop: int, trailer: int = 0) -> None:
        """Count the bytes from `start` to `stop` as received, and keep those of a payload, which ends before the trailer."""
        self._received += stop - start
        self._missing -= stop - start
        stop -= trailer
        if self._state == SKIP or start == stop:
            return
        strip = self._format.initial_bytes_to_strip
        if not self._pieces and strip is not None:
            if len(self._head) < strip:  # more than the header is stripped
                head_stop = min(stop, start + strip - len(self._head))
                self._head += data[start:head_stop]
                start = head_stop
            elif len(self._head) > strip:
                self._pieces.append(self._head[strip:])
        append_piece(self._pieces, data[start:stop])

    def _complete(self, frames: list[bytes]) -> None:
        """Hand out the frame at hand, whose last byte has come."""
        if self._state == PAYLOAD:
            strip = self._format.initial_bytes_to_strip
            if not self._pieces and strip is not None:
                self._pieces.append(self._head[strip:])
            frames.append(b"".join(self._pieces))
        self._offset += self._received
        self._forget()
        self._state = HEADER

    def _forget(self) -> None:
        self._head = b""
        self._pieces = []
        self._received = self._missing = 0

    def _hold_unread(self, rest: bytes) -> None:
        """Turn the frame at hand back into the bytes that came, followed by `rest`, in front of the unread chunks."""
        held = self._head
        if self._pieces:  # they begin with what of the header is not stripped
            held = b"".join((held[: self._format.initial_bytes_to_strip], *self._pieces))
        self._forget()
        if held or rest:
            self._put_back(held + rest, 0)

    def _put_back(self, data: bytes, pos: int) -> None:
        self._unread = self._unread or Unread()
        self._unread.put_back(data, pos)

    def _hint(self) -> str | None:
        return hint(self._format, self._head) if self._offset == 0 else None

    def _fail(self, error: FrameError, frames: list[bytes]) -> FrameError:
        """Close the decoder because of `error`, end the call, and return what to raise."""
        error.frames = frames
        error.offset = self._offset
        self._tail_lost = self._state == SKIP
        self._take_back()
        self._hold_unread(b"")
        self._failure = error.again()
        self._state = FAILED
        self._quick = False
        self._turn.append(None)
        return error
