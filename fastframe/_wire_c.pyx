# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=False
"""What a frame looks like as bytes, compiled: length fields read and written, good frames found in a chunk.

`find` knows good frames only: it says where the next one is, or that it is not whole or not good. Telling which of the two, and
why, is the decoder's. `cut_frames` makes payloads of what is found, `find_frames` remembers the places.
"""

from ._errors import CorruptFrameError
from ._format import MAX_HEADER_LENGTH, MAX_NETSTRING_DIGITS, is_plain, value_limits

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from ._memory_c cimport _PyBytes_Resize, append_payload, new_bytes

assert MAX_DIGITS == MAX_NETSTRING_DIGITS
assert HEADER_ROOM > MAX_HEADER_LENGTH

cdef dict KINDS = {"fixed": FIXED, "varint": VARINT, "netstring": NETSTRING}

cdef enum:
    SOME_SPANS = 32


cdef int read_layout(Layout *layout, object format) except -1:
    min_value, max_value = value_limits(format)
    layout.kind = KINDS[format.kind]
    layout.is_plain = is_plain(format)
    layout.length_field_offset = format.length_field_offset
    layout.header_length = format.header_length or 0
    layout.width = layout.header_length - layout.length_field_offset if layout.kind == FIXED else 0
    layout.big_endian = format.byteorder == "big"
    layout.is_signed = format.signed
    layout.strip = -1 if format.initial_bytes_to_strip is None else format.initial_bytes_to_strip
    layout.max_varint_length = format.max_varint_length
    layout.trailer_length = format.trailer_length
    layout.length_adjustment = format.length_adjustment
    layout.min_value = min_value
    layout.value_span = max_value - min_value
    layout.min_payload_length = format.min_payload_length
    layout.max_payload_length = format.max_payload_length
    return 0


cdef Py_ssize_t store_varint(uint8_t *field, uint64_t value) noexcept nogil:
    cdef Py_ssize_t length = 0
    while value > 0x7F:
        field[length] = <uint8_t>value & 0x7F | 0x80
        value >>= 7
        length += 1
    field[length] = <uint8_t>value
    return length + 1


cdef Py_ssize_t store_digits(uint8_t *field, uint64_t value) except -1:
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


cdef Py_ssize_t wanted(const Layout *layout, Py_ssize_t received) noexcept nogil:
    if layout.kind == FIXED:
        return layout.header_length - received
    return max(1, layout.length_field_offset + 1 - received)


cdef bint read_header(const Layout *layout, const uint8_t *header, Py_ssize_t received, uint64_t *length) except -1:
    """Tell whether the header is whole; if so, set how many bytes follow the length field."""
    cdef uint64_t value
    if not read_value(layout, header, received, &value):
        return False
    length[0] = value + <uint64_t>layout.length_adjustment  # may wrap: each way is caught below
    if layout.is_signed and value >> (8 * layout.width - 1) == 1:
        raise CorruptFrameError("negative", <object>value - (<object>1 << 8 * layout.width))
    if layout.length_adjustment < 0 and value < <uint64_t>(-layout.length_adjustment):
        raise CorruptFrameError("below-header", value)
    if (layout.length_adjustment > 0 and length[0] < value) or length[0] > UINT64_MAX - layout.trailer_length:
        raise CorruptFrameError("overflow")
    if length[0] < layout.min_payload_length:
        raise CorruptFrameError("below-minimum", length[0])
    return True


cdef bint read_value(const Layout *layout, const uint8_t *header, Py_ssize_t received, uint64_t *value) except -1:
    cdef const uint8_t *field = header + layout.length_field_offset
    cdef Py_ssize_t held = received - layout.length_field_offset
    if layout.kind == FIXED:
        if received < layout.header_length:
            return False
        value[0] = load(field, layout.width, layout.big_endian)
        return True
    if held <= 0:
        return False
    return read_varint(layout, field, held, value) if layout.kind == VARINT else read_digits(field, held, value)


cdef bint read_varint(const Layout *layout, const uint8_t *field, Py_ssize_t held, uint64_t *value) except -1:
    cdef uint8_t byte = field[held - 1]
    cdef Py_ssize_t at
    if byte >= 0x80:
        if held == layout.max_varint_length:
            raise CorruptFrameError("varint-too-long", held)
        return False
    if byte == 0 and held > 1:
        raise CorruptFrameError("varint-over-long")
    if held == 10 and byte > 1:
        raise CorruptFrameError("overflow")
    value[0] = 0
    for at in range(held):
        value[0] |= <uint64_t>(field[at] & 0x7F) << (7 * at)
    return True


