"""Calls of the C library."""

from __future__ import annotations

import errno

import pytest

from fastframe.servers import libc


def test_what_a_call_returns():
    assert libc.checked(libc.LIBRARY.getpagesize()) > 0


def test_a_call_that_fails_raises_what_it_set():
    with pytest.raises(FileNotFoundError, match="No such file or directory") as info:
        libc.checked(libc.LIBRARY.chdir(b"/nonexistent"))
    assert info.value.errno == errno.ENOENT
