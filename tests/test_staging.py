"""Uploads become files whole or not at all: disks that are full or fail, two at once, and processes that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import poll

from fastframe.servers import digests, offload, placing
from fastframe.servers.errors import OperationError
from fastframe.servers.root import Root
from fastframe.servers.staging import Partial, Staging, Upload

DATA = random.Random(1).randbytes(2_109_497)  # the same for all who collect these tests
FILE = Upload("file", len(DATA), 1_700_000_000_123_456_789, 0o640, "")
HALF = 1_000_003
FSYNC = os.fsync


def resume(partial: Partial, offset: int, digest: str, proof: str) -> digests.Hasher:
    """Go on with what is there, as the server does."""
    hasher = digests.new(digest)
    partial.hash(hasher, 0, offset)
    partial.resume(offset, hasher.hexdigest(), proof)
    return hasher


class Place:
    """A root, and the uploads to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = Root(path, hidden=[Staging.DIRECTORY])
        self.staging = Staging(self.root)

    def partials(self) -> list[str]:
        directory = self.path / Staging.DIRECTORY
        return os.listdir(directory) if directory.exists() else []

    def begin(self, upload: Upload = FILE, data: bytes = DATA) -> Partial:
        """Write `data` as far as it goes into a new partial."""
        partial = self.staging.open(upload)
        partial.resume(0, "none", "")
        partial.write([data[: upload.size]])
        return partial

    def leave(self, upload: Upload = FILE, data: bytes = DATA[:HALF]) -> None:
        self.begin(upload, data).keep()

    def put(self, upload: Upload = FILE, data: bytes = DATA, *, replace: bool = False) -> None:
        partial = self.begin(upload, data)
        try:
            partial.commit(replace=replace)
        finally:
            partial.keep()


@pytest.fixture
def there(tmp_path) -> Iterator[Place]:
    """A place; no descriptor is left, whatever happened."""
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "root").mkdir()
    made = Place(tmp_path / "root")
    yield made
    made.root.close()
    assert len(os.listdir("/proc/self/fd")) <= before


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(OperationError) as caught:
        yield
    assert caught.value.code == code


def failing(number: int):
    def fail(*arguments, **more):
        raise OSError(number, os.strerror(number))

    return fail


def one_by_one(*functions):
    """Return what is each of these once."""
    left = iter(functions)

    def call(*arguments):
        return next(left)(*arguments)

    return call


# Whole or not at all


@pytest.mark.parametrize("size", [0, 1, 100_000, len(DATA)])
def test_an_upload_appears_when_it_is_whole(there, size):
    upload = dataclasses.replace(FILE, size=size)
    partial = there.begin(upload)
    assert not (there.path / "file").exists()
    partial.commit(replace=False)
    assert (there.path / "file").read_bytes() == DATA[:size]
    info = (there.path / "file").stat()
    assert (info.st_mode & 0o7777, info.st_mtime_ns) == (0o640, FILE.modified)
    assert there.partials() == []


def test_partials_are_for_the_server_alone(there):
    there.leave()
    directory = there.path / Staging.DIRECTORY
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [(directory / key).stat().st_mode & 0o777 for key in there.partials()] == [0o600]


@pytest.mark.parametrize("mode", [0o7777, 0o777, 0o4755, 0])
def test_a_mode_is_permissions_and_no_more(there, mode):
    there.put(dataclasses.replace(FILE, mode=mode))
    assert (there.path / "file").stat().st_mode & 0o7777 == mode & 0o777


@pytest.mark.parametrize("mode", [0o444, 0, 0o111])
def test_a_file_that_its_owner_may_not_write_can_be_committed_again(there, monkeypatch, mode):
    (there.path / "file").touch()
    upload = dataclasses.replace(FILE, mode=mode)
    with refused("exists"):
        there.put(upload)
    assert os.stat(there.path / Staging.DIRECTORY / upload.key()).st_mode & 0o777 == mode | 0o600
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_mode & 0o777) or FSYNC(descriptor)
    )
    there.put(upload, replace=True)
    assert (there.path / "file").stat().st_mode & 0o777 == synced[-1] == mode
    assert (there.path / "file").stat().st_mtime_ns == FILE.modified