cdef bint read_digits(const uint8_t *field, Py_ssize_t held, uint64_t *value) except -1:
    cdef uint8_t byte = field[held - 1]
    if byte == b":" and held > 1:
        number = int(field[:held - 1])
        if number > UINT64_MAX:
            raise CorruptFrameError("overflow")
        value[0] = number
        return True
    if not b"0" <= byte <= b"9":
        raise CorruptFrameError("netstring-digit", byte)
    if held > 1 and field[0] == b"0":
        raise CorruptFrameError("netstring-leading-zero")
    if held > MAX_DIGITS:
        raise CorruptFrameError("netstring-too-long", MAX_DIGITS)
    return False


cdef Py_ssize_t cut_frames(
    const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t most
) except -1:
    """Append the payloads of good frames until `most` are there; return the position behind them."""
    cdef Py_ssize_t room = most - len(frames)
    cdef Place place
    if layout.is_plain:
        return cut_plain(layout, data, pos, end, frames, room)
    while room > 0 and find(layout, data, pos, end, &place):
        append_payload(frames, data + place.start, place.stop - place.start)
        pos = place.end
        room -= 1
    return pos


cdef Py_ssize_t cut_plain(
    const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, list frames, Py_ssize_t room
) except -1:
    """Do the same for what most formats look like. In a loop of its own, whose numbers stay in registers: 4 ns a frame less."""
    cdef const uint8_t *field = data + pos
    cdef Py_ssize_t left = end - pos
    cdef Py_ssize_t header_length = layout.header_length
    cdef uint64_t max_length = layout.max_payload_length
    cdef int width = layout.width
    cdef bint big_endian = layout.big_endian
    cdef uint64_t length
    while room > 0 and left >= header_length:
        length = load(field, width, big_endian)
        if length > max_length or <Py_ssize_t>length > left - header_length:
            break
        append_payload(frames, field + header_length, <Py_ssize_t>length)
        field += header_length + <Py_ssize_t>length
        left -= header_length + <Py_ssize_t>length
        room -= 1
    return end - left


cdef Py_ssize_t find_frames(const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, Spans *spans) except -1:
    """Remember where the payloads of good frames are; return the position behind them."""
    cdef Place place
    if layout.is_plain:
        return find_plain(layout, data, pos, end, spans)
    while find(layout, data, pos, end, &place):
        add_span(spans, spans.base + place.start, place.stop - place.start)
        pos = place.end
    return pos


cdef Py_ssize_t find_plain(const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, Spans *spans) except -1:
    cdef Py_ssize_t header_length = layout.header_length
    cdef uint64_t max_length = layout.max_payload_length
    cdef int width = layout.width
    cdef bint big_endian = layout.big_endian
    cdef int64_t base = spans.base
    cdef Py_ssize_t begin = pos
    cdef Py_ssize_t first = spans.count
    cdef Py_ssize_t count = first  # these stay in registers too, which writing through `spans` would not allow
    cdef Py_ssize_t room = spans.room
    cdef int64_t *offsets = spans.offsets
    cdef int64_t *lengths = spans.lengths
    cdef uint64_t length
    while end - pos >= header_length:
        length = load(data + pos, width, big_endian)
        if length > max_length or <Py_ssize_t>length > end - pos - header_length:
            break
        pos += header_length
        if count == room:
            spans.count = count
            # As many as there are if all are alike: fewer steps, and mostly none for nothing.
            grow(spans, <Py_ssize_t>(<double>(count - first) * (end - begin) / (pos - begin)))
            room, offsets, lengths = spans.room, spans.offsets, spans.lengths
        offsets[count] = base + pos
        lengths[count] = <int64_t>length
        count += 1
        pos += <Py_ssize_t>length
    spans.count = count
    return pos


cdef int add_span(Spans *spans, int64_t offset, int64_t length) except -1:
    if spans.count == spans.room:
        grow(spans, 0)
    spans.offsets[spans.count] = offset
    spans.lengths[spans.count] = length
    spans.count += 1
    return 0


