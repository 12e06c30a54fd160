"""A notice board in shared memory: what each process of a server last said of itself, readable without waiting for it.

A worker pins up a report with every beat of its loop; the process that started it and the one that answers scrapes read them,
also those of a worker that is stuck or dead. There is one writer to a slot. A reader that meets it half-way sees a wrong
checksum and looks again. Processes get the board by being forked.
"""

from __future__ import annotations

import json
import mmap
import struct
import time
import zlib
from typing import Any, Final

SLOT_SIZE: Final = 16 * 1024  # a report has about 1 KiB; pages that nobody touches cost nothing
LOOKS: Final = 100  # until the report before is good enough: a writer was stopped half-way
STUCK_SECONDS: Final = 5.0  # without a beat; no turn of a healthy loop takes a tenth of it

_HEADER: Final = struct.Struct("<II")  # length and CRC-32 of the JSON behind it

Report = dict[str, Any]


class Board:
    """A slot for the process that starts the others, number 0, and one for each worker, from 1 on."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, SLOT_SIZE * (1 + workers))  # anonymous, and shared with what is forked
        self._seen: dict[int, Report] = {}
        self.workers = range(1, 1 + workers)

    def write(self, slot: int, report: Report) -> None:
        """Replace the report in `slot`: strings, numbers, lists and dicts, 16 KiB as JSON."""
        data = json.dumps(report).encode("ascii")
        written = _HEADER.pack(len(data), zlib.crc32(data)) + data
        if len(written) > SLOT_SIZE:
            raise ValueError(f"a report of {len(data)} bytes does not fit its slot")
        self._memory[slot * SLOT_SIZE : slot * SLOT_SIZE + len(written)] = written

    def read(self, slot: int) -> Report:
        """Return the last report in `slot`, an empty one if there was none."""
        for _ in range(LOOKS):
            start = slot * SLOT_SIZE
            length, checksum = _HEADER.unpack_from(self._memory, start)
            data = self._memory[start + _HEADER.size : start + _HEADER.size + min(length, SLOT_SIZE)]
            if length and zlib.crc32(data) == checksum:
                self._seen[slot] = json.loads(data)
                break
        return self._seen.get(slot, {})

    def states(self) -> list[str]:
        return [self.read(slot).get("state", "starting") for slot in self.workers]

    def is_ready(self) -> bool:
        """Tell whether anybody accepts connections, and is going to."""
        return "accepting" in self.states() and not self.read(0).get("stopping", False)

    def stuck(self) -> dict[int, float]:
        """Return the workers that live and whose loops do not turn, with the seconds since they last did."""
        now = time.monotonic()  # one clock for all processes of a machine
        silent = {slot: now - report["beat"] for slot in self.workers if (report := self.read(slot)).get("state") in ALIVE}
        return {slot: seconds for slot, seconds in silent.items() if seconds > STUCK_SECONDS}


ALIVE: Final = ("accepting", "draining")
