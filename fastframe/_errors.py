"""Every exception of the codec and the fronts, and every sentence they say.

    ValueError
     └─ FrameError                 .frames .offset
         ├─ FrameTooLargeError     .length .limit
         ├─ CorruptFrameError      .reason .value
         └─ IncompleteFrameError   .pending .expected        (an EOFError too)
    EOFError
     └─ EndOfStreamError           the clean end, told by the fronts only
    OSError
     └─ ShortFileError             .sent .count                (of a file that is sent, by the fronts only)
    RuntimeError
     └─ MisuseError                the caller's mistake, never the peer's

An exception carries data and writes its sentence itself, so that two decoders that agree on the data agree on the text.
No payload byte appears in any sentence: they end in logs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

CORRUPTIONS = {
    "negative": "the length field says {value}, which is less than zero",
    "below-header": "the length field says {value}, too little to cover what it counts",
    "below-minimum": "{value} bytes after the length field are fewer than this format needs",
    "overflow": "the length does not fit 64 bits",
    "not-alone": "{value} bytes stand behind the frame, and a datagram carries one alone",
    "mismatch": "the payload brings its own length field, which does not say {value} as it must",
    "varint-too-long": "the varint does not end within {value} bytes",
    "varint-over-long": "the varint is over-long: its last byte is zero",
    "netstring-digit": "byte 0x{value:02x} stands in a netstring's length, which is decimal digits and a colon",
    "netstring-leading-zero": "the netstring's length has a leading zero",
    "netstring-too-long": "the netstring's length has more than {value} digits",
    "netstring-comma": "byte 0x{value:02x} stands where a netstring ends with a comma",
}


class FrameError(ValueError):
    """Say that a stream cannot be decoded, or a payload not be encoded.

    `frames`: list of bytes, the payloads that the failing call completed before the bad frame (exactly once: an error that
    is raised again has none). `offset`: position in the stream of the bad frame's first byte; None when encoding. `hint`: what
    a stream that is bad from its first frame on looks like instead (TLS, HTTP, the other byte order), or None.
    """

    _fields: tuple[str, ...] = ()

    def __init__(self, *, frames: Sequence[bytes] = (), offset: int | None = None, hint: str | None = None) -> None:
        super().__init__()
        self.frames = list(frames)
        self.offset = offset
        self.hint = hint

    def __str__(self) -> str:
        place = "" if self.offset is None else f" (frame at offset {self.offset})"
        return self._sentence() + place + (f"; {self.hint}" if self.hint else "")

    def _sentence(self) -> str:
        return "the stream cannot be decoded"

    def again(self) -> FrameError:
        """Return a new error that says the same, without the payloads: they are delivered once."""
        return _rebuild(type(self), {**self._data(), "frames": ()})

    def __repr__(self) -> str:
        data = {**self._data(), "frames": len(self.frames)}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in data.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        data = self._data()
        return _rebuild, (type(self), data), {name: value for name, value in vars(self).items() if name not in data}

    def _data(self) -> dict[str, Any]:
        """Return what the constructor takes, by name."""
        return {name: getattr(self, name) for name in (*self._fields, "frames", "offset", "hint")}


class FrameTooLargeError(FrameError):
    """Say that a frame is longer than the format's limit.

    `length`: bytes that follow the length field; `limit`: the most that may (`FrameFormat.max_payload_length`).
    """

    _fields = ("length", "limit")

    def __init__(self, length: int, limit: int, **rest: Any) -> None:
        super().__init__(**rest)
        self.length = length
        self.limit = limit

    def _sentence(self) -> str:
        return f"a frame of {self.length} bytes is over the limit of {self.limit}"


class CorruptFrameError(FrameError):
    """Say that a length field cannot be right.

    `reason`: one of the keys of `CORRUPTIONS`; `value`: the number its sentence speaks of, or None.
    """

    _fields = ("reason", "value")

    def __init__(self, reason: str, value: int | None = None, **rest: Any) -> None:
        super().__init__(**rest)
        self.reason = reason
        self.value = value

    def _sentence(self) -> str:
        return CORRUPTIONS[self.reason].format(value=self.value)


class IncompleteFrameError(FrameError, EOFError):
    """Say that the stream ended inside a frame.

    `pending`: bytes of that frame that had come; `expected`: bytes it takes, as far as was known by then.
    """

    _fields = ("pending", "expected")

    def __init__(self, pending: int, expected: int, **rest: Any) -> None:
        super().__init__(**rest)
        self.pending = pending
        self.expected = expected

    def _sentence(self) -> str:
        return f"the stream ended after {self.pending} of at least {self.expected} bytes of a frame"


class EndOfStreamError(EOFError):
    """Say that the peer ended the stream between two frames: nothing is missing, and nothing will come."""

    def __str__(self) -> str:
        return "the stream has ended, at a frame boundary"


class MisuseError(RuntimeError):
    """Say that an object was used in a state that does not allow it. The peer cannot cause this; the program did."""


class ShortFileError(OSError):
    """Say that a file had less than was to be sent of it, or could not be read any further.

    `sent`: bytes of it that were sent; `count`: bytes that were wanted. The frame is whole, with zeros for the rest.
    """

    def __init__(self, sent: int, count: int) -> None:
        super().__init__()
        self.sent = sent
        self.count = count

    def __str__(self) -> str:
        return f"the file gave {self.sent} of {self.count} bytes, and zeros were sent for the rest"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sent, self.count)


def why_ended(finish: Callable[[], None]) -> Exception:
    """Return what the end of a stream means to who receives, given its decoder's `finish`."""
    try:
        finish()
    except IncompleteFrameError as error:
        return error
    return EndOfStreamError()


