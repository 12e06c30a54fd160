# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Decoder and Encoder compiled: the translation of `_codec_py.py`, which is the specification and has the explanations.

Same names, same order. What differs: lengths are `uint64_t` until they have been compared with the limit, the payload at hand
is a bytes object that grows with what has come, and the global interpreter lock takes the place of the decoder's own.
"""

import operator
from collections import deque

from . import _errors
from ._errors import CorruptFrameError, FrameError, FrameTooLargeError, IncompleteFrameError
from ._format import MAX_NETSTRING_DIGITS, FrameFormat
from ._memory import append_piece, borrow, give_back, most_frames

from cpython.buffer cimport PyBuffer_IsContiguous
from cpython.bytearray cimport PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t newsize) except -1
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *string, Py_ssize_t length) except NULL


cdef extern from *:
    """
    /* Append a new bytes object. It becomes the list's own, and where the list has room nothing is checked or counted again:
     * that is what the physical limit in bench/limit.c does, too. */
    static inline int append_payload(PyObject *list, const uint8_t *start, Py_ssize_t length) {
        PyObject *payload = PyBytes_FromStringAndSize((const char *)start, length);
        Py_ssize_t count = PyList_GET_SIZE(list);
        int result;
        if (payload == NULL)
            return -1;
        if (count < ((PyListObject *)list)->allocated) {
            PyList_SET_ITEM(list, count, payload);
            Py_SET_SIZE((PyVarObject *)list, count + 1);
            return 0;
        }
        result = PyList_Append(list, payload);
        Py_DECREF(payload);
        return result;
    }
    """
    int append_payload(list frames, const uint8_t *start, Py_ssize_t length) except -1


IMPLEMENTATION = "cython"

cdef enum State:
    HEADER
    PAYLOAD
    SKIP
    FAILED
    FINISHED
    DETACHED

cdef enum Kind:
    FIXED
    VARINT
    NETSTRING

cdef dict KINDS = {"fixed": FIXED, "varint": VARINT, "netstring": NETSTRING}
STATE_NAMES = ("header", "payload", "skip", "failed", "finished", "detached")
STATE_CLOSERS = {FINISHED: "finish", DETACHED: "detach"}

cdef enum:
    MAX_DIGITS = 20
    HEADER_ROOM = 256  # MAX_HEADER_LENGTH, rounded up
    # A payload gets this much with its first byte, and twice as much whenever it is full. Pages that nothing was written to
    # stay with the kernel, so what is resident follows what has come; beginning with 64 KiB cost 1.4 times as much at 1 MiB.
    FIRST_ALLOCATION = 1 << 20
assert MAX_DIGITS == MAX_NETSTRING_DIGITS


cdef class Decoder:
    """Decoder(format, on_oversize='raise')\n--\n
    Decode frames from a stream that comes in chunks; the chunks' borders mean nothing.

    `format`: the `FrameFormat`. `on_oversize`: what to do with a frame over the limit, `"raise"` `FrameTooLargeError` or
    `"skip"` its bytes as they come, in no memory, count it in `skipped`, and go on.

    A decoder serves one stream, and one caller at a time. Two threads, or a call from within a call, raise `MisuseError`. After
    a `FrameError` it stays failed and raises the same again.
    """

    cdef object _format
    cdef bint _skip_oversize
    cdef Kind _kind
    cdef int _width
    cdef bint _big_endian
    cdef bint _signed
    cdef Py_ssize_t _length_field_offset
    cdef Py_ssize_t _header_length  # of the fixed kind
    cdef Py_ssize_t _strip  # -1: the whole header, whose length varies
    cdef Py_ssize_t _max_varint_length
    cdef Py_ssize_t _trailer_length
    cdef int64_t _length_adjustment
    cdef uint64_t _min_value
    cdef uint64_t _value_span  # max_value - min_value, so that one unsigned comparison serves both
    cdef uint64_t _min_payload_length
    cdef uint64_t _max_payload_length

    cdef State _state
    cdef uint64_t _offset
    cdef uint8_t _head[HEADER_ROOM]
    cdef Py_ssize_t _head_length
    cdef PyObject *_payload  # a bytes object that only the decoder knows, so that it may grow
    cdef Py_ssize_t _payload_length
    cdef uint64_t _received
    cdef uint64_t _missing
    cdef uint64_t _skipped
    cdef object _unread
    cdef Py_ssize_t _unread_start
    cdef Py_ssize_t _unread_length
    cdef tuple _block
    cdef object _failure
    cdef bint _tail_lost
    cdef bint _busy

    def __init__(self, format, on_oversize="raise"):
        if self._format is not None:
            raise _errors.not_initialised("Decoder")
        if not isinstance(format, FrameFormat):
            raise _errors.not_a_format(format)
        if on_oversize not in ("raise", "skip"):
            raise _errors.bad_on_oversize(on_oversize)
        self._format = format
        self._skip_oversize = on_oversize == "skip"
        self._kind = KINDS[format.kind]
        self._length_field_offset = format.length_field_offset
        self._header_length = format.header_length or 0
        self._width = self._header_length - self._length_field_offset if self._kind == FIXED else 0
        self._big_endian = format.byteorder == "big"
        self._signed = format.signed
        self._strip = -1 if format.initial_bytes_to_strip is None else format.initial_bytes_to_strip
        self._max_varint_length = format.max_varint_length
        self._trailer_length = format.trailer_length
        self._length_adjustment = format.length_adjustment
        self._min_value = max(0, format.min_payload_length - format.length_adjustment)
        self._value_span = format.max_payload_length - format.length_adjustment - self._min_value
        self._min_payload_length = format.min_payload_length
        self._max_payload_length = format.max_payload_length
        self._state = HEADER
        self._offset = 0
        self._skipped = 0
        self._forget()
        self._unread = None  # a deque, once there is something
        self._unread_start = self._unread_length = 0
        self._block = None
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
        return self._unread_length + (self._received if self._state == HEADER or self._state == PAYLOAD else 0)

    @property
    def needed(self):
        """The least number of bytes that allows progress, never past the frame's end; 0 if `feed(b"")` makes some."""
        if self._unread_length or self._state >= FAILED:
            return 0
        return self._wanted() if self._state == HEADER else self._missing

    def feed(self, chunk, max_frames=None):
        """Take a chunk and return every payload that is now complete, in order.

        `chunk`: any contiguous bytes-like object, of any length; the caller may reuse its memory afterwards. `max_frames`: stop
        after so many payloads and keep the rest undecoded; `feed(b"", max_frames)` goes on. Zero only stores.

        Raise `FrameError` (`FrameTooLargeError` or `CorruptFrameError`) at a bad frame, with the payloads before it in
        `frames`; the decoder is then failed. Raise TypeError or BufferError for a chunk that is not contiguous bytes,
        ValueError for a released memoryview or a negative `max_frames`, `MisuseError` when closed or in use. Anything else is
        a bug.
        """
        cdef Py_ssize_t most = PY_SSIZE_T_MAX if max_frames is None else most_frames(max_frames)
        cdef object data = chunk if PyBytes_CheckExact(chunk) else contiguous(chunk)
        self._enter()
        return self._decode(data, start_of(data), length_of(data), most)

    def get_buffer(self, sizehint=-1):
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
        self._busy = False
        return self._block[1]

    def buffer_updated(self, nbytes, max_frames=None):
        """Take `nbytes` bytes from the start of the memory lent by `get_buffer()`; otherwise as `feed`.

        Raise ValueError unless `nbytes` is from 0 to the length lent, `MisuseError` if nothing is lent, and what `feed` raises.
        """
        cdef Py_ssize_t most
        cdef object block
        cdef object view
        nbytes, most = operator.index(nbytes), most_frames(max_frames)
        self._enter()
        if self._block is None:
            self._busy = False
            raise _errors.nothing_lent()
        block = self._block[0]
        if not 0 <= nbytes <= PyByteArray_GET_SIZE(block):
            self._busy = False
            raise _errors.bad_count(nbytes, PyByteArray_GET_SIZE(block))
        view = PyMemoryView_FromObject(block)  # while it lives, nobody can resize or borrow the block
        self._return_block()
        return self._decode(view, start_of(view), nbytes, most)

    def finish(self):
        """Tell that the stream ended, which is right only at a frame boundary; the decoder is then closed.

        Raise `IncompleteFrameError` inside a frame, a skipped one too; `MisuseError` while `max_frames` left bytes undecoded
        (`feed` them first), and when closed or in use. Anything else is a bug.
        """
        self._enter()
        if self._unread_length:
            self._busy = False
            raise _errors.undecoded(self._unread_length)
        if self._received == 0:
            self._return_block()
            self._state = FINISHED
            self._busy = False
            return
        received = self._received  # from here on Python's numbers: a skipped frame may announce 2**64 - 1 bytes
        missing = self._wanted() if self._state == HEADER else self._missing
        raise self._fail(IncompleteFrameError(received, received + missing), [])

    def detach(self):
        """Hand over the `pending` bytes, exactly as they came, for another protocol to read; the decoder is then closed.

        After a `FrameError` they begin with the bad frame. Raise `MisuseError` when closed, in use, or in the middle of a
        skipped frame, whose bytes were not kept. Anything else is a bug.
        """
        cdef bytes tail
        if self._state != FAILED or self._busy:
            self._enter()
        if self._state == SKIP or self._tail_lost:
            self._busy = False
            raise _errors.skipped_bytes_gone()
        self._hold_unread(NULL, 0)
        tail = b"".join(self._unread or ())[self._unread_start:]
        self._unread = None
        self._unread_start = self._unread_length = 0
        self._return_block()
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

    cdef int _enter(self) except -1:
        if self._busy:
            raise _errors.busy()
        if self._format is None:
            raise _errors.not_initialised("Decoder")
        if self._state >= FAILED:
            raise self._failure.again() if self._failure is not None else _errors.closed(STATE_CLOSERS[self._state])
        self._busy = True
        return 0

    cdef list _decode(self, object chunk, const uint8_t *data, Py_ssize_t end, Py_ssize_t most):
        cdef list frames = []
        cdef Py_ssize_t start
        try:
            if not self._unread:
                self._decode_chunk(chunk, data, 0, end, frames, most)
            else:
                append_piece(self._unread, PyBytes_FromStringAndSize(<const char *>data, end))
                self._unread_length += end
                while self._unread and len(frames) < most:
                    start, self._unread_start = self._unread_start, 0
                    chunk = self._unread.popleft()
                    end = len(chunk)
                    self._unread_length -= end - start
                    self._decode_chunk(chunk, start_of(chunk), start, end, frames, most)
        except FrameError as error:
            raise self._fail(error, frames) from None
        self._busy = False
        return frames

    cdef int _decode_chunk(
        self, object chunk, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
    ) except -1:
        cdef uint64_t received
        while pos < end and len(frames) < most:
            if self._received == 0:
                pos = self._walk(data, pos, end, frames, most)
                if pos == end or len(frames) == most:
                    break
            received = self._received
            try:
                pos = self._step(data, pos, end, frames)
            except FrameError:
                pos += self._received - received
                self._hold_unread(data + pos, end - pos)
                raise
        if pos < end:
            if end - pos < end // 2 or not PyBytes_CheckExact(chunk):  # also copied: what is the caller's memory
                chunk, end, pos = PyBytes_FromStringAndSize(<const char *>data + pos, end - pos), end - pos, 0
            self._unread = deque() if self._unread is None else self._unread
            self._unread.appendleft(chunk)
            self._unread_start = pos
            self._unread_length += end - pos
        return 0

    cdef Py_ssize_t _walk(
        self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
    ) except -1:
        cdef Py_ssize_t start = pos
        if self._kind == FIXED:
            pos = self._walk_fixed(data, pos, end, frames, most)
        elif self._kind == VARINT:
            pos = self._walk_varint(data, pos, end, frames, most)
        else:
            pos = self._walk_netstring(data, pos, end, frames, most)
        self._offset += pos - start
        return pos

    cdef Py_ssize_t _walk_fixed(
        self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
    ) except -1:
        cdef Py_ssize_t header_length = self._header_length
        cdef Py_ssize_t strip = self._strip
        cdef uint64_t min_value = self._min_value
        cdef uint64_t value_span = self._value_span
        cdef Py_ssize_t length_adjustment = self._length_adjustment
        cdef const uint8_t *field = data + self._length_field_offset
        cdef int width = self._width
        cdef bint big_endian = self._big_endian
        cdef Py_ssize_t room = most - len(frames)
        cdef uint64_t value
        cdef Py_ssize_t length
        while room > 0 and end - pos >= header_length:
            value = load(field + pos, width, big_endian)
            if value - min_value > value_span:
                break
            length = header_length + <Py_ssize_t>value + length_adjustment
            if length > end - pos:
                break
            append_payload(frames, data + pos + strip, length - strip)
            pos += length
            room -= 1
        return pos

    cdef Py_ssize_t _walk_varint(
        self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
    ) except -1:
        cdef uint64_t value
        cdef Py_ssize_t start, payload, length, limit
        cdef int shift
        cdef uint8_t byte
        while len(frames) < most and end - pos > self._length_field_offset:
            start = pos + self._length_field_offset
            limit = min(end, start + self._max_varint_length)
            value = shift = byte = 0
            payload = start
            for payload in range(start, limit):
                byte = data[payload]
                value |= <uint64_t>(byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
            if byte >= 0x80 or (byte == 0 and shift) or (shift == 63 and byte > 1):
                break
            if value - self._min_value > self._value_span:
                break
            payload += 1
            length = <Py_ssize_t>value + self._length_adjustment
            if length > end - payload:
                break
            start = payload if self._strip < 0 else pos + self._strip
            pos = payload + length
            append_payload(frames, data + start, pos - start)
        return pos

    cdef Py_ssize_t _walk_netstring(
        self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
    ) except -1:
        cdef uint64_t value
        cdef Py_ssize_t payload, limit
        while len(frames) < most:
            value = 0
            limit = min(end, pos + MAX_DIGITS - 1)  # 19 digits cannot overflow; the 20th is left to _step
            payload = pos
            while payload < limit and b"0" <= data[payload] <= b"9":
                value = value * 10 + (data[payload] - c"0")
                payload += 1
            if payload == pos or payload == end or data[payload] != b":" or (data[pos] == b"0" and payload - pos > 1):
                break
            payload += 1
            if value > self._value_span or <Py_ssize_t>value >= end - payload or data[payload + value] != b",":
                break
            append_payload(frames, data + payload, value)
            pos = payload + value + 1
        return pos

    cdef Py_ssize_t _step(self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames) except -1:
        cdef Py_ssize_t taken, take, trailer
        while self._state == HEADER:
            if pos == end:
                return pos
            taken = min(self._wanted(), end - pos)
            memcpy(self._head + self._head_length, data + pos, taken)
            self._head_length += taken
            self._received += taken
            pos += taken
            self._read_length()
        take = end - pos
        if <uint64_t>take > self._missing:
            take = self._missing
        trailer = self._trailer_length if <uint64_t>take == self._missing else 0
        if trailer and data[pos + take - 1] != b",":
            trailer, take = 0, take - 1
            self._keep(data + pos, take, 0)
            raise CorruptFrameError("netstring-comma", data[pos + take])
        self._keep(data + pos, take, trailer)
        if self._missing == 0:
            self._complete(frames)
        return pos + take

    cdef Py_ssize_t _wanted(self) noexcept:
        if self._kind == FIXED:
            return self._header_length - <Py_ssize_t>self._received
        return max(1, self._length_field_offset + 1 - <Py_ssize_t>self._received)

    cdef int _read_length(self) except -1:
        """Begin the frame at hand if its length field is whole."""
        cdef Py_ssize_t held = <Py_ssize_t>self._received - self._length_field_offset
        cdef const uint8_t *field = self._head + self._length_field_offset
        cdef uint64_t value
        if self._kind == FIXED:
            if self._wanted():
                return 0
            value = load(field, self._width, self._big_endian)
            return self._begin(value, self._signed and value >> (8 * self._width - 1) == 1)
        if held <= 0:
            return 0
        return self._read_varint(field, held) if self._kind == VARINT else self._read_digits(field, held)

    cdef int _read_varint(self, const uint8_t *field, Py_ssize_t held) except -1:
        cdef uint8_t byte = field[held - 1]
        cdef uint64_t value = 0
        cdef Py_ssize_t at
        if byte >= 0x80:
            if held == self._max_varint_length:
                raise CorruptFrameError("varint-too-long", held)
            return 0
        if byte == 0 and held > 1:
            raise CorruptFrameError("varint-over-long")
        if held == 10 and byte > 1:
            raise CorruptFrameError("overflow")
        for at in range(held):
            value |= <uint64_t>(field[at] & 0x7F) << (7 * at)
        return self._begin(value, False)

    cdef int _read_digits(self, const uint8_t *field, Py_ssize_t held) except -1:
        cdef uint8_t byte = field[held - 1]
        if byte == b":" and held > 1:
            value = int(field[:held - 1])
            if value > UINT64_MAX:
                raise CorruptFrameError("overflow")
            return self._begin(value, False)
        if not b"0" <= byte <= b"9":
            raise CorruptFrameError("netstring-digit", byte)
        if held > 1 and field[0] == b"0":
            raise CorruptFrameError("netstring-leading-zero")
        if held > MAX_DIGITS:
            raise CorruptFrameError("netstring-too-long", MAX_DIGITS)
        return 0

    cdef int _begin(self, uint64_t value, bint negative) except -1:
        cdef uint64_t length = value + <uint64_t>self._length_adjustment  # may wrap: each way is caught below
        if negative:
            raise CorruptFrameError("negative", <object>value - (<object>1 << 8 * self._width))
        if self._length_adjustment < 0 and value < <uint64_t>(-self._length_adjustment):
            raise CorruptFrameError("below-header", value)
        if (self._length_adjustment > 0 and length < value) or length > UINT64_MAX - self._trailer_length:
            raise CorruptFrameError("overflow")
        if length < self._min_payload_length:
            raise CorruptFrameError("below-minimum", length)
        if length <= self._max_payload_length:
            self._state = PAYLOAD
        elif self._skip_oversize:
            self._state = SKIP
            self._skipped += 1
            self._head_length = 0
        else:
            raise FrameTooLargeError(length, self._max_payload_length)
        self._missing = length + self._trailer_length
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
            if self._head_length < self._strip:  # more than the header is stripped
                kept = min(length, self._strip - self._head_length)
                memcpy(self._head + self._head_length, data, kept)
                self._head_length += kept
                data += kept
                length -= kept
                if length == 0:
                    return 0
            kept = self._head_length - self._strip if self._strip >= 0 else 0
            self._reserve(kept + length)
            memcpy(PyBytes_AS_STRING(<object>self._payload), self._head + self._strip, kept)
            self._payload_length = kept
        else:
            self._reserve(self._payload_length + length)
        memcpy(PyBytes_AS_STRING(<object>self._payload) + self._payload_length, data, length)
        self._payload_length += length
        return 0

    cdef int _reserve(self, Py_ssize_t length) except -1:
        """Make room for `length` bytes of payload, and more for those that are missing, in proportion to what has come."""
        cdef Py_ssize_t total = length
        cdef Py_ssize_t capacity
        if self._missing:
            total += self._missing - self._trailer_length
        if self._payload is NULL:
            self._payload = new_bytes(NULL, min(total, max(length, FIRST_ALLOCATION)))
            return 0
        capacity = PyBytes_GET_SIZE(<object>self._payload)
        if length > capacity:
            _PyBytes_Resize(&self._payload, min(total, max(length, 2 * capacity)))
        return 0

    cdef int _complete(self, list frames) except -1:
        if self._state == PAYLOAD:
            if self._payload is not NULL:
                frames.append(<bytes>self._payload)
            elif self._strip < 0:
                frames.append(b"")
            else:
                append_payload(frames, self._head + self._strip, self._head_length - self._strip)
        self._offset += self._received
        self._forget()
        self._state = HEADER
        return 0

    cdef int _return_block(self) except -1:
        if self._block is not None:
            give_back(self._block)
            self._block = None
        return 0

    cdef void _forget(self) noexcept:
        cdef PyObject *payload = self._payload
        self._payload = NULL
        self._head_length = self._payload_length = 0
        self._received = self._missing = 0
        Py_XDECREF(payload)

    cdef int _hold_unread(self, const uint8_t *rest, Py_ssize_t length) except -1:
        cdef Py_ssize_t kept = self._head_length
        cdef bytes held
        if self._payload is not NULL and self._strip >= 0:
            kept = min(kept, self._strip)
        held = self._head[:kept]
        if self._payload is not NULL:
            held += (<bytes>self._payload)[:self._payload_length]
        self._forget()
        if length:
            held += PyBytes_FromStringAndSize(<const char *>rest, length)
        if held:
            self._unread = deque() if self._unread is None else self._unread
            self._unread.appendleft(held)
            self._unread_length += len(held)
        return 0

    cdef object _fail(self, object error, list frames):
        error.frames = frames
        error.offset = self._offset
        self._tail_lost = self._state == SKIP
        self._hold_unread(NULL, 0)
        self._return_block()
        self._failure = error.again()
        self._state = FAILED
        self._busy = False
        return error


cdef class Encoder:
    """Encoder(format)\n--\n
    Encode payloads to frames, as the decoder of the same format takes them apart: `decode(encode(p)) == [p]`.

    A payload is what a decoder hands out. The encoder writes what the format strips: the leading bytes (`leading`), the length
    field, and zeros for bytes that are stripped beyond the header. Where less than the header is stripped, the payload brings
    the rest of the header itself, and the length field in it has to be right. An encoder keeps no state.
    """

    cdef object _format
    cdef Kind _kind
    cdef int _width
    cdef bint _big_endian
    cdef bint _carries_length
    cdef bytes _leading
    cdef Py_ssize_t _length_field_offset
    cdef Py_ssize_t _header_length
    cdef Py_ssize_t _strip
    cdef Py_ssize_t _max_varint_length
    cdef Py_ssize_t _trailer_length
    cdef int64_t _length_adjustment
    cdef uint64_t _min_payload_length
    cdef uint64_t _max_payload_length

    def __init__(self, format):
        if self._format is not None:
            raise _errors.not_initialised("Encoder")
        if not isinstance(format, FrameFormat):
            raise _errors.not_a_format(format)
        self._format = format
        self._kind = KINDS[format.kind]
        self._leading = format.leading
        self._length_field_offset = format.length_field_offset
        self._header_length = format.header_length or 0
        self._width = self._header_length - self._length_field_offset if self._kind == FIXED else 0
        self._big_endian = format.byteorder == "big"
        self._strip = -1 if format.initial_bytes_to_strip is None else format.initial_bytes_to_strip
        self._max_varint_length = format.max_varint_length
        self._trailer_length = format.trailer_length
        self._length_adjustment = format.length_adjustment
        self._min_payload_length = format.min_payload_length
        self._max_payload_length = format.max_payload_length
        self._carries_length = self._strip >= 0 and (self._kind != FIXED or self._strip < self._header_length)

    @property
    def format(self):
        """The `FrameFormat` that is encoded."""
        return self._format

    def encode(self, payload):
        """Return the frame that carries `payload`, any contiguous bytes-like object.

        Raise `FrameTooLargeError` over the limit, `CorruptFrameError` for a payload that this format cannot carry (too short,
        or with a length field in it that is not right), TypeError or BufferError for what is not contiguous bytes. Anything
        else is a bug.
        """
        cdef uint8_t header[HEADER_ROOM]
        cdef object data = payload if PyBytes_CheckExact(payload) else contiguous(payload)
        cdef Py_ssize_t header_length = self._header_of(header, data)
        cdef Py_ssize_t length = header_length + length_of(data) + self._trailer_length
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, length)
        cdef uint8_t *target = <uint8_t *>PyBytes_AS_STRING(frame)
        memcpy(target, header, header_length)
        memcpy(target + header_length, start_of(data), length_of(data))
        if self._trailer_length:
            target[length - 1] = b","
        return frame

    def encode_many(self, payloads):
        """Return the frames of all `payloads`, any iterable, one after the other; raise as `encode` does, all or nothing."""
        cdef uint8_t header[HEADER_ROOM]
        cdef list parts = []
        cdef object data
        cdef Py_ssize_t length = 0
        cdef bytes frames
        cdef uint8_t *target
        for payload in payloads:
            data = payload if PyBytes_CheckExact(payload) else contiguous(payload).tobytes()
            length += self._header_of(header, data) + length_of(data) + self._trailer_length
            parts.append(data)
        frames = PyBytes_FromStringAndSize(NULL, length)
        target = <uint8_t *>PyBytes_AS_STRING(frames)
        for data in parts:
            target += self._header_of(target, data)  # where the payload brings a part of it, it overwrites that part
            memcpy(target, start_of(data), length_of(data))
            target += length_of(data)
            if self._trailer_length:
                target[0] = b","
                target += 1
        return frames

    def encode_into(self, buffer, offset, payload):
        """Write the frame that carries `payload` into `buffer` from byte `offset` on; return the frame's length in bytes.

        The payload may overlap the place where it goes. Raise ValueError, and write nothing, if the frame does not fit or
        `offset` is outside the buffer; BufferError if it is read-only; and what `encode` raises. Anything else is a bug.
        """
        cdef uint8_t header[HEADER_ROOM]
        cdef uint8_t *target
        cdef Py_ssize_t header_length, length
        offset = operator.index(offset)
        buffer = contiguous(buffer, True)
        data = contiguous(payload)
        header_length = self._header_of(header, data)
        if not 0 <= offset <= length_of(buffer):
            raise _errors.bad_offset(offset, length_of(buffer))
        length = header_length + length_of(data) + self._trailer_length
        if length > length_of(buffer) - <Py_ssize_t>offset:
            raise _errors.no_room(length, length_of(buffer) - <Py_ssize_t>offset)
        target = <uint8_t *>start_of(buffer) + <Py_ssize_t>offset
        memmove(target + header_length, start_of(data), length_of(data))  # first: the header may overwrite what it reads
        memcpy(target, header, header_length)
        if self._trailer_length:
            target[length - 1] = b","
        return length

    def header(self, payload_length):
        """Return the bytes that go in front of a payload of `payload_length` bytes: for gathered writes and sendfile.

        Empty where the format strips nothing, since a payload then brings its header. A netstring's comma goes behind the
        payload. Raise `FrameTooLargeError` or `CorruptFrameError` for a length that the format cannot carry, ValueError for a
        negative one. Anything else is a bug.
        """
        cdef uint8_t header[HEADER_ROOM]
        cdef Py_ssize_t header_length
        payload_length = operator.index(payload_length)
        if payload_length < 0:
            raise _errors.bad_length(payload_length)
        if self._strip >= 0 and self._kind != FIXED:
            longest = store_varint(header, self._max_payload_length - self._length_adjustment)
            length = payload_length - (self._length_field_offset - self._strip) - longest
            if length > self._max_payload_length:
                raise FrameTooLargeError(length, self._max_payload_length)
            return self._leading[:self._strip]
        length = payload_length if self._strip < 0 else payload_length + self._strip - self._header_length
        if length > PY_SSIZE_T_MAX:
            raise FrameTooLargeError(length, self._max_payload_length)
        memset(header, 0, HEADER_ROOM)
        header_length = self._full_header(header, length)
        return PyBytes_FromStringAndSize(<const char *>header, header_length if self._strip < 0 else self._strip)

    def __repr__(self):
        return f"<Encoder {self._format}>"

    def __reduce__(self):
        return type(self), (self._format,)

    cdef Py_ssize_t _full_header(self, uint8_t *header, int64_t length) except -1:
        """Write the whole header of a frame that has `length` bytes behind its length field; return the header's length."""
        cdef Py_ssize_t offset = self._length_field_offset
        if self._format is None:
            raise _errors.not_initialised("Encoder")
        if length > <int64_t>self._max_payload_length:
            raise FrameTooLargeError(length, self._max_payload_length)
        if length < <int64_t>self._min_payload_length:
            raise CorruptFrameError("below-minimum", length)
        memcpy(header, PyBytes_AS_STRING(self._leading), offset)
        if self._kind == FIXED:
            store(header + offset, length - self._length_adjustment, self._width, self._big_endian)
            return self._header_length
        if self._kind == VARINT:
            return offset + store_varint(header + offset, length - self._length_adjustment)
        return store_digits(header, length)

    cdef Py_ssize_t _header_of(self, uint8_t *header, object data) except -1:
        """Write the whole header; return how much of it goes in front of `data`, whose own length field has to be right."""
        cdef const uint8_t *start = start_of(data)
        cdef Py_ssize_t length = length_of(data)
        cdef Py_ssize_t field, payload, begin
        if not self._carries_length:
            if self._kind != FIXED:
                return self._full_header(header, length)
            self._full_header(header, length + self._strip - self._header_length)
            if self._strip > self._header_length:
                memset(header + self._header_length, 0, self._strip - self._header_length)
            return self._strip
        field = self._length_field_offset - self._strip
        if self._kind == FIXED:
            payload = self._header_length - self._strip
        else:
            payload = field + varint_length(start + field, length - field, self._max_varint_length)
        self._full_header(header, length - payload)
        begin = max(field, 0)
        if memcmp(start + begin, header + self._strip + begin, payload - begin) != 0:
            raise CorruptFrameError("mismatch", length - payload - self._length_adjustment)
        return self._strip


