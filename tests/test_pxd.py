"""The compiled codec as Cython users see it: `docs/example.pyx` is built against the package and run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from vectors import VECTORS, each

import fastframe
from fastframe import FrameFormat, FrameTooLargeError

EXAMPLE = Path(__file__).parent.parent / "docs" / "example.pyx"
PACKAGE = Path(fastframe.__file__).parent


@pytest.fixture(scope="module")
def example(compiled, tmp_path_factory):
    """The example, built as a stranger would: apart from the checkout, with what the package has beside its modules."""
    place = tmp_path_factory.mktemp("example")
    source = place / "example.c"
    built = place / f"example{sysconfig.get_config_var('EXT_SUFFIX')}"
    build = [sys.executable, "-m", "cython", "-3", "-I", str(PACKAGE.parent), "-o", str(source), str(EXAMPLE)]
    subprocess.run(build, cwd=place, check=True, capture_output=True)
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    link = [*compiler, "-shared", "-fPIC", "-O0", f"-I{sysconfig.get_path('include')}", str(source), "-o", str(built)]
    subprocess.run(link, check=True, capture_output=True)
    spec = importlib.util.spec_from_file_location("example", built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@each(VECTORS)
def test_a14_the_example_decodes_from_memory(example, vector):
    fmt = FrameFormat.parse(vector.format)
    assert example.payloads(fmt, vector.wire, sys.maxsize) == vector.payloads
    assert example.payloads(fmt, vector.wire, 1) == vector.payloads[:1]
    assert example.payloads(fmt, vector.wire[:-1], sys.maxsize) == vector.payloads[:-1]


@each(VECTORS)
def test_a14_the_example_reads_a_batch_without_objects(example, vector):
    fmt = FrameFormat.parse(vector.format)
    assert example.sum_of_bytes(fmt, vector.wire) == sum(map(sum, vector.payloads))


def test_a14_the_example_encodes(example):
    assert example.echoed(FrameFormat("u8"), b"\2ab\0\1c") == b"\2ab\0\1c"


def test_a14_errors_reach_the_example(example):
    with pytest.raises(FrameTooLargeError) as caught:
        example.payloads(FrameFormat("u8", max_payload_length=3), b"\2ab\x09", sys.maxsize)
    assert caught.value.frames == [b"ab"]


def test_a14_every_pxd_has_its_extension_and_a_use():
    there = "\n".join(file.read_text() for file in PACKAGE.glob("*.p[yx][xd]"))
    for file in PACKAGE.glob("_*_c.pxd"):
        assert file.with_suffix(".pyx").exists()
        assert f"from .{file.stem} cimport" in there