def test_on_disk_before_it_has_its_name_and_that_before_it_is_told(there, monkeypatch):
    seen = []

    def fsync(descriptor):
        seen.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, (there.path / "file").exists()))
        if len(seen) == 1:
            assert os.fstat(descriptor).st_mtime_ns == FILE.modified  # mode and time are synced, too
        FSYNC(descriptor)

    partial = there.begin()
    monkeypatch.setattr(os, "fsync", fsync)
    partial.commit(replace=False)
    assert seen == [(FILE.key(), False), ("root", True), (Staging.DIRECTORY, True)]


def test_chunks_of_all_kinds_are_one_file(there):
    chunks = [
        DATA[:5],
        b"",
        bytearray(DATA[5:7]),
        memoryview(DATA)[7:16].cast("B"),
        memoryview(b""),
        memoryview(DATA[16:24]).cast("Q"),
    ]
    partial = there.begin(dataclasses.replace(FILE, size=24), b"")
    partial.write([])
    partial.write(chunks)
    partial.commit(replace=False)
    assert (there.path / "file").read_bytes() == DATA[:24]


@pytest.mark.parametrize("most", [1, 1000, 1 << 30])
def test_thousands_of_chunks_in_short_writes_are_one_file(there, monkeypatch, most):
    """The kernel takes `IOV_MAX` buffers, and may take less of them than it was given."""
    pwritev = os.pwritev

    def short(descriptor, views, offset):
        part = views[0][:most] if most < 1 << 30 else None
        return pwritev(descriptor, views if part is None else [part], offset)

    monkeypatch.setattr(os, "pwritev", short)
    chunks = [DATA[at : at + 3] for at in range(0, 9000, 3)]
    partial = there.begin(dataclasses.replace(FILE, size=9000), b"")
    partial.write(chunks)
    partial.commit(replace=False)
    assert (there.path / "file").read_bytes() == DATA[:9000]


def test_too_much_is_refused_before_any_of_it_is_written(there):
    partial = there.begin(dataclasses.replace(FILE, size=10), DATA[:8])
    with refused("wrong_size"):
        partial.write([DATA[8:9], DATA[9:11]])
    with refused("wrong_size"):
        partial.write([memoryview(DATA)[8:16].cast("Q")])
    assert partial.size == 8
    partial.write([DATA[8:9], DATA[9:10]])
    partial.commit(replace=False)
    assert (there.path / "file").read_bytes() == DATA[:10]


def test_less_is_no_file(there):
    partial = there.begin(data=DATA[:-1])
    with refused("wrong_size"):
        partial.commit(replace=False)
    partial.write([DATA[-1:]])
    partial.commit(replace=False)
    assert (there.path / "file").read_bytes() == DATA


# What is there already


def test_of_two_who_write_one_name_the_second_is_told(there):
    other = dataclasses.replace(FILE, size=10)
    first, second = there.begin(), there.begin(other)
    first.commit(replace=False)
    with refused("exists"):
        second.commit(replace=False)
    assert (there.path / "file").read_bytes() == DATA
    second.commit(replace=True)
    assert (there.path / "file").read_bytes() == DATA[:10]
    assert there.partials() == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("no/file", "not_found"),
        ("file/file", "not_a_directory"),
        ("../file", "bad_name"),
        ("\udc80", "bad_name"),
        (f"{Staging.DIRECTORY}/file", "not_found"),
    ],
)
def test_a_name_that_the_root_refuses_is_refused_before_the_first_byte(there, name, code):
    (there.path / "file").touch()
    with refused(code):
        there.staging.open(dataclasses.replace(FILE, name=name))
    assert there.partials() == []


