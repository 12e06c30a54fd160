"""Decoder and Encoder in pure Python: THE SPECIFICATION, of which `_codec_c.pyx` is the translation.

Chunks go in, payloads come out; nothing here logs, waits, closes or calls back. There is no rolling buffer. Whole frames are
cut straight out of the chunk at hand by a walker (`_walk_fixed`, `_walk_varint`, `_walk_netstring`), which knows good frames
only. At the first frame that is not whole or not good it stops, and `_step` takes over for that one frame: it collects the
header, decides (not yet, a payload of n bytes, skip n bytes, an error), and gathers the payload in the object that will be
handed out. So every error is raised in one place, at the same byte however the stream was cut.

A decoder is in one of these states:

    HEADER    held: fewer bytes than a header           PAYLOAD   held: the header and part of the payload
    SKIP      nothing held: an oversize frame passes    FAILED, FINISHED, DETACHED    the end, each saying so when used
"""

from __future__ import annotations

import itertools
import operator
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

from . import _errors
from ._errors import CorruptFrameError, FrameError, FrameTooLargeError, IncompleteFrameError
from ._format import MAX_NETSTRING_DIGITS, MAX_UINT64, FrameFormat
from ._memory import append_piece, borrow, give_back, most_frames

if TYPE_CHECKING:
    from typing_extensions import Buffer

IMPLEMENTATION: Final = "python"

HEADER, PAYLOAD, SKIP, FAILED, FINISHED, DETACHED = range(6)
STATE_NAMES = ("header", "payload", "skip", "failed", "finished", "detached")

STATE_CLOSERS = {FINISHED: "finish", DETACHED: "detach"}
COMMA, COLON, ZERO, NINE = b",:09"


