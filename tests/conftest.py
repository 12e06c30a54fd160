"""Which implementations of the codec run, as fixtures. No test names one.

FASTFRAME_IMPLEMENTATION means here what it means at import. `cython`: both run, or nothing does. `python`: the pure one alone.
Unset: both; without the extension that is an error too, unless there is no C compiler that could have built it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings
from vectors import by_buffer, by_feed

TESTS = Path(__file__).parent
MODULES = {"cython": "fastframe._codec_c", "python": "fastframe._codec_py"}
CHOICE = os.environ.get("FASTFRAME_IMPLEMENTATION", "")

# Without bytecode on disk each worker compiles all tests anew in every run, and each process that they start the library.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("quick", deadline=None, max_examples=70)
settings.register_profile("thorough", deadline=None, max_examples=5_000)  # pytest --hypothesis-profile=thorough
settings.load_profile("quick")


def _is_built() -> bool:
    package = importlib.util.find_spec("fastframe")  # not find_spec("fastframe._codec_c"), which would import the package
    places = package.submodule_search_locations if package else None
    return PathFinder.find_spec(MODULES["cython"], places) is not None


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (*shlex.split(os.environ.get("CC", ""))[:1], "cc", "gcc"))


def _why_only_python() -> str:
    if CHOICE == "python":
        return "python only: FASTFRAME_IMPLEMENTATION=python"
    if CHOICE == "" and not BUILT and not _has_compiler():
        return "python only: no extension, and no C compiler to build it"
    return ""


BUILT = _is_built()
ONLY_PYTHON = _why_only_python()
IMPLEMENTATIONS = ["python"] if ONLY_PYTHON else ["cython", "python"]


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores, since many tests wait for something; four at most: each collects all tests."""
    return min(4, (os.cpu_count() or 1) + 1)


def pytest_configure(config: pytest.Config) -> None:
    if CHOICE not in ("", *MODULES):
        raise pytest.UsageError(f"FASTFRAME_IMPLEMENTATION must be unset, 'cython' or 'python', not {CHOICE!r}")
    if "cython" in IMPLEMENTATIONS and not BUILT:
        raise pytest.UsageError(f"{MODULES['cython']} is not built: build it, or test FASTFRAME_IMPLEMENTATION=python alone")
    _heed_signals()


def _heed_signals() -> None:
    """Have the programs that are tested heed what nohup(1), and a script for what is in its background, has all ignore.

    A handler is not inherited, as SIG_IGN is; with this one a hangup still does not end the tests.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, lambda *_: None)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection(session: pytest.Session) -> None:
    """Let each worker import a share of the modules first, and the others find the bytecode: to make it of what asserts say is
    most of the work of collecting, and all of them at once would do it for the same module.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or not any(Path(arg).absolute() == TESTS for arg in session.config.args):
        return
    first, every = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    for path in sorted(TESTS.glob("test_*.py"))[first::every]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # which collecting tells
            importlib.import_module(path.stem)


def pytest_report_header(config: pytest.Config) -> str:
    return f"fastframe codec: {ONLY_PYTHON or ' and '.join(IMPLEMENTATIONS)}"


def pytest_unconfigure(config: pytest.Config) -> None:
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _small_heap() -> None:
    """Let no collection look through what is there already, the tests themselves above all: it took a third of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", params=IMPLEMENTATIONS)
def codec(request: pytest.FixtureRequest) -> ModuleType:
    """The module of one implementation; each test that takes it runs with every one."""
    return importlib.import_module(MODULES[request.param])


@pytest.fixture(scope="session")
def burst(codec) -> ModuleType:
    """What receives and sends datagrams beside that implementation."""
    is_pure = codec.__name__ == MODULES["python"] or sys.platform != "linux"
    return importlib.import_module("fastframe._singly" if is_pure else "fastframe._burst_c")


@pytest.fixture(params=[by_feed, by_buffer], ids=["feed", "buffer"])
def door(request: pytest.FixtureRequest) -> Callable[..., list[bytes]]:
    """The two ways into a decoder."""
    return request.param


@pytest.fixture(scope="session")
def compiled() -> ModuleType:
    """The compiled implementation, for what only that one promises."""
    if ONLY_PYTHON:
        pytest.skip(ONLY_PYTHON)
    return importlib.import_module(MODULES["cython"])


@pytest.fixture(scope="session")
def twins() -> list[ModuleType]:
    """Both implementations, to compare them."""
    if ONLY_PYTHON:
        pytest.skip(ONLY_PYTHON)
    return [importlib.import_module(MODULES[name]) for name in IMPLEMENTATIONS]


@pytest.fixture(scope="session")
def built() -> bool:
    """Whether the extension is there."""
    return BUILT
