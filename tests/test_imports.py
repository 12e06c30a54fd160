"""The import law: errors -> format -> codecs -> codec -> fronts -> servers, bench; never back, and no twin imports its twin.

A `cimport` is an import too. And an import brings no heavy module of the standard library that most programs do not need.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the bottom up. A module imports from floors below its own; a file that is not named here is a helper of the fronts.
HELPERS = ("_address", "_deadlines", "_kernel", "_limits", "_parts", "_receive")
FLOORS = [
    ("_errors",),
    ("_format",),
    ("_arrow", "_hints", "_memory", "_singly", "formats"),
    ("_arrow_c", "_burst_c", "_memory_c", "_wire_py"),
    ("_wire_c",),
    ("_batch_c", "_batch_py", "_encoder_c", "_encoder_py"),
    ("_codec_c", "_codec_py"),
    ("_codec",),
    HELPERS,
    ("_turn_c", "_turn_py"),
    ("_turn",),
    ("_accept", "_connecting", "_datagram_codec", "_datagram_socket", "_endpoint", "_file_frame", "_listening", "_send_queue"),
    ("_frame_socket", "_sending"),
    ("_protocol", "_server", "_stream"),
    ("aio", "datagram", "sync"),
    ("__init__",),
    ("servers",),
    ("bench",),
    ("__main__",),
]
FILES = sorted(
    file for pattern in ("fastframe/*.py", "fastframe/*.p[yx][xd]", "servers/*.py", "bench/*.py") for file in ROOT.glob(pattern)
)
TWINS = ("_c", "_py")  # how the names of the two implementations' modules end


def floor(name: str) -> int:
    return next((at for at, names in enumerate(FLOORS) if name in names), FLOORS.index(HELPERS))


def imported(file: Path) -> Iterator[str]:
    """Yield what `file` imports of the package, below `fastframe.`."""
    text = file.read_text()
    if file.suffix != ".py":  # not Python, but these lines of it are
        lines = re.findall(r"^ *((?:from \S+ )?)c?(import (?:\([^)]*\)|.*))$", text, re.MULTILINE)
        text = "\n".join(map("".join, lines))
    package = ["fastframe"] if file.parent.name == "fastframe" else ["fastframe", file.parent.name]
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
        if isinstance(node, ast.Import):
            paths = [name.split(".") for name in names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = base + (node.module or "").split(".") if node.module else base
            paths = [[*base, name] if len(base) == 1 else base for name in names]
        else:
            continue
        for path in paths:
            if path[0] == "fastframe":
                rest = path[1] if len(path) > 1 else "__init__"
                is_module = any((ROOT / "fastframe" / f"{rest}{suffix}").exists() for suffix in (".py", ".pyx", ""))
                yield rest if is_module else "__init__"


def twin(name: str) -> str:
    return next((ending for ending in TWINS if name.endswith(ending)), "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down_only(file):
    name = file.stem if file.parent.name == "fastframe" else file.parent.name
    for target in imported(file):
        if target == name and name in ("servers", "bench"):
            continue  # siblings
        assert floor(target) < floor(name) or (target not in sum(FLOORS, ()) and floor(target) == floor(name))
        if name == "servers":
            assert not target.startswith("_") or target == "__init__"
        if name not in ("_burst", "_codec", "_turn", "bench") and file.name != "__init__.pxd":
            assert twin(target) in ("", twin(name))


def test_the_law_is_read_at_all():
    assert {"_errors", "_format", "_memory", "_memory_c", "_wire_c"} <= set(imported(ROOT / "fastframe/_codec_c.pyx"))
    assert set(imported(ROOT / "fastframe/_codec_c.pxd")) == {"_batch_c", "_memory_c", "_wire_c"}
    assert set(imported(ROOT / "fastframe/_wire_py.py")) == {"_errors", "_format"}
    assert set(imported(ROOT / "fastframe/_codec.py")) == {"_codec_c", "_codec_py"}


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("fastframe", {"asyncio", "ctypes", "socket", "ssl", "threading"}),
        ("fastframe.sync", {"asyncio", "ctypes", "ssl", "threading"}),
    ],
)
def test_an_import_brings_nothing_heavy_that_most_programs_do_not_need(module, spared):
    code = f"import sys; before = {{*sys.modules}}; import {module}; print(*{{*sys.modules}} - before)"
    brought = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert module in brought
    assert not spared & {*brought}
