"""The choice of an implementation, each time in a new interpreter, since it is made once at import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import fastframe

SAY = "import fastframe; print(fastframe.IMPLEMENTATION, fastframe.Decoder.__module__, fastframe.Encoder.__module__)"
CYTHON = "cython fastframe._codec_c fastframe._encoder_c\n"
PYTHON = "python fastframe._codec_py fastframe._encoder_py\n"


def run(choice: str | None, directory: Path = Path(fastframe.__file__).parent.parent) -> tuple[str, str]:
    """Return what a new interpreter says of the package in `directory`, and the last line of its traceback."""
    environment = {**os.environ, "PYTHONPATH": str(directory), "FASTFRAME_IMPLEMENTATION": choice or ""}
    if choice is None:
        del environment["FASTFRAME_IMPLEMENTATION"]
    command = [sys.executable, "-P", "-S", "-c", SAY]  # -S: nothing installed stands in for what is missing
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr.rstrip().rpartition("\n")[2]


@pytest.fixture
def package(tmp_path):
    """A copy of the package without its extension."""
    copy = tmp_path / "fastframe"
    copy.mkdir()
    for file in Path(fastframe.__file__).parent.glob("*.py"):
        shutil.copy(file, copy)
    return copy


@pytest.mark.parametrize(("choice", "says"), [(None, CYTHON), ("", CYTHON), ("cython", CYTHON), ("python", PYTHON)])
def test_the_choice_is_obeyed(built, choice, says):
    if not built and says == CYTHON:
        pytest.skip("the extension is not built")
    assert run(choice) == (says, "")


@pytest.mark.parametrize("choice", ["rust", "Cython", "c", " python", "0"])
def test_any_other_choice_is_an_error(choice):
    message = f"ImportError: FASTFRAME_IMPLEMENTATION must be unset, 'cython' or 'python', not {choice!r}"
    assert run(choice) == ("", message)


@pytest.mark.parametrize("choice", [None, "", "python"])
def test_without_the_extension_the_pure_one_runs(package, choice):
    assert run(choice, package.parent) == (PYTHON, "")


def test_without_the_extension_a_demand_for_it_fails(package):
    message = "ModuleNotFoundError: No module named 'fastframe._codec_c'"
    assert run("cython", package.parent) == ("", message)


BROKEN = {
    "truncated": (EXTENSION_SUFFIXES[0], "\x7fELF", "ImportError"),
    "outdated": (".py", "from ._memory import gone", "ImportError"),
    "crashing": (".py", "1 / 0", "ZeroDivisionError"),
    "lacking": (".py", "import no_such_module_anywhere", "ModuleNotFoundError"),
}


@pytest.mark.parametrize("choice", [None, "cython"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_extension_is_loud(package, choice, broken):
    suffix, content, error = BROKEN[broken]
    (package / f"_codec_c{suffix}").write_text(content)
    said, last_line = run(choice, package.parent)
    assert (said, last_line.partition(":")[0]) == ("", error)
    assert run("python", package.parent) == (PYTHON, "")
