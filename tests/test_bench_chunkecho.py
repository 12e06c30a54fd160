"""The sweep of the echo: which cells there are, and who takes part. Nothing here is timed."""

import contextlib
import importlib.util

from fastframe.bench import chunkecho
from fastframe.bench.entry import LeftOutError

KIB, MIB = 1 << 10, 1 << 20


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
