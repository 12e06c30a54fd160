"""Files of results: whole or as they were, whatever happens while one is written."""

import errno
import os

import pytest

from fastframe.bench import files


@pytest.fixture
def before(tmp_path):
    path = tmp_path / "all.json"
    path.write_text("measured for an hour")
    return path


def test_a_file_takes_the_place_of_another_and_nothing_is_left_beside_it(before):
    before.chmod(0o640)
    files.write_whole(before, "é")
    assert before.read_bytes() == "é".encode()
    assert before.stat().st_mode & 0o777 == 0o640
    assert os.listdir(before.parent) == ["all.json"]


def test_a_new_file_may_be_read_by_whom_others_of_the_user_may(tmp_path):
    files.write_whole(tmp_path / "new", "")
    (tmp_path / "other").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays_one(before, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(before)
    files.write_whole(link, "new")
    assert link.is_symlink()
    assert before.read_text() == "new"


def test_what_is_no_file_is_written_to():
    reading, writing = os.pipe()
    with open(reading) as pipe:
        files.write_whole(files.Path(f"/dev/fd/{writing}"), "report")
        os.close(writing)
        assert pipe.read() == "report"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["copymode", "replace"])
def test_whatever_happens_the_earlier_file_is_as_it_was(error, step, before, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(files.shutil if step == "copymode" else files.os, step, fail)
    with pytest.raises(type(error)):
        files.write_whole(before, "half of it")
    monkeypatch.undo()
    assert os.listdir(before.parent) == ["all.json"]
    assert before.read_text() == "measured for an hour"


def test_a_folder_that_takes_no_files_is_said_before_anything_is_measured(before, monkeypatch):
    allowed = os.access
    assert files.against_file(before) == ""
    for closed, said in (
        (before.parent, f"nothing may be written into {before.parent}"),
        (before, f"{before} may not be written"),
    ):
        monkeypatch.setattr(os, "access", lambda path, mode, closed=closed: path != closed and allowed(path, mode))
        assert files.against_file(before) == said
    assert files.against_file(files.Path("/dev/null")) == ""


def test_a_link_into_nowhere_is_said(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "none" / "file")
    assert files.against_file(tmp_path / "link") == f"there is no folder {tmp_path / 'none'}"
