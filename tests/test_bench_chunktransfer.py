"""The sweep of transfers: the copy is looked at, and a turn has a length and not a number of bytes. Nothing here is timed."""

import pytest

from fastframe.bench import chunktransfer
from fastframe.bench.chunkends import Job

MIB = 1 << 20


def test_a_copy_that_differs_is_a_failure(tmp_path):
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(bytes(3 * MIB))
    copy.write_bytes(bytes(MIB))
    pair = chunktransfer.Ends(None, None, None, source, copy)
    chunktransfer.check_copy(pair, 64)
    copy.write_bytes(bytes(MIB) + b"x")
    with pytest.raises(chunktransfer.BenchError, match="64 B: what arrived is not what was sent"):
        chunktransfer.check_copy(pair, 64)


class Steady:
    """Ends that take the same for each frame: 10 ns of the sender, and so much of the receiver."""

    def __init__(self, receiver_ns):
        self.receiver_ns = receiver_ns

    def run(self, job):
        return chunktransfer.Took(100 * job.frames, 10 * job.frames, self.receiver_ns * job.frames)


@pytest.mark.parametrize(("receiver_ns", "frames"), [(1, 100_000), (50, 20_000), (1_000_000, 1)])
def test_a_turn_is_as_long_as_asked_for_by_the_processor_that_is_busier(receiver_ns, frames):
    assert chunktransfer.in_time(Steady(receiver_ns), Job(64, 0, 0, "feed", 64, ""), 1_000_000).frames == frames


def test_a_turn_sends_no_more_than_the_file_has():
    job = Job(MIB, 0, 0, "feed", 64, "")
    assert chunktransfer.in_time(Steady(1), job, 1_000_000).frames == chunktransfer.FILE_SIZE // MIB


def test_a_row_has_everybodys_time_and_that_of_each_end():
    turns = {64: [(100, 10, 50)] * 3, 256 << 10: [(50, 5, 40)] * 3}
    row = chunktransfer.figures_of(turns, 64)
    assert [row[each]["median"] for each in ("ns", "sender_ns", "receiver_ns")] == [100, 10, 50]
    assert (row["ratio"]["median"], row["receiver_ratio"]["median"]) == (2, 1.25)
