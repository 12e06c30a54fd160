"""How long it takes until a program is there that imports us, beside one that imports nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastframe

ROUNDS = 10


@pytest.mark.benchmark(group="start")
@pytest.mark.parametrize("module", ["sys", "fastframe", "fastframe.sync", "fastframe.aio", "fastframe.datagram"])
def test_import(benchmark, module):
    command = [sys.executable, "-c", f"import {module}; print({module}.__name__)"]
    benchmark.extra_info["implementation"] = fastframe.IMPLEMENTATION
    run = benchmark.pedantic(subprocess.run, (command,), {"capture_output": True}, rounds=ROUNDS, warmup_rounds=1)
    assert (run.returncode, run.stdout.split(), run.stderr) == (0, [module.encode()], b"")
