"""What contenders share: how payloads become chunks, and how what comes out is collected."""

from fastframe.bench import entry, workloads


def test_fed_cuts_the_wire_into_chunks_of_one_size():
    work = workloads.workload(10, 32, 100)
    chunks = entry.fed(b"-".join)(work)
    assert b"".join(chunks) == b"-".join(work.payloads)
    assert {len(chunk) for chunk in chunks[:-1]} == {32}


def test_decoded_collects_what_each_piece_gave():
    assert entry.decoded(lambda piece: [piece, b"x"], [b"a", b"b"]) == [b"a", b"x", b"b", b"x"]
