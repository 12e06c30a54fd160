"""Pick the codec: the compiled one where it was built, else the pure one; FASTFRAME_IMPLEMENTATION decides otherwise.

Unset: the best there is. `cython`: that one, or an ImportError. `python`: the pure one. Anything else is an ImportError too.
Only a missing extension falls back; a broken one is loud.
"""

import os
from typing import TYPE_CHECKING

_CHOICE = os.environ.get("FASTFRAME_IMPLEMENTATION", "")
if _CHOICE not in ("", "cython", "python"):
    raise ImportError(f"FASTFRAME_IMPLEMENTATION must be unset, 'cython' or 'python', not {_CHOICE!r}")

if TYPE_CHECKING or _CHOICE == "python":
    from ._codec_py import IMPLEMENTATION, Decoder, Encoder, FrameBatch
else:
    try:
        from ._codec_c import IMPLEMENTATION, Decoder, Encoder, FrameBatch
    except ModuleNotFoundError as error:
        if _CHOICE == "cython" or error.name != f"{__package__}._codec_c":
            raise
        from ._codec_py import IMPLEMENTATION, Decoder, Encoder, FrameBatch

__all__ = ["IMPLEMENTATION", "Decoder", "Encoder", "FrameBatch"]