def again(error: Exception) -> Exception:
    """Return a new error that says the same. One that is kept and raised would keep, by its traceback, what keeps it."""
    return copy.copy(error)


def _rebuild(error: type[FrameError], attributes: dict[str, Any]) -> FrameError:
    return error(**attributes)


# The sentences of misuse and of arguments that are no frame's fault. The codecs raise what these return.


FORMAT_FAULTS = {
    "name": "no length field is called {0!r}: use u8, u16be ... u64le, i8, i16be ... i64le, varint or netstring",
    "not-int": "{0} must be an integer, not {1!r}",
    "range": "{0} must be from {1} to {2}, not {3}",
    "leading-type": "leading must be bytes, not {0!r}",
    "leading-length": "leading has {0} bytes, and length_field_offset leaves room for {1}",
    "header": "the length field ends at byte {0}: a header may have at most {1} bytes",
    "varying-strip": "a {0} header varies in length: strip all of it, or no more than the {1} bytes before it, not {2}",
    "netstring": "a netstring has nothing before its length and nothing to adjust or strip: leave {0} out",
    "impossible": "no frame fits this format: at least {0} bytes must follow the length field, and at most {1} may",
    "text-item": "{0!r} is not one of {1}, each as key=value",
    "text-twice": "{0!r} is given twice",
    "text-size": "{0!r} is not a number of bytes such as 4096, 64KiB or 16MiB",
    "text-hex": "{0!r} is not bytes in hexadecimal",
}


def bad_format(fault: str, *details: object) -> ValueError:
    return ValueError(FORMAT_FAULTS[fault].format(*details))


def bad_format_type(fault: str, *details: object) -> TypeError:
    return TypeError(FORMAT_FAULTS[fault].format(*details))


def busy() -> MisuseError:
    return MisuseError(
        "the decoder is in use: a re-entrant call, a second thread, or an earlier call that was interrupted half-way"
    )


def not_initialised(name: str) -> MisuseError:
    return MisuseError(f"{name}.__init__() was not called, or not just once")


def closed(by: str) -> MisuseError:
    return MisuseError(f"closed: {by}() was called")


def loan_ended() -> BufferError:
    return BufferError("this memory was lent until buffer_updated(), which is over")


def not_constructible(name: str, maker: str) -> TypeError:
    return TypeError(f"a {name} is made by {maker}() alone")


def no_such_frame() -> IndexError:
    return IndexError("the batch has no such frame")


def bad_step(step: int) -> ValueError:
    return ValueError(f"a batch can be sliced with a step of 1 only, since its frames lie in a row, not of {step}")


def too_long_for_arrow(length: int) -> OverflowError:
    return OverflowError(f"an Arrow view has 31 bits for its length: a payload of {length} bytes is too long")


def no_arrow() -> ImportError:
    return ImportError("the pure codec needs pyarrow to hand over Arrow arrays: pip install pyarrow")


