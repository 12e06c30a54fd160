"""Encoder in pure Python, as `_encoder_c.pyx` translates it."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import _errors
from ._errors import CorruptFrameError, FrameTooLargeError
from ._format import FrameFormat, is_plain
from ._memory import contiguous
from ._wire_py import store_varint, storer, varint_length

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Encoder:
    """Encode payloads to frames, as the decoder of the same format takes them apart: `decode(encode(p)) == [p]`.

    A payload is what a decoder hands out. The encoder writes what the format strips: the leading bytes (`leading`), the length
    field, and zeros for bytes that are stripped beyond the header. Where less than the header is stripped, the payload brings
    the rest of the header itself, and the length field in it has to be right. An encoder keeps no state.
    """

    __slots__ = ("_format", "_most_plain", "_store", "_trailer")

    def __init__(self, format: FrameFormat) -> None:
        if hasattr(self, "_format"):
            raise _errors.not_initialised("Encoder")
        if not isinstance(format, FrameFormat):
            raise _errors.not_a_format(format)
        self._format = format
        self._store = storer(format)
        self._trailer = b"," if format.trailer_length else b""
        self._most_plain = format.max_payload_length if is_plain(format) else -1  # bytes of a payload behind a mere length

    @property
    def format(self) -> FrameFormat:
        """The `FrameFormat` that is encoded."""
        return self._format

    def encode(self, payload: Buffer) -> bytes:
        """Return the frame that carries `payload`, any contiguous bytes-like object.

        Raise `FrameTooLargeError` over the limit, `CorruptFrameError` for a payload that this format cannot carry (too short,
        or with a length field in it that is not right), TypeError or BufferError for what is not contiguous bytes. Anything
        else is a bug.
        """
        if type(payload) is bytes and len(payload) <= self._most_plain:
            return self._store(len(payload)) + payload
        data = payload if type(payload) is bytes else contiguous(payload)
        return b"".join((self._header_of(data), data, self._trailer))

    def encode_many(self, payloads: Iterable[Buffer]) -> bytes:
        """Return the frames of all `payloads`, any iterable, one after the other; raise as `encode` does, all or nothing."""
        parts: list[bytes] = []
        most_plain, store = self._most_plain, self._store
        for payload in payloads:
            if type(payload) is bytes and len(payload) <= most_plain:  # as `encode` has it: two thirds of the time
                parts += (store(len(payload)), payload)
                continue
            # What may change is copied now: a generator may refill one buffer for each payload.
            data = payload if type(payload) is bytes else contiguous(payload).tobytes()
            parts += (self._header_of(data), data, self._trailer)
        return b"".join(parts)

    def encode_small(self, payloads: list[bytes], size: int) -> bytes | None:
        """Return the frames of a list of `bytes` objects that are shorter than `size` each, None if they are not that.

        For fronts, which hand larger ones to the kernel as they are. Raise as `encode` does.
        """
        if any(type(payload) is not bytes or len(payload) >= size for payload in payloads):
            return None
        return self.encode_many(payloads)

    def encode_around(self, payload: Buffer) -> tuple[bytes, bytes]:
        """Return what stands before `payload` in its frame and what stands behind it, for those who send `payload` as it is.

        Raise as `encode` does.
        """
        return self._header_of(payload if type(payload) is bytes else contiguous(payload)), self._trailer

    def encode_into(self, buffer: Buffer, offset: int, payload: Buffer) -> int:
        """Write the frame that carries `payload` into `buffer` from byte `offset` on; return the frame's length in bytes.

        The payload may overlap the place where it goes. Raise ValueError, and write nothing, if the frame does not fit or
        `offset` is outside the buffer; BufferError if it is read-only; and what `encode` raises. Anything else is a bug.
        """
        offset = operator.index(offset)
        target = contiguous(buffer, writable=True)
        data = contiguous(payload)
        header = self._header_of(data)
        if not 0 <= offset <= len(target):
            raise _errors.bad_offset(offset, len(target))
        length = len(header) + len(data) + len(self._trailer)
        if length > len(target) - offset:
            raise _errors.no_room(length, len(target) - offset)
        start = offset + len(header)
        stop = start + len(data)
        target[start:stop] = data  # first: the header may overwrite what the payload is read from
        target[offset:start] = header
        target[stop : offset + length] = self._trailer
        return length

    def header(self, payload_length: int) -> bytes:
        """Return the bytes that go in front of a payload of `payload_length` bytes: for gathered writes and sendfile.

        Empty where the format strips nothing, since a payload then brings its header. A netstring's comma goes behind the
        payload. Raise `FrameTooLargeError` or `CorruptFrameError` for a length that the format cannot carry, ValueError for a
        negative one. Anything else is a bug.
        """
        payload_length = operator.index(payload_length)
        if payload_length < 0:
            raise _errors.bad_length(payload_length)
        strip, header_length = self._format.initial_bytes_to_strip, self._format.header_length
        if strip is None:
            return self._full_header(payload_length)
        if header_length is None:  # how long the varint in the payload is cannot be known here: refuse what none could say
            longest = len(store_varint(self._format.max_payload_length - self._format.length_adjustment))
            length = payload_length - (self._format.length_field_offset - strip) - longest
            if length > self._format.max_payload_length:
                raise FrameTooLargeError(length, self._format.max_payload_length)
            return self._format.leading[:strip]
        return self._full_header(payload_length + strip - header_length)[:strip].ljust(strip, b"\0")

    def __repr__(self) -> str:
        return f"<Encoder {self._format}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return type(self), (self._format,)

    def _full_header(self, length: int) -> bytes:
        """Return the whole header of a frame that has `length` bytes behind its length field."""
        if length > self._format.max_payload_length:
            raise FrameTooLargeError(length, self._format.max_payload_length)
        if length < self._format.min_payload_length:
            raise CorruptFrameError("below-minimum", length)
        return self._format.leading + self._store(length - self._format.length_adjustment)

    def _header_of(self, data: bytes | memoryview) -> bytes:
        """Return what goes in front of `data`, and see that a length field which `data` brings is right."""
        if len(data) <= self._most_plain:
            return self._store(len(data))
        if not self._format.payload_brings_header:
            return self.header(len(data))
        strip, header_length = self._format.initial_bytes_to_strip, self._format.header_length
        assert strip is not None
        field = self._format.length_field_offset - strip  # where it begins in `data`; below zero if part of it is stripped
        if header_length is not None:
            payload = header_length - strip
        else:
            payload = field + varint_length(data, field, self._format.max_varint_length)
        length = len(data) - payload
        header = self._full_header(length)
        begin = max(field, 0)
        if data[begin:payload] != header[strip + begin :]:
            raise CorruptFrameError("mismatch", length - self._format.length_adjustment)
        return header[:strip]
