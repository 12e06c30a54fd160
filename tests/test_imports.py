"""The import law: errors -> format -> codecs -> codec -> fronts -> servers, bench; never back, and no twin imports its twin."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the bottom up. A module imports from floors below its own; a file that is not named here is a helper of the fronts.
HELPERS = ("_address", "_parts")
FLOORS = [
    ("_errors",),
    ("_format",),
    ("_hints", "_memory", "formats"),
    ("_codec_c", "_codec_py"),
    ("_codec",),
    HELPERS,
    ("_endpoint", "_send_queue"),
    ("aio", "datagram", "sync"),
    ("__init__",),
    ("servers",),
    ("bench",),
    ("__main__",),
]
FILES = sorted(
    [*ROOT.glob("fastframe/*.py"), *ROOT.glob("fastframe/*.pyx"), *ROOT.glob("servers/*.py"), *ROOT.glob("bench/*.py")]
)


def floor(name: str) -> int:
    return next((at for at, names in enumerate(FLOORS) if name in names), FLOORS.index(HELPERS))


def imported(file: Path) -> Iterator[str]:
    """Yield what `file` imports of the package, below `fastframe.`."""
    text = file.read_text()
    if file.suffix == ".pyx":  # not Python, but these lines of it are
        text = "\n".join(re.findall(r"^ *((?:from \S+ )?import .*)$", text, re.MULTILINE))
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


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down_only(file):
    name = file.stem if file.parent.name == "fastframe" else file.parent.name
    for target in imported(file):
        if target == name and name in ("servers", "bench"):
            continue  # siblings
        assert floor(target) < floor(name) or (target not in sum(FLOORS, ()) and floor(target) == floor(name))
        if name == "servers":
            assert not target.startswith("_") or target == "__init__"
        if name not in ("_codec", "bench"):
            assert target not in ("_codec_c", "_codec_py")


def test_the_law_is_read_at_all():
    assert {"_errors", "_format", "_memory"} <= set(imported(ROOT / "fastframe/_codec_c.pyx"))
    assert set(imported(ROOT / "fastframe/_codec_py.py")) == {"_errors", "_format", "_memory"}
    assert set(imported(ROOT / "fastframe/_codec.py")) == {"_codec_c", "_codec_py"}
