# cython: language_level=3, boundscheck=False, cdivision=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""FrameBatch compiled: the translation of `_batch_py.py`, which has the explanations. A batch collects itself here."""

import operator

from . import _errors
from ._arrow import INLINE_LENGTH, MAX_LENGTH, WINDOW_SIZE, windows

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

from ._arrow_c cimport export_views
from ._wire_c cimport add_span, trim

cdef enum:
    INLINE_SIZE = 12
    MAX_VIEW = 0x7FFFFFFF
    WINDOW = 1 << 30
assert (INLINE_SIZE, MAX_VIEW, WINDOW) == (INLINE_LENGTH, MAX_LENGTH, WINDOW_SIZE)

cdef struct View:  # Arrow's, of a payload that is not in it itself
    int32_t length
    uint8_t prefix[4]
    int32_t memory
    int32_t offset


@cython.no_gc  # it refers to bytes and numbers only
cdef class FrameBatch:
    """FrameBatch()\n--\n
    Many payloads in the memory they came in: a sequence of bytes that makes an object only of what is asked for.

    `Decoder.feed_batch` makes it. It stays valid for ever, whatever the decoder does next or the caller does with the chunk,
    and it keeps the whole chunk alive; `batch[i]` of a few payloads is the way to keep only those.
    """

    def __init__(self):
        raise _errors.not_constructible("FrameBatch", "Decoder.feed_batch")

    def __dealloc__(self):
        Py_XDECREF(self.spans.offsets_owner)
        Py_XDECREF(self.spans.lengths_owner)

    def __len__(self):
        return self.spans.count

    def __getitem__(self, index):
        cdef const uint8_t *start
        cdef Py_ssize_t length
        cdef Py_ssize_t at
        if isinstance(index, slice):
            return self._slice(index)
        at = self._index(index)
        start = self.payload(at, &length)
        if self.spans.offsets[at] < self._base:
            return self._front
        return PyBytes_FromStringAndSize(<const char *>start, length)

    def __iter__(self):
        for index in range(self.spans.count):
            yield self[index]

    def view(self, index):
        """Return a read-only memoryview of payload `index`, which keeps its memory alive; raise IndexError if there is none."""
        cdef Py_ssize_t at = self._index(index)
        cdef int64_t start = self.spans.offsets[at] - self._base
        if start < 0:
            return memoryview(self._front)
        return memoryview(self._chunk)[start:start + self.spans.lengths[at]]

    @property
    def offsets(self):
        """Where each payload begins in `data`: a read-only memoryview of 64-bit integers (format `q`)."""
        return self._numbers(self.spans.offsets_owner)

    @property
    def lengths(self):
        """How many bytes each payload has: a read-only memoryview of 64-bit integers (format `q`)."""
        return self._numbers(self.spans.lengths_owner)

    @property
    def data(self):
        """The memory that `offsets` speak of.

        It is the chunk itself if that was bytes and the first frame began in it; otherwise it is made when first asked for.
        """
        if self._data is None:
            self._data = (self._held + self._front)[:self._base] + self._chunk if self._base else self._chunk
        return self._data

    @property
    def wire(self):
        """The frames as they came, headers and all, back to back: what a relay forwards in one write. Read-only."""
        cdef list parts = []
        start = self._start
        for gap_start, gap_stop in self._gaps or ():
            if start < gap_start < self._stop:
                parts.append(memoryview(self.data)[start:gap_start])
                start = gap_stop
        if start == 0 and self._stop == len(self.data):
            return memoryview(self.data)
        last = memoryview(self.data)[start:self._stop]
        return memoryview(b"".join([*parts, last])) if parts else last

    @property
    def wire_parts(self):
        """The bytes of `wire` in the pieces that they lie in, for a gathered write: a large first payload is not copied."""
        end = len(self._held) + len(self._front)
        if not (self._base or self._start or self._gaps) and self._stop == len(self._chunk):
            return [self._chunk]
        cut = any(gap_start < self._stop for gap_start, _ in self._gaps or ())
        if cut or self._start or not self._front or self.spans.offsets[0] != len(self._held):
            return [self.wire]
        parts = [self._held, self._front, memoryview(self._chunk)[end - self._base:self._stop - self._base]]
        return [part for part in parts if part]

    def __arrow_c_array__(self, requested_schema=None):
        """Return the payloads as an Arrow `binary_view` array, in two capsules; the payloads' bytes are not copied.

        `requested_schema`: a wish that Arrow's protocol allows to ignore, and this does. Raise OverflowError if a payload has
        2 GiB or more, which Arrow cannot say, ImportError if the pure codec finds no pyarrow, which it needs for this. Source:
        arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
        """
        return export_views(self.spans.count, self._views(), [memoryview(self._front), *windows(self._chunk)])

    def __repr__(self):
        return f"<FrameBatch: {self.spans.count} frames in {self._stop - self._start} bytes>"

    def __reduce__(self):
        raise _errors.not_copyable("FrameBatch")

    cdef Py_ssize_t _index(self, object index) except -1:
        index = operator.index(index)
        if index < 0:
            index += self.spans.count
        if not 0 <= index < self.spans.count:
            raise _errors.no_such_frame()
        return index

    cdef const uint8_t *payload(self, Py_ssize_t index, Py_ssize_t *length) noexcept:
        cdef int64_t start = self.spans.offsets[index] - self._base
        length[0] = self.spans.lengths[index]
        return <const uint8_t *>(PyBytes_AS_STRING(self._front) if start < 0 else PyBytes_AS_STRING(self._chunk) + start)

    cdef int64_t _end_of(self, Py_ssize_t index) noexcept:
        return self.spans.offsets[index] + self.spans.lengths[index] + self._trailer

    cdef object _numbers(self, PyObject *numbers):
        if numbers is NULL:
            return memoryview(b"").cast("q")
        return memoryview(<object>numbers)[:self.spans.count * sizeof(int64_t)].cast("q")

    cdef FrameBatch _slice(self, slice index):
        cdef Py_ssize_t at
        cdef FrameBatch part
        start, stop, step = index.indices(self.spans.count)
        if step != 1:
            raise _errors.bad_step(step)
        if start >= stop:
            return new_batch(b"", 0, 0)
        part = new_batch(self._chunk, self._base, self._trailer)
        part._held, part._front, part._gaps, part._start = self._held, self._front, self._gaps, self._start
        if start:
            begin = self._end_of(start - 1)
            part._start = dict(self._gaps or ()).get(begin, begin)
        for at in range(start, stop):
            add_span(&part.spans, self.spans.offsets[at], self.spans.lengths[at])
        part._stop = self._end_of(stop - 1)
        return part

    cdef bytes _views(self):
        cdef Py_ssize_t count = self.spans.count
        cdef bytes views = PyBytes_FromStringAndSize(NULL, count * <Py_ssize_t>sizeof(View))
        cdef View *view = <View *>PyBytes_AS_STRING(views)
        cdef const uint8_t *start
        cdef Py_ssize_t at, length
        cdef int64_t begin
        memset(view, 0, count * sizeof(View))
        for at in range(count):
            start = self.payload(at, &length)
            begin = self.spans.offsets[at] - self._base
            if length > MAX_VIEW:
                raise _errors.too_long_for_arrow(length)
            view[at].length = <int32_t>length
            if length <= INLINE_SIZE:
                memcpy(<char *>&view[at] + sizeof(int32_t), start, length)
                continue
            memcpy(view[at].prefix, start, 4)
            if begin >= 0:
                view[at].memory = 1 + <int32_t>(begin // WINDOW)
                view[at].offset = <int32_t>(begin % WINDOW)
        return views

    cdef int add_first(self, bytes held, bytes payload, int64_t frame_length) except -1:
        """Take the frame that began before the chunk; `held`: its header, as far as that came before."""
        cdef int64_t offset = frame_length - self._trailer - PyBytes_GET_SIZE(payload)
        self._held, self._front = held[:offset], payload
        add_span(&self.spans, offset, PyBytes_GET_SIZE(payload))
        return 0

    cdef int skip(self, int64_t start, int64_t stop) except -1:
        """Leave out what is from `start` to `stop` of the chunk: a skipped frame, or one that is not complete."""
        if not self.spans.count:
            self._base, self._start = 0, stop
            self.spans.base = 0
        elif self._gaps and self._gaps[-1][1] == self._base + start:
            self._gaps[-1] = self._gaps[-1][0], self._base + stop
        else:
            self._gaps = self._gaps or []
            self._gaps.append((self._base + start, self._base + stop))
        return 0

    cdef int close(self) except -1:
        """End collecting."""
        if not self.spans.count:
            self._chunk = b""  # so that it is not kept alive for nothing
            self._base = self._start = 0
        else:
            self._stop = self._end_of(self.spans.count - 1)
            trim(&self.spans)
        return 0


cdef FrameBatch new_batch(bytes chunk, int64_t base, Py_ssize_t trailer):
    cdef FrameBatch batch = FrameBatch.__new__(FrameBatch)
    batch._chunk = chunk
    batch._base = batch.spans.base = base
    batch._held = batch._front = b""
    batch._trailer = trailer
    return batch
