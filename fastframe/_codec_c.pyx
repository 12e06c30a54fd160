# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Decoder compiled: the translation of `_codec_py.py`, which is the specification and has the explanations.

Same names, same order. What differs: lengths are `uint64_t` until they have been compared with the limit, the payload at hand
is a bytes object that grows with what has come, and the global interpreter lock takes the place of the decoder's own.
"""

import operator

from . import _errors
from ._batch_c import FrameBatch
from ._encoder_c import Encoder
from ._errors import CorruptFrameError, FrameError, FrameTooLargeError, IncompleteFrameError
from ._format import FrameFormat
from ._hints import hint
from ._memory import LEND_SIZE, RECEIVE_BLOCK_SIZE, Unread, borrow, give_back

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from ._batch_c cimport FrameBatch as Batch, new_batch
from ._memory_c cimport (
    Loan, PyList_GET_SIZE, _PyBytes_Resize, append_object, append_payload, contiguous, length_of, most_frames,
    new_bytes, start_of,
)
from ._wire_c cimport cut_frames, find_frames, load, read_header, read_layout, wanted

__all__ = ["IMPLEMENTATION", "Decoder", "Encoder", "FrameBatch"]

IMPLEMENTATION = "cython"

STATE_NAMES = ("header", "payload", "skip", "failed", "finished", "detached")
STATE_CLOSERS = {FINISHED: "finish", DETACHED: "detach"}

cdef enum:
    LEND = 64 * 1024
    BLOCK = 256 * 1024
    # A payload gets this much with its first byte, and twice as much whenever it is full. Pages that nothing was written to
    # stay with the kernel, so what is resident follows what has come; beginning with 64 KiB cost 1.4 times as much at 1 MiB.
    FIRST_ALLOCATION = 1 << 20
assert (LEND, BLOCK) == (LEND_SIZE, RECEIVE_BLOCK_SIZE)


cdef class Decoder:
    """Decoder(format, on_oversize='raise')\n--\n
    Decode frames from a stream that comes in chunks; the chunks' borders mean nothing.

    `format`: the `FrameFormat`. `on_oversize`: what to do with a frame over the limit, `"raise"` `FrameTooLargeError` or
    `"skip"` its bytes as they come, in no memory, count it in `skipped`, and go on.

    A decoder serves one stream, and one caller at a time. Two threads, or a call from within a call, raise `MisuseError`. After
    a `FrameError` it stays failed and raises the same again.
    """

    def __init__(self, format, on_oversize="raise"):
        if self._format is not None:
            raise _errors.not_initialised("Decoder")
        if not isinstance(format, FrameFormat):
            raise _errors.not_a_format(format)
        if on_oversize not in ("raise", "skip"):
            raise _errors.bad_on_oversize(on_oversize)
        read_layout(&self._layout, format)
        self._format = format
        self._skip_oversize = on_oversize == "skip"
        self._state = HEADER
        self._offset = 0
        self._skipped = 0
        self._forget()
        self._unread = None
        self._loan = self._block = self._view = None
        self._room = self._hold_back = 0
        self._failure = None
        self._tail_lost = False
        self._busy = False

    def __dealloc__(self):
        Py_XDECREF(self._payload)

    @property
    def format(self):
        """The `FrameFormat` that is decoded."""
        return self._format

    @property
    def skipped(self):
        """How many oversize frames were skipped, each counted when its header was read."""
        return self._skipped

    @property
    def pending(self):
        """Bytes held: those of a frame that is not complete, and those that `max_frames` or an error left undecoded."""
        cdef object unread = self._unread  # read once: another thread may be in a call, and this is no call
        held = self._received if self._state == HEADER or self._state == PAYLOAD else 0
        return held if unread is None else held + len(unread)

    @property
    def needed(self):
        """The least number of bytes that allows progress, never past the frame's end; 0 if `feed(b"")` makes some."""
        if self._unread or self._state >= FAILED:
            return 0
        return wanted(&self._layout, self._received) if self._state == HEADER else self._missing

    def feed(self, chunk, max_frames=None):
        """Take a chunk and return every payload that is now complete, in order.

        `chunk`: any contiguous bytes-like object, of any length; the caller may reuse its memory afterwards. `max_frames`: stop
        after so many payloads and keep the rest undecoded; `feed(b"", max_frames)` goes on. Zero only stores.

        Raise `FrameError` (`FrameTooLargeError` or `CorruptFrameError`) at a bad frame, with the payloads before it in
        `frames`; the decoder is then failed. Raise TypeError or BufferError for a chunk that is not contiguous bytes,
        ValueError for a released memoryview or a negative `max_frames`, `MisuseError` when closed or in use. Anything else is
        a bug.
        """
        cdef Py_ssize_t most
        cdef object data
        if self._payload is not NULL and max_frames is None and PyBytes_CheckExact(chunk) and self._take_middle(chunk):
            return []
        most = most_frames(max_frames)
        data = chunk if PyBytes_CheckExact(chunk) else contiguous(chunk)
        self._enter()
        if self._block is not None or self._loan is not None:
            self._take_back()
        return self._decode(data, start_of(data), length_of(data), most)

    def feed_batch(self, chunk):
        """Take a chunk and return every payload that is now complete, as a `FrameBatch`; otherwise as `feed`.

        A chunk of bytes is shared, anything else is copied once.
        """
        cdef bytes data = chunk if PyBytes_CheckExact(chunk) else contiguous(chunk).tobytes()
        self._enter()
        self._take_back()
        return self._decode_batch(data)

    def get_buffer(self, sizehint=-1):
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
        cdef uint64_t missing
        self._enter()
        self._take_back()
        missing = self._missing - self._layout.trailer_length - self._hold_back
        if self._payload is not NULL and <int64_t>missing >= LEND and not self._unread:
            self._room = min(<Py_ssize_t>missing, BLOCK)
            self._reserve(self._payload_length + self._room)
            self._loan = Loan()
            self._view = view = self._loan.lend(self._payload, self._payload_length, self._room)
        else:
            self._block = borrow()
            view = self._block[1]
        self._busy = False
        return view

    def buffer_updated(self, nbytes, max_frames=None):
        """Take `nbytes` bytes from the start of the memory lent by `get_buffer()`; otherwise as `feed`.

        Raise ValueError unless `nbytes` is from 0 to the length lent, `MisuseError` if nothing is lent, and what `feed` raises.
        """
        cdef Py_ssize_t most
        cdef object view
        nbytes, most = operator.index(nbytes), most_frames(max_frames)
        self._enter()
        view = self._updated(nbytes, most > 0)
        return self._decode(view, start_of(view), length_of(view), most)

    def buffer_updated_batch(self, nbytes):
        """Take `nbytes` bytes from the start of the memory lent by `get_buffer()`; otherwise as `feed_batch`.

        Raise ValueError unless `nbytes` is from 0 to the length lent, `MisuseError` if nothing is lent, and what `feed` raises.
        """
        nbytes = operator.index(nbytes)
        self._enter()
        view = self._updated(nbytes, True)
        return self._decode_batch(bytes(view))

    cdef list feed_memory(self, const uint8_t *data, Py_ssize_t length, Py_ssize_t max_frames):
        self._enter()
        self._take_back()
        return self._decode(None, data, length, max_frames)

    def finish(self):
        """Tell that the stream ended, which is right only at a frame boundary; the decoder is then closed.

        Raise `IncompleteFrameError` inside a frame, a skipped one too; `MisuseError` while `max_frames` left bytes undecoded
        (`feed` them first), and when closed or in use. Anything else is a bug.
        """
        self._enter()
        self._take_back()
        if self._unread:
            self._busy = False
            raise _errors.undecoded(len(self._unread))
        if self._received == 0:
            self._state = FINISHED
            self._busy = False
            return
        received = self._received  # from here on Python's numbers: a skipped frame may announce 2**64 - 1 bytes
        missing = wanted(&self._layout, self._received) if self._state == HEADER else self._missing
        raise self._fail(IncompleteFrameError(received, received + missing, hint=self._hint()), [])

    def detach(self):
        """Hand over the `pending` bytes, exactly as they came, for another protocol to read; the decoder is then closed.

        After a `FrameError` they begin with the bad frame. Raise `MisuseError` when closed, in use, or in the middle of a
        skipped frame, whose bytes were not kept. Anything else is a bug.
        """
        cdef bytes tail
        self._enter(True)
        if self._state == SKIP or self._tail_lost:
            self._busy = False
            raise _errors.skipped_bytes_gone()
        self._take_back()
        self._hold_unread(NULL, 0)
        tail = self._unread.join() if self._unread else b""
        self._unread = None
        self._state = DETACHED
        self._busy = False
        return tail

    def __repr__(self):
        return (
            f"<Decoder {self._format}: {STATE_NAMES[self._state]}, pending={self.pending}, needed={self.needed},"
            f" offset={self._offset}, skipped={self._skipped}>"
        )

    def __reduce__(self):
        raise _errors.not_copyable("Decoder")

    cdef int _enter(self, bint even_failed=False) except -1:
        if self._busy:
            raise _errors.busy()
        if self._format is None:
            raise _errors.not_initialised("Decoder")
        if self._state >= FAILED and not (even_failed and self._state == FAILED):
            raise self._failure.again() if self._failure is not None else _errors.closed(STATE_CLOSERS[self._state])
        self._busy = True
        return 0

    cdef bint _take_middle(self, bytes chunk) noexcept:
        """Take a chunk from the middle of a large frame, if that is all there is to do: half the time of a chunk of 1 KiB."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(chunk)
        if <uint64_t>length >= self._missing or length > PyBytes_GET_SIZE(<object>self._payload) - self._payload_length:
            return False
        if self._busy or self._unread is not None or self._block is not None or self._loan is not None:
            return False
        memcpy(PyBytes_AS_STRING(<object>self._payload) + self._payload_length, PyBytes_AS_STRING(chunk), length)
        self._payload_length += length
        self._received += length
        self._missing -= length
        return True

    cdef object _updated(self, object nbytes, bint in_place):
        """Return what was received. What came into a payload's own memory stays there if it may, and is not returned."""
        cdef object data = b""
        cdef Py_ssize_t room, length
        if self._block is None and self._room == 0:
            self._busy = False
            raise _errors.nothing_lent()
        room = self._room or len(self._block[0])
        if not 0 <= nbytes <= room:
            self._busy = False
            raise _errors.bad_count(nbytes, room)
        length = nbytes
        if self._block is not None:
            data = PyMemoryView_FromObject(self._block[0])[:length]  # while it lives, nobody can resize or borrow the block
        elif in_place:
            self._payload_length += length
            self._received += length
            self._missing -= length
        else:
            data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(<object>self._payload) + self._payload_length, length)
        self._take_back(True)
        return data

    cdef int _take_back(self, bint is_update=False) except -1:
        """End what `get_buffer` lent."""
        cdef Loan loan = self._loan
        self._room = 0
        if self._block is not None:
            give_back(self._block)
            self._block = None
        if loan is None:
            return 0
        if loan.end(self._view):
            self._loan = self._view = None
        elif not is_update or self._missing == 0:  # else it will be free when the next call begins, as uvloop's are
            self._loan = self._view = None
            self._copy_payload()
            if loan.is_held and self._missing == 0:
                self._hold_back = 1
        return 0

    cdef int _copy_payload(self) except -1:
        """Leave the payload's memory to whoever still sees it, and go on with a copy."""
        cdef PyObject *seen = self._payload
        self._payload = new_bytes(NULL, PyBytes_GET_SIZE(<object>seen))
        memcpy(PyBytes_AS_STRING(<object>self._payload), PyBytes_AS_STRING(<object>seen), self._payload_length)
        Py_XDECREF(seen)
        return 0

    cdef list _decode(self, object chunk, const uint8_t *data, Py_ssize_t end, Py_ssize_t most):
        cdef list frames = []
        cdef Py_ssize_t start = 0
        if not self._unread:
            if self._payload is not NULL and most:
                start = self._go_on(data, end, frames)
            if self._layout.is_plain and self._received == 0:
                start = self._decode_plain(data, start, end, frames, most)
            if start == end:
                self._busy = False
                return frames
        try:
            if not self._unread:
                self._decode_chunk(chunk, data, start, end, frames, most)
            else:
                self._unread.append(PyBytes_FromStringAndSize(<const char *>data, end))
                while self._unread and len(frames) < most:
                    chunk, start = self._unread.pop()
                    self._decode_chunk(chunk, start_of(chunk), start, len(chunk), frames, most)
                self._unread = self._unread or None
        except FrameError as error:
            raise self._fail(error, frames) from None
        self._busy = False
        return frames

    cdef Py_ssize_t _go_on(self, const uint8_t *data, Py_ssize_t end, list frames) except -1:
        cdef Py_ssize_t taken = end
        if <uint64_t>end >= self._missing:
            if self._layout.trailer_length:
                return 0
            taken = self._missing
        if taken:
            self._keep(data, taken, 0)
        if self._missing == 0:
            self._complete(frames)
        return taken

    cdef Py_ssize_t _decode_plain(
        self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
    ) except -1:
        """Decode what most formats look like, from a frame's border on; begin the last frame if it is good so far."""
        cdef Py_ssize_t start = pos
        cdef Py_ssize_t header_length = self._layout.header_length
        cdef uint64_t length
        pos = cut_frames(&self._layout, data, pos, end, frames, most)
        self._offset += pos - start
        if end - pos <= header_length or PyList_GET_SIZE(frames) >= most:
            return pos
        length = load(data + pos, self._layout.width, self._layout.big_endian)
        # Read again, since who shares the memory (mmap) may have changed it: a frame that ends in the chunk is not begun here.
        if length > self._layout.max_payload_length or length <= <uint64_t>(end - pos - header_length):
            return pos
        memcpy(self._head, data + pos, header_length)
        pos += header_length
        self._state = PAYLOAD
        self._head_length = header_length
        self._payload_total = <Py_ssize_t>length
        self._payload_length = end - pos
        self._received = header_length + self._payload_length
        self._missing = length - self._payload_length
        self._reserve(self._payload_length)
        memcpy(PyBytes_AS_STRING(<object>self._payload), data + pos, self._payload_length)
        return end

    cdef int _decode_chunk(
        self, object chunk, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
    ) except -1:
        cdef Py_ssize_t start
        while pos < end and len(frames) < most:
            if self._received == 0:
                start = pos
                pos = cut_frames(&self._layout, data, pos, end, frames, most)
                self._offset += pos - start
                if pos == end or len(frames) == most:
                    break
            pos = self._step_or_hold(data, pos, end, frames)
        if pos < end:
            if chunk is None or not PyBytes_CheckExact(chunk):  # the caller's memory
                chunk, pos = PyBytes_FromStringAndSize(<const char *>data + pos, end - pos), 0
            self._put_back(chunk, pos)
        return 0

    cdef Py_ssize_t _step_or_hold(self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames) except -1:
        cdef uint64_t received = self._received
        try:
            return self._step(data, pos, end, frames)
        except FrameError as error:
            error.hint = self._hint()  # now, while the header is here
            pos += self._received - received
            self._hold_unread(data + pos, end - pos)
            raise

    cdef Batch _decode_batch(self, bytes chunk):
        cdef Batch batch
        cdef const uint8_t *data
        cdef Py_ssize_t pos = 0
        cdef Py_ssize_t start, end
        if self._unread:
            chunk, self._unread = self._unread.join() + chunk, None
        batch = new_batch(chunk, 0 if self._state == SKIP else self._received, self._layout.trailer_length)
        data = start_of(chunk)
        end = PyBytes_GET_SIZE(chunk)
        try:
            if self._received:
                pos = self._finish_first(data, end, batch)
            while pos < end:
                start = pos
                pos = find_frames(&self._layout, data, pos, end, &batch.spans)
                self._offset += pos - start
                if pos < end:
                    start = pos
                    pos = self._step_or_hold(data, pos, end, [])
                    batch.skip(start, pos)
        except FrameError as error:
            batch.close()
            raise self._fail(error, list(batch)) from None
        batch.close()
        self._busy = False
        return batch

    cdef Py_ssize_t _finish_first(self, const uint8_t *data, Py_ssize_t end, Batch batch) except -1:
        """Go on with the frame that began in an earlier chunk."""
        cdef bytes held = self._head[:self._head_length]
        cdef uint64_t offset = self._offset
        cdef list first = []
        cdef Py_ssize_t pos = self._go_on(data, end, first) if self._payload is not NULL else 0
        if self._received:
            pos = self._step_or_hold(data, pos, end, first)
        if first:
            batch.add_first(held, first[0], self._offset - offset)
        else:
            batch.skip(0, pos)
        return pos

    cdef Py_ssize_t _step(self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames) except -1:
        cdef Py_ssize_t taken, take, trailer
        cdef uint64_t length
        while self._state == HEADER:
            if pos == end:
                return pos
            taken = min(wanted(&self._layout, self._received), end - pos)
            memcpy(self._head + self._head_length, data + pos, taken)
            self._head_length += taken
            self._received += taken
            pos += taken
            if read_header(&self._layout, self._head, self._received, &length):
                self._begin(length)
        take = end - pos
        if <uint64_t>take > self._missing:
            take = self._missing
        trailer = self._layout.trailer_length if <uint64_t>take == self._missing else 0
        if trailer and data[pos + take - 1] != b",":
            trailer, take = 0, take - 1
            self._keep(data + pos, take, 0)
            raise CorruptFrameError("netstring-comma", data[pos + take])
        self._keep(data + pos, take, trailer)
        if self._missing == 0:
            self._complete(frames)
        return pos + take

    cdef int _begin(self, uint64_t length) except -1:
        if length <= self._layout.max_payload_length:
            self._state = PAYLOAD
            self._payload_total = <Py_ssize_t>length
            if self._layout.strip >= 0:
                self._payload_total += self._head_length - self._layout.strip
        elif self._skip_oversize:
            self._state = SKIP
            self._skipped += 1
            self._head_length = 0
        else:
            raise FrameTooLargeError(length, self._layout.max_payload_length)
        self._missing = length + self._layout.trailer_length
        return 0

    cdef int _keep(self, const uint8_t *data, Py_ssize_t length, Py_ssize_t trailer) except -1:
        """Count `length` bytes as received, and keep those of a payload, which ends before the trailer."""
        cdef Py_ssize_t kept
        self._received += length
        self._missing -= length
        length -= trailer
        if self._state == SKIP or length == 0:
            return 0
        if self._payload is NULL:  # only now: a header costs nothing
            if self._head_length < self._layout.strip:  # more than the header is stripped
                kept = min(length, self._layout.strip - self._head_length)
                memcpy(self._head + self._head_length, data, kept)
                self._head_length += kept
                data += kept
                length -= kept
                if length == 0:
                    return 0
            kept = self._head_length - self._layout.strip if self._layout.strip >= 0 else 0
            self._reserve(kept + length)
            if kept:
                memcpy(PyBytes_AS_STRING(<object>self._payload), self._head + self._layout.strip, kept)
            self._payload_length = kept
        else:
            self._reserve(self._payload_length + length)
        memcpy(PyBytes_AS_STRING(<object>self._payload) + self._payload_length, data, length)
        self._payload_length += length
        return 0

    cdef int _reserve(self, Py_ssize_t length) except -1:
        """Make room for `length` bytes of payload, and more for those that are missing, in proportion to what has come."""
        cdef Py_ssize_t capacity
        if self._payload is NULL:
            self._payload = new_bytes(NULL, min(self._payload_total, max(length, FIRST_ALLOCATION)))
            return 0
        capacity = PyBytes_GET_SIZE(<object>self._payload)
        if length > capacity:
            _PyBytes_Resize(&self._payload, min(self._payload_total, max(length, 2 * capacity)))
        return 0

    cdef int _complete(self, list frames) except -1:
        cdef PyObject *payload
        if self._state == PAYLOAD:
            if self._payload is not NULL:
                payload, self._payload = self._payload, NULL  # append_object takes it, failing too
                append_object(frames, payload)
            elif self._layout.strip < 0:
                frames.append(b"")
            else:
                append_payload(frames, self._head + self._layout.strip, self._head_length - self._layout.strip)
        self._offset += self._received
        self._forget()
        self._state = HEADER
        return 0

    cdef void _forget(self) noexcept:
        cdef PyObject *payload = self._payload
        self._payload = NULL
        self._head_length = self._payload_length = self._payload_total = 0
        self._received = self._missing = 0
        Py_XDECREF(payload)

    cdef int _hold_unread(self, const uint8_t *rest, Py_ssize_t length) except -1:
        cdef Py_ssize_t kept = self._head_length
        cdef bytes held
        if self._payload is not NULL and self._layout.strip >= 0:
            kept = min(kept, self._layout.strip)
        held = self._head[:kept]
        if self._payload is not NULL:
            held += (<bytes>self._payload)[:self._payload_length]
        self._forget()
        if length:
            held += PyBytes_FromStringAndSize(<const char *>rest, length)
        if held:
            self._put_back(held, 0)
        return 0

    cdef int _put_back(self, bytes data, Py_ssize_t pos) except -1:
        self._unread = self._unread or Unread()
        self._unread.put_back(data, pos)
        return 0

    cdef object _hint(self):
        return hint(self._format, self._head[:self._head_length]) if self._offset == 0 else None

    cdef object _fail(self, object error, list frames):
        error.frames = frames
        error.offset = self._offset
        self._tail_lost = self._state == SKIP
        self._take_back()
        self._hold_unread(NULL, 0)
        self._failure = error.again()
        self._state = FAILED
        self._busy = False
        return error