cdef int trim(Spans *spans) except -1:
    """Give back the room that is not needed: what a batch takes has to do with the frames in it."""
    cdef Py_ssize_t size = spans.count * <Py_ssize_t>sizeof(int64_t)
    if spans.room > 2 * spans.count + SOME_SPANS:
        _PyBytes_Resize(&spans.offsets_owner, size)
        _PyBytes_Resize(&spans.lengths_owner, size)
        spans.offsets = <int64_t *>PyBytes_AS_STRING(<object>spans.offsets_owner)
        spans.lengths = <int64_t *>PyBytes_AS_STRING(<object>spans.lengths_owner)
        spans.room = spans.count
    return 0


cdef int grow(Spans *spans, Py_ssize_t wanted) except -1:
    """Make room for as many spans as are wanted, but twice to eight times as many as there are."""
    cdef Py_ssize_t room = min(max(wanted + SOME_SPANS, 2 * spans.room), 8 * spans.room) if spans.room else SOME_SPANS
    cdef Py_ssize_t size = room * <Py_ssize_t>sizeof(int64_t)
    if spans.room:
        _PyBytes_Resize(&spans.offsets_owner, size)
        _PyBytes_Resize(&spans.lengths_owner, size)
    else:
        spans.offsets_owner = new_bytes(NULL, size)
        spans.lengths_owner = new_bytes(NULL, size)
    spans.offsets = <int64_t *>PyBytes_AS_STRING(<object>spans.offsets_owner)
    spans.lengths = <int64_t *>PyBytes_AS_STRING(<object>spans.lengths_owner)
    spans.room = room
    return 0


cdef bint find(
    const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, Place *place
) noexcept nogil:
    """Say where the good frame that begins at `pos` is, or that there is none."""
    if layout.kind == FIXED:
        return find_fixed(layout, data, pos, end, place)
    if layout.kind == VARINT:
        return find_varint(layout, data, pos, end, place)
    return find_netstring(layout, data, pos, end, place)


cdef inline bint find_fixed(
    const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, Place *place
) noexcept nogil:
    cdef uint64_t value
    cdef Py_ssize_t length
    if end - pos < layout.header_length:
        return False
    value = load(data + pos + layout.length_field_offset, layout.width, layout.big_endian)
    if value - layout.min_value > layout.value_span:
        return False
    length = layout.header_length + <Py_ssize_t>value + layout.length_adjustment
    if length > end - pos:
        return False
    place.start = pos + layout.strip
    place.stop = place.end = pos + length
    return True


cdef inline bint find_varint(
    const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, Place *place
) noexcept nogil:
    cdef uint64_t value = 0
    cdef Py_ssize_t payload, length, limit
    cdef int shift = 0
    cdef uint8_t byte = 0x80
    if end - pos <= layout.length_field_offset:
        return False
    payload = pos + layout.length_field_offset
    limit = min(end, payload + layout.max_varint_length)
    while payload < limit:
        byte = data[payload]
        value |= <uint64_t>(byte & 0x7F) << shift
        payload += 1
        if byte < 0x80:
            break
        shift += 7
    if byte >= 0x80 or (byte == 0 and shift) or (shift == 63 and byte > 1):
        return False
    if value - layout.min_value > layout.value_span:
        return False
    length = <Py_ssize_t>value + layout.length_adjustment
    if length > end - payload:
        return False
    place.start = payload if layout.strip < 0 else pos + layout.strip
    place.stop = place.end = payload + length
    return True


cdef inline bint find_netstring(
    const Layout *layout, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, Place *place
) noexcept nogil:
    cdef uint64_t value = 0
    cdef Py_ssize_t payload = pos
    cdef Py_ssize_t limit = min(end, pos + MAX_DIGITS - 1)  # 19 digits cannot overflow, and the limit has no more
    while payload < limit and b"0" <= data[payload] <= b"9":
        value = value * 10 + (data[payload] - c"0")
        payload += 1
    if payload == pos or payload == end or data[payload] != b":" or (data[pos] == b"0" and payload - pos > 1):
        return False
    payload += 1
    if value > layout.value_span or <Py_ssize_t>value >= end - payload or data[payload + <Py_ssize_t>value] != b",":
        return False
    place.start = payload
    place.stop = payload + <Py_ssize_t>value
    place.end = place.stop + 1
    return True
