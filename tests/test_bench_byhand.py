"""Framing by hand: right, or it would be no peer; and held to the limit."""

import pytest

from fastframe.bench import byhand, workloads
from fastframe.bench.entry import decoded

WAYS = (byhand.rolling, byhand.direct, byhand.streams)


@pytest.mark.parametrize("start", WAYS)
@pytest.mark.parametrize("chunk", [1, 3, 5, 64, 1000])
def test_payloads_come_back_however_they_are_cut(start, chunk):
    payloads = [b"", b"a", b"", b"bc", bytes(range(100)), b"", bytes(3000), b"d"]
    feed = start()
    for _ in range(2):  # a benchmark goes on with the same decoder
        assert decoded(feed, workloads.cut(workloads.frame(payloads), chunk)) == payloads


@pytest.mark.parametrize("start", WAYS)
def test_a_frame_comes_with_its_last_byte(start):
    feed = start()
    assert [feed(piece) for piece in (b"\0\0", b"\0\1", b"", b"a\0\0\0\0\0", b"\0\0\0")] == [[], [], [], [b"a", b""], [b""]]


@pytest.mark.parametrize("start", WAYS)
def test_a_length_over_the_limit_is_an_error(start):
    with pytest.raises(ValueError, match=str(byhand.MAX_LENGTH + 1)):
        start()((byhand.MAX_LENGTH + 1).to_bytes(4, "big"))


def test_payloads_are_bytes_of_their_own():
    chunk = workloads.frame([b"one", b"two"])
    for start in WAYS:
        assert {type(payload) for payload in start()(chunk)} == {bytes}


def test_encoders_give_frames():
    payloads = [b"", b"a", bytes(70_000)]
    assert byhand.pack_and_join_many(payloads) == workloads.frame(payloads)
    for encode in (byhand.pack_and_add, byhand.pack_and_join):
        assert b"".join(map(encode, payloads)) == workloads.frame(payloads)
