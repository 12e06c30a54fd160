# cython: language_level=3
"""Decoder for those who cimport it; see `_codec_c.pyx`."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from ._batch_c cimport FrameBatch as Batch
from ._memory_c cimport Loan
from ._wire_c cimport HEADER_ROOM, Layout

cdef enum State:
    HEADER
    PAYLOAD
    SKIP
    FAILED
    FINISHED
    DETACHED


cdef class Decoder:
    cdef object _format
    cdef Layout _layout
    cdef bint _skip_oversize

    cdef State _state
    cdef uint64_t _offset
    cdef uint8_t _head[HEADER_ROOM]
    cdef Py_ssize_t _head_length
    cdef PyObject *_payload  # a bytes object that only the decoder knows, so that it may grow
    cdef Py_ssize_t _payload_length
    cdef Py_ssize_t _payload_total  # what it has when it is whole
    cdef uint64_t _received
    cdef uint64_t _missing
    cdef uint64_t _skipped
    cdef object _unread
    cdef tuple _block  # lent by get_buffer(), or
    cdef Loan _loan  # and its view
    cdef object _view
    cdef Py_ssize_t _room  # how much of the payload's memory is lent, zero if it is a block
    cdef Py_ssize_t _hold_back
    cdef object _failure
    cdef bint _tail_lost
    cdef bint _busy

    # As `feed`, of memory that is the caller's; `max_frames` is at least 0, and PY_SSIZE_T_MAX for any number.
    cdef list feed_memory(self, const uint8_t *data, Py_ssize_t length, Py_ssize_t max_frames)

    cdef int _enter(self, bint even_failed=*) except -1
    cdef bint _take_middle(self, bytes chunk) noexcept
    cdef object _updated(self, object nbytes, bint in_place)
    cdef int _take_back(self, bint is_update=*) except -1
    cdef int _copy_payload(self) except -1
    cdef list _decode(self, object chunk, const uint8_t *data, Py_ssize_t end, Py_ssize_t most)
    cdef Py_ssize_t _go_on(self, const uint8_t *data, Py_ssize_t end, list frames) except -1
    cdef Py_ssize_t _decode_plain(
        self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
    ) except -1
    cdef int _decode_chunk(
        self, object chunk, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
    ) except -1
    cdef Py_ssize_t _step_or_hold(self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames) except -1
    cdef Batch _decode_batch(self, bytes chunk)
    cdef Py_ssize_t _finish_first(self, const uint8_t *data, Py_ssize_t end, Batch batch) except -1
    cdef Py_ssize_t _step(self, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames) except -1
    cdef int _begin(self, uint64_t length) except -1
    cdef int _keep(self, const uint8_t *data, Py_ssize_t length, Py_ssize_t trailer) except -1
    cdef int _reserve(self, Py_ssize_t length) except -1
    cdef int _complete(self, list frames) except -1
    cdef void _forget(self) noexcept
    cdef int _hold_unread(self, const uint8_t *rest, Py_ssize_t length) except -1
    cdef int _put_back(self, bytes data, Py_ssize_t pos) except -1
    cdef object _hint(self)
    cdef object _fail(self, object error, list frames)
