"""Pick the turns of the implementation that the codec is of."""

from typing import TYPE_CHECKING

from ._codec import IMPLEMENTATION

if TYPE_CHECKING or IMPLEMENTATION == "python":
    from ._turn_py import CallbackTurn, Turn
else:
    from ._turn_c import CallbackTurn, Turn

__all__ = ["CallbackTurn", "Turn"]
