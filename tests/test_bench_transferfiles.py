"""The files that are sent, and what is found wrong with a copy."""

import pytest

from fastframe.bench import transferfiles
from fastframe.bench.entry import BenchError
from fastframe.bench.pairs import RECEIVED, Job

MIB = 1 << 20


@pytest.fixture
def folders(tmp_path):
    return transferfiles.make_files(tmp_path, {"source": 2 * MIB + 100, "warm": 10})


@pytest.fixture
def job(folders):
    job = Job("put", "file", "source", 2 * MIB + 100)
    folders.copy(job).write_bytes(folders.source(job).read_bytes())
    return job


def test_both_ends_have_the_same_files_once_in_memory(folders):
    for name, size in (("source", 2 * MIB + 100), ("warm", 10)):
        assert (folders.served / name).stat().st_size == size
        assert (folders.served / name).samefile(folders.own / name)
    data = (folders.own / "source").read_bytes()
    assert data[:MIB] != data[MIB : 2 * MIB]
    assert data[8:MIB] == data[MIB + 8 : 2 * MIB]


def test_a_whole_copy_is_right(folders, job):
    transferfiles.check(folders, job, thoroughly=True)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda copy: copy[:-1], "2097251 of 2097252 bytes arrived"),
        (lambda copy: copy + b"x", "2097253 of 2097252 bytes arrived"),
        (lambda copy: copy[MIB : 2 * MIB] + copy[:MIB] + copy[2 * MIB :], "what arrived is not what was sent"),
        (lambda copy: copy[:-1] + b"?", "what arrived is not what was sent"),
    ],
)
def test_what_is_wrong_with_a_copy_is_found(folders, job, spoil, reason):
    copy = folders.copy(job)
    copy.write_bytes(spoil(copy.read_bytes()))
    with pytest.raises(BenchError, match=reason):
        transferfiles.check(folders, job, thoroughly=True)


def test_no_copy_is_found_too_and_clearing_leaves_the_sources(folders, job):
    transferfiles.clear(folders)
    assert not list(folders.served.parent.rglob(RECEIVED))
    assert folders.source(job).exists()
    with pytest.raises(BenchError, match="none of 2097252 bytes arrived"):
        transferfiles.check(folders, job, thoroughly=False)
    transferfiles.clear(folders)


def test_a_longer_file_is_not_the_same(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(MIB))
    other.write_bytes(bytes(MIB + 1))
    assert not transferfiles.same(one, other)
    assert not transferfiles.same(other, one)


def test_no_room_is_said_before_anything_is_made(tmp_path, monkeypatch):
    transferfiles.check_room(tmp_path, 1000)
    with pytest.raises(BenchError, match=r"are needed, [0-9,]+ are free: --size or --dir"):
        transferfiles.check_room(tmp_path, 1 << 60)
    monkeypatch.setattr(transferfiles, "available_memory", lambda: 5 * MIB)
    with pytest.raises(BenchError, match="256 MiB of memory are needed, 5 are free"):
        transferfiles.check_room(tmp_path, 1000)
