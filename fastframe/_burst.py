"""Pick how datagrams pass: many with one system call where the compiled codec runs on Linux, one at a time elsewhere."""

import sys
from typing import TYPE_CHECKING

from ._codec import IMPLEMENTATION

if TYPE_CHECKING or IMPLEMENTATION != "cython" or sys.platform != "linux":
    from ._singly import receive, send
else:
    from ._burst_c import receive, send

__all__ = ["receive", "send"]
