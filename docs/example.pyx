# cython: language_level=3
"""How Cython code uses the codec without making Python objects it does not need.

    cythonize -i example.pyx        with fastframe installed, compiled

`from fastframe cimport ...` gives the classes with what C may call: `Decoder.feed_memory` takes memory that is not a Python
object, `FrameBatch.payload` says where a payload is. Both are called as methods of a variable that is declared with its type.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from fastframe cimport Decoder, Encoder, FrameBatch
from libc.stdint cimport uint8_t, uint64_t


def payloads(format, bytes stream, Py_ssize_t max_frames):
    """Return up to `max_frames` payloads of a stream that is somewhere in memory."""
    cdef Decoder decoder = Decoder(format)
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(stream)
    return decoder.feed_memory(data, PyBytes_GET_SIZE(stream), max_frames)


def sum_of_bytes(format, stream):
    """Add up all bytes of all payloads, of which none becomes an object."""
    cdef Decoder decoder = Decoder(format)
    cdef FrameBatch batch = decoder.feed_batch(stream)
    cdef const uint8_t *payload
    cdef Py_ssize_t at, byte, length
    cdef uint64_t total = 0
    for at in range(len(batch)):
        payload = batch.payload(at, &length)  # valid while the batch lives
        for byte in range(length):
            total += payload[byte]
    return total


def echoed(format, stream):
    """Encode again what was decoded."""
    cdef Encoder encoder = Encoder(format)
    return encoder.encode_many(Decoder(format).feed_batch(stream))
