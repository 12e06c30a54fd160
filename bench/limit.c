/* The physical limit of decoding and encoding u32be frames on CPython, for the benchmarks only; compiled when they ask for it.
 *
 * decode(stream) does what no decoder can do without: read the length, make the bytes object, store it. It takes one contiguous
 * stream of whole frames. walk(stream) reads the lengths alone. encode(payload) and encode_many(payloads) do what no encoder can
 * do without: allocate once, write the length, copy. Nothing is checked: not a type, not a length.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

static size_t length_at(const unsigned char *field)
{
    return (size_t)field[0] << 24 | (size_t)field[1] << 16 | (size_t)field[2] << 8 | field[3];
}

static PyObject *decode(PyObject *module, PyObject *stream)
{
    const unsigned char *pos = (const unsigned char *)PyBytes_AS_STRING(stream);
    const unsigned char *end = pos + PyBytes_GET_SIZE(stream);
    PyObject *payloads = PyList_New(0);
    (void)module;
    while (payloads != NULL && pos < end) {
        size_t length = length_at(pos);
        PyObject *payload = PyBytes_FromStringAndSize((const char *)pos + 4, (Py_ssize_t)length);
        Py_ssize_t count = PyList_GET_SIZE(payloads);
        if (payload == NULL) {
            Py_CLEAR(payloads);
        } else if (count < ((PyListObject *)payloads)->allocated) {
            PyList_SET_ITEM(payloads, count, payload);
            Py_SET_SIZE((PyVarObject *)payloads, count + 1);
        } else {
            if (PyList_Append(payloads, payload) < 0)
                Py_CLEAR(payloads);
            Py_DECREF(payload);
        }
        pos += 4 + length;
    }
    return payloads;
}

static PyObject *walk(PyObject *module, PyObject *stream)
{
    const unsigned char *pos = (const unsigned char *)PyBytes_AS_STRING(stream);
    const unsigned char *end = pos + PyBytes_GET_SIZE(stream);
    Py_ssize_t count = 0;
    (void)module;
    for (; pos < end; count++)
        pos += 4 + length_at(pos);
    return PyLong_FromSsize_t(count);
}

static char *put_frame(char *target, PyObject *payload)
{
    Py_ssize_t length = PyBytes_GET_SIZE(payload);
    for (int at = 0; at < 4; at++)
        target[at] = (char)(length >> (24 - 8 * at));
    memcpy(target + 4, PyBytes_AS_STRING(payload), (size_t)length);
    return target + 4 + length;
}

static PyObject *encode(PyObject *module, PyObject *payload)
{
    PyObject *frame = PyBytes_FromStringAndSize(NULL, 4 + PyBytes_GET_SIZE(payload));
    (void)module;
    if (frame != NULL)
        put_frame(PyBytes_AS_STRING(frame), payload);
    return frame;
}

static PyObject *encode_many(PyObject *module, PyObject *payloads)
{
    PyObject *frames;
    Py_ssize_t length = 0, count = PyList_GET_SIZE(payloads);
    (void)module;
    for (Py_ssize_t at = 0; at < count; at++)
        length += 4 + PyBytes_GET_SIZE(PyList_GET_ITEM(payloads, at));
    frames = PyBytes_FromStringAndSize(NULL, length);
    if (frames != NULL) {
        char *target = PyBytes_AS_STRING(frames);
        for (Py_ssize_t at = 0; at < count; at++)
            target = put_frame(target, PyList_GET_ITEM(payloads, at));
    }
    return frames;
}

/* The first line of each says what it does; `contenders.py` shows it to the reader. */
static PyMethodDef methods[] = {
    {"decode", decode, METH_O,
     "Decode, in C: read each length, make the bytes object, store it in a list; check nothing.\n\n"
     "Take a bytes object of whole u32be frames."},
    {"walk", walk, METH_O,
     "Count frames, in C: go from length to length; make no object, check nothing.\n\n"
     "Take a bytes object of whole u32be frames."},
    {"encode", encode, METH_O,
     "Encode, in C: allocate once, write each length, copy each payload; check nothing.\n\n"
     "Take a bytes object, return its u32be frame."},
    {"encode_many", encode_many, METH_O, "Return the u32be frames of a list of bytes objects, one after the other."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "limit", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_limit(void)
{
    return PyModule_Create(&definition);
}
