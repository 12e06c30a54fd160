"""What processes and all that descend from them use, as the kernel says: time on the processor, memory at the peak.

Asked from outside, so that all contenders are asked alike. Two clocks, since neither does for both:

    End               exact to the nanosecond, of all threads; knows nothing of a descendant once it has ended
    cpu_ns_of_all     also of descendants that have ended and were waited for, which is what a command does; in ticks of 10 ms
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from .measure import cpu_ns


class Use(NamedTuple):
    """What an end used: nanoseconds of processors; bytes of memory at the peak, and how many more than before all transfers."""

    cpu_ns: int
    peak: int
    grown: int


class End:
    """The account of a process and its descendants, which stay."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.cpu: dict[int, int] = {}
        self.idle = sum(map(peak, tree(pid)))

    def begin(self) -> None:
        """Count from now on."""
        members = tree(self.pid)
        for member in members:
            forget_peak(member)
        self.cpu = {member: cpu_ns_or_none(member) for member in members}

    def use(self) -> Use:
        members = tree(self.pid)
        cpu = sum(cpu_ns_or_none(member) - self.cpu.get(member, 0) for member in members)
        memory = sum(map(peak, members))
        return Use(cpu, memory, memory - self.idle)


def cpu_ns_of_all(processes: list[int]) -> int:
    """Return the time on the processor of processes and all their descendants, those included that have ended.

    Exact to a tick, mostly 10 ms, of each that is still there.
    """
    ticks = 0
    for pid in (member for process in processes for member in tree(process)):
        with contextlib.suppress(OSError):  # it has just ended
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # its own, and of children that it has waited for: proc_pid_stat(5)
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return the process and all that descend from it."""
    found = [pid]
    for parent in found:
        found += children(parent)
    return found


def children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it, or a thread of it, has just ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def cpu_ns_or_none(pid: int) -> int:
    try:
        return cpu_ns(pid)
    except OSError:
        return 0  # it has just ended


def forget_peak(pid: int) -> None:
    with contextlib.suppress(OSError):  # ended, or one that does not let itself be looked into: then it is the peak so far
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """Return the most memory in bytes that a process had resident (VmHWM) since that was forgotten."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0
