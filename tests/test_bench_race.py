"""Turns: who runs when, with how many frames, and what is made of the clocks."""

from typing import ClassVar

import pytest

from fastframe.bench.processes import Turn
from fastframe.bench.race import Runner, joined, race, runner, turns_text


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


def test_a_turn_has_about_the_same_length_for_everybody_by_the_servers_processor(log):
    for ns, least, frames in ((1000, 2, 10_000), (100_000, 2, 100), (10**7, 2, 2), (10**7, 128, 128)):
        fake = Fake("", ns)
        assert runner(fake, fake, least, turn_ns=10**6) == (fake, fake, frames)
    assert log[0] == ("", 2)
    assert log[-1] == ("", 128)


def test_a_client_that_was_kept_waiting_makes_no_turn_shorter(monkeypatch):
    at_ease, kept_waiting = Fake("", 1000), Fake("", 1000)
    monkeypatch.setattr(kept_waiting, "run", lambda count: Fake.run(kept_waiting, count)._replace(ns=10**9))
    assert runner(kept_waiting, kept_waiting, 2, 10**6).frames == runner(at_ease, at_ease, 2, 10**6).frames


def test_the_length_of_turns_is_said():
    assert turns_text(11, 50_000_000) == "11 of about 50 ms of the processor"
    assert turns_text(1, 100_000) == "1 of about 0.1 ms of the processor"


def test_a_race_gives_nanoseconds_a_frame_and_ratios(log):
    fast, slow = Fake("fast", 100), Fake("slow", 300)
    result = race({"fast": Runner(fast, fast, 50), "slow": Runner(slow, slow, 10)}, 3)
    assert log == [("fast", 50), ("slow", 10), ("slow", 10), ("fast", 50), ("fast", 50), ("slow", 10)]
    assert result.cpu.ns("fast").median == 10
    assert result.wall.ns("slow").median == 300
    assert (result.median.ns("slow").median, result.slow.ns("slow").median) == (300, 600)
    assert result.cpu.ratio("slow", "fast").median == 3


def test_several_races_are_one_with_all_their_turns(log):
    fast, slow = Fake("fast", 100), Fake("slow", 300)
    races = [race({"fast": Runner(fast, fast, 50), "slow": Runner(slow, slow, 10)}, turns) for turns in (1, 2)]
    slow.ns = 600
    races.append(race({"fast": Runner(fast, fast, 50), "slow": Runner(slow, slow, 10)}, 2))
    whole = joined(races)
    assert whole.cpu.turns == {"fast": [10] * 5, "slow": [30] * 3 + [60] * 2}
    assert whole.wall.turns["slow"] == [300] * 3 + [600] * 2
