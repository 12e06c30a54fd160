"""A decoder that is received into: `get_buffer` lends its memory, `buffer_updated` tells how much of it was filled.

Large payloads, which are received in their own memory, are in `test_lending.py`.
"""

from __future__ import annotations

import ctypes
import tracemalloc

import pytest

from fastframe import FrameFormat, MisuseError

U8 = FrameFormat("u8")


def test_a11_lends_room_for_any_read(codec):
    view = codec.Decoder(U8).get_buffer(-1)
    assert (type(view), view.readonly, view.format, view.itemsize) == (memoryview, False, "B", 1)
    assert len(view) >= 1 << 16


def test_a11_a_kept_view_cannot_touch_what_came_before_or_comes_after(codec):
    """A slice that the caller keeps is on memory of its own from then on."""
    decoder = codec.Decoder(U8)
    kept = []
    for round_ in range(4):
        view = decoder.get_buffer()
        assert all(old.obj is not view.obj for old in kept)
        kept.append(view[:5])
        view[:5] = b"\2a%d\1x" % round_
        payloads = decoder.buffer_updated(4)
        for old in kept:
            old[:] = b"?????"
        assert payloads == [b"a%d" % round_]
        assert decoder.feed(b"y") == [b"y"]


def test_a11_a_view_ends_at_the_latest_when_the_memory_is_lent_again(codec):
    decoder = codec.Decoder(U8)
    view = decoder.get_buffer()
    decoder.buffer_updated(0)
    decoder.get_buffer()
    with pytest.raises(ValueError, match="released"):
        view[0] = 1


def test_a11_two_decoders_never_share_memory(codec):
    one, two = codec.Decoder(U8), codec.Decoder(U8)
    first, second = one.get_buffer(), two.get_buffer()
    first[:2], second[:2] = b"\1a", b"\1b"
    assert (one.buffer_updated(2), two.buffer_updated(2)) == ([b"a"], [b"b"])


def test_a11_a_second_get_buffer_discards_the_first(codec):
    decoder = codec.Decoder(U8)
    first = decoder.get_buffer()
    first[:2] = b"\1a"
    second = decoder.get_buffer()
    second[:2] = b"\1b"
    assert decoder.buffer_updated(2) == [b"b"]
    with pytest.raises(MisuseError):
        decoder.buffer_updated(2)


def test_a11_the_caller_may_release_the_view(codec):
    decoder = codec.Decoder(U8)
    for _ in range(3):
        with decoder.get_buffer() as view:
            view[:2] = b"\1a"
        assert decoder.buffer_updated(2) == [b"a"]


@pytest.mark.parametrize("length", [0, 1, 1 << 20])
def test_a11_the_caller_may_even_resize_the_memory(codec, length):
    decoder = codec.Decoder(U8)
    with decoder.get_buffer() as view:
        memory = view.obj
    memory[:] = b"\1" * length
    with pytest.raises(ValueError, match=f"nbytes must be from 0 to the {length} bytes lent"):
        decoder.buffer_updated(length + 1)
    assert decoder.buffer_updated(length) == [b"\1"] * (length // 2)
    assert len(decoder.get_buffer()) == 256 * 1024


@pytest.mark.parametrize("nbytes", [-1, 256 * 1024 + 1, 1 << 80, -(1 << 80)])
def test_a11_a_count_outside_the_memory_is_refused_and_changes_nothing(codec, nbytes):
    decoder = codec.Decoder(U8)
    decoder.get_buffer()[:2] = b"\1a"
    with pytest.raises(ValueError, match="nbytes must be from 0 to the 262144 bytes lent, not"):
        decoder.buffer_updated(nbytes)
    assert decoder.buffer_updated(2) == [b"a"]


def test_a11_all_of_the_memory_may_be_filled(codec):
    decoder = codec.Decoder(FrameFormat("u24be"))
    view = decoder.get_buffer()
    view[:] = (len(view) - 3).to_bytes(3) + b"x" * (len(view) - 3)
    assert decoder.buffer_updated(len(view)) == [b"x" * (256 * 1024 - 3)]


def test_a11_an_export_of_the_view_keeps_the_memory_alive(codec):
    decoder = codec.Decoder(U8)
    export = (ctypes.c_char * 4).from_buffer(decoder.get_buffer())
    decoder.buffer_updated(0)
    with decoder.get_buffer() as other:
        export[:4] = b"\1aaa"
        other[:2] = b"\1b"
    assert decoder.buffer_updated(2) == [b"b"]


def test_b11_buffer_updated_needs_get_buffer(codec):
    decoder = codec.Decoder(U8)
    with pytest.raises(MisuseError, match=r"buffer_updated\(\) was called without get_buffer\(\)"):
        decoder.buffer_updated(0)
    assert decoder.feed(b"\1a") == [b"a"]


def test_b7_an_idle_decoder_holds_no_receive_buffer(codec):
    """Nor does one that is closed while memory is lent: asyncio lends once more to learn of the stream's end."""
    decoders = [codec.Decoder(U8) for _ in range(20)]
    tracemalloc.start()
    for at, decoder in enumerate(decoders):
        decoder.get_buffer()[:3] = b"\1a\5"
        assert decoder.buffer_updated(2 + at % 2) == [b"a"]
    idle = tracemalloc.get_traced_memory()[0]
    for at, decoder in enumerate(decoders):
        decoder.get_buffer()
        if at % 2:
            decoder.detach()
        else:
            decoder.finish()
    closed = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert idle < 2 * 256 * 1024
    assert closed < 2 * 256 * 1024
