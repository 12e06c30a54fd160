# cython: language_level=3
"""Memory that comes from the caller, and memory that is lent to him."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    Py_ssize_t PyList_GET_SIZE(list values)
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t newsize) except -1
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *string, Py_ssize_t length) except NULL


cdef extern from *:
    """
    /* Append an object, which becomes the list's own. Where the list has room nothing is checked or counted again: that is what
     * the physical limit in bench/limit.c does, too. */
    static inline int append_object(PyObject *list, PyObject *payload) {
        Py_ssize_t count = PyList_GET_SIZE(list);
        int result;
        if (count < ((PyListObject *)list)->allocated) {
            PyList_SET_ITEM(list, count, payload);
            Py_SET_SIZE((PyVarObject *)list, count + 1);
            return 0;
        }
        result = PyList_Append(list, payload);
        Py_DECREF(payload);
        return result;
    }

    static inline int append_payload(PyObject *list, const uint8_t *start, Py_ssize_t length) {
        PyObject *payload = PyBytes_FromStringAndSize((const char *)start, length);
        return payload == NULL ? -1 : append_object(list, payload);
    }
    """
    int append_object(list frames, PyObject *payload) except -1
    int append_payload(list frames, const uint8_t *start, Py_ssize_t length) except -1


cdef Py_ssize_t most_frames(object max_frames) except -1
cdef object contiguous(object value, bint writable=*)


cdef inline const uint8_t *start_of(object data) noexcept:
    """Return where the bytes of a bytes object or a contiguous memoryview are."""
    if PyBytes_CheckExact(data):
        return <const uint8_t *>PyBytes_AS_STRING(data)
    return <const uint8_t *>PyMemoryView_GET_BUFFER(data).buf


cdef inline Py_ssize_t length_of(object data) noexcept:
    if PyBytes_CheckExact(data):
        return PyBytes_GET_SIZE(data)
    return PyMemoryView_GET_BUFFER(data).len


cdef class Loan:
    cdef PyObject *_payload
    cdef Py_ssize_t _start
    cdef Py_ssize_t _length
    cdef Py_ssize_t _exports
    cdef bint is_held  # somebody uses the very view that was lent, and not just another view of it

    cdef object lend(self, PyObject *payload, Py_ssize_t start, Py_ssize_t length)
    cdef bint end(self, object view) except -1
