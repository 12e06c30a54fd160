"""The streams that the codec benchmarks work on, and the ways to cut them."""

import itertools

from fastframe.bench import workloads


def test_chunks_ignore_frames_and_pieces_do_not():
    work = workloads.workload(6, 32, 100)
    assert [len(chunk) for chunk in work.chunks] == [32, 32, 32, 4]
    assert [len(piece) for piece in work.pieces] == [30, 30, 30, 10]
    assert b"".join(work.chunks) == b"".join(work.pieces)
    assert work.padded is None


def test_padded_has_as_many_pieces_as_there_are_chunks():
    work = workloads.workload(50, 16, 200)
    assert len(work.pieces) == 4
    assert len(work.padded) == len(work.chunks) == 14
    assert [piece for piece in work.padded if piece] == work.pieces
    assert work.padded[-1]


def test_neighbouring_payloads_differ():
    payloads = workloads.some_payloads(16, 300)
    assert all(one != other for one, other in itertools.pairwise(payloads))
