"""Run a target under atheris, on a build of the codec that is instrumented (see `build`)."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import atheris


def main(check: Callable[[bytes, list[ModuleType]], None]) -> None:
    with atheris.instrument_imports(include=["fastframe"]):  # what the specification tells apart guides, too
        from fastframe import _codec_py  # noqa: PLC0415
    from fastframe import _codec_c  # noqa: PLC0415

    if b"__sancov_cntrs" not in Path(_codec_c.__file__).read_bytes():
        raise SystemExit(f"{_codec_c.__file__} is not instrumented: start this with tests/fuzz/run")
    gc.freeze()  # so that collections need not look through all that was imported
    atheris.Setup(sys.argv, lambda data: check(data, [_codec_c, _codec_py]))
    atheris.Fuzz()
