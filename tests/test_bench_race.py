"""Turns: who runs when, with how many frames, and what is made of the clocks."""

from typing import ClassVar

import pytest

from fastframe.bench.processes import Turn
from fastframe.bench.race import Runner, race, runner


class Fake:
    """A server and its client in one, that takes so many nanoseconds a frame, a tenth of them on the processor."""

    log: ClassVar = []

    def __init__(self, name, ns):
        self.name, self.ns, self.cpu = name, ns, 0

    def run(self, count):
        self.log.append((self.name, count))
        self.cpu += self.ns * count // 10
        return Turn(self.ns * count, self.ns, 2 * self.ns)

    def cpu_ns(self):
        return self.cpu


@pytest.fixture(autouse=True)
def log(monkeypatch):
    monkeypatch.setattr(Fake, "log", [])
    return Fake.log


def test_a_turn_has_about_the_same_length_for_everybody(log):
    for ns, window, frames in ((1000, 1, 1000), (100_000, 1, 10), (10**7, 1, 2), (10**7, 64, 128)):
        fake = Fake("", ns)
        assert runner(fake, fake, window, turn_ns=10**6).frames == frames
    assert log[0] == ("", 2)
    assert log[-1] == ("", 128)


def test_a_race_gives_nanoseconds_a_frame_and_ratios(log):
    fast, slow = Fake("fast", 100), Fake("slow", 300)
    result = race({"fast": Runner(fast, fast, 50), "slow": Runner(slow, slow, 10)}, 3)
    assert log == [("fast", 50), ("slow", 10), ("slow", 10), ("fast", 50), ("fast", 50), ("slow", 10)]
    assert result.cpu.ns("fast").median == 10
    assert result.wall.ns("slow").median == 300
    assert (result.median.ns("slow").median, result.slow.ns("slow").median) == (300, 600)
    assert result.cpu.ratio("slow", "fast").median == 3
