# cython: language_level=3
"""FrameBatch for those who cimport it; see `_batch_c.pyx`."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t

from ._wire_c cimport Spans


cdef class FrameBatch:
    cdef bytes _chunk
    cdef int64_t _base
    cdef bytes _held  # the first bytes of data, as far as they are not in front
    cdef bytes _front  # the payload that begins before the chunk
    cdef Spans spans  # in data
    cdef int64_t _start  # in data: where the first frame begins, and where the last one ends
    cdef int64_t _stop
    cdef list _gaps  # in data: what was skipped; None if nothing was
    cdef Py_ssize_t _trailer  # bytes of a frame behind its payload
    cdef bytes _data

    # Payload `index`, from 0 to `spans.count` - 1: where it is, while the batch lives, and its length.
    cdef const uint8_t *payload(self, Py_ssize_t index, Py_ssize_t *length) noexcept

    cdef int add_first(self, bytes held, bytes payload, int64_t frame_length) except -1
    cdef int skip(self, int64_t start, int64_t stop) except -1
    cdef int close(self) except -1

    cdef Py_ssize_t _index(self, object index) except -1
    cdef int64_t _end_of(self, Py_ssize_t index) noexcept
    cdef object _numbers(self, PyObject *numbers)
    cdef FrameBatch _slice(self, slice index)
    cdef bytes _views(self)


cdef FrameBatch new_batch(bytes chunk, int64_t base, Py_ssize_t trailer)
