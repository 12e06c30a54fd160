"""Arrow's `binary_view` layout, and the pure codec's way to hand it over.

    array: buffers [no validity, views, memory 0, memory 1, ...]         format "vz"

A view has 16 bytes: the payload's length, and then either the payload itself or its first four bytes, the number of the memory
it is in, and the 32-bit offset there. So a memory of 2 GiB and more is named several times, from each window's start on.

The array goes in PyCapsules, whose destructors run whenever Python drops an object, with an exception on its way too. Python
code may not run then (through ctypes it replaced that exception by a SystemError), so the capsules need C: the compiled codec's
own, or pyarrow's for the pure one. Source: arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from . import _errors

INLINE_LENGTH: Final = 12
MAX_LENGTH: Final = (1 << 31) - 1  # of one payload
WINDOW_SIZE: Final = 1 << 30

INLINE_VIEW: Final = struct.Struct(f"=i{INLINE_LENGTH}s")
VIEW: Final = struct.Struct("=i4sii")


def windows(memory: bytes) -> Iterator[memoryview]:
    """Yield `memory` from each window's start on; each reaches to the end, since a payload may cross into the next."""
    for start in range(0, max(1, len(memory)), WINDOW_SIZE):
        yield memoryview(memory)[start:]


def export_views(count: int, views: bytes, memories: list[memoryview]) -> tuple[Any, Any]:
    """Return the capsules of an array of `count` payloads; raise ImportError without pyarrow."""
    try:
        import pyarrow  # noqa: PLC0415  half a second that only this needs
    except ImportError as error:
        raise _errors.no_arrow() from error
    buffers = [None, *map(pyarrow.py_buffer, (views, *memories))]
    schema, array = pyarrow.Array.from_buffers(pyarrow.binary_view(), count, buffers).__arrow_c_array__()
    return schema, array
