# cython: language_level=3, boundscheck=False, wraparound=False
# cython: binding=False
"""Arrow's C data interface, as far as a FrameBatch needs it: an array of `binary_view` in the two capsules that it asks for.

    schema: format "vz"        array: buffers [no validity, views, memory 0, memory 1, ..., the memories' sizes]

Whoever imports the array copies the struct and calls its `release` some day, from whatever thread. If nobody does, the
capsule's destructor does. Neither runs Python code. Source: arrow.apache.org/docs/format/CDataInterface.html
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_Destructor, PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef struct ArrowSchema:
    const char *format
    const char *name
    const char *metadata
    int64_t flags
    int64_t n_children
    ArrowSchema **children
    ArrowSchema *dictionary
    void (*release)(ArrowSchema *) noexcept
    void *private_data

cdef struct ArrowArray:
    int64_t length
    int64_t null_count
    int64_t offset
    int64_t n_buffers
    int64_t n_children
    const void **buffers
    ArrowArray **children
    ArrowArray *dictionary
    void (*release)(ArrowArray *) noexcept
    void *private_data


cdef object export_views(Py_ssize_t count, bytes views, list memories):
    """Return the capsules of an array of `count` payloads, whose views speak of `memories`, a list of memoryviews."""
    return export_schema(), export_array(count, views, memories)


cdef object export_schema():
    cdef ArrowSchema *schema = <ArrowSchema *>zeroed(sizeof(ArrowSchema))
    schema.format = b"vz"
    schema.name = b""
    schema.release = release_schema
    return capsule_of(schema, b"arrow_schema", destroy_schema)


cdef object export_array(Py_ssize_t count, bytes views, list memories):
    cdef Py_ssize_t memory_count = len(memories)
    cdef ArrowArray *array = <ArrowArray *>zeroed(sizeof(ArrowArray))
    cdef object capsule = capsule_of(array, b"arrow_array", destroy_array)  # from here on it frees the struct
    cdef tuple owners
    cdef int64_t *sizes
    cdef Py_ssize_t at
    sizes_owner = bytearray(8 * max(1, memory_count))
    sizes = <int64_t *><char *>sizes_owner
    array.buffers = <const void **>zeroed((3 + memory_count) * sizeof(void *))
    array.release = release_array
    array.length = count
    array.n_buffers = 3 + memory_count
    array.buffers[1] = PyBytes_AS_STRING(views)
    for at in range(memory_count):
        array.buffers[2 + at] = PyMemoryView_GET_BUFFER(memories[at]).buf
        sizes[at] = PyMemoryView_GET_BUFFER(memories[at]).len
    array.buffers[2 + memory_count] = sizes
    owners = (views, memories, sizes_owner)
    Py_INCREF(owners)
    array.private_data = <PyObject *>owners
    return capsule


cdef object capsule_of(void *struct, const char *name, PyCapsule_Destructor destroy):
    try:
        return PyCapsule_New(struct, name, destroy)
    except BaseException:
        PyMem_RawFree(struct)
        raise


cdef void *zeroed(size_t size) except NULL:
    cdef void *memory = PyMem_RawMalloc(size)
    if memory is NULL:
        raise MemoryError
    memset(memory, 0, size)
    return memory


cdef void release_schema(ArrowSchema *schema) noexcept:
    schema.release = NULL


cdef void release_array(ArrowArray *array) noexcept with gil:
    PyMem_RawFree(<void *>array.buffers)
    Py_XDECREF(<PyObject *>array.private_data)
    array.release = NULL


cdef void destroy_schema(object capsule) noexcept:
    PyMem_RawFree(PyCapsule_GetPointer(capsule, b"arrow_schema"))


cdef void destroy_array(object capsule) noexcept:
    cdef ArrowArray *array = <ArrowArray *>PyCapsule_GetPointer(capsule, b"arrow_array")
    if array.release is not NULL:
        array.release(array)
    PyMem_RawFree(array)