@pytest.mark.parametrize(("name", "code"), [("file", "exists"), ("FILE", "name_conflict"), ("directory", "exists")])
def test_a_refusal_comes_before_the_upload_and_after_it(there, name, code):
    (there.path / "file").touch()
    (there.path / "directory").mkdir()
    upload = dataclasses.replace(FILE, name=name)
    with refused(code):
        there.staging.check(upload, replace=False)
    with refused(code):
        there.put(upload)
    assert len(there.partials()) == 1  # for the next try
    assert (there.path / "file").read_bytes() == b""


@pytest.mark.parametrize(
    ("name", "replace"), [("new", False), ("file", True), ("new", True), ("link", True), ("sub/file", False)]
)
def test_what_is_not_refused(there, name, replace):
    (there.path / "sub").mkdir()
    (there.path / "file").touch()
    (there.path / "link").symlink_to("file")
    upload = dataclasses.replace(FILE, name=name)
    there.staging.check(upload, replace=replace)
    there.put(upload, replace=replace)
    assert (there.path / name).read_bytes() == DATA
    assert not (there.path / name).is_symlink()
    assert name == "file" or (there.path / "file").read_bytes() == b""


def test_a_directory_that_vanished(there):
    upload = dataclasses.replace(FILE, name="directory/file")
    (there.path / "directory").mkdir()
    partial = there.begin(upload)
    (there.path / "directory").rmdir()
    with refused("not_found"):
        partial.commit(replace=False)
    (there.path / "directory").mkdir()
    partial.commit(replace=False)
    assert (there.path / "directory/file").read_bytes() == DATA


def test_a_directory_that_vanishes_in_that_moment(there, monkeypatch):
    upload = dataclasses.replace(FILE, name="directory/file")
    (there.path / "directory").mkdir()
    check = placing.check

    def late(*arguments, **more):
        check(*arguments, **more)
        (there.path / "directory").rmdir()

    monkeypatch.setattr(placing, "check", late)
    with refused("not_found"):
        there.put(upload)
    assert there.staging.size_of(upload) == len(DATA)


def test_a_directory_of_partials_that_vanished(there):
    partial = there.begin()
    shutil.rmtree(there.path / Staging.DIRECTORY)
    with refused("not_found"):
        partial.commit(replace=False)
    partial.keep()
    there.put()
    assert (there.path / "file").read_bytes() == DATA


def test_a_link_in_place_of_the_directory_of_partials_is_not_followed(there, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (there.path / Staging.DIRECTORY).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OperationError):
        there.staging.open(FILE)
    assert os.listdir(tmp_path / "elsewhere") == []


# Resuming


@pytest.mark.parametrize("digest", [name for name in digests.available() if name != "none"])
@pytest.mark.parametrize("offset", [0, 1, 4097, digests.BLOCK - 1, digests.BLOCK, 2 * digests.BLOCK + 1, len(DATA)])
def test_a_right_proof_goes_on_at_any_offset(there, digest, offset):
    there.leave(data=DATA)
    partial = there.staging.open(FILE)
    proof = digests.new(digest)
    proof.update(DATA[:offset])
    hasher = resume(partial, offset, digest, proof.hexdigest())
    assert (partial.size, os.stat(there.path / Staging.DIRECTORY / FILE.key()).st_size) == (offset, offset)
    hasher.update(DATA[offset:])
    partial.write([DATA[offset:]])
    partial.commit(replace=False)
    whole = digests.new(digest)
    whole.update(DATA)
    assert hasher.hexdigest() == whole.hexdigest()
    assert (there.path / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    ("offset", "proof"),
    [
        (HALF, hashlib.sha256(DATA[: HALF - 1]).hexdigest()),
        (HALF - 1, hashlib.sha256(DATA[:HALF]).hexdigest()),
        (HALF + 1, hashlib.sha256(DATA[:HALF]).hexdigest()),
        (HALF + 1, hashlib.sha256(DATA[: HALF + 1]).hexdigest()),
        (1 << 62, hashlib.sha256(DATA[:HALF]).hexdigest()),
        (HALF, ""),
        (HALF, hashlib.sha256(DATA[:HALF]).hexdigest()[:-1]),
        (HALF, "\u00e9\udcff"),
    ],
)
def test_a_wrong_proof_leaves_it_as_it_was(there, offset, proof):
    there.leave()
    partial = there.staging.open(FILE)
    with refused("not_same_file"):
        resume(partial, offset, "sha256", proof)
    assert partial.size == HALF
    resume(partial, HALF, "sha256", hashlib.sha256(DATA[:HALF]).hexdigest())
    partial.keep()


