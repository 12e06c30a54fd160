# cython: language_level=3
"""Encoder for those who cimport it; see `_encoder_c.pyx`."""

from libc.stdint cimport int64_t, uint8_t

from ._wire_c cimport Layout


cdef class Encoder:
    cdef object _format
    cdef Layout _layout
    cdef bytes _leading
    cdef bint _payload_brings_header

    cdef bytes _encode(self, object data)
    cdef Py_ssize_t _full_header(self, uint8_t *header, int64_t length) except -1
    cdef Py_ssize_t _header_of(self, uint8_t *header, object data) except -1
