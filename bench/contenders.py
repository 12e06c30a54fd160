"""Who competes: the two codecs, what plain Python does without one, and the limit that nobody can pass.

A contender is found or left out, with the reason in one line; nothing here fails because something is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from fastframe import _codec_py

from .workloads import FORMAT, Workload, frame

LIMIT_SOURCE = Path(__file__).with_name("limit.c")


class LeftOutError(Exception):
    """A contender cannot take part; the text says which and why, in one line."""


class Limit(Protocol):
    """What `limit.c` offers."""

    def decode(self, stream: bytes, /) -> list[bytes]: ...
    def walk(self, stream: bytes, /) -> int: ...
    def encode(self, payload: bytes, /) -> bytes: ...
    def encode_many(self, payloads: list[bytes], /) -> bytes: ...


class DecodeContender(NamedTuple):
    """`start()` returns the `feed` of a fresh decoder; `cut` picks what it is fed, None where it has no part in it."""

    start: Callable[[], Callable[[bytes], list[bytes]]]
    cut: Callable[[Workload], list[bytes] | None]


class EncodeContender(NamedTuple):
    encode: Callable[[bytes], bytes]
    encode_many: Callable[[list[bytes]], bytes]


class Contenders(NamedTuple):
    """By name, the one to compare with first. `left_out`: why somebody is missing, a line each."""

    decode: dict[str, DecodeContender]
    encode: dict[str, EncodeContender]
    left_out: list[str]


def find_contenders() -> Contenders:
    """Return all who can take part: the limit first, since all are measured against it."""
    found = Contenders({}, {}, [])
    try:
        limit = load_limit()
        found.decode["limit"] = DecodeContender(lambda: limit.decode, lambda workload: workload.pieces)
        found.decode["limit by chunk"] = DecodeContender(lambda: limit.decode, lambda workload: workload.padded)
        found.encode["limit"] = EncodeContender(limit.encode, limit.encode_many)
    except LeftOutError as error:
        found.left_out.append(str(error))
    try:
        compiled = importlib.import_module("fastframe._codec_c")  # by name: it may not be there
        add_codec(found, "compiled", compiled.Decoder, compiled.Encoder)
    except ModuleNotFoundError:
        found.left_out.append("compiled: fastframe._codec_c is not built; FASTFRAME_IMPLEMENTATION=cython makes it or says why")
    add_codec(found, "pure", _codec_py.Decoder, _codec_py.Encoder)
    found.encode["pack + payload"] = EncodeContender(pack_and_add, frame)
    return found


def add_codec(found: Contenders, name: str, decoder: type[_codec_py.Decoder], encoder: type[_codec_py.Encoder]) -> None:
    found.decode[name] = DecodeContender(lambda: decoder(FORMAT).feed, lambda workload: workload.chunks)
    found.encode[name] = EncodeContender(encoder(FORMAT).encode, encoder(FORMAT).encode_many)


def pack_and_add(payload: bytes) -> bytes:
    """Encode as every tutorial does."""
    return struct.pack(">I", len(payload)) + payload


def load_limit() -> Limit:
    """Compile `limit.c` as setup.py compiles the codec, outside the tree, and import it; raise `LeftOutError` if that fails."""
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