def test_other_bytes_under_the_same_name_size_and_time_are_found_out(there):
    there.leave(data=b"x" + DATA[1:HALF])
    partial = there.staging.open(FILE)
    with refused("not_same_file"):
        resume(partial, HALF, "sha256", hashlib.sha256(DATA[:HALF]).hexdigest())
    partial.resume(0, "sha256", "")
    partial.write([DATA])
    partial.commit(replace=False)
    assert (there.path / "file").read_bytes() == DATA


def test_no_digest_is_no_proof(there):
    there.leave()
    partial = there.staging.open(FILE)
    with refused("not_same_file"):
        resume(partial, HALF, "none", "")
    with refused("unsupported"):
        resume(partial, HALF, "crc32", "")
    partial.keep()
    assert there.staging.size_of(FILE) == HALF


def test_nothing_goes_on_without_a_proof(there):
    there.leave(data=DATA)
    partial = there.staging.open(FILE)
    with refused("not_same_file"):
        partial.commit(replace=False)
    partial.keep()
    there.leave()
    partial = there.staging.open(FILE)
    with refused("not_same_file"):
        partial.write([b"x"])
    partial.keep()
    assert there.staging.size_of(FILE) == HALF


@pytest.mark.parametrize("field", [{"name": "other"}, {"size": len(DATA) + 1}, {"modified": 0}, {"owner": "somebody"}])
def test_what_differs_in_what_the_client_says_is_another_upload(there, field):
    there.leave()
    other = dataclasses.replace(FILE, **field)
    assert there.staging.size_of(other) == 0
    with contextlib.closing(contextlib.ExitStack()) as stack:
        for upload, size in ((FILE, HALF), (other, 0)):
            partial = there.staging.open(upload)
            stack.callback(partial.keep)
            assert partial.size == size


def test_size_of_what_is_not_there(there):
    assert there.staging.size_of(FILE) == 0
    assert not (there.path / Staging.DIRECTORY).exists()
    there.leave()
    assert there.staging.size_of(FILE) == HALF


# Ends


@pytest.mark.parametrize("end", ["keep", "discard"])
def test_an_end_is_one(there, end):
    partial = there.begin(data=DATA[:HALF])
    getattr(partial, end)()
    assert there.partials() == ([FILE.key()] if end == "keep" else [])
    partial.discard()
    partial.keep()
    assert there.staging.size_of(FILE) == (HALF if end == "keep" else 0)


def test_what_has_no_byte_is_not_kept(there):
    there.begin(data=b"").keep()
    assert there.partials() == []


def test_to_keep_never_fails(there, monkeypatch):
    partial = there.begin(data=b"")
    monkeypatch.setattr(os, "unlink", failing(errno.EIO))
    partial.keep()
    assert there.partials() == [FILE.key()]


def test_what_is_dropped_is_kept_and_said(there):
    partial = there.begin(data=DATA[:HALF])
    with pytest.warns(ResourceWarning):
        del partial
    partial = there.staging.open(FILE)
    assert partial.size == HALF
    partial.discard()


def test_a_commit_that_failed_late_does_not_discard_what_came_after_it(there, monkeypatch):
    """The name is given, but who says so fails; then somebody sends the same file again."""
    partial = there.begin()
    with monkeypatch.context() as patch, refused("io_error"):
        patch.setattr(placing, "sync_directory", failing(errno.EIO))
        partial.commit(replace=False)
    there.leave()
    partial.discard()
    assert there.staging.size_of(FILE) == HALF
    assert (there.path / "file").read_bytes() == DATA


