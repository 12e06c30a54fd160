"""A file server's root: what names may say, what is found, and that nothing outside is reached, also while names change."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from confined import INSIDE, exchanging, open_descriptors, plant

from fastframe.servers import beneath
from fastframe.servers.errors import OperationError
from fastframe.servers.root import PARTS_MAX, Root

RACE_SECONDS = 0.5  # a check before the opening is caught within that in nine runs of ten
BAD_NAMES = [
    "", "/", "/etc/passwd", "//f", "a//b", "d/", "/d", ".", "./f", "d/.", "..", "../f", "d/../f", "d/..", "d/sub/../../f",
    "f\0", "\0", "d\0/f", "x" * 256, "\u20ac" * 86, "d/" + "x" * 256, "x/" * (PARTS_MAX) + "f",
    "/".join(["x" * 240] * 18), "\ud800", "d/\udcff", "f\udc80",
]  # fmt: skip


@pytest.fixture
def top(tmp_path):
    return plant(tmp_path)


@pytest.fixture(params=["openat2", "walk"])
def root(request, top):
    with Root(top, hidden=[".partial"], walk=request.param == "walk") as made:
        wanted = beneath.walk if request.param == "walk" or not has_openat2() else beneath.kernel
        assert made._open_beneath is wanted
        before = open_descriptors()
        yield made
        assert open_descriptors() == before


def has_openat2():
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall(437, -1, None, None, 0)
    return ctypes.get_errno() == errno.EINVAL  # a size of 0 is none, where the call is known


def read(descriptor):
    with open(descriptor, "rb") as file:
        return file.read()


def same(descriptor, path):
    """Tell whether `descriptor`, which is closed, is of `path`."""
    status = os.fstat(descriptor)
    os.close(descriptor)
    return os.path.samestat(status, os.stat(path))


def code(function, *arguments, **options):
    with pytest.raises(OperationError) as caught:
        function(*arguments, **options)
    assert "/root" not in caught.value.message
    caught.value.message.encode()
    return caught.value.code


def codes(root, name):
    """Return what each method says of a name that none takes."""
    methods = (root.open_file, root.open_directory, root.stat, root.scan)
    return {code(method, name) for method in methods}


def listed(root, name):
    with root.scan(name) as listing:
        return {name: status.st_ino for name, status in listing.entries}, listing.unnamed


def test_a_file_is_read_by_blocking_reads(root):
    descriptor = root.open_file("d/sub/f")
    assert os.get_blocking(descriptor)
    assert not os.get_inheritable(descriptor)
    assert read(descriptor) == INSIDE


def test_the_empty_name_is_the_root(root, top):
    assert same(root.open_directory(""), top)
    assert os.path.samestat(root.stat(""), top.stat())
    assert listed(root, "")[0].keys() == {"d", "e", "f"}


def test_the_status_is_that_of_what_a_link_leads_to(root, top):
    (top / "link").symlink_to("d/f")
    assert os.path.samestat(root.stat("link"), (top / "f").parent.joinpath("d/f").stat())
    assert stat.S_ISDIR(root.stat("d").st_mode)


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_bad_name_is_refused_before_any_system_call(top, name, monkeypatch):
    with Root(top) as root:
        monkeypatch.setattr(root, "_open_beneath", None)
        methods = [root.open_file, root.open_parent, root.make_directory]
        methods += [root.open_directory, root.stat, root.scan] if name else []
        assert {code(method, name) for method in methods} == {"bad_name"}


def test_long_names_that_are_good(root, top):
    part = "\u20ac" * 85
    assert codes(root, part) == {"not_found"}
    assert codes(root, "/".join(["x"] * PARTS_MAX)) == {"not_found"}
    assert codes(root, "/".join(["x" * 255] * 15)) == {"not_found"}
    (top / part).write_bytes(INSIDE)
    assert read(root.open_file(part)) == INSIDE


def test_an_error_names_what_the_peer_named(root):
    with pytest.raises(OperationError, match=r"^d/nothing: there is nothing of that name \(not_found\)$"):
        root.open_file("d/nothing")
    with pytest.raises(OperationError, match=r"^\\ud800: "):
        root.stat("\ud800")
    with pytest.raises(OperationError) as caught:
        root.open_file("x" * 1_000_000)
    assert len(caught.value.message) < 1_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", "not_found"),
        ("nothing/f", "not_found"),
        ("f/f", "not_a_directory"),
        ("dangling", "not_found"),
        ("loop", "outside_root"),
        ("out", "outside_root"),
        ("out/f", "outside_root"),
        ("up", "outside_root"),
        ("d/up", "outside_root"),
        ("absolute", "outside_root"),
        ("nowhere", "outside_root"),
        ("up_nowhere", "outside_root"),
        ("proc", "outside_root"),
        ("proc/etc/passwd", "outside_root"),
        ("itself", "outside_root"),
        ("y" * 255 + "/f", "not_found"),
    ],
)
def test_what_each_method_says_of_what_it_does_not_find(root, top, name, expected):
    links = {
        "dangling": "missing",
        "loop": "loop",
        "out": "../outside",
        "up": "..",
        "d/up": "sub/../../../outside/f",
        "absolute": top.parent / "outside/f",
        "nowhere": top.parent / "outside/nothing",
        "up_nowhere": "../nothing",
        "proc": "/proc/self/root",
        "itself": top,
    }
    for link, target in links.items():
        (top / link).symlink_to(target)
    assert codes(root, name) == {expected}
    assert code(root.open_parent, f"{name}/x") == expected
    assert code(root.make_directory, f"{name}/x") == expected


def test_nothing_is_made_where_a_name_leads_outside(root, top):
    (top / "out").symlink_to("../outside")
    (top / "out_and_in").symlink_to("../root/d")
    (top / "dangling").symlink_to("../outside/new")
    for name in ("out/new/x", "out_and_in/new/x", "dangling/x", "dangling/new/x"):
        assert code(root.open_parent, name, create=True) == "outside_root"
    assert not list(top.parent.rglob("new"))


def test_what_is_no_regular_file_is_not_opened(root, top):
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(top):
        sock.bind("socket")
    names = ["fifo", "socket", "d"]
    with contextlib.suppress(PermissionError):
        os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(top / "block", stat.S_IFBLK | 0o666, os.makedev(7, 200))  # to open it fails, or is ENXIO
        names += ["null", "block"]
    for name in names:
        (top / f"{name}_link").symlink_to(name)
        assert code(root.open_file, name) == code(root.open_file, f"{name}_link") == "not_a_file"
        root.stat(name)


def test_a_file_is_no_directory(root):
    assert code(root.open_directory, "f") == code(root.scan, "f") == code(root.open_parent, "f/x") == "not_a_directory"
    assert code(root.open_parent, "f/x/y", create=True) == "not_a_directory"


def test_the_parent_is_resolved_and_the_last_part_is_not(root, top):
    (top / "to_e").symlink_to("d/../e")
    (top / "e/away").symlink_to("/etc/passwd")
    descriptor, last = root.open_parent("to_e/away")
    assert last == "away"
    os.unlink(last, dir_fd=descriptor)
    os.fsync(descriptor)
    assert same(descriptor, top / "e")
    descriptor, last = root.open_parent("new \u20ac")
    assert last == "new \u20ac"
    assert same(descriptor, top)


def test_missing_directories_are_made_with_the_mode_that_the_umask_leaves(root, top):
    before = os.umask(0o027)
    try:
        descriptor, last = root.open_parent("d/new/newer/f", create=True)
    finally:
        os.umask(before)
    assert last == "f"
    assert same(descriptor, top / "d/new/newer")
    assert stat.S_IMODE((top / "d/new").stat().st_mode) == 0o750
    assert same(root.open_parent("d/new/newer/f", create=True)[0], top / "d/new/newer")


def test_directories_are_made_behind_a_link_that_goes_up_inside(root, top):
    (top / "d/back").symlink_to("../e")
    assert same(root.open_parent("d/back/new/newer/f", create=True)[0], top / "e/new/newer")


def test_directories_are_not_made_of_what_is_taken(root, top):
    (top / "dangling").symlink_to("d/nothing")
    assert code(root.open_parent, "dangling/f", create=True) == "not_found"
    assert code(root.open_parent, "f/new/f", create=True) == "not_a_directory"
    assert not (top / "d/nothing").exists()


def test_each_directory_that_is_made_is_durable(root, top, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    os.close(root.open_parent("d/new/newer/f", create=True)[0])
    assert synced == [(top / "d").stat().st_ino, (top / "d/new").stat().st_ino]
    root.make_directory("e/new")
    assert synced[2:] == [(top / "e").stat().st_ino]


def test_somebody_else_may_make_the_same_directory(root, top, monkeypatch):
    mkdir = os.mkdir

    def late(name, mode=0o777, *, dir_fd=None):
        mkdir(name, mode, dir_fd=dir_fd)
        mkdir(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", late)
    assert same(root.open_parent("new/newer/f", create=True)[0], top / "new/newer")


def test_a_directory_is_made(root, top):
    root.make_directory("d/new", 0o700)
    assert stat.S_IMODE((top / "d/new").stat().st_mode) == 0o700
    (top / "dangling").symlink_to("nothing")
    for name in ("d", "f", "d/new", "dangling"):
        assert code(root.make_directory, name) == "exists"


def test_hidden_names_are_not_there(root, top):
    (top / ".partial").mkdir()
    (top / ".partial/f").write_bytes(b"")
    (top / "d/.partial").mkdir()
    for name in (".partial", ".partial/f", ".PARTIAL/f"):
        assert codes(root, name) == {"not_found"}
        assert code(root.open_parent, name, create=True) == "not_found"
        assert code(root.make_directory, name) == "not_found"
    assert listed(root, "")[0].keys() == {"d", "e", "f"}
    assert listed(root, "d")[0].keys() == {".partial", "f", "sub"}


def test_entries_are_not_followed_and_bad_names_are_counted(root, top):
    (top / "d/out").symlink_to("../../outside/f")
    (top / "d/\u20ac").write_bytes(b"")
    for name in (b"\xff", b"a\x80"):
        os.close(os.open(os.fsencode(top / "d") + b"/" + name, os.O_CREAT | os.O_WRONLY))
    entries, unnamed = listed(root, "d")
    assert entries == {name: (top / "d" / name).lstat().st_ino for name in ("f", "sub", "out", "\u20ac")}
    assert unnamed == 2


def test_entries_that_vanish_are_left_out(root, top):
    (top / "d/g").touch()
    with root.scan("d") as listing:
        first, _ = next(listing.entries)  # the kernel was asked for all of them
        for name in {"f", "g"} - {first}:
            (top / "d" / name).unlink()
        assert {name for name, _ in listing.entries} <= {"sub"}


def test_a_listing_may_be_left(root):
    with root.scan("") as listing:
        next(listing.entries)
    listing.close()
    assert not list(listing.entries)
    root.scan("").close()


def test_names_do_not_depend_on_the_locale(top):
    (top / "\u20ac").write_bytes(INSIDE)
    program = """if True:
        import os, sys
        from fastframe.servers.root import Root
        with Root(sys.argv[1]) as root, root.scan("") as listing:
            print(sys.getfilesystemencoding(), ascii(sorted(name for name, _ in listing.entries)))
            print(os.read(root.open_file("\\u20ac"), 100))
    """
    bare = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    output = subprocess.check_output([sys.executable, "-c", program, top], env=bare, text=True)
    assert output == f"ascii ['d', 'e', 'f', '\\u20ac']\n{INSIDE}\n"


def test_a_root_that_is_no_directory(top):
    before = open_descriptors()
    for path, error in (("f", NotADirectoryError), ("nothing", FileNotFoundError)):
        with pytest.raises(error):
            Root(top / path)
    assert open_descriptors() == before


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_the_walk_is_chosen_where_the_kernel_has_no_openat2(top, monkeypatch, number):
    monkeypatch.setattr(beneath, "kernel", lambda *arguments: fail(number))
    with Root(top) as root:
        assert root._open_beneath is beneath.walk


def test_another_failure_of_openat2_is_not_hidden(top, monkeypatch):
    before = open_descriptors()
    monkeypatch.setattr(beneath, "kernel", lambda *arguments: fail(errno.ENOMEM))
    with pytest.raises(OSError, match="Cannot allocate memory"):
        Root(top)
    assert open_descriptors() == before


def fail(number):
    raise OSError(number, os.strerror(number))


def test_a_file_that_is_always_exchanged_is_busy(root, top, monkeypatch):
    opened = root._open_beneath

    def exchange(directory, path, flags):
        if not flags & os.O_PATH:
            (top / "new").write_bytes(b"")
            os.replace(top / "new", top / "f")
        return opened(directory, path, flags)

    monkeypatch.setattr(root, "_open_beneath", exchange)
    assert code(root.open_file, "f") == "busy"


@pytest.mark.parametrize("thing", ["fifo", "socket", "link", "directory", "nothing"])
def test_a_file_that_was_exchanged_for_something_else_is_looked_at_again(root, top, monkeypatch, thing):
    opened = root._open_beneath

    def exchange(directory, path, flags):
        if not flags & os.O_PATH and (top / "f").is_file():
            (top / "f").unlink()
            make(top / "f", thing)
        return opened(directory, path, flags)

    monkeypatch.setattr(root, "_open_beneath", exchange)
    assert code(root.open_file, "f") == {"link": "outside_root", "nothing": "not_found"}.get(thing, "not_a_file")


def test_a_file_that_was_exchanged_for_a_link_to_another_is_the_other(top, monkeypatch):
    descend = beneath._descend
    looks = []

    def exchange(held, path):
        last = descend(held, path)
        looks.append(path)
        if len(looks) == 2:  # it was found to be a regular file, and again, and is about to be opened
            (top / "f").unlink()
            (top / "f").symlink_to("d/f")
        return last

    monkeypatch.setattr(beneath, "_descend", exchange)
    with Root(top, walk=True) as root:
        assert read(root.open_file("f")) == INSIDE


def make(path, thing):
    if thing in ("fifo", "socket"):
        os.mknod(path, {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}[thing] | 0o600)
    elif thing == "link":
        path.symlink_to("../outside/f")
    elif thing == "directory":
        path.mkdir()


def test_a_directory_and_a_link_outside_are_exchanged_all_the_time(root, top):
    (top / "link").symlink_to("../outside/d")
    outside = inodes(top.parent / "outside")
    with exchanging(top / "d", top / "link"):
        met = race(
            lambda: read(root.open_file("d/sub/f")) == INSIDE,
            lambda: root.stat("d/f").st_ino not in outside,
            lambda: outside.isdisjoint(listed(root, "d/sub")[0].values()),
            lambda: inode(root.open_directory("d/sub")) not in outside,
            lambda: inode(root.open_parent("d/sub/f")[0]) not in outside,
            lambda: inode(root.open_parent("d/new/f", create=True)[0]) not in outside,
            until={"found", "outside_root"},
        )
    assert met == {"found", "outside_root"}
    assert inodes(top.parent / "outside") == outside


@pytest.mark.parametrize(("thing", "expected"), [("link", "outside_root"), ("fifo", "not_a_file")])
def test_a_file_and_something_else_are_exchanged_all_the_time(root, top, thing, expected):
    make(top / "other", thing)
    with exchanging(top / "f", top / "other"):
        met = race(lambda: read(root.open_file("f")) == INSIDE, until={"found", expected})
    assert met == {"found", expected}


def test_links_that_go_up_are_followed_while_others_rename(root, top):
    (top / "d/sub/back").symlink_to("../../e/../d/../e/f")
    (top / "d/sub/out").symlink_to("../../../outside/f")
    with exchanging(top / "d/f", top / "e/f"):
        assert race(lambda: root.open_file("d/sub/out"), seconds=0.1) <= {"outside_root", "busy"}
        race(lambda: read(root.open_file("d/sub/back")) == INSIDE, seconds=0.1, until={"found"})


def test_threads_do_not_hear_of_each_others_failures(root):
    names = {"d/sub/f": "found", "nothing": "not_found", "f/f": "not_a_directory", "d": "not_a_file"}

    def ask(name):
        return {name: race(lambda: read(root.open_file(name)) == INSIDE, seconds=0.1)}

    with ThreadPoolExecutor(len(names)) as pool:
        for answer in pool.map(ask, names):
            assert answer == {name: {names[name]} for name in answer}


def race(*attempts, seconds=RACE_SECONDS, until=frozenset()):
    """Make the `attempts`, each of which tells whether it stayed inside, for a while; return what became of them.

    Go on `until` all that has been met, since a busy machine may not run the other process for long.
    """
    met = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end or not until <= met:
        for attempt in attempts:
            try:
                assert attempt()
                met.add("found")
            except OperationError as error:
                met.add(error.code)
    return met


def inode(descriptor):
    number = os.fstat(descriptor).st_ino
    os.close(descriptor)
    return number


def inodes(directory):
    return {path.stat().st_ino for path in (directory, *directory.rglob("*"))}
