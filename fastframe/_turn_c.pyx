# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# cython: binding=False
"""Turn and CallbackTurn: what a connection does when something arrives. The translation of `_turn_py.py`."""

from . import _errors
from ._errors import FrameError
from ._format import MAX_HEADER_LENGTH
from ._parts import FLUSH_SIZE, GATHER_SIZE, batch_of, encode_many_parts, encode_parts, join_small
from ._receive import IN_PLACE_SIZE, READ_SIZE, receive_memory

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t

from ._codec_c cimport Decoder
from ._memory_c cimport most_frames

cdef Py_ssize_t FLUSH = FLUSH_SIZE
cdef Py_ssize_t GATHER = GATHER_SIZE
cdef Py_ssize_t IN_PLACE = IN_PLACE_SIZE
cdef Py_ssize_t HEADER = MAX_HEADER_LENGTH
cdef Py_ssize_t READ = READ_SIZE


cdef class Turn:
    """Receive into the memory that is right for what is expected; have all that is sent in one turn leave in one write."""

    cdef public object _decoder, _encoder, _transport, _loop, _idle_deadlines
    cdef readonly object _memory, _beginning
    cdef object _kept  # what keeps it
    cdef const uint8_t *_start  # of that memory
    cdef Decoder _own  # the decoder if it is the compiled one, which reads that memory without a view of it
    cdef public list _unsent
    cdef public Py_ssize_t _unsent_length, _sent, _owed
    cdef public bint _gathers, _in_place, _deaf, _corked, _draining, _reading_paused, _watched

    def __init__(self, decoder, encoder):
        self._use(decoder, encoder)
        self._unsent = []
        self._watched = True
        self._owed = -1

    def _begin(self, transport, loop):
        """Belong to a connection. The memory is that of the loop's thread, which need not be the one that made this object."""
        self._transport = transport
        self._loop = loop
        self._memory = receive_memory.view
        self._beginning = receive_memory.beginning
        self._kept = receive_memory.kept
        self._start = <const uint8_t *>PyMemoryView_GET_BUFFER(self._kept).buf
        # asyncio's own writelines joins everything into one copy before 3.12, and forgot to pause the writer when it was new.
        self._gathers = not type(transport).__module__.startswith("asyncio.")

    def get_buffer(self, sizehint):
        cdef bint was_in_place = self._in_place
        cdef Py_ssize_t pending = self._decoder.pending
        self._in_place = <Py_ssize_t>self._decoder.needed >= IN_PLACE and pending > HEADER
        if self._in_place:
            return self._decoder.get_buffer(sizehint)
        # Behind a large payload there may be another, which is received in place but for what is read together with its header.
        return self._beginning if was_in_place and not pending else self._memory

    def _decode(self, Py_ssize_t nbytes, max_frames):
        """Decode what was received into the memory that `get_buffer` lent."""
        if self._in_place:
            return self._decoder.buffer_updated(nbytes, max_frames)
        if self._own is not None and self._start is not NULL and 0 <= nbytes <= READ:
            return self._own.feed_memory(self._start, nbytes, most_frames(max_frames))
        return self._decoder.feed(self._memory[:nbytes], max_frames)

    def _decode_batch(self, Py_ssize_t nbytes):
        if self._in_place:
            return self._decoder.buffer_updated_batch(nbytes)
        if self._start is not NULL and 0 <= nbytes <= READ:
            return self._decoder.feed_batch(PyBytes_FromStringAndSize(<const char *>self._start, nbytes))
        return self._decoder.feed_batch(bytes(self._memory[:nbytes]))

    def _use(self, decoder, encoder):
        """Decode and encode with these from now on."""
        self._decoder = decoder
        self._encoder = encoder
        self._own = decoder if type(decoder) is Decoder else None

    def _forget(self, decoder):
        """Have a decoder that holds nothing: a connection that is over may be kept for long, by cycles that its end leaves."""
        self._use(decoder, self._encoder)
        self._unsent = []

    cpdef bint _queue(self, list parts) except -1:
        """Have encoded frames leave together with the others of this turn of the loop; tell whether they have left already."""
        if not self._unsent and not self._corked:
            if self._loop is None:
                raise _errors.not_connected()
            self._loop.call_soon(self._flush)
        for part in parts:
            self._unsent.append(part)
            self._unsent_length += len(part)
        if self._unsent_length < FLUSH:
            return False
        self._flush()
        return True

    cpdef _flush(self):
        cdef list parts = self._unsent
        cdef object transport = self._transport
        if not parts:
            return
        self._sent += self._unsent_length
        self._unsent = []
        self._unsent_length = 0
        if transport is None or transport.is_closing():
            return
        if not self._watched:
            self._watch(True)
        if len(parts) > 1:
            parts = join_small(parts)
        if len(parts) == 1:
            transport.write(parts[0])
        elif self._gathers:
            transport.writelines(parts)
        else:
            for part in parts:
                transport.write(part)


cdef class CallbackTurn(Turn):
    """Hand over what a read completed in one call, and have the answers leave in one write."""

    cdef public Py_ssize_t _frames_per_turn, _turn_left
    cdef public bint _takes_batches, _eof_sent, _hung_up, _turn_over

    def send(self, payload):
        """Send a payload, without waiting. After the end of the connection it goes nowhere.

        Raise as `Encoder.encode` does, `MisuseError` before there is a connection and after `send_eof`.
        """
        self._send(encode_parts(self._encoder, payload))

    def send_many(self, payloads):
        """Send payloads, all or none, without waiting; otherwise as `send`."""
        if type(payloads) is list and not self._eof_sent and not self._hung_up:
            frames = self._encoder.encode_small(payloads, GATHER)
            if frames is not None:
                self._queue([frames])
                return
        self._send(encode_many_parts(self._encoder, payloads))

    def send_batch(self, batch):
        """Send the frames of `batch` on as they came: what a relay does. Its format has to be this connection's."""
        self._send(batch.wire_parts)

    def buffer_updated(self, Py_ssize_t nbytes):
        cdef Py_ssize_t completed
        if self._deaf:
            return
        try:
            frames = self._decode_batch(nbytes) if self._takes_batches else self._decode(nbytes, self._frames_per_turn)
        except FrameError as error:
            self._end_with(error)
            return
        completed = len(frames)
        if completed:
            self._hand_over(frames)
        self._turn_left -= nbytes
        if completed >= self._frames_per_turn or self._turn_left < 0 or self._turn_over or self._draining:
            self._end_turn(completed)
        if self._owed >= 0 or self._decoder.pending:
            self._set_deadline(nbytes, completed=completed > 0)
        if self._idle_deadlines is not None and not self._reading_paused:
            self._idle_deadlines.restart(self)

    cpdef _hand_over(self, frames):
        """Call the protocol; what it sends leaves in one write."""
        self._corked = True
        try:
            if type(frames) is not list:
                self.batch_received(frames)
            elif self._takes_batches:
                self.batch_received(batch_of(self._decoder.format, frames))
            else:
                self.frames_received(frames)
        finally:
            self._corked = False
            self._flush()

    def _send(self, parts):
        if self._hung_up:
            return
        if self._eof_sent:
            raise _errors.closed("send_eof")
        self._queue(parts)
