"""Files of the client: parts that are locked, kept and renamed, and errors that speak of this side."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from fastframe.servers import local
from fastframe.servers.errors import OperationError, about
from fastframe.servers.local import LocalError, Part

NAME = "big.iso"
PART = ".big.iso.fastframe-part"


@pytest.fixture
def open_part(tmp_path):
    def opened(name=NAME) -> Part:
        return local.open_part(str(tmp_path / name))

    return opened


def fill(part: Part, data: bytes) -> None:
    part.resume(0, "sha256")
    part.write([memoryview(data)])


def refused(call, *arguments, **named) -> str:
    with pytest.raises(LocalError) as info:
        call(*arguments, **named)
    return info.value.code


def test_a_part_becomes_the_file(open_part, tmp_path):
    part = open_part()
    fill(part, b"data")
    assert stat.S_IMODE((tmp_path / PART).stat().st_mode) == 0o600
    part.commit(10**18, 0o640, replace=False)
    part.close()
    status = (tmp_path / NAME).stat()
    assert os.listdir(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == b"data"
    assert (status.st_mtime_ns, stat.S_IMODE(status.st_mode)) == (10**18, 0o640)


@pytest.mark.parametrize("mode", [0o444, 0, 0o111])
def test_a_part_that_its_owner_may_not_write_can_be_committed_again(open_part, tmp_path, mode):
    part = open_part()
    fill(part, b"data")
    (tmp_path / NAME).touch()  # meanwhile
    assert refused(part.commit, 0, mode, replace=False) == "exists"
    assert stat.S_IMODE((tmp_path / PART).stat().st_mode) == mode | 0o600
    part.commit(10**18, mode, replace=True)
    part.close()
    status = (tmp_path / NAME).stat()
    assert (status.st_mtime_ns, stat.S_IMODE(status.st_mode)) == (10**18, mode)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_is_final(open_part, tmp_path, monkeypatch, number):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    part = open_part()
    fill(part, b"data")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        assert refused(part.commit, 0, 0o644, replace=False) in ("io_error", "disk_full")
    part.close()
    assert os.listdir(tmp_path) == []


def test_a_part_is_kept_unless_it_is_empty(open_part, tmp_path):
    part = open_part()
    fill(part, b"data")
    part.close()
    part.close()
    assert os.listdir(tmp_path) == [PART]
    part = open_part()
    assert part.size == 4
    part.discard()
    part.close()
    assert os.listdir(tmp_path) == []


def test_a_part_is_for_one(open_part):
    first = open_part()
    fill(first, b"data")
    assert refused(open_part) == "busy"
    first.close()
    open_part().close()


def test_resuming_cuts_it_and_hashes_what_stays(open_part):
    part = open_part()
    fill(part, b"data and more")
    hasher = part.resume(4, "md5")
    assert hasher.hexdigest() == "8d777f385d3dfec8815d20f7496026dc"
    part.write([memoryview(b""), memoryview(b"!")])
    assert part.size == 5
    part.close()


def test_thousands_of_chunks(open_part, tmp_path):
    part = open_part()
    part.write([memoryview(bytes([at % 256])) for at in range(5000)])
    part.close()
    assert (tmp_path / PART).read_bytes() == bytes(at % 256 for at in range(5000))


def test_a_write_that_the_kernel_cuts_short_goes_on(open_part, tmp_path, monkeypatch):
    written = os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda file, views, at: written(file, b"".join(views)[:3], at))
    part = open_part()
    part.write([memoryview(b"ab"), memoryview(b"cdef"), memoryview(b"g")])
    part.close()
    assert (tmp_path / PART).read_bytes() == b"abcdefg"


def test_what_has_the_name_is_not_replaced_unless_that_is_wanted(open_part, tmp_path):
    (tmp_path / NAME).write_bytes(b"old")
    part = open_part()
    fill(part, b"new")
    assert refused(part.check, replace=False) == "exists"
    assert refused(part.commit, 0, 0o600, replace=False) == "exists"
    assert (tmp_path / NAME).read_bytes() == b"old"
    part.check(replace=True)
    part.commit(0, 0o600, replace=True)
    part.close()
    assert (tmp_path / NAME).read_bytes() == b"new"


def test_a_directory_is_never_replaced(open_part, tmp_path):
    (tmp_path / NAME).mkdir()
    part = open_part()
    assert refused(part.check, replace=True) == "not_a_file"
    part.close()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_a_part_that_is_no_file_is_not_written_to(open_part, tmp_path, make):
    make(tmp_path / PART)
    assert refused(open_part) in ("not_a_file", "outside_root")
    assert os.listdir(tmp_path) == [PART]


def test_a_whole_file_that_still_is_called_a_part_is_not_touched(open_part, tmp_path):
    """A crash may come between the two steps of a commit, where the kernel does not rename in one."""
    (tmp_path / NAME).write_bytes(b"whole")
    os.link(tmp_path / NAME, tmp_path / PART)
    part = open_part()
    assert part.size == 0
    part.close()
    assert (tmp_path / NAME).read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "日" * 85])
def test_the_part_of_a_long_name(open_part, tmp_path, name):
    part = open_part(name)
    fill(part, b"data")
    assert local.is_part(*os.listdir(tmp_path))
    part.commit(0, 0o600, replace=False)
    part.close()
    assert os.listdir(tmp_path) == [name]


def test_a_name_that_is_no_utf8(tmp_path):
    assert refused(local.open_part, os.fsdecode(os.fsencode(tmp_path) + b"/\xff")) == "bad_name"


@pytest.mark.parametrize("follows", [True, False])
def test_a_link_is_followed_where_the_user_named_it(tmp_path, follows):
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        if follows:
            source = local.open_source(str(tmp_path / "link"), "sha256")
            assert source.size == 4
            source.close()
        else:
            assert refused(local.open_source, "link", "sha256", directory=directory) == "not_a_file"
    finally:
        os.close(directory)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "here: No space left on device (disk_full)"),
        (OSError(12345, "what the kernel says"), "here: what the kernel says (io_error)"),
        (about("there", "changed"), "here: the file changed while it was read (changed)"),
        (about("there", "io_error"), "here: the disk failed (io_error)"),
        (LocalError("exists", "said already"), "said already (exists)"),
    ],
)
def test_what_went_wrong_here_is_told_of_here(error, text):
    with pytest.raises(LocalError) as info, local.here("here"):
        raise error
    assert str(info.value) == text


def test_the_disks_own_words_are_told_where_the_server_would_speak_of_itself():
    with pytest.raises(LocalError) as info, local.here("here"):
        raise OperationError("disk_full") from OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert str(info.value) == "here: Disk quota exceeded (quota_exceeded)"


def test_a_part_that_was_committed_while_it_was_locked_is_not_written_to(open_part, tmp_path, monkeypatch):
    (tmp_path / PART).write_bytes(b"whole")
    lock, tries = local.placing.lock, []

    def late(descriptor):
        if not tries:
            (tmp_path / PART).rename(tmp_path / NAME)
        tries.append(descriptor)
        return lock(descriptor)

    monkeypatch.setattr(local.placing, "lock", late)
    part = open_part()
    assert part.size == 0
    part.close()
    assert len(tries) == 2
    assert (tmp_path / NAME).read_bytes() == b"whole"


def test_a_file_is_on_disk_before_it_has_its_name(open_part, tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def witness(descriptor):
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.listdir(tmp_path)))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", witness)
    part = open_part()
    fill(part, b"data")
    part.commit(0, 0o600, replace=False)
    part.close()
    assert synced[0] == (str(tmp_path / PART), [PART])
    assert (str(tmp_path), [NAME]) in synced


def test_a_part_may_have_another_name(tmp_path):
    part = local.open_part(str(tmp_path / NAME), ".new")
    fill(part, b"data")
    assert os.listdir(tmp_path) == [f"{NAME}.new"]
    part.commit(0, 0o644, replace=False)
    part.close()
    assert os.listdir(tmp_path) == [NAME]


def test_a_part_is_removed_unless_it_has_its_name(open_part, tmp_path):
    part = open_part()
    fill(part, b"data")
    part.remove()
    assert os.listdir(tmp_path) == []
    part.remove()
    part.close()
    part = open_part()
    fill(part, b"data")
    part.commit(0, 0o644, replace=False)
    part.remove()
    part.close()
    assert (tmp_path / NAME).read_bytes() == b"data"
