"""A frame in a datagram of its own: no input or output, and nothing left over for the next one.

    | length field | payload |     a datagram is this and no byte more

A datagram has borders of its own, so its header is a check: what was cut or padded on the way, or is somebody else's, shows.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from ._codec import Decoder, Encoder
from ._errors import CorruptFrameError, FrameError, IncompleteFrameError
from ._parts import DEFAULT_FORMAT
from ._singly import MAX_DATAGRAM

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._format import FrameFormat

NETSTRING_OVERHEAD: Final = 7  # bytes: five digits, a colon and a comma


class DatagramCodec:
    """Encode a payload to the datagram that carries it, and decode it. For one thread at a time.

    `format`: any; where a frame of it could be longer than a datagram, `max_payload_length` is lowered. Raise ValueError if
    every one is.
    """

    def __init__(self, format: FrameFormat = DEFAULT_FORMAT) -> None:
        self._format = _fitting(format)
        self._encoder = Encoder(self._format)
        self._decoder = Decoder(self._format)

    @property
    def format(self) -> FrameFormat:
        """The `FrameFormat` of both directions, with the limit that holds for datagrams."""
        return self._format

    def encode(self, payload: Buffer) -> bytes:
        """Return the datagram that carries `payload`; raise as `Encoder.encode` does."""
        return self._encoder.encode(payload)

    def decode(self, datagram: Buffer) -> bytes:
        """Return the payload of a datagram.

        Raise `IncompleteFrameError` for one that was cut, `CorruptFrameError` for one with bytes behind its frame or a length
        that cannot be right, `FrameTooLargeError` over the limit. Anything else is a bug.
        """
        try:
            frames = self._decoder.feed(datagram)
            if len(frames) == 1 and not self._decoder.pending:
                return frames[0]
        except FrameError:
            pass
        self._decoder = Decoder(self._format)
        raise self._fault(datagram)

    def _fault(self, datagram: Buffer) -> FrameError:
        """Return why a datagram is not one frame, whatever came before it."""
        decoder = Decoder(self._format)
        needed = decoder.needed
        try:
            frames = decoder.feed(datagram, 1)
            if frames:
                behind = memoryview(datagram).nbytes - len(self._encoder.encode(frames[0]))
                return CorruptFrameError("not-alone", behind, offset=0)
            decoder.finish()
        except FrameError as error:
            return error
        return IncompleteFrameError(0, needed, offset=0)  # an empty one, which is no end of a stream here


def _fitting(format: FrameFormat) -> FrameFormat:
    """Return the format with the limit that a datagram sets; raise ValueError if no frame of it fits one."""
    most = min(format.max_payload_length, MAX_DATAGRAM - _overhead(format))
    return dataclasses.replace(format, max_payload_length=most)


def _overhead(format: FrameFormat) -> int:
    """Return how many bytes a frame has at the most that the limit on its payload does not count."""
    if format.header_length is not None:
        return format.header_length
    if format.kind == "netstring":
        return NETSTRING_OVERHEAD
    largest = MAX_DATAGRAM - format.length_adjustment  # what the varint may have to say
    return format.length_field_offset + max(1, -(-largest.bit_length() // 7))