def undecoded(pending: int) -> MisuseError:
    return MisuseError(f"{pending} bytes are held that were not decoded yet: call feed(b'') until it returns nothing")


def nothing_lent() -> MisuseError:
    return MisuseError("buffer_updated() was called without get_buffer() before it")


def skipped_bytes_gone() -> MisuseError:
    return MisuseError("detach() in the middle of a skipped frame: its bytes were not kept")


def not_a_format(value: object) -> TypeError:
    return TypeError(f"a FrameFormat is required, not {type(value).__name__!r}")


def not_connected() -> MisuseError:
    return MisuseError("there is no connection yet")


def receiving() -> MisuseError:
    return MisuseError("another recv() is waiting on this stream: one at a time")


def received_waits(before: str) -> MisuseError:
    return MisuseError(f"a payload is received already: recv() it before {before}()")


def sending_file(before: str) -> MisuseError:
    return MisuseError(f"a file is being sent: await that before {before}()")


def at_least_zero(name: str, value: int) -> int:
    """Return `value`, or raise the ValueError that says what is wrong with it."""
    if value < 0:
        raise ValueError(f"{name} must be at least 0, not {value}")
    return value


def at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def one_header() -> ValueError:
    return ValueError("a payload that brings its header cannot be sent in blocks, which would need a header each")


def short_file(sent: int, count: int, cause: OSError | None) -> ShortFileError:
    error = ShortFileError(sent, count)
    error.__cause__ = cause
    return error


def aborted() -> ConnectionAbortedError:
    return ConnectionAbortedError("the connection was closed on this side before the peer ended the stream")


def timed_out() -> TimeoutError:
    return TimeoutError("timed out")


# Not TimeoutError, which says that a call's own timeout is over: who calls again then would never come to an end.


def unreachable() -> ConnectionAbortedError:
    return ConnectionAbortedError("the peer's machine does not answer any more")


def frame_overdue(seconds: float) -> ConnectionAbortedError:
    return ConnectionAbortedError(f"the peer began a frame and did not bring it on for {seconds:g} s")


def write_overdue(seconds: float) -> ConnectionAbortedError:
    return ConnectionAbortedError(f"the peer did not take what was sent to it for {seconds:g} s")


def idle(seconds: float) -> ConnectionAbortedError:
    return ConnectionAbortedError(f"the peer was silent for {seconds:g} s")


def bad_limit(name: str, value: object) -> ValueError:
    return ValueError(f"{name} must be a number above 0, not {value!r}")


def bad_marks(low: int, high: int) -> ValueError:
    return ValueError(f"low_water ({low}) must not be above high_water ({high})")


def no_half_close() -> NotImplementedError:
    return NotImplementedError("TLS cannot end one direction alone: close() ends both")


def no_address() -> ValueError:
    return ValueError("give either a host and a port, or a path")


def bad_count(nbytes: int, lent: int) -> ValueError:
    return ValueError(f"nbytes must be from 0 to the {lent} bytes lent, not {nbytes}")


def bad_max_frames(max_frames: int) -> ValueError:
    return ValueError(f"max_frames must be None or at least 0, not {max_frames}")


def bad_max_parts(max_parts: int) -> ValueError:
    return ValueError(f"max_parts must be at least 1, not {max_parts}")


def bad_on_oversize(on_oversize: object) -> ValueError:
    return ValueError(f"on_oversize must be 'raise' or 'skip', not {on_oversize!r}")


def bad_length(length: int) -> ValueError:
    return ValueError(f"a payload length must be at least 0, not {length}")


def no_room(frame: int, room: int) -> ValueError:
    return ValueError(f"a frame of {frame} bytes does not fit the {room} bytes from that offset on")


def bad_offset(offset: int, length: int) -> ValueError:
    return ValueError(f"offset must be from 0 to the buffer's {length} bytes, not {offset}")


def not_copyable(name: str) -> TypeError:
    return TypeError(f"a {name} cannot be copied or pickled: it is the state of one stream")


def not_a_buffer(value: object, *, writable: bool = False) -> Exception:
    """Return the error that says why `value` cannot serve as contiguous (and writable) memory."""
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return TypeError(f"a bytes-like object is required, not {type(value).__name__!r}")
    if writable and view.readonly:
        return BufferError("a writable buffer is required, and this one is read-only")
    return BufferError("a contiguous buffer is required, and this one has gaps")
