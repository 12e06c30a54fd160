"""What malloc keeps: seen by the page faults of a program that uses large blocks one after the other."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource
from fastframe.servers import memory
memory.{choice}()
for _ in range(3):
    bytes(bytearray(4 << 20))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytes(bytearray(4 << 20))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(choice: str) -> int:
    return int(subprocess.check_output([sys.executable, "-c", COUNT.format(choice=choice)], text=True, timeout=30))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the thresholds are glibc's")
def test_kept_memory_is_used_again_and_spared_memory_is_given_back():
    assert faults("keep") < 100
    assert faults("spare") > 10_000  # two blocks of 1,024 pages each, ten times