# Two at once

ELSEWHERE = """
import sys
from fastframe.servers.root import Root
from fastframe.servers.staging import Staging, Upload
partial = Staging(Root(sys.argv[1])).open(Upload(*eval(sys.argv[2])))
partial.resume(0, "none", "")
while True:
    partial.write([b"x"])
"""


def test_another_connection_has_it(there):
    partial = there.begin()
    with refused("busy"):
        Staging(there.root).open(FILE)
    assert there.staging.size_of(FILE) == len(DATA)
    partial.commit(replace=False)
    there.staging.open(FILE).keep()


def test_another_process_has_it_and_is_killed_while_it_writes(there):
    command = [sys.executable, "-c", ELSEWHERE, str(there.path), repr(dataclasses.astuple(FILE))]
    with subprocess.Popen(command) as process:
        poll(lambda: there.staging.size_of(FILE) > 100)
        with refused("busy"):
            there.staging.open(FILE)
        process.kill()
    partial = there.staging.open(FILE)
    assert 100 < partial.size < FILE.size
    written = partial.size
    resume(partial, written, "sha256", hashlib.sha256(b"x" * written).hexdigest())
    partial.write([bytes(FILE.size - written)])
    partial.commit(replace=False)
    assert (there.path / "file").read_bytes() == b"x" * written + bytes(FILE.size - written)


def test_what_another_process_has_does_not_expire(there, monkeypatch):
    command = [sys.executable, "-c", ELSEWHERE, str(there.path), repr(dataclasses.astuple(FILE))]
    with subprocess.Popen(command) as process:
        poll(lambda: there.staging.size_of(FILE) > 0)
        later(monkeypatch, 1e9)
        assert there.staging.remove_expired() == 0
        process.kill()
    assert there.staging.remove_expired() == 1


@pytest.mark.parametrize("end", ["commit", "discard"])
def test_a_partial_that_ends_between_being_opened_and_locked(there, monkeypatch, end):
    first = there.begin()
    lock = placing.lock

    def late(descriptor):
        monkeypatch.setattr(placing, "lock", lock)
        first.commit(replace=False) if end == "commit" else first.discard()
        return lock(descriptor)

    monkeypatch.setattr(placing, "lock", late)
    second = there.staging.open(FILE)
    assert second.size == 0
    second.resume(0, "none", "")
    second.write([b"other"])
    assert end == "discard" or (there.path / "file").read_bytes() == DATA
    assert there.staging.size_of(FILE) == 5
    second.discard()


def test_a_commit_that_was_killed_between_its_two_steps(there):
    """Without renameat2 a file has both names for a moment. It is whole: nobody may cut it to send it again."""
    there.leave(data=DATA)
    os.link(there.path / Staging.DIRECTORY / FILE.key(), there.path / "file")
    assert there.staging.size_of(FILE) == 0
    partial = there.begin(data=b"other")
    assert (there.path / "file").read_bytes() == DATA
    partial.discard()
    there.put(replace=True)
    assert (there.path / "file").read_bytes() == DATA


# Expiry


def later(monkeypatch, seconds):
    now = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: now)


def test_what_nobody_wrote_to_for_the_lifetime_goes(there, monkeypatch):
    there.leave()
    there.leave(dataclasses.replace(FILE, name="other"))
    in_use = there.begin(dataclasses.replace(FILE, name="in use"))
    short = Staging(there.root, lifetime=3600)
    later(monkeypatch, 3500)
    assert short.remove_expired() == 0
    later(monkeypatch, 3700)
    assert there.staging.remove_expired() == 0
    assert short.remove_expired() == 2
    assert short.remove_expired() == 0
    in_use.commit(replace=False)
    assert there.partials() == []
    assert (there.path / "in use").read_bytes() == DATA


def test_what_is_written_to_in_that_moment_does_not_expire(there, monkeypatch):
    there.leave()
    now = time.time()
    monkeypatch.setattr(time, "time", one_by_one(lambda: now + 1e9, lambda: now))
    assert there.staging.remove_expired() == 0
    assert there.partials() == [FILE.key()]


