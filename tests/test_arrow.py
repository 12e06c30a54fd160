"""A FrameBatch as an Arrow array: what pyarrow, polars and duckdb see, whose memory they see, and how long it lives."""

from __future__ import annotations

import gc
import struct
import subprocess
import sys
import tracemalloc

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastframe import FrameFormat, _arrow, _batch_py, _codec_py
from fastframe._arrow import INLINE_LENGTH, MAX_LENGTH, VIEW, windows

SHORT = [b"", b"a", b"x" * 11, b"y" * 12]  # they stand in the view itself
LONG = [b"z" * 13, b"long payload", bytes(range(256)), b"w" * 5000]
PAYLOADS = [LONG[0], SHORT[0], *LONG[1:], *SHORT[1:], LONG[0], b"\xff\x00\xfe"]


def wire_of(payloads):
    return b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)


def batch_of(codec, payloads, straddling=0):
    decoder, wire = codec.Decoder(FrameFormat("u32be")), wire_of(payloads)
    assert not decoder.feed_batch(wire[:straddling])
    return decoder.feed_batch(wire[straddling:])


def address(buffer):
    return np.frombuffer(buffer, np.uint8).ctypes.data


def arrow_of(batch):
    """Return pyarrow's array, thoroughly validated."""
    array = pa.array(batch)
    array.validate(full=True)
    assert (array.type, array.null_count, len(array)) == (pa.binary_view(), 0, len(batch))
    return array


@pytest.mark.parametrize("straddling", [0, 1, 4, 5, 16])
@pytest.mark.parametrize("payloads", [PAYLOADS, SHORT, LONG, SHORT * 40, []], ids=["mixed", "short", "long", "many", "empty"])
def test_b10_arrow_sees_the_payloads(codec, payloads, straddling):
    if payloads == SHORT or payloads == SHORT * 40:
        straddling = min(straddling, 3)  # the first frame is no longer
    batch = batch_of(codec, payloads, straddling)
    assert arrow_of(batch).to_pylist() == payloads
    for start, stop in ((1, None), (None, -1), (2, 5), (3, 3)):
        assert arrow_of(batch[start:stop]).to_pylist() == payloads[start:stop]


@given(st.data())
def test_b10_arrow_sees_the_payloads_however_cut(codec, data):
    payloads = data.draw(st.lists(st.binary(max_size=40), max_size=8))
    wire = wire_of(payloads)
    at = data.draw(st.integers(0, len(wire)))
    decoder = codec.Decoder(FrameFormat("u32be"))
    assert [
        *arrow_of(decoder.feed_batch(wire[:at])).to_pylist(),
        *arrow_of(decoder.feed_batch(wire[at:])).to_pylist(),
    ] == payloads


def test_b10_polars_sees_the_payloads(codec):
    for straddling in (0, 5):
        batch = batch_of(codec, PAYLOADS, straddling)
        series = pl.Series("payload", batch)
        assert (series.dtype, series.to_list()) == (pl.Binary, PAYLOADS)
        assert pl.from_arrow(pa.array(batch)).to_list() == PAYLOADS
        assert pl.Series("payload", batch[2:4]).to_list() == PAYLOADS[2:4]


def test_b10_duckdb_sees_the_payloads(codec):
    for straddling in (0, 5):
        frames = pa.table({"payload": pa.array(batch_of(codec, PAYLOADS, straddling))})
        with duckdb.connect() as database:
            database.register("frames", frames)
            assert database.sql("select payload from frames").fetchall() == [(payload,) for payload in PAYLOADS]
            assert database.sql("select sum(octet_length(payload)) from frames").fetchall() == [(sum(map(len, PAYLOADS)),)]


def test_b10_arrow_reads_the_batchs_own_memory(codec):
    chunk = wire_of(PAYLOADS)
    batch = codec.Decoder(FrameFormat("u32be")).feed_batch(chunk)
    _, _, _, memory = arrow_of(batch).buffers()
    assert (memory.address, memory.size) == (address(chunk), len(chunk))


def test_b10_arrow_reads_the_memory_of_a_straddling_payload(codec):
    first = b"first" * 1000
    decoder, wire = codec.Decoder(FrameFormat("u32be")), wire_of([first, *LONG])
    decoder.feed_batch(wire[:2000])
    batch = decoder.feed_batch(chunk := wire[2000:])
    _, _, front, memory = arrow_of(batch).buffers()
    assert (front.address, front.size) == (address(batch.view(0)), len(first))
    assert (memory.address, memory.size) == (address(chunk), len(chunk))


def test_b10_the_wished_schema_is_only_a_wish(codec):
    batch = batch_of(codec, PAYLOADS)
    assert pa.array(batch, pa.binary_view()).to_pylist() == PAYLOADS
    schema, array = batch.__arrow_c_array__(pa.binary().__arrow_c_schema__())
    assert [type(capsule).__name__ for capsule in (schema, array)] == ["PyCapsule"] * 2
    assert batch.__arrow_c_array__(requested_schema=None)


