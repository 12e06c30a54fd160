"""Sizes with units, names of contenders."""

import argparse

import pytest

from fastframe.bench import options


def test_sizes_have_units():
    assert options.numbers("64,16KiB,1MiB") == [64, 16384, 1048576]
    assert options.file_size("2GiB") == 2 << 30


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "17MiB", "1kb", "1GiB", "\u0661"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number"):
        options.whole_number(text)


@pytest.mark.parametrize("text", ["", "0", "0GiB", "2TiB", "1234567890"])
def test_what_is_no_size_of_a_file_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size"):
        options.file_size(text)


def test_names_are_looked_up():
    def chosen(parts):
        if parts != ["a", "b"]:
            raise ValueError("there is no such name")

    assert options.names_of(chosen)("a,b") == ["a", "b"]
    with pytest.raises(argparse.ArgumentTypeError, match="there is no such name"):
        options.names_of(chosen)("c")
