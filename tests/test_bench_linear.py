"""Twice the bytes: the streams are what they say, and there is a row for each. Nothing here is timed."""

import pytest

from fastframe.bench import linear

SIZE = 64 << 10


@pytest.mark.parametrize(("shape", "chunks", "frames"), [("tiny", 1, SIZE // 64), ("large", 65, 1), ("at once", 1, 32)])
def test_streams(codec, shape, chunks, frames):
    stream = linear.stream(shape, SIZE)
    assert len(stream) == chunks
    decoder = codec.Decoder(linear.FrameFormat("u32be"))
    assert sum(len(decoder.feed(chunk)) for chunk in stream) == frames
    decoder.finish()


def test_a_row_for_each_shape_codec_and_way():
    rows = linear.linear_rows(SIZE)
    assert {row["shape"] for row in rows} == {"tiny", "large", "at once"}
    assert {row["way"] for row in rows} == {"feed", "feed_batch"}
    assert len(rows) == len({(row["shape"], row["contender"], row["way"]) for row in rows}) in (6, 12)
    for row in rows:
        assert row["ns"]["median"] > 0
        assert row["ratio"]["half"]["median"] > 0
        assert row["bytes"] >= SIZE // 4
