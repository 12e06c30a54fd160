"""A whole file gets its name: what is there already, who else wants it, and what file systems cannot do."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastframe.servers import placing
from fastframe.servers.errors import OperationError

SAME = {
    "case": ("Readme", "README"),
    "composed and not": ("caf\u00e9", "cafe\u0301"),
    "both": ("CAF\u00c9", "cafe\u0301"),
    "sharp s": ("stra\u00dfe", "STRASSE"),
    "kelvin sign": ("\u212a", "k"),
    "final sigma": ("\u03c3\u03b1\u03c2", "\u03a3\u0391\u03a3"),
    "a mark that folds to a letter": ("\u03b1\u0345\u0342", "\u1fb7"),
    "marks in another order": ("a\u0323\u0302", "\u1ead"),
}
OTHER = {"letters": ("a", "b"), "accent": ("cafe", "caf\u00e9"), "dotless i": ("\u0131", "i"), "longer": ("a", "a.")}


class Place:
    """Two directories: partials are made in one, and placed in the other."""

    def __init__(self, path: Path) -> None:
        self.staging, self.path = path / "staging", path / "files"
        self.descriptors = []
        for directory in (self.staging, self.path):
            directory.mkdir()
            self.descriptors.append(os.open(directory, os.O_RDONLY))

    def place(self, name: str, text: str = "new", *, replace: bool = False) -> None:
        (self.staging / "partial").write_text(text)
        staging, directory = self.descriptors
        placing.place(staging, "partial", directory, name, replace=replace)

    def code(self, name: str, *, replace: bool = False) -> str:
        """Return why it is not placed; it stays where it was."""
        with pytest.raises(OperationError) as caught:
            self.place(name, replace=replace)
        assert (self.staging / "partial").read_text() == "new"
        return caught.value.code

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))


@pytest.fixture
def there(tmp_path):
    made = Place(tmp_path)
    yield made
    for descriptor in made.descriptors:
        os.close(descriptor)


@pytest.fixture(params=[None, errno.EINVAL, errno.ENOSYS], ids=["renameat2", "not here", "nowhere"])
def anyhow(request, monkeypatch):
    """With the kernel's way to rename without replacing, and without."""
    if request.param is not None:
        monkeypatch.setattr(placing, "_renameat2", failing(request.param))


def failing(number):
    def fail(*arguments, **more):
        raise OSError(number, os.strerror(number))

    return fail


