"""Opening beneath a directory: the same outcomes both ways, for any tree of links."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest
from confined import open_descriptors, plant
from hypothesis import given
from hypothesis import strategies as st

from fastframe.servers import beneath

PART = st.sampled_from(["a", "b", "c", "d", ".", "..", ""])
PATH = st.lists(PART, min_size=1, max_size=6).map("/".join)
PLACE = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("/".join)
FLAGS = (os.O_PATH, os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY, os.O_PATH | os.O_DIRECTORY)


@pytest.fixture(params=["kernel", "walk"])
def way(request):
    return getattr(beneath, request.param)


@pytest.fixture
def directory(tmp_path):
    descriptor = os.open(plant(tmp_path), os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def top(tmp_path):
    return tmp_path / "root"


def outcome(way, directory, path, flags):
    """Return what was opened, or the error's number."""
    try:
        descriptor = way(directory, path.encode(), flags)
    except OSError as error:
        return errno.errorcode[error.errno]
    status = os.fstat(descriptor)
    os.close(descriptor)
    return status.st_dev, status.st_ino


def same(path):
    status = os.stat(path)
    return status.st_dev, status.st_ino


def test_both_ways_end_where_the_same_links_lead(way, directory, top):
    links = {"up": "d/../f", "d/back": "../e", "here": ".", "slashes": ".//d//sub/", "d/sub/top": "../.."}
    for name, target in links.items():
        (top / name).symlink_to(target)
    for path in ("f", "d/f", "up", "d/back/f", "d/sub/top/here/slashes/top/e/f", "slashes", "here"):
        assert outcome(way, directory, path, os.O_PATH) == same(top / path)
    assert outcome(way, directory, ".", os.O_RDONLY | os.O_DIRECTORY) == same(top)


@pytest.mark.parametrize(
    "target", ["/", "/etc/passwd", "/nowhere", "..", "../nowhere", "../outside/f", "d/../../outside", "../root"]
)
@pytest.mark.parametrize("flags", FLAGS)
def test_a_link_that_leads_outside_says_nothing_of_what_is_there(way, directory, top, target, flags):
    (top / "link").symlink_to(target)
    assert {outcome(way, directory, path, flags) for path in ("link", "link/f", "link/nothing")} == {"EXDEV"}


def test_forty_links_and_no_more(way, directory, top):
    (top / "0").symlink_to("f")
    for number in range(1, 42):
        (top / str(number)).symlink_to(str(number - 1))
    (top / "loop").symlink_to("loop")
    assert outcome(way, directory, "39", os.O_PATH) == same(top / "f")
    assert outcome(way, directory, "40", os.O_PATH) == outcome(way, directory, "loop", os.O_PATH) == "ELOOP"


@pytest.mark.parametrize("target", ["f/", "f/.", "f/..", "f/../e"])
def test_a_file_is_no_directory_on_the_way(way, directory, top, target):
    (top / "link").symlink_to(target)
    assert outcome(way, directory, "link", os.O_PATH) == "ENOTDIR"
    assert outcome(way, directory, "f", os.O_PATH | os.O_DIRECTORY) == "ENOTDIR"


def test_the_doors_of_proc_are_shut(way, top):
    directory = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    for path in ("root", "root/etc", "cwd/setup.py", "exe", f"fd/{directory}"):
        assert outcome(way, directory, path, os.O_PATH) in ("ELOOP", "EXDEV")
    os.close(directory)


def test_descriptors_are_not_inherited(way, directory):
    for path, flags in (("f", os.O_PATH), ("f", os.O_RDONLY), ("d", os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = way(directory, path.encode(), flags)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_the_kernel_is_asked_again_when_others_renamed(directory, top, monkeypatch):
    syscall, answers = beneath._syscall, []

    def interrupted(*arguments):
        if not answers:
            return syscall(*arguments)
        ctypes.set_errno(answers.pop())
        return -1

    monkeypatch.setattr(beneath, "_syscall", interrupted)
    answers += [errno.EAGAIN] * (beneath.TRIES - 2) + [errno.EINTR]
    assert outcome(beneath.kernel, directory, "f", os.O_PATH) == same(top / "f")
    answers += [errno.EAGAIN] * beneath.TRIES
    assert outcome(beneath.kernel, directory, "f", os.O_PATH) == "EAGAIN"


def test_a_file_that_becomes_a_link_is_not_followed(directory, top, monkeypatch):
    descend = beneath._descend

    def exchange(held, path):
        last = descend(held, path)
        (top / "f").unlink()
        (top / "f").symlink_to("../outside/f")
        return last

    monkeypatch.setattr(beneath, "_descend", exchange)
    assert outcome(beneath.walk, directory, "f", os.O_RDONLY) == "ELOOP"


def test_what_is_moved_while_it_is_walked_stays_inside(directory, top, monkeypatch):
    (top / "d/sub/back").symlink_to("../../f")
    readlink = os.readlink

    def move(path, *, dir_fd):
        (top / "d/sub").rename(top.parent / "moved")  # its ".." is the directory above the root now
        return readlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", move)
    assert outcome(beneath.walk, directory, "d/sub/back", os.O_RDONLY) == same(top / "f")


@given(tree=st.dictionaries(PLACE, st.one_of(st.none(), st.booleans(), PATH)), paths=st.lists(PATH, min_size=1, max_size=5))
def test_both_ways_agree_about_any_tree(tree, paths):
    with tempfile.TemporaryDirectory() as name:
        for place, kind in tree.items():
            make(Path(name, "root", place), kind)
        Path(name, "root").mkdir(exist_ok=True)
        directory = os.open(Path(name, "root"), os.O_PATH | os.O_DIRECTORY)
        before = open_descriptors()
        for path in paths:
            for flags in FLAGS:
                walked = outcome(beneath.walk, directory, path or ".", flags)
                assert walked == outcome(beneath.kernel, directory, path or ".", flags)
        assert open_descriptors() == before
        os.close(directory)


def make(place, kind):
    """Make a directory (None), a file or a socket (a bool) or a link at `place`, unless the way there is taken."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind is None:
            place.mkdir()
        elif isinstance(kind, bool):
            place.touch() if kind else os.mknod(place, stat.S_IFSOCK)
        else:
            place.symlink_to(kind)
    except OSError:
        pass
