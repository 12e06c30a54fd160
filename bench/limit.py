"""The limit that nobody can pass: `limit.c`, compiled as setup.py compiles the codec, outside the tree, and imported."""

from __future__ import annotations

import importlib
import importlib.util
import sysconfig
import tempfile
from pathlib import Path
from typing import Protocol, cast

from .entry import LeftOutError

LIMIT_SOURCE = Path(__file__).with_name("limit.c")


class Limit(Protocol):
    """What `limit.c` offers."""

    def decode(self, stream: bytes, /) -> list[bytes]: ...
    def walk(self, stream: bytes, /) -> int: ...
    def encode(self, payload: bytes, /) -> bytes: ...
    def encode_many(self, payloads: list[bytes], /) -> bytes: ...


def load_limit() -> Limit:
    """Return it; raise `LeftOutError` if there is nothing here to compile it with."""
    try:
        setuptools = importlib.import_module("setuptools")  # by name: needed only here, and untyped
        commands = importlib.import_module("setuptools.command.build_ext")
    except ModuleNotFoundError:
        raise LeftOutError("limit: setuptools, which finds the C compiler, is not installed") from None
    flags = [] if sysconfig.get_platform().startswith("win") else ["-O3"]
    with tempfile.TemporaryDirectory(prefix="fastframe-bench-", ignore_cleanup_errors=True) as directory:
        extension = setuptools.Extension("limit", [str(LIMIT_SOURCE)], extra_compile_args=flags)
        command = commands.build_ext(setuptools.Distribution({"name": "limit", "ext_modules": [extension]}))
        command.build_lib = command.build_temp = directory
        command.ensure_finalized()
        try:
            command.run()
        except (setuptools.errors.BaseError, setuptools.errors.CCompilerError) as error:
            reason = " ".join(str(error).split())
            raise LeftOutError(f"limit: no C compiler that can make an extension here: {reason}") from None
        return import_limit(command.get_ext_fullpath("limit"))


def import_limit(path: str) -> Limit:
    spec = importlib.util.spec_from_file_location("limit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("Limit", module)