@pytest.mark.parametrize("straddling", [0, 5])
def test_b9_an_arrow_array_outlives_batch_decoder_and_chunk(codec, straddling):
    array = arrow_of(batch_of(codec, PAYLOADS, straddling))
    part = array.slice(2, 3)
    series = pl.Series("payload", batch_of(codec, PAYLOADS, straddling))
    gc.collect()
    noise = [b"\xaa" * length for length in range(6000)]
    array.validate(full=True)
    assert array.to_pylist() == series.to_list() == PAYLOADS
    del array
    gc.collect()
    assert part.to_pylist() == PAYLOADS[2:5]
    del noise


def test_b9_an_array_is_taken_once_and_others_stay(codec):
    batch = batch_of(codec, PAYLOADS)
    schema, array = batch.__arrow_c_array__()
    taken = pa.Array._import_from_c_capsule(schema, array)
    with pytest.raises((ValueError, pa.ArrowInvalid)):
        pa.Array._import_from_c_capsule(schema, array)
    other = pa.array(batch)
    del taken, schema, array
    gc.collect()
    assert other.to_pylist() == PAYLOADS


def drop_capsules(batch, error):
    capsules = batch.__arrow_c_array__()
    assert len(capsules) == 2
    raise error


def test_b9_capsules_that_nobody_took_do_not_disturb_an_exception(codec):
    batch, error = batch_of(codec, PAYLOADS), KeyError("on its way")
    with pytest.raises(KeyError) as caught:
        drop_capsules(batch, error)
    error.__traceback__ = None  # it holds the frame, and that the capsules
    assert caught.value is error
    assert error.__context__ is None
    assert list(batch) == PAYLOADS

    def leave_in_order():
        batch.__arrow_c_array__()
        raise error

    with pytest.raises(KeyError) as caught:
        leave_in_order()
    assert caught.value is error


@pytest.mark.parametrize("take", [lambda batch: batch.__arrow_c_array__(), pa.array], ids=["dropped", "taken"])
def test_b9_arrays_leave_nothing_behind(codec, take):
    chunk = wire_of([b"x" * 100] * 1000)

    def rounds(count):
        for _ in range(count):
            take(codec.Decoder(FrameFormat("u32be")).feed_batch(chunk))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        rounds(3)
        before = rounds(3)
        assert rounds(30) - before < 10_000  # one array's views alone take 16,000
    finally:
        tracemalloc.stop()
    held = sys.getrefcount(chunk)
    arrays = [take(codec.Decoder(FrameFormat("u32be")).feed_batch(chunk)) for _ in range(3)]
    assert sys.getrefcount(chunk) > held
    del arrays
    gc.collect()
    assert sys.getrefcount(chunk) == held


def test_without_pyarrow_the_pure_batch_says_so_and_the_compiled_one_needs_none(codec):
    program = f"""
import sys
sys.modules["pyarrow"] = None
from {codec.__name__} import Decoder, IMPLEMENTATION
from fastframe import FrameFormat
batch = Decoder(FrameFormat("u8")).feed_batch(b"\\1a")
try:
    print(IMPLEMENTATION, [type(capsule).__name__ for capsule in batch.__arrow_c_array__()])
except ImportError as error:
    print(IMPLEMENTATION, error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said in (
        "cython ['PyCapsule', 'PyCapsule']\n",
        "python the pure codec needs pyarrow to hand over Arrow arrays: pip install pyarrow\n",
    )


def test_a_memory_is_named_from_each_windows_start_on(monkeypatch):
    monkeypatch.setattr(_arrow, "WINDOW_SIZE", 8)
    memory = bytes(range(20))
    assert [bytes(window) for window in windows(memory)] == [memory, memory[8:], memory[16:]]
    assert [bytes(window) for window in windows(memory[:16])] == [memory[:16], memory[8:16]]
    assert [bytes(window) for window in windows(b"")] == [b""]
    assert address(next(windows(memory))) == address(memory)


def test_pure_views_reach_behind_the_first_window(monkeypatch):
    for module in (_arrow, _batch_py):
        monkeypatch.setattr(module, "WINDOW_SIZE", 64)
    for straddling in (0, 9):
        array = arrow_of(batch_of(_codec_py, PAYLOADS, straddling))
        assert array.to_pylist() == PAYLOADS
        assert len(array.buffers()) == 3 + -(-(len(wire_of(PAYLOADS)) - straddling) // 64)


def test_a_payload_that_arrow_cannot_say_is_refused(monkeypatch):
    monkeypatch.setattr(_batch_py, "MAX_LENGTH", 300)
    assert arrow_of(batch_of(_codec_py, [b"x" * 300])).to_pylist() == [b"x" * 300]
    with pytest.raises(OverflowError, match="31 bits for its length: a payload of 301 bytes is too long"):
        pa.array(batch_of(_codec_py, [b"x" * 301]))


def test_the_layout_is_arrows():
    assert (VIEW.size, INLINE_LENGTH, MAX_LENGTH) == (16, 12, 2**31 - 1)
    array = pa.array([b"x" * 13, b"short"], pa.binary_view())
    views = array.buffers()[1].to_pybytes()
    assert VIEW.unpack(views[:16])[:3] == (13, b"xxxx", 0)
    assert struct.unpack("=i5s", views[16:25]) == (5, b"short")
