"""The sweep of the echo: which cells there are, who takes part, and how long a turn is. Nothing here is timed."""

import contextlib
import importlib.util

import pytest

from fastframe.bench import chunkecho
from fastframe.bench.entry import LeftOutError

KIB, MIB = 1 << 10, 1 << 20


class Steady:
    """A server and its client at once: a frame takes so many nanoseconds of the processor."""

    def __init__(self, frame_ns):
        self.frame_ns, self.frames = frame_ns, 0

    def run(self, count):
        self.frames += count

    def cpu_ns(self):
        return self.frame_ns * self.frames


@pytest.mark.parametrize(("frame_ns", "frames"), [(10, 100_000), (1000, 1000), (10_000_000, 2)])
def test_a_turn_is_as_long_as_asked_for_by_the_servers_processor(frame_ns, frames):
    both = Steady(frame_ns)
    assert chunkecho.paced(both, both, 16, 1_000_000) == (both, both, frames)


def test_cells_that_would_take_seconds_or_that_ours_cannot_read_are_not_measured():
    reads = [64, 256, 256 * KIB, 4 * MIB]
    assert chunkecho.fitting("blocking", 64, reads) == reads
    assert chunkecho.fitting("callback/asyncio", 64, reads) == [64, 256, 256 * KIB]
    assert chunkecho.fitting("blocking", chunkecho.MOST_READS * 64 + 1, reads) == [256, 256 * KIB, 4 * MIB]


def test_who_cannot_be_started_is_left_out_with_the_reason(monkeypatch):
    @contextlib.contextmanager
    def serving(command, environment, core):
        if "blocking" in command:
            raise LeftOutError("it is broken")
        yield command

    left_out = []
    monkeypatch.setattr(chunkecho, "serving", serving)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with contextlib.ExitStack() as stack:
        servers = chunkecho.start(None, left_out, stack)
    assert {name: tuple(command[3:]) for name, command in servers.items()} == {
        name: chunkecho.WAYS[name].arguments for name in ("callback/asyncio", "feed/asyncio")
    }
    assert left_out == ["callback/uvloop: uvloop is not installed", "blocking: it is broken"]