def test_the_clients_time_makes_nothing_expire(there):
    (there.path / "file").touch()
    with refused("exists"):
        there.put(dataclasses.replace(FILE, modified=0))
    assert there.staging.remove_expired() == 0


def test_nothing_expires_where_nothing_is(there):
    assert there.staging.remove_expired() == 0
    assert os.listdir(there.path) == []


def test_what_cannot_be_removed_holds_up_nobody(there, monkeypatch):
    there.leave()
    (there.path / Staging.DIRECTORY / "a directory").mkdir()
    (there.path / Staging.DIRECTORY / "nowhere").symlink_to("nowhere")
    later(monkeypatch, 1e9)
    assert there.staging.remove_expired() == 1


# Disks that fail

NUMBERS = [(errno.EIO, "io_error"), (errno.ENOSPC, "disk_full"), (errno.EDQUOT, "quota_exceeded"), (errno.EROFS, "read_only")]


@pytest.mark.parametrize(("number", "code"), NUMBERS)
def test_a_write_that_fails_can_be_resumed(there, monkeypatch, number, code):
    partial = there.begin(data=DATA[:HALF])
    pwritev = os.pwritev

    def short(descriptor, views, offset):
        return pwritev(descriptor, [views[0][:1]], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", one_by_one(short, failing(number)))
        with refused(code):
            partial.write([DATA[HALF:]])
    partial.keep()
    assert there.staging.size_of(FILE) == partial.size == HALF + 1
    partial = there.staging.open(FILE)
    resume(partial, HALF + 1, "sha256", hashlib.sha256(DATA[: HALF + 1]).hexdigest())
    partial.write([DATA[HALF + 1 :]])
    partial.commit(replace=False)
    assert (there.path / "file").read_bytes() == DATA


@pytest.mark.parametrize(("number", "code"), NUMBERS)
def test_a_failed_sync_is_final(there, monkeypatch, number, code):
    (there.path / "file").write_text("old")
    partial = there.begin()
    monkeypatch.setattr(os, "fsync", one_by_one(failing(number), FSYNC))
    with refused(code):
        partial.commit(replace=True)
    assert (there.path / "file").read_text() == "old"
    assert there.partials() == []
    partial.keep()
    partial.discard()
    assert there.staging.size_of(FILE) == 0


def test_a_failed_sync_is_told_when_the_partial_cannot_be_removed_either(there, monkeypatch):
    partial = there.begin()
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    monkeypatch.setattr(os, "unlink", failing(errno.EROFS))
    with refused("io_error"):
        partial.commit(replace=False)
    assert not (there.path / "file").exists()


def test_a_directory_that_cannot_be_synced_is_no_success(there, monkeypatch):
    partial = there.begin()
    monkeypatch.setattr(os, "fsync", one_by_one(FSYNC, failing(errno.EIO)))
    with refused("io_error"):
        partial.commit(replace=False)
    partial.keep()
    assert (there.path / "file").read_bytes() == DATA


@pytest.mark.parametrize("call", ["fchmod", "utime", "open", "mkdir", "fstatvfs", "ftruncate", "preadv", "stat"])
def test_whatever_fails_is_told_and_nothing_leaks(there, monkeypatch, call):
    there.leave(data=DATA)
    if call == "mkdir":
        shutil.rmtree(there.path / Staging.DIRECTORY)
    with monkeypatch.context() as patch, refused("io_error"):
        patch.setattr(os, call, failing(errno.EIO))
        partial = there.staging.open(FILE)
        try:
            resume(partial, len(DATA), "sha256", hashlib.sha256(DATA).hexdigest())
            partial.commit(replace=False)
        finally:
            partial.keep()
    assert not (there.path / "file").exists()


def test_a_file_larger_than_the_process_may_make(there):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    partial = there.begin(data=b"")
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))
    try:
        with refused("too_large"):
            partial.write([DATA])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert partial.size == HALF
    partial.keep()
    assert there.staging.size_of(FILE) == HALF


