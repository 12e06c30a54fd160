"""What a refused header looks like instead: another protocol, or the length in the other byte order.

The header of a stream's first frame goes in, as far as it was read; a clause for the error's sentence comes out, or None. It
depends on these bytes alone, so it is the same however the stream was cut. It is a guess, made only after a refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from ._format import FrameFormat

MIN_GUESS: Final = 3  # bytes; two say too little: "GE" is also a length of 18245

_HTTP_REQUEST: Final = "an HTTP request"
_MAIL_OR_FTP: Final = "the greeting of an SMTP or FTP server"
_PROXY: Final = "a PROXY protocol header: a load balancer stands in front and tells the client's address"
_REDIS: Final = "a Redis command"
_REDIS_OR_POP3: Final = "the reply of a Redis or POP3 server"
_TLS_ALERT: Final = "a TLS alert: the peer speaks TLS, this side does not"
_TLS_HANDSHAKE: Final = "a TLS handshake record: the peer speaks TLS, this side does not"

LOOKS: Final = (
    *((bytes((22, 3, minor)), _TLS_HANDSHAKE) for minor in range(5)),  # RFC 8446, section 5.1; SSL 3.0 is 3.0, TLS 1.3 is 3.4
    *((bytes((21, 3, minor)), _TLS_ALERT) for minor in range(5)),
    (b"CONNECT ", _HTTP_REQUEST),
    (b"DELETE ", _HTTP_REQUEST),
    (b"GET ", _HTTP_REQUEST),
    (b"HEAD ", _HTTP_REQUEST),
    (b"OPTIONS ", _HTTP_REQUEST),
    (b"PATCH ", _HTTP_REQUEST),
    (b"POST ", _HTTP_REQUEST),
    (b"PUT ", _HTTP_REQUEST),
    (b"TRACE ", _HTTP_REQUEST),
    (b"HTTP/", "an HTTP response"),
    (b"PRI * HTTP/2.0\r\n", "an HTTP/2 connection preface"),
    (b"SSH-", "an SSH banner"),
    (b"220 ", _MAIL_OR_FTP),
    (b"220-", _MAIL_OR_FTP),
    *((b"*%d\r\n" % count, _REDIS) for count in range(1, 10)),
    (b"PING\r\n", _REDIS),
    (b"+OK", _REDIS_OR_POP3),
    (b"-ERR ", _REDIS_OR_POP3),
    (b"PROXY ", _PROXY),
    (b"\r\n\r\n\0\r\nQUIT\n", _PROXY),  # version 2
)
"""How a stream of another protocol begins, and what that is."""


def hint(format: FrameFormat, header: bytes) -> str | None:
    """Return a clause that says what the first frame's refused `header` looks like instead, or None if it says nothing.

    `header`: the bytes of it that were read, which may be fewer than a header has. For example `it looks like an HTTP request`,
    or `in the other byte order (little-endian) the length would be 5`.
    """
    return _other_protocol(header) or _other_order(format, header)


def _other_protocol(header: bytes) -> str | None:
    if len(header) < MIN_GUESS:
        return None
    for start, what in LOOKS:
        if header.startswith(start) or start.startswith(header):
            return f"it looks like {what}"
    return None


def _other_order(format: FrameFormat, header: bytes) -> str | None:
    """Return what the length would be, if the format refuses it as it is written and accepts it the other way round."""
    if format.header_length is None or len(header) < format.header_length:
        return None
    other: Literal["big", "little"] = "little" if format.byteorder == "big" else "big"
    if _accepted_length(format, header, format.byteorder) is not None:
        return None
    length = _accepted_length(format, header, other)
    return None if length is None else f"in the other byte order ({other}-endian) the length would be {length}"


def _accepted_length(format: FrameFormat, header: bytes, order: Literal["big", "little"]) -> int | None:
    value = int.from_bytes(header[format.length_field_offset : format.header_length], order, signed=format.signed)
    length = value + format.length_adjustment
    return length if value >= 0 and format.min_payload_length <= length <= format.max_payload_length else None
