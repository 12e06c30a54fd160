"""Length-prefixed framing at the speed of C: describe a frame, feed a decoder chunks, get payloads.

    from fastframe import Decoder, Encoder, FrameFormat

The codec does no input or output; `fastframe.aio` and `fastframe.sync` put it on asyncio and on plain sockets, and
`fastframe.datagram` puts one frame into a datagram.
"""

from ._codec import IMPLEMENTATION, Decoder, Encoder, FrameBatch
from ._errors import (
    CorruptFrameError,
    EndOfStreamError,
    FrameError,
    FrameTooLargeError,
    IncompleteFrameError,
    MisuseError,
    ShortFileError,
)
from ._format import FrameFormat
from ._send_queue import SendQueue

__version__ = "0.1.0"

__all__ = [
    "IMPLEMENTATION",
    "CorruptFrameError",
    "Decoder",
    "Encoder",
    "EndOfStreamError",
    "FrameBatch",
    "FrameError",
    "FrameFormat",
    "FrameTooLargeError",
    "IncompleteFrameError",
    "MisuseError",
    "SendQueue",
    "ShortFileError",
]
