"""The programs in `native/`, compiled when they are asked for, with what is found here, into a cache outside the tree.

    client.c, echo.c   cc, gcc or clang       echo.go   go       tokio/   cargo, with Debian's crates or those of crates.io

A program is compiled once: its name in the cache has a digest of its sources and of the command that compiles it. Whatever is
in the way is a `LeftOutError`, in one line.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from .entry import LeftOutError

SOURCES: Final = Path(__file__).with_name("native")
DEBIAN_CRATES: Final = Path("/usr/share/cargo/registry")  # where packages called librust-*-dev put them
PATIENCE: Final = 300.0  # seconds; tokio takes 40
# Nothing is downloaded but crates, and where there is no network that is soon known.
ENVIRONMENT: Final = {"GOTOOLCHAIN": "local", "CARGO_NET_RETRY": "0", "CARGO_HTTP_TIMEOUT": "10"}


def c_program(name: str) -> Path:
    compiler = os.environ.get("CC", "").split() or [find("cc", "gcc", "clang")]
    return compiled(SOURCES / f"{name}.c", [*compiler, "-O2", "-o", "program", f"{name}.c"], "program")


def go_program() -> Path:
    return compiled(SOURCES / "echo.go", [find("go"), "build", "-o", "program", "echo.go"], "program")


def tokio_program() -> Path:
    command = [find("cargo"), "build", "--release", "--target-dir", "target", *crates()]
    return compiled(SOURCES / "tokio", command, "target/release/tokio-echo")


def crates() -> list[str]:
    """Return the options that have cargo take Debian's crates, where they are installed."""
    if not list(DEBIAN_CRATES.glob("tokio-util-*")):
        return []
    source = ['source.crates-io.replace-with="debian"', f'source.debian.directory="{DEBIAN_CRATES}"']
    return ["--offline", "--config", source[0], "--config", source[1]]


def find(*names: str) -> str:
    """Return the path of the first of these programs that is here."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise LeftOutError(f"there is no {' or '.join(names)} here to compile it")


def compiled(source: Path, command: list[str], product: str) -> Path:
    """Return the path of the program that `command` makes of a copy of a file or folder; compile it if it is not there yet."""
    digest = hashlib.sha256(repr(command).encode())
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        digest.update(path.read_bytes() if path.is_file() else b"")
    try:
        program = cache() / f"{source.stem}-{digest.hexdigest()[:16]}"
        if not program.exists():
            cache().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache()) as folder:
                copy_to(folder, source)
                run(command, folder)
                Path(folder, product).replace(program)  # at once, so that nobody runs half a program
    except OSError as error:
        raise LeftOutError(f"it cannot be compiled: {error}") from None
    return program


def copy_to(folder: str, source: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, folder, dirs_exist_ok=True)
    else:
        shutil.copy(source, folder)


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fastframe-bench"


def run(command: list[str], folder: str) -> None:
    name = Path(command[0]).name
    environment = os.environ | ENVIRONMENT
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise LeftOutError(f"{name} did not compile it in {PATIENCE:g} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        reason = next((line for line in lines if re.search(r"\berror\b", line)), lines[-1])
        raise LeftOutError(f"{name} cannot compile it: {reason.strip()}")
