# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Encoder compiled: the translation of `_encoder_py.py`."""

import operator

from . import _errors
from ._errors import CorruptFrameError, FrameTooLargeError
from ._format import FrameFormat

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from ._memory_c cimport PY_SSIZE_T_MAX, PyList_GET_SIZE, contiguous, length_of, start_of
from ._wire_c cimport FIXED, HEADER_ROOM, VARINT, Layout, read_layout, store, store_digits, store_varint, varint_length


cdef extern from "Python.h":
    PyObject *PyList_GET_ITEM(list values, Py_ssize_t index)
    bint is_bytes "PyBytes_CheckExact"(PyObject *value)
    const uint8_t *bytes_start "(const uint8_t *)PyBytes_AS_STRING"(PyObject *value) nogil
    Py_ssize_t bytes_length "PyBytes_GET_SIZE"(PyObject *value) nogil


cdef class Encoder:
    """Encoder(format)\n--\n
    Encode payloads to frames, as the decoder of the same format takes them apart: `decode(encode(p)) == [p]`.

    A payload is what a decoder hands out. The encoder writes what the format strips: the leading bytes (`leading`), the length
    field, and zeros for bytes that are stripped beyond the header. Where less than the header is stripped, the payload brings
    the rest of the header itself, and the length field in it has to be right. An encoder keeps no state.
    """

    def __init__(self, format):
        if self._format is not None:
            raise _errors.not_initialised("Encoder")
        if not isinstance(format, FrameFormat):
            raise _errors.not_a_format(format)
        read_layout(&self._layout, format)
        self._format = format
        self._leading = format.leading
        self._payload_brings_header = format.payload_brings_header

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
        if PyBytes_CheckExact(payload) and fits_plainly(&self._layout, PyBytes_GET_SIZE(payload)):
            return plain_frame(&self._layout, start_of(payload), PyBytes_GET_SIZE(payload))
        return self._encode(payload if PyBytes_CheckExact(payload) else contiguous(payload))

    def encode_many(self, payloads):
        """Return the frames of all `payloads`, any iterable, one after the other; raise as `encode` does, all or nothing."""
        cdef uint8_t header[HEADER_ROOM]
        cdef Py_ssize_t length = 0
        cdef Py_ssize_t frame_length
        cdef list parts = []
        cdef bytes frames
        cdef uint8_t *target
        if self._layout.is_plain and type(payloads) is list:
            frames = put_plain_list(&self._layout, payloads, PY_SSIZE_T_MAX)
            if frames is not None:
                return frames
        for payload in payloads:
            # What may change is copied now: a generator may refill one buffer for each payload.
            data = payload if PyBytes_CheckExact(payload) else contiguous(payload).tobytes()
            frame_length = self._header_of(header, data) + length_of(data) + self._layout.trailer_length
            if frame_length > PY_SSIZE_T_MAX - length:
                raise MemoryError
            length += frame_length
            parts.append(data)
        frames = PyBytes_FromStringAndSize(NULL, length)
        target = <uint8_t *>PyBytes_AS_STRING(frames)
        for data in parts:
            target += self._header_of(target, data)  # where the payload brings a part of it, it overwrites that part
            memcpy(target, start_of(data), length_of(data))
            target += length_of(data)
            if self._layout.trailer_length:
                target[0] = b","
                target += 1
        return frames

    def encode_small(self, payloads, size):
        """Return the frames of a list of `bytes` objects that are shorter than `size` each, None if they are not that.

        For fronts, which hand larger ones to the kernel as they are. Raise as `encode` does.
        """
        cdef bytes frames
        if self._layout.is_plain and type(payloads) is list:
            frames = put_plain_list(&self._layout, payloads, size)
            if frames is not None:
                return frames
        for payload in payloads:
            if not PyBytes_CheckExact(payload) or PyBytes_GET_SIZE(payload) >= size:
                return None
        return self.encode_many(payloads)

    def encode_around(self, payload):
        """Return what stands before `payload` in its frame and what stands behind it, for those who send `payload` as it is.

        Raise as `encode` does.
        """
        cdef uint8_t header[HEADER_ROOM]
        cdef Py_ssize_t length = self._header_of(header, payload if PyBytes_CheckExact(payload) else contiguous(payload))
        return PyBytes_FromStringAndSize(<const char *>header, length), b"," if self._layout.trailer_length else b""

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
        length = header_length + length_of(data) + self._layout.trailer_length
        if length > length_of(buffer) - <Py_ssize_t>offset:
            raise _errors.no_room(length, length_of(buffer) - <Py_ssize_t>offset)
        target = <uint8_t *>start_of(buffer) + <Py_ssize_t>offset
        memmove(target + header_length, start_of(data), length_of(data))  # first: the header may overwrite what it reads
        memcpy(target, header, header_length)
        if self._layout.trailer_length:
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
        if self._layout.strip >= 0 and self._layout.kind != FIXED:
            longest = store_varint(header, self._layout.max_payload_length - self._layout.length_adjustment)
            length = payload_length - (self._layout.length_field_offset - self._layout.strip) - longest
            if length > self._layout.max_payload_length:
                raise FrameTooLargeError(length, self._layout.max_payload_length)
            return self._leading[:self._layout.strip]
        length = payload_length if self._layout.strip < 0 else payload_length + self._layout.strip - self._layout.header_length
        if length > PY_SSIZE_T_MAX:
            raise FrameTooLargeError(length, self._layout.max_payload_length)
        memset(header, 0, HEADER_ROOM)
        header_length = self._full_header(header, length)
        return PyBytes_FromStringAndSize(<const char *>header, header_length if self._layout.strip < 0 else self._layout.strip)

    def __repr__(self):
        return f"<Encoder {self._format}>"

    def __reduce__(self):
        return type(self), (self._format,)

    cdef bytes _encode(self, object data):
        cdef uint8_t header[HEADER_ROOM]
        cdef Py_ssize_t header_length = self._header_of(header, data)
        cdef Py_ssize_t length = header_length + length_of(data) + self._layout.trailer_length
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, length)
        cdef uint8_t *target = <uint8_t *>PyBytes_AS_STRING(frame)
        memcpy(target, header, header_length)
        memcpy(target + header_length, start_of(data), length_of(data))
        if self._layout.trailer_length:
            target[length - 1] = b","
        return frame

    cdef Py_ssize_t _full_header(self, uint8_t *header, int64_t length) except -1:
        """Write the whole header of a frame that has `length` bytes behind its length field; return the header's length."""
        cdef Py_ssize_t offset = self._layout.length_field_offset
        if self._format is None:
            raise _errors.not_initialised("Encoder")
        if length > <int64_t>self._layout.max_payload_length:
            raise FrameTooLargeError(length, self._layout.max_payload_length)
        if length < <int64_t>self._layout.min_payload_length:
            raise CorruptFrameError("below-minimum", length)
        memcpy(header, PyBytes_AS_STRING(self._leading), offset)
        if self._layout.kind == FIXED:
            store(header + offset, length - self._layout.length_adjustment, self._layout.width, self._layout.big_endian)
            return self._layout.header_length
        if self._layout.kind == VARINT:
            return offset + store_varint(header + offset, length - self._layout.length_adjustment)
        return store_digits(header, length)

    cdef Py_ssize_t _header_of(self, uint8_t *header, object data) except -1:
        """Write the whole header; return how much of it goes in front of `data`, whose own length field has to be right."""
        cdef const uint8_t *start = start_of(data)
        cdef Py_ssize_t length = length_of(data)
        cdef Py_ssize_t field, payload, begin
        if not self._payload_brings_header:
            if self._layout.kind != FIXED:
                return self._full_header(header, length)
            self._full_header(header, length + self._layout.strip - self._layout.header_length)
            if self._layout.strip > self._layout.header_length:
                memset(header + self._layout.header_length, 0, self._layout.strip - self._layout.header_length)
            return self._layout.strip
        field = self._layout.length_field_offset - self._layout.strip
        if self._layout.kind == FIXED:
            payload = self._layout.header_length - self._layout.strip
        else:
            payload = field + varint_length(start + field, length - field, self._layout.max_varint_length)
        self._full_header(header, length - payload)
        begin = max(field, 0)
        if memcmp(start + begin, header + self._layout.strip + begin, payload - begin) != 0:
            raise CorruptFrameError("mismatch", length - payload - self._layout.length_adjustment)
        return self._layout.strip