cdef object contiguous(object value, bint writable=False):
    """Return a view of the bytes of `value`, or raise the error that says why there is none."""
    cdef object view
    try:
        view = PyMemoryView_FromObject(value)
    except TypeError:
        raise _errors.not_a_buffer(value) from None
    if not PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(view), c"C") or (
        writable and PyMemoryView_GET_BUFFER(view).readonly
    ):
        raise _errors.not_a_buffer(value, writable=writable)
    return view


cdef inline const uint8_t *start_of(object data) noexcept:
    """Return where the bytes of a bytes object or a contiguous memoryview are."""
    if PyBytes_CheckExact(data):
        return <const uint8_t *>PyBytes_AS_STRING(data)
    return <const uint8_t *>PyMemoryView_GET_BUFFER(data).buf


cdef inline Py_ssize_t length_of(object data) noexcept:
    if PyBytes_CheckExact(data):
        return PyBytes_GET_SIZE(data)
    return PyMemoryView_GET_BUFFER(data).len


cdef inline uint64_t load(const uint8_t *field, int width, bint big_endian) noexcept nogil:
    """Read an unsigned integer of `width` bytes. The compiler knows the spelt-out ones as one load and one swap."""
    cdef uint64_t value = 0
    cdef int at
    if width == 4:
        if big_endian:
            return <uint64_t>field[0] << 24 | field[1] << 16 | field[2] << 8 | field[3]
        return <uint64_t>field[3] << 24 | field[2] << 16 | field[1] << 8 | field[0]
    for at in range(width):
        value = value << 8 | field[at if big_endian else width - 1 - at]
    return value


cdef inline void store(uint8_t *field, uint64_t value, int width, bint big_endian) noexcept nogil:
    cdef int at
    for at in range(width):
        field[width - 1 - at if big_endian else at] = <uint8_t>value
        value >>= 8


cdef Py_ssize_t store_varint(uint8_t *field, uint64_t value) noexcept nogil:
    cdef Py_ssize_t length = 0
    while value > 0x7F:
        field[length] = <uint8_t>value & 0x7F | 0x80
        value >>= 7
        length += 1
    field[length] = <uint8_t>value
    return length + 1


cdef Py_ssize_t store_digits(uint8_t *field, uint64_t value):
    cdef bytes digits = b"%d:" % value
    memcpy(field, PyBytes_AS_STRING(digits), len(digits))
    return len(digits)


cdef Py_ssize_t varint_length(const uint8_t *varint, Py_ssize_t end, Py_ssize_t limit) except -1:
    """Return how many bytes the varint takes, which ends before `end`."""
    cdef Py_ssize_t at
    for at in range(min(end, limit)):
        if varint[at] < 0x80:
            return at + 1
    raise CorruptFrameError("varint-too-long", limit)