def occupy(path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_text("old")
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link":
            (path.parent / "target").write_text("target")
            path.symlink_to("target")
        case "dangling":
            path.symlink_to("nowhere")


@pytest.mark.parametrize("replace", [False, True])
def test_a_new_name(there, anyhow, replace):
    there.place("name", replace=replace)
    assert (there.path / "name").read_text() == "new"
    assert os.stat(there.path / "name").st_nlink == 1
    assert os.listdir(there.staging) == []


@contextlib.contextmanager
def opened(path: Path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Clock:
    """What `placing` takes for the module `time`; it tells when somebody sleeps."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, slept: threading.Event) -> None:
        self._slept = slept

    def sleep(self, seconds: float) -> None:
        self._slept.set()
        time.sleep(seconds)


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "link", "dangling"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "meanwhile"])
def test_what_is_there_is_not_replaced(there, anyhow, monkeypatch, kind, late):
    if late:  # it came after it was looked for
        monkeypatch.setattr(placing, "check", lambda *arguments, replace: None)
    occupy(there.path / "name", kind)
    before = os.lstat(there.path / "name")
    if late:
        with pytest.raises(FileExistsError):
            there.place("name")
    else:
        assert there.code("name") == "exists"
    assert os.path.samestat(os.lstat(there.path / "name"), before)
    assert os.listdir(there.staging) == ["partial"]


def test_a_file_is_replaced(there):
    occupy(there.path / "name", "file")
    with (there.path / "name").open() as reading:
        there.place("name", replace=True)
        assert (there.path / "name").read_text() == "new"
        assert reading.read() == "old"


@pytest.mark.parametrize("kind", ["link", "dangling"])
def test_a_link_is_replaced_and_not_where_it_leads(there, kind):
    occupy(there.path / "name", kind)
    others = there.names()
    there.place("name", replace=True)
    assert not (there.path / "name").is_symlink()
    assert (there.path / "name").read_text() == "new"
    assert there.names() == others
    assert kind == "dangling" or (there.path / "target").read_text() == "target"


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_nothing_else_is_replaced(there, kind):
    occupy(there.path / "name", kind)
    assert there.code("name", replace=True) == "not_a_file"
    assert there.names() == ["name"]


@pytest.mark.parametrize("pair", [*SAME.values(), *(pair[::-1] for pair in SAME.values())])
@pytest.mark.parametrize("replace", [False, True])
def test_names_that_some_take_for_the_same(there, pair, replace):
    there.place(pair[0])
    assert there.code(pair[1], replace=replace) == "name_conflict"
    assert there.names() == [pair[0]]


@pytest.mark.parametrize("pair", OTHER.values(), ids=OTHER)
def test_names_that_nobody_takes_for_the_same(there, pair):
    there.place(pair[0])
    there.place(pair[1])
    assert there.names() == sorted(pair)


def test_a_name_that_is_there_beside_one_like_it_can_be_replaced(there):
    (there.path / "NAME").write_text("other")
    (there.path / "name").write_text("old")
    there.place("name", replace=True)
    assert [(there.path / name).read_text() for name in there.names()] == ["other", "new"]


def test_names_of_others_that_are_no_text(there):
    (there.path / os.fsdecode(b"\xff\xfe")).touch()
    there.place("name")
    assert len(there.names()) == 2


def test_names_are_in_utf8_whatever_the_locale(there):
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from test_placing import *; there = Place(Path(sys.argv[1]))\n"
    code += "assert sys.getfilesystemencoding() != 'utf-8'\n"
    code += (
        "there.place('caf\\u00e9'); assert there.code('CAF\\u00c9') == 'name_conflict'; there.place('caf\\u00e9', replace=True)"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    (there.path / "root").mkdir()
    command = [sys.executable, "-X", "utf8=0", "-c", code, str(Path(__file__).parent), str(there.path / "root")]
    subprocess.run(command, check=True, env=environment)
    assert os.listdir(os.fsencode(there.path / "root/files")) == ["caf\u00e9".encode()]


def test_one_of_those_who_want_a_name_gets_it(there, tmp_path):
    """Each thread wants a name like the others'; nothing but the lock makes them look one after the other."""
    codes = []

    def work(number: int) -> None:
        with opened(there.path) as directory:
            (there.staging / str(number)).touch()
            try:
                placing.place(there.descriptors[0], str(number), directory, "a" * number + "A" * (8 - number), replace=False)
                codes.append("")
            except OperationError as error:
                codes.append(error.code)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [""] + ["name_conflict"] * 7
    assert len(there.names()) == 1


def test_who_holds_the_lock_is_waited_for(there, monkeypatch):
    looked = threading.Event()
    monkeypatch.setattr(placing, "time", Clock(looked))
    with opened(there.path) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=there.place, args=("name",))
        thread.start()
        assert looked.wait(10)
        assert there.names() == []
    thread.join()
    assert there.names() == ["name"]


def test_who_holds_the_lock_is_not_waited_for_without_end(there, monkeypatch):
    monkeypatch.setattr(placing, "LOCK_SECONDS", 0.02)
    with opened(there.path) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert there.code("name") == "busy"
    there.place("name")


@pytest.mark.parametrize("name", ["taken", "TAKEN", "free"])
def test_the_lock_is_let_go(there, name):
    occupy(there.path / "taken", "file")
    with contextlib.suppress(OperationError):
        there.place(name)
    with opened(there.path) as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_new_name_is_on_disk_before_the_old_one_is_not(there, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((descriptor, there.names())))
    there.place("name")
    staging, directory = there.descriptors
    assert synced == [(directory, ["name"]), (staging, ["name"])]


def test_directories_that_cannot_be_synced_are_not(there, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    there.place("name")
    assert there.names() == ["name"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_is_told(there, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        there.place("name")
    assert (there.path / "name").read_text() == "new"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_other_failures_of_a_rename_are_told(there, monkeypatch, number):
    monkeypatch.setattr(placing, "_renameat2", failing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        there.place("name")
    assert (there.names(), os.listdir(there.staging)) == ([], ["partial"])


@pytest.mark.parametrize("replace", [False, True])
def test_another_file_system(there, monkeypatch, replace):
    monkeypatch.setattr(placing, "_renameat2", failing(errno.EXDEV))
    monkeypatch.setattr(os, "rename", failing(errno.EXDEV))
    assert there.code("name", replace=replace) == "unsupported"


def test_a_c_library_without_renameat2(there, monkeypatch):
    monkeypatch.setattr(placing.libc, "LIBRARY", object())
    there.place("name")
    assert there.code("name") == "exists"
