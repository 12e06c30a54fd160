# cython: language_level=3
"""What a frame looks like as bytes; see `_wire_c.pyx`."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    HEADER_ROOM = 256  # MAX_HEADER_LENGTH, rounded up
    MAX_DIGITS = 20  # MAX_NETSTRING_DIGITS

cdef enum Kind:
    FIXED
    VARINT
    NETSTRING

cdef struct Layout:  # a FrameFormat in numbers
    Kind kind
    bint is_plain
    int width
    bint big_endian
    bint is_signed
    Py_ssize_t length_field_offset
    Py_ssize_t header_length  # of the fixed kind
    Py_ssize_t strip  # -1: the whole header, whose length varies
    Py_ssize_t max_varint_length
    Py_ssize_t trailer_length
    int64_t length_adjustment
    uint64_t min_value
    uint64_t value_span  # max_value - min_value, so that one unsigned comparison serves both
    uint64_t min_payload_length
    uint64_t max_payload_length

cdef struct Place:  # of a frame in a chunk: where its payload starts and stops, and where it does
    Py_ssize_t start
    Py_ssize_t stop
    Py_ssize_t end

cdef struct Spans:  # places of many payloads: two bytes objects that hold 64-bit numbers, and grow
    PyObject *offsets_owner
    PyObject *lengths_owner
    int64_t *offsets
    int64_t *lengths
    Py_ssize_t count
    Py_ssize_t room
    int64_t base  # what to add to a place in the chunk

cdef int read_layout(Layout *layout, object format) except -1
cdef Py_ssize_t store_varint(uint8_t *field, uint64_t value) noexcept nogil
cdef Py_ssize_t store_digits(uint8_t *field, uint64_t value) except -1
cdef Py_ssize_t varint_length(const uint8_t *varint, Py_ssize_t end, Py_ssize_t limit) except -1
cdef Py_ssize_t wanted(const Layout *layout, Py_ssize_t received) noexcept nogil
cdef bint read_header(const Layout *layout, const uint8_t *header, Py_ssize_t received, uint64_t *length) except -1
cdef Py_ssize_t cut_frames(
    const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
) except -1
cdef Py_ssize_t find_frames(const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, Spans *spans) except -1
cdef int add_span(Spans *spans, int64_t offset, int64_t length) except -1
cdef int trim(Spans *spans) except -1


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
    if width == 4 and big_endian:
        field[0] = <uint8_t>(value >> 24)
        field[1] = <uint8_t>(value >> 16)
        field[2] = <uint8_t>(value >> 8)
        field[3] = <uint8_t>value
        return
    for at in range(width):
        field[width - 1 - at if big_endian else at] = <uint8_t>value
        value >>= 8
