"""Files on their way: one writer at a time, whoever and wherever it is, and names that are only theirs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastframe.servers import unfinished
from fastframe.servers.errors import OperationError


@pytest.fixture
def directory(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def code(call, *args, **kwargs) -> str:
    with pytest.raises(OperationError) as info:
        call(*args, **kwargs)
    return info.value.code


def test_a_file_has_one_writer(directory, tmp_path):
    with unfinished.open_locked(directory, "x"):
        assert code(unfinished.open_locked, directory, "x") == "busy"
        other = "import os, sys; from fastframe.servers import unfinished; unfinished.open_locked(os.open(sys.argv[1], 0), 'x')"
        result = subprocess.run(
            [sys.executable, "-c", other, tmp_path], capture_output=True, text=True, timeout=30, check=False
        )
        assert "busy" in result.stderr
    unfinished.open_locked(directory, "x").close()


def test_a_file_is_for_its_owner_alone_and_is_made_only_if_that_is_wanted(directory, tmp_path):
    with pytest.raises(FileNotFoundError):
        unfinished.open_locked(directory, "x", create=False)
    unfinished.open_locked(directory, "x").close()
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_what_is_no_regular_file_is_refused(directory, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert code(unfinished.open_locked, directory, "pipe") == "not_a_file"
    with pytest.raises(OSError, match="symbolic links"):
        unfinished.open_locked(directory, "link")


def test_a_file_that_somebody_else_has_put_there_is_not_filled(directory, tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    assert code(unfinished.open_locked, directory, "x") == "permission_denied"


def test_a_file_that_was_finished_half_way_keeps_its_other_name_alone(directory, tmp_path):
    """A crash came between link() and unlink()."""
    (tmp_path / "x").write_bytes(b"whole")
    os.link(tmp_path / "x", tmp_path / "done")
    with unfinished.open_locked(directory, "x") as file:
        assert os.fstat(file.fileno()).st_size == 0
    assert (tmp_path / "done").read_bytes() == b"whole"


def test_a_file_that_was_removed_in_that_moment_is_made_again(directory, tmp_path, monkeypatch):
    lock, removed = unfinished.placing.lock, []

    def remove_first(descriptor):
        if not removed:
            removed.append((tmp_path / "x").unlink())
        return lock(descriptor)

    monkeypatch.setattr(unfinished.placing, "lock", remove_first)
    with unfinished.open_locked(directory, "x") as file:
        assert unfinished.has_name(directory, "x", file)


def test_a_name_may_go_over_to_another(directory, tmp_path):
    with unfinished.open_locked(directory, "x") as file:
        assert unfinished.has_name(directory, "x", file)
        (tmp_path / "x").rename(tmp_path / "y")
        assert not unfinished.has_name(directory, "x", file)
        (tmp_path / "x").touch()
        assert not unfinished.has_name(directory, "x", file)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 6, 7])
def test_what_the_kernel_did_not_take_is_left(directory, tmp_path, monkeypatch, most):
    pwritev = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda file, views, at: pwritev(file, [b"".join(views)[:most]], at))
    views, position = [memoryview(data) for data in (b"ab", b"", b"cde", b"f")], 0
    with unfinished.open_locked(directory, "x") as file:
        while views:
            written, views = unfinished.write_some(file, views, position)
            assert 0 < written <= most
            position += written
    assert (tmp_path / "x").read_bytes() == b"abcdef"


def test_more_pieces_than_the_kernel_takes_at_once(directory, tmp_path):
    views, position = [memoryview(b"x")] * (2 * unfinished.IOV_MAX + 1), 0
    with unfinished.open_locked(directory, "x") as file:
        while views:
            written, views = unfinished.write_some(file, views, position)
            position += written
    assert (tmp_path / "x").stat().st_size == 2 * unfinished.IOV_MAX + 1


def test_a_file_is_put_on_disk_with_its_mode_and_time(directory, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with unfinished.open_locked(directory, "x") as file:
        unfinished.sync(file, 0o640, 1_700_000_000_123_456_789)
        assert synced == [file.fileno()]
    status = (tmp_path / "x").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 1_700_000_000_123_456_789)