@pytest.mark.parametrize("free", [len(DATA) - HALF - 1, len(DATA) - HALF])
def test_room_is_needed_for_what_is_missing(there, monkeypatch, free):
    there.leave()
    space = os.statvfs_result((1, 1, free + 1, free + 1, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: space)
    if free < len(DATA) - HALF:
        with refused("disk_full"):
            there.staging.open(FILE)
        with refused("disk_full"):
            there.staging.open(dataclasses.replace(FILE, name="new"))
    else:
        there.staging.open(FILE).keep()
    assert there.partials() == [FILE.key()]
    assert there.staging.size_of(FILE) == HALF


def test_a_file_system_that_does_not_know_its_room_is_tried(there, monkeypatch):
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: os.statvfs_result((4096, 4096, *[0] * 7, 255)))
    there.put()


FULL = """
import dataclasses, os, subprocess, sys
from pathlib import Path
from test_staging import *

def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)

path = Path(sys.argv[1])
mount("-t", "tmpfs", "-o", "size=3m", "none", path)
there = Place(path)
large, small = (Upload(name, size, 0, 0o644, "") for name, size in (("large", 2_500_000), ("small", 1_000_000)))
data = bytes(2_500_000)

with refused("disk_full"):  # before a byte is taken
    there.staging.open(dataclasses.replace(large, size=4_000_000))
assert there.partials() == []

first, second = there.begin(large, b""), there.begin(small, b"")  # there is room for each
first.write([data])
with refused("disk_full"):
    second.write([data[:1_000_000]])
assert 0 < second.size < 1_000_000
second.keep()
first.commit(replace=False)  # a full disk concerns nobody who has what he needs
assert (path / "large").stat().st_size == 2_500_000
with refused("disk_full"):
    there.staging.open(small)
(path / "large").unlink()
second = there.staging.open(small)
resume(second, second.size, "sha256", hashlib.sha256(data[: second.size]).hexdigest())
second.write([data[second.size : 1_000_000]])
second.commit(replace=False)
assert (path / "small").read_bytes() == data[:1_000_000]

for name in ("other", "same", "bound"):
    (path / name).mkdir()
mount("-t", "tmpfs", "none", path / "other")
mount("--bind", path / "same", path / "bound")
elsewhere = dataclasses.replace(small, name="other/file")
with refused("unsupported"):
    there.staging.open(elsewhere)
for replace in (False, True):  # this one is on the same file system, and yet it cannot be renamed to
    with refused("unsupported"):
        there.put(dataclasses.replace(small, name="bound/file"), data, replace=replace)

mount("-o", "remount,ro", path)
with refused("read_only"):
    there.staging.open(large)
"""


def own_mounts() -> list[str] | None:
    """Return a command that runs another one with mounts of its own, if that is allowed here."""
    for flags in ("--mount", "--map-root-user --user --mount"):
        command = ["unshare", *flags.split()]
        mount = [*command, "mount", "-t", "tmpfs", "none", "/mnt"]
        if shutil.which("unshare") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            return command
    return None


def test_a_disk_that_is_full_and_others_that_are_mounted(tmp_path):
    if (alone := own_mounts()) is None:
        pytest.skip("no file system of its own: unshare --mount needs root, or user namespaces")
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    command = [*alone, sys.executable, "-c", FULL, str(tmp_path)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=50, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_what_is_opened_for_a_client_that_has_gone_is_not_held(there):
    """Else its lock lasted until the garbage collector came, and whoever comes back is told that it is busy."""

    async def leave() -> None:
        going, opened = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def work() -> Partial:
            loop.call_soon_threadsafe(going.set)
            opened.wait(10)
            return there.staging.open(FILE)

        opening = asyncio.create_task(offload.run(work))
        await going.wait()
        opening.cancel()
        await asyncio.sleep(0)
        opened.set()
        await asyncio.wait((opening,))
        assert opening.cancelled()
        assert there.partials() == []
        there.put()

    asyncio.run(leave())