cdef inline bint fits_plainly(const Layout *layout, Py_ssize_t length) noexcept nogil:
    """Tell whether a frame is the length and so many bytes and nothing else; most are, and are written without a call."""
    return layout.is_plain and <uint64_t>length <= layout.max_payload_length


cdef inline uint8_t *put_plain(
    const Layout *layout, uint8_t *target, const uint8_t *payload, Py_ssize_t length
) noexcept nogil:
    """Write such a frame; return where it ends."""
    store(target, length, layout.width, layout.big_endian)
    memcpy(target + layout.header_length, payload, length)
    return target + layout.header_length + length


cdef inline object plain_frame(const Layout *layout, const uint8_t *payload, Py_ssize_t length):
    cdef object frame = PyBytes_FromStringAndSize(NULL, layout.header_length + length)
    put_plain(layout, <uint8_t *>PyBytes_AS_STRING(frame), payload, length)
    return frame


cdef bytes put_plain_list(const Layout *layout, list payloads, Py_ssize_t size):
    """Return the frames of bytes objects that all fit and are shorter than `size`, None if they do not and are not.

    References are borrowed: that saves 12 ns a payload.
    """
    cdef PyObject *payload
    cdef Py_ssize_t at
    cdef Py_ssize_t length = 0
    cdef bytes frames
    cdef uint8_t *target
    for at in range(PyList_GET_SIZE(payloads)):
        payload = PyList_GET_ITEM(payloads, at)
        if not is_bytes(payload) or bytes_length(payload) >= size or not fits_plainly(layout, bytes_length(payload)):
            return None
        if bytes_length(payload) > PY_SSIZE_T_MAX - layout.header_length - length:
            return None  # one object may stand in the list often enough
        length += layout.header_length + bytes_length(payload)
    frames = PyBytes_FromStringAndSize(NULL, length)
    target = <uint8_t *>PyBytes_AS_STRING(frames)
    for at in range(PyList_GET_SIZE(payloads)):
        payload = PyList_GET_ITEM(payloads, at)
        target = put_plain(layout, target, bytes_start(payload), bytes_length(payload))
    return frames
