"""Receive blocks from hand to hand, pieces that stay few, and how many frames `max_frames` means."""

from __future__ import annotations

import ctypes
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastframe import _memory
from fastframe._memory import PIECE_SIZE, RECEIVE_BLOCK_SIZE, Unread, append_piece, borrow, give_back, most_frames


@pytest.fixture(autouse=True)
def _no_spare(monkeypatch):
    monkeypatch.setattr(_memory, "_spare", [])


def test_a_block_is_as_large_as_promised_and_its_view_covers_it():
    block, view = borrow()
    assert (len(block), view.obj is block, view.nbytes, view.readonly) == (RECEIVE_BLOCK_SIZE, True, RECEIVE_BLOCK_SIZE, False)


def test_one_block_goes_from_hand_to_hand():
    first, lent = borrow()
    give_back((first, lent))
    second, _ = borrow()
    assert second is first
    with pytest.raises(ValueError, match="released"):
        lent[0] = 1


def test_two_borrowers_have_two_blocks_and_one_is_spared():
    first, second = borrow(), borrow()
    assert first[0] is not second[0]
    give_back(first)
    give_back(second)
    assert borrow()[0] is first[0]
    assert borrow()[0] is not second[0]


@pytest.mark.parametrize(
    "keep",
    [
        lambda lent: lent[3:9],
        memoryview,
        lambda lent: memoryview(lent.obj),
        lambda lent: lent.cast("I"),
        (ctypes.c_char * 8).from_buffer,
        lambda lent: (ctypes.c_char * 8).from_buffer(lent.obj),
    ],
    ids=["slice", "view", "view-of-object", "cast", "export", "export-of-object"],
)
def test_b9_a_block_that_somebody_still_sees_is_left_to_him(keep):
    block, lent = borrow()
    kept = keep(lent)
    give_back((block, lent))
    again, view = borrow()
    assert again is not block
    view[:] = b"x" * RECEIVE_BLOCK_SIZE
    assert bytes(kept).count(b"x") == 0


@pytest.mark.parametrize("length", [0, 1, RECEIVE_BLOCK_SIZE - 1, RECEIVE_BLOCK_SIZE + 1])
def test_a_block_that_was_resized_is_not_lent_again(length):
    block, lent = borrow()
    lent.release()
    block[:] = bytes(length)
    give_back((block, lent))
    again, view = borrow()
    assert len(again) == len(view) == RECEIVE_BLOCK_SIZE


@given(st.lists(st.binary(max_size=9) | st.integers(0, 2 * PIECE_SIZE).map(bytes), max_size=30))
def test_pieces_keep_every_byte_and_stay_few(parts):
    pieces: list[bytes] = []
    for part in parts:
        append_piece(pieces, part)
    assert b"".join(pieces) == b"".join(parts)
    assert all(pieces)
    assert all(max(len(one), len(two)) >= PIECE_SIZE for one, two in pairwise(pieces))


@pytest.mark.parametrize(
    ("value", "most"),
    [(None, sys.maxsize), (0, 0), (1, 1), (True, 1), (sys.maxsize, sys.maxsize), (1 << 80, sys.maxsize)],
)
def test_max_frames_is_a_number_or_none(value, most):
    assert most_frames(value) == most


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (1.0, TypeError), ("1", TypeError)])
def test_any_other_max_frames_is_refused(value, error):
    with pytest.raises(error):
        most_frames(value)


@given(st.lists(st.binary(max_size=2 * PIECE_SIZE), max_size=9), st.data())
def test_what_is_unread_keeps_every_byte_in_order(chunks, data):
    unread, left = Unread(), b"".join(chunks)
    for chunk in chunks:
        unread.append(chunk)
    while unread:
        assert (len(unread), unread.join()) == (len(left), left)
        chunk, start = unread.pop()
        stop = data.draw(st.integers(start + 1, len(chunk)))
        left = left[stop - start :]
        if stop < len(chunk):
            unread.put_back(chunk, stop)
    assert left == unread.join() == b""
