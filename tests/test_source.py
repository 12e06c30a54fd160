"""A file that is sent: its bytes and digest, and every way in which it may change meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import random

import pytest

from fastframe.servers import digests
from fastframe.servers.errors import OperationError
from fastframe.servers.source import Source

DATA = random.Random(1).randbytes(3 * digests.BLOCK + 12_345)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(DATA)
    file.chmod(0o640)
    return file


@pytest.fixture
def opened(path):
    file = Source(os.open(path, os.O_RDONLY), "file", "sha256")
    yield file
    file.close()


def code_of(error) -> str:
    return error.value.code


def skip(file, offset, proof) -> None:
    """Hash what the other side says that it has, as the server does."""
    file.check_offset(offset)
    file.hash(0, offset)
    file.check_proof(proof)


def test_it_says_what_the_file_is(opened, path):
    status = path.stat()
    assert (opened.size, opened.modified, opened.mode) == (len(DATA), status.st_mtime_ns, 0o640)


def test_it_reads_and_hashes(opened):
    assert opened.read(3, 5) == DATA[3:8]
    opened.hash(0, 7)
    opened.hash(7, len(DATA))
    assert opened.finish() == SHA256


@pytest.mark.parametrize("offset", [1, digests.BLOCK, digests.BLOCK + 1, len(DATA)])
def test_what_the_other_side_has_is_skipped_after_proof(opened, offset):
    skip(opened, offset, hashlib.sha256(DATA[:offset]).hexdigest())
    opened.hash(offset, len(DATA))
    assert opened.finish() == SHA256


@pytest.mark.parametrize(("offset", "proof"), [(5, SHA256), (5, ""), (5, "ü"), (len(DATA) + 1, SHA256)])
def test_what_it_has_not_is_not_the_same_file(opened, offset, proof):
    with pytest.raises(OperationError) as error:
        skip(opened, offset, proof)
    assert code_of(error) == "not_same_file"


def test_without_a_digest_nothing_is_proven(path):
    file = Source(os.open(path, os.O_RDONLY), "file", "none")
    with pytest.raises(OperationError) as error:
        skip(file, 0, "")
    assert code_of(error) == "not_same_file"
    file.hash(0, len(DATA))
    assert file.finish() == ""
    file.close()


def test_an_unknown_digest_leaves_no_descriptor_behind(path):
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(OperationError) as error:
        Source(descriptor, "file", "crc7")
    assert code_of(error) == "unsupported"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def rewrite(path):
    path.write_bytes(bytes(len(DATA)))
    os.utime(path, ns=(0, 1))


CHANGES = {
    "grown": lambda path: os.truncate(path, len(DATA) + 1),
    "shrunk": lambda path: os.truncate(path, len(DATA) - 1),
    "rewritten": rewrite,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changes_is_noticed(opened, path, change):
    opened.hash(0, 10)
    change(path)
    with pytest.raises(OperationError) as error:
        opened.finish()
    assert code_of(error) == "changed"


def test_a_file_that_shrinks_under_the_reader_is_noticed_at_once(opened, path):
    os.truncate(path, 100)
    with pytest.raises(OperationError) as error:
        opened.read(50, 51)
    assert code_of(error) == "changed"
    with pytest.raises(OperationError) as error:
        opened.hash(0, len(DATA))
    assert code_of(error) == "changed"


def test_a_file_that_vanishes_is_sent_all_the_same(opened, path):
    path.unlink()
    opened.hash(0, len(DATA))
    assert opened.finish() == SHA256


def test_a_disk_that_fails_is_an_io_error(opened, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "Input/output error", "/secret")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OperationError, match="file: the server's disk failed") as error:
        opened.hash(0, 10)
    assert code_of(error) == "io_error"


def test_it_is_closed_once(opened):
    opened.close()
    opened.close()
