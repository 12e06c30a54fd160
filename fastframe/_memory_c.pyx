# cython: language_level=3, boundscheck=False, wraparound=False
# cython: binding=False
"""Memory that comes from the caller, and memory that is lent to him: what of `_memory.py` the compiled codec does by itself."""

import operator

from . import _errors

from cpython.buffer cimport PyBuffer_FillInfo, PyBuffer_IsContiguous
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF


cdef Py_ssize_t most_frames(object max_frames) except -1:
    """Return how many frames `max_frames` allows; raise ValueError for a negative number."""
    cdef int overflow = 0
    cdef long long most
    if max_frames is None:
        return PY_SSIZE_T_MAX
    if not PyLong_CheckExact(max_frames):
        max_frames = operator.index(max_frames)
    most = PyLong_AsLongLongAndOverflow(max_frames, &overflow)
    if overflow < 0 or (overflow == 0 and most < 0):
        raise _errors.bad_max_frames(max_frames)
    return PY_SSIZE_T_MAX if overflow or most > PY_SSIZE_T_MAX else <Py_ssize_t>most


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


cdef class Loan:
    """A part of a payload's own memory, lent to be received into.

    It holds the payload, so that a view can never see freed memory; and it counts the views, so that the payload is not handed
    out, nor grown, while one of them could change it: `end` says so, and the decoder then goes on with a copy.
    """

    def __dealloc__(self):
        Py_XDECREF(self._payload)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self._payload is NULL:
            raise _errors.loan_ended()
        PyBuffer_FillInfo(
            buffer, self, PyBytes_AS_STRING(<object>self._payload) + self._start, self._length, False, flags
        )
        self._exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self._exports -= 1

    cdef object lend(self, PyObject *payload, Py_ssize_t start, Py_ssize_t length):
        """Return the view to lend, of `length` bytes from `start` on.

        It is not kept here: that would be a cycle, and a payload that is given up half-way would wait for the collector.
        """
        Py_INCREF(<object>payload)
        self._payload = payload
        self._start = start
        self._length = length
        return PyMemoryView_FromObject(self)

    cdef bint end(self, object view) except -1:
        """Release the view that was lent; tell whether nobody can see the memory any more. If so, nobody ever will."""
        cdef PyObject *payload = self._payload
        try:
            view.release()
            self.is_held = False
        except BufferError:
            self.is_held = True
        if self._exports:
            return False
        self._payload = NULL
        Py_XDECREF(payload)
        return True
