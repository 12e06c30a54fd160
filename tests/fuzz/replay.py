"""Show what an input means and what becomes of it: `python -m fuzz.replay {decoder,encoder} FILE`, on any build.

The last line before an error is the one for found.txt.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastframe import _codec_c, _codec_py

from . import fuzz_decoder, fuzz_encoder
from .inputs import read_case

CHECKS = {"decoder": fuzz_decoder.check, "encoder": fuzz_encoder.check}


def main(target: str, file: str) -> None:
    data = Path(file).read_bytes()
    case = read_case(data)
    if target == "decoder" and case:
        print(f"{case.format}, {case.on_oversize}")
        for operation in case.operations:
            print(*(f"{argument!r:.70}" for argument in operation))
    print(target, data.hex(), "WHAT IT WAS", flush=True)  # before what may end the process
    CHECKS[target](data, [_codec_c, _codec_py])


if __name__ == "__main__":
    main(*sys.argv[1:])