class Decoder:
    """Decode frames from a stream that comes in chunks; the chunks' borders mean nothing.

    `format`: the `FrameFormat`. `on_oversize`: what to do with a frame over the limit, `"raise"` `FrameTooLargeError` or
    `"skip"` its bytes as they come, in no memory, count it in `skipped`, and go on.

    A decoder serves one stream, and one caller at a time. Two threads, or a call from within a call, raise `MisuseError`. After
    a `FrameError` it stays failed and raises the same again.
    """

    __slots__ = (
        "_block",
        "_failure",
        "_format",
        "_head",
        "_load",
        "_lock",
        "_max_value",
        "_min_value",
        "_missing",
        "_offset",
        "_pieces",
        "_received",
        "_skip_oversize",
        "_skipped",
        "_state",
        "_tail_lost",
        "_unread",
        "_unread_length",
        "_unread_start",
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
        self._load = _loader(format)
        self._min_value = max(0, format.min_payload_length - format.length_adjustment)
        self._max_value = format.max_payload_length - format.length_adjustment
        self._state = HEADER
        self._offset = 0  # in the stream, of the first byte of the frame at hand
        self._head = b""  # that frame's header and stripped bytes, as far as they are here
        self._pieces: list[bytes] = []  # its payload, as far as it is here
        self._received = 0  # bytes of it that have come
        self._missing = 0  # bytes of it that have not, once the header told
        self._skipped = 0
        self._unread: deque[bytes] | None = None  # chunks behind a `max_frames` stop, or from a bad frame on
        self._unread_start = 0  # where the first of them begins
        self._unread_length = 0
        self._block: tuple[bytearray, memoryview] | None = None  # lent, until buffer_updated()
        self._failure: FrameError | None = None
        self._tail_lost = False  # it began with bytes that were skipped
        self._lock = threading.Lock()

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
        return self._unread_length + (self._received if self._state in (HEADER, PAYLOAD) else 0)

    @property
    def needed(self) -> int:
        """The least number of bytes that allows progress, never past the frame's end; 0 if `feed(b"")` makes some."""
        if self._unread_length or self._state >= FAILED:
            return 0
        return self._wanted() if self._state == HEADER else self._missing

    def feed(self, chunk: Buffer, max_frames: int | None = None) -> list[bytes]:
        """Take a chunk and return every payload that is now complete, in order.

        `chunk`: any contiguous bytes-like object, of any length; the caller may reuse its memory afterwards. `max_frames`: stop
        after so many payloads and keep the rest undecoded; `feed(b"", max_frames)` goes on. Zero only stores.

        Raise `FrameError` (`FrameTooLargeError` or `CorruptFrameError`) at a bad frame, with the payloads before it in
        `frames`; the decoder is then failed. Raise TypeError or BufferError for a chunk that is not contiguous bytes,
        ValueError for a released memoryview or a negative `max_frames`, `MisuseError` when closed or in use. Anything else is
        a bug.
        """
        most = most_frames(max_frames)
        data = chunk if type(chunk) is bytes else _contiguous(chunk).tobytes()
        self._enter()
        return self._decode(data, most)

    def get_buffer(self, sizehint: int = -1) -> memoryview:  # noqa: ARG002
        """Lend memory to receive into, until `buffer_updated()`: the first half of `asyncio.BufferedProtocol`'s pair.

        The view is lent, not given: keep neither a view of it nor its `obj` past `buffer_updated()`. A view that is kept cannot
        be used once the memory is lent again. `sizehint` is a wish, and not needed: the 256 KiB fit any read. A decoder
        holds the memory until `buffer_updated()`, and none of it when it is idle. asyncio's TLS calls this after `eof_received`
        too: a protocol calls `finish()` in `connection_lost`.

        Raise `FrameError` or `MisuseError` as `feed` does. Anything else is a bug.
        """
        self._enter()
        self._return_block()  # what was lent before was not used
        self._block = borrow()
        view = self._block[1]
        self._lock.release()
        return view

    def buffer_updated(self, nbytes: int, max_frames: int | None = None) -> list[bytes]:
        """Take `nbytes` bytes from the start of the memory lent by `get_buffer()`; otherwise as `feed`.

        Raise ValueError unless `nbytes` is from 0 to the length lent, `MisuseError` if nothing is lent, and what `feed` raises.
        """
        nbytes, most = operator.index(nbytes), most_frames(max_frames)
        self._enter()
        if self._block is None:
            self._lock.release()
            raise _errors.nothing_lent()
        block = self._block[0]
        if not 0 <= nbytes <= len(block):
            self._lock.release()
            raise _errors.bad_count(nbytes, len(block))
        data = memoryview(block)[:nbytes].tobytes()
        self._return_block()
        return self._decode(data, most)

    def finish(self) -> None:
        """Tell that the stream ended, which is right only at a frame boundary; the decoder is then closed.

        Raise `IncompleteFrameError` inside a frame, a skipped one too; `MisuseError` while `max_frames` left bytes undecoded
        (`feed` them first), and when closed or in use. Anything else is a bug.
        """
        self._enter()
        if self._unread_length:
            self._lock.release()
            raise _errors.undecoded(self._unread_length)
        if self._received == 0:
            self._return_block()
            self._state = FINISHED
            self._lock.release()
            return
        missing = self._wanted() if self._state == HEADER else self._missing
        raise self._fail(IncompleteFrameError(self._received, self._received + missing), [])

    def detach(self) -> bytes:
        """Hand over the `pending` bytes, exactly as they came, for another protocol to read; the decoder is then closed.

        After a `FrameError` they begin with the bad frame. Raise `MisuseError` when closed, in use, or in the middle of a
        skipped frame, whose bytes were not kept. Anything else is a bug.
        """
        if self._state != FAILED:
            self._enter()
        elif not self._lock.acquire(blocking=False):
            raise _errors.busy()
        if self._state == SKIP or self._tail_lost:
            self._lock.release()
            raise _errors.skipped_bytes_gone()
        self._hold_unread(b"")
        tail = b"".join(self._unread or ())[self._unread_start :]
        self._unread = None
        self._unread_start = self._unread_length = 0
        self._return_block()
        self._state = DETACHED
        self._lock.release()
        return tail

    def __repr__(self) -> str:
        return (
            f"<Decoder {self._format}: {STATE_NAMES[self._state]}, pending={self.pending}, needed={self.needed},"
            f" offset={self._offset}, skipped={self._skipped}>"
        )

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise _errors.not_copyable("Decoder")

    def _enter(self) -> None:
        """Begin a call, which ends by releasing the lock.

        One that is interrupted (KeyboardInterrupt, MemoryError) never does, because payloads may have been lost with it, and
        the next call has to say so.
        """
        if not self._lock.acquire(blocking=False):
            raise _errors.busy()
        if self._state >= FAILED:
            self._lock.release()
            raise self._failure.again() if self._failure else _errors.closed(STATE_CLOSERS[self._state])

    def _decode(self, data: bytes, most: int) -> list[bytes]:
        """Decode `data` behind what is unread, and end the call."""
        frames: list[bytes] = []
        try:
            if not self._unread:
                self._decode_chunk(data, 0, frames, most)
            else:
                append_piece(self._unread, data)
                self._unread_length += len(data)
                while self._unread and len(frames) < most:
                    start, self._unread_start = self._unread_start, 0
                    data = self._unread.popleft()
                    self._unread_length -= len(data) - start
                    self._decode_chunk(data, start, frames, most)
        except FrameError as error:
            raise self._fail(error, frames) from None
        self._lock.release()
        return frames

    def _decode_chunk(self, data: bytes, pos: int, frames: list[bytes], most: int) -> None:
        """Decode from `pos` on until `data` ends or `most` payloads are there; what is left goes to the unread chunks."""
        end = len(data)
        while pos < end and len(frames) < most:
            if self._received == 0:
                pos = self._walk(data, pos, end, frames, most)
                if pos == end or len(frames) == most:
                    break
            received = self._received
            try:
                pos = self._step(data, pos, end, frames)
            except FrameError:
                self._hold_unread(data[pos + self._received - received :])
                raise
        if pos < end:
            if end - pos < end // 2:  # so that a few bytes do not keep a large chunk; this halves, so it stays linear
                data, end, pos = data[pos:], end - pos, 0
            self._unread = deque() if self._unread is None else self._unread
            self._unread.appendleft(data)
            self._unread_start = pos
            self._unread_length += end - pos

    def _walk(self, data: bytes, pos: int, end: int, frames: list[bytes], most: int) -> int:
        start = pos
        if self._format.kind == "fixed":
            pos = self._walk_fixed(data, pos, end, frames, most)
        elif self._format.kind == "varint":
            pos = self._walk_varint(data, pos, end, frames, most)
        else:
            pos = self._walk_netstring(data, pos, end, frames, most)
        self._offset += pos - start
        return pos

    def _walk_fixed(self, data: bytes, pos: int, end: int, frames: list[bytes], most: int) -> int:
        header_length = self._format.header_length
        strip = self._format.initial_bytes_to_strip
        assert header_length is not None
        assert strip is not None
        load, min_value, max_value = self._load, self._min_value, self._max_value
        beyond = header_length + self._format.length_adjustment
        last = end - header_length
        append = frames.append
        for _ in itertools.repeat(None, most - len(frames)):  # a seventh less than `while` with a second condition
            if pos > last:
                break
            (value,) = load(data, pos)
            stop = pos + beyond + value
            if stop > end or not min_value <= value <= max_value:
                break
            append(data[pos + strip : stop])
            pos = stop
        return pos

    def _walk_varint(self, data: bytes, pos: int, end: int, frames: list[bytes], most: int) -> int:
        offset, strip = self._format.length_field_offset, self._format.initial_bytes_to_strip
        while len(frames) < most:
            value = shift = byte = 0
            payload = 0
            for payload in range(pos + offset + 1, min(end, pos + offset + self._format.max_varint_length) + 1):
                byte = data[payload - 1]
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
            else:
                break
            if (byte == 0 and shift) or not self._min_value <= value <= self._max_value:
                break
            stop = payload + value + self._format.length_adjustment
            if stop > end:
                break
            frames.append(data[payload if strip is None else pos + strip : stop])
            pos = stop
        return pos

    def _walk_netstring(self, data: bytes, pos: int, end: int, frames: list[bytes], most: int) -> int:
        while len(frames) < most:
            colon = data.find(b":", pos, pos + MAX_NETSTRING_DIGITS + 1)
            digits = data[pos:colon]
            if colon == -1 or not digits.isdigit() or (digits[0] == ZERO and len(digits) > 1):
                break
            stop = colon + 1 + int(digits)
            if stop >= end or int(digits) > self._max_value or data[stop] != COMMA:
                break
            frames.append(data[colon + 1 : stop])
            pos = stop + 1
        return pos

    def _step(self, data: bytes, pos: int, end: int, frames: list[bytes]) -> int:
        """Take what `data` has of the one frame at hand; return the position behind it."""
        while self._state == HEADER:
            if pos == end:
                return pos
            taken = data[pos : pos + self._wanted()]
            self._head += taken
            self._received += len(taken)
            pos += len(taken)
            value = self._read_length()
            if value is not None:
                self._begin(value)
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

    def _wanted(self) -> int:
        """Return how many more bytes a header surely has. One at a time where its length varies."""
        if self._format.header_length is not None:
            return self._format.header_length - self._received
        return max(1, self._format.length_field_offset + 1 - self._received)

    def _read_length(self) -> int | None:
        """Return what the length field says, None if it is not whole yet."""
        held = self._received - self._format.length_field_offset
        if self._format.kind == "fixed":
            return None if self._wanted() else self._load(self._head, 0)[0]
        if held <= 0:
            return None
        return self._read_varint(held) if self._format.kind == "varint" else self._read_digits(held)

    def _read_varint(self, held: int) -> int | None:
        """Look at what the last of `held` bytes brought."""
        byte = self._head[-1]
        if byte >= 0x80:
            if held == self._format.max_varint_length:
                raise CorruptFrameError("varint-too-long", held)
            return None
        if byte == 0 and held > 1:
            raise CorruptFrameError("varint-over-long")
        return sum((byte & 0x7F) << 7 * at for at, byte in enumerate(self._head[-held:]))

    def _read_digits(self, held: int) -> int | None:
        """Look at what the last of `held` bytes brought."""
        byte = self._head[-1]
        if byte == COLON and held > 1:
            return int(self._head[:-1])
        if not ZERO <= byte <= NINE:
            raise CorruptFrameError("netstring-digit", byte)
        if held > 1 and self._head[0] == ZERO:
            raise CorruptFrameError("netstring-leading-zero")
        if held > MAX_NETSTRING_DIGITS:
            raise CorruptFrameError("netstring-too-long", MAX_NETSTRING_DIGITS)
        return None

    def _begin(self, value: int) -> None:
        """Decide on the frame whose length field says `value`."""
        length = value + self._format.length_adjustment
        if value < 0:
            raise CorruptFrameError("negative", value)
        if length < 0:
            raise CorruptFrameError("below-header", value)
        if value > MAX_UINT64 or length + self._format.trailer_length > MAX_UINT64:
            raise CorruptFrameError("overflow")
        if length < self._format.min_payload_length:
            raise CorruptFrameError("below-minimum", length)
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

    def _return_block(self) -> None:
        if self._block is not None:
            give_back(self._block)
            self._block = None

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
            self._unread = deque() if self._unread is None else self._unread
            self._unread.appendleft(held + rest)
            self._unread_length += len(held) + len(rest)

    def _fail(self, error: FrameError, frames: list[bytes]) -> FrameError:
        """Close the decoder because of `error`, end the call, and return what to raise."""
        error.frames = frames
        error.offset = self._offset
        self._tail_lost = self._state == SKIP
        self._hold_unread(b"")
        self._return_block()
        self._failure = error.again()
        self._state = FAILED
        self._lock.release()
        return error


class Encoder:
    """Encode payloads to frames, as the decoder of the same format takes them apart: `decode(encode(p)) == [p]`.

    A payload is what a decoder hands out. The encoder writes what the format strips: the leading bytes (`leading`), the length
    field, and zeros for bytes that are stripped beyond the header. Where less than the header is stripped, the payload brings
    the rest of the header itself, and the length field in it has to be right. An encoder keeps no state.
    """

    __slots__ = ("_carries_length", "_format", "_pack", "_trailer")

    def __init__(self, format: FrameFormat) -> None:
        if hasattr(self, "_format"):
            raise _errors.not_initialised("Encoder")
        if not isinstance(format, FrameFormat):
            raise _errors.not_a_format(format)
        self._format = format
        strip, header_length = format.initial_bytes_to_strip, format.header_length
        self._carries_length = strip is not None and (header_length is None or strip < header_length)
        self._pack = _packer(format)
        self._trailer = b"," if format.trailer_length else b""

    @property
    def format(self) -> FrameFormat:
        """The `FrameFormat` that is encoded."""
        return self._format

    def encode(self, payload: Buffer) -> bytes:
        """Return the frame that carries `payload`, any contiguous bytes-like object.

        Raise `FrameTooLargeError` over the limit, `CorruptFrameError` for a payload that this format cannot carry (too short,
        or with a length field in it that is not right), TypeError or BufferError for what is not contiguous bytes. Anything
        else is a bug.
        """
        data = payload if type(payload) is bytes else _contiguous(payload)
        return b"".join((self._header_of(data), data, self._trailer))

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        """Return the frames of all `payloads`, any iterable, one after the other; raise as `encode` does, all or nothing."""
        parts: list[bytes] = []
        for payload in payloads:
            # What may change is copied now: a generator may refill one buffer for each payload.
            data = payload if type(payload) is bytes else _contiguous(payload).tobytes()
            parts += (self._header_of(data), data, self._trailer)
        return b"".join(parts)

    def encode_into(self, buffer: Buffer, offset: int, payload: Buffer) -> int:
        """Write the frame that carries `payload` into `buffer` from byte `offset` on; return the frame's length in bytes.

        The payload may overlap the place where it goes. Raise ValueError, and write nothing, if the frame does not fit or
        `offset` is outside the buffer; BufferError if it is read-only; and what `encode` raises. Anything else is a bug.
        """
        offset = operator.index(offset)
        target = _contiguous(buffer, writable=True)
        data = _contiguous(payload)
        header = self._header_of(data)
        if not 0 <= offset <= len(target):
            raise _errors.bad_offset(offset, len(target))
        length = len(header) + len(data) + len(self._trailer)
        if length > len(target) - offset:
            raise _errors.no_room(length, len(target) - offset)
        start = offset + len(header)
        stop = start + len(data)
        target[start:stop] = data  # first: the header may overwrite what the payload is read from
        target[offset:start] = header
        target[stop : offset + length] = self._trailer
        return length

    def header(self, payload_length: int) -> bytes:
        """Return the bytes that go in front of a payload of `payload_length` bytes: for gathered writes and sendfile.

        Empty where the format strips nothing, since a payload then brings its header. A netstring's comma goes behind the
        payload. Raise `FrameTooLargeError` or `CorruptFrameError` for a length that the format cannot carry, ValueError for a
        negative one. Anything else is a bug.
        """
        payload_length = operator.index(payload_length)
        if payload_length < 0:
            raise _errors.bad_length(payload_length)
        strip, header_length = self._format.initial_bytes_to_strip, self._format.header_length
        if strip is None:
            return self._full_header(payload_length)
        if header_length is None:  # how long the varint in the payload is cannot be known here: refuse what none could say
            longest = len(_varint(self._format.max_payload_length - self._format.length_adjustment))
            length = payload_length - (self._format.length_field_offset - strip) - longest
            if length > self._format.max_payload_length:
                raise FrameTooLargeError(length, self._format.max_payload_length)
            return self._format.leading[:strip]
        return self._full_header(payload_length + strip - header_length)[:strip].ljust(strip, b"\0")

    def __repr__(self) -> str:
        return f"<Encoder {self._format}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return type(self), (self._format,)

    def _full_header(self, length: int) -> bytes:
        """Return the whole header of a frame that has `length` bytes behind its length field."""
        if length > self._format.max_payload_length:
            raise FrameTooLargeError(length, self._format.max_payload_length)
        if length < self._format.min_payload_length:
            raise CorruptFrameError("below-minimum", length)
        return self._format.leading + self._pack(length - self._format.length_adjustment)

    def _header_of(self, data: bytes | memoryview) -> bytes:
        """Return what goes in front of `data`, and see that a length field which `data` brings is right."""
        if not self._carries_length:
            return self.header(len(data))
        strip, header_length = self._format.initial_bytes_to_strip, self._format.header_length
        assert strip is not None
        field = self._format.length_field_offset - strip  # where it begins in `data`; below zero if part of it is stripped
        if header_length is not None:
            payload = header_length - strip
        else:
            payload = field + _varint_length(data, field, self._format.max_varint_length)
        length = len(data) - payload
        header = self._full_header(length)
        begin = max(field, 0)
        if data[begin:payload] != header[strip + begin :]:
            raise CorruptFrameError("mismatch", length - self._format.length_adjustment)
        return header[:strip]


def _contiguous(value: Buffer, *, writable: bool = False) -> memoryview:
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


def _loader(format: FrameFormat) -> Callable[[bytes, int], tuple[int]]:
    """Return what reads the length field of the frame that begins at a position: `(value,) = load(data, pos)`."""
    width = (format.header_length or 0) - format.length_field_offset
    order = ">" if format.byteorder == "big" else "<"
    if width in _STRUCT_CODES:
        code = _STRUCT_CODES[width].lower() if format.signed else _STRUCT_CODES[width]
        return struct.Struct(f"{order}{format.length_field_offset}x{code}").unpack_from
    offset, byteorder, signed = format.length_field_offset, format.byteorder, format.signed

    def load(data: bytes, pos: int) -> tuple[int]:
        return (int.from_bytes(data[pos + offset : pos + offset + width], byteorder, signed=signed),)

    return load


def _packer(format: FrameFormat) -> Callable[[int], bytes]:
    """Return what writes a value that fits as a length field."""
    if format.kind == "varint":
        return _varint
    if format.kind == "netstring":
        return b"%d:".__mod__
    width, byteorder = (format.header_length or 0) - format.length_field_offset, format.byteorder
    return lambda value: value.to_bytes(width, byteorder)


_STRUCT_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _varint_length(data: bytes | memoryview, start: int, limit: int) -> int:
    """Return how many bytes the varint at `start` takes."""
    for length, byte in enumerate(data[start : start + limit], 1):
        if byte < 0x80:
            return length
    raise CorruptFrameError("varint-too-long", limit)
