"""What the kernel refuses to a thread that is held to a ruleset, and what it goes on allowing."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastframe.servers import landlock

pytestmark = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
PR_SET_NO_NEW_PRIVS = 38


@pytest.fixture
def places(tmp_path):
    for name in ("read", "write", "outside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("text")
    return tmp_path


@pytest.fixture
def ruleset():
    descriptor = landlock.create(network=False)
    yield descriptor
    os.close(descriptor)


def held_to(ruleset, attempt):
    """Return what `attempt` does in a thread of its own that is held to `ruleset`."""

    def enter():
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
        landlock.restrict(ruleset)

    with ThreadPoolExecutor(1, initializer=enter) as thread:
        return thread.submit(attempt).result()


def refused(attempt, number=errno.EACCES):
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        attempt()
    assert caught.value.errno == number


def test_only_what_is_granted_can_be_used(places, ruleset):
    landlock.grant(ruleset, str(places / "read"), landlock.READ)
    landlock.grant(ruleset, str(places / "write"), landlock.WRITE)

    def attempts():
        assert (places / "read/file").read_text() == "text"
        assert os.listdir(places / "read") == ["file"]
        refused(lambda: (places / "read/file").write_text("other"))
        refused((places / "read/new").mkdir)
        refused((places / "outside/file").read_text)
        refused(lambda: os.listdir(places))
        (places / "write/file").write_text("other")
        (places / "write/new").mkdir()
        (places / "write/file").rename(places / "write/new/file")
        refused(lambda: (places / "write/new/file").rename(places / "outside/moved"))

    held_to(ruleset, attempts)
    assert (places / "outside/file").read_text() == "text"


@pytest.mark.parametrize("rights", [landlock.READ, landlock.WRITE, landlock.DEVICE])
def test_a_file_alone_can_be_granted(places, ruleset, rights):
    landlock.grant(ruleset, str(places / "read/file"), rights)

    def attempts():
        assert (places / "read/file").read_text() == "text"
        refused(lambda: os.listdir(places / "read"))
        if rights == landlock.READ:
            refused(lambda: os.truncate(places / "read/file", 1))
        else:
            os.truncate(places / "read/file", 1)

    held_to(ruleset, attempts)


def test_other_threads_are_free(places, ruleset):
    held_to(ruleset, lambda: refused((places / "read/file").read_text))
    assert (places / "read/file").read_text() == "text"


def test_a_grant_follows_links_and_says_where_they_lead(places, ruleset):
    (places / "link").symlink_to("read/../read")
    assert landlock.grant(ruleset, str(places / "link"), landlock.READ) == os.path.realpath(places / "read")


def test_what_is_not_there_is_told_by_its_path(places, ruleset):
    with pytest.raises(FileNotFoundError, match="missing"):
        landlock.grant(ruleset, str(places / "missing"), landlock.READ)
    there = [str(places / "missing"), str(places / "read")]
    assert landlock.grant_what_exists(ruleset, there, landlock.READ) == there[1:]


def test_what_is_no_ruleset_is_told_by_the_path_too(places):
    with pytest.raises(OSError, match="read"), open(os.devnull) as other:
        landlock.grant(other.fileno(), str(places / "read"), landlock.READ)


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel's Landlock knows no network")
@pytest.mark.parametrize("network", [False, True])
def test_tcp_is_refused_unless_it_is_wanted(network):
    def attempts():
        with socket.socket() as listener, socket.socket() as client:
            if network:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                client.connect(listener.getsockname())
            else:
                refused(lambda: listener.bind(("127.0.0.1", 0)))
                refused(lambda: client.connect(("127.0.0.1", 1)))

    descriptor = landlock.create(network)
    held_to(descriptor, attempts)
    os.close(descriptor)


@pytest.mark.skipif(landlock.version() < 6, reason="this kernel's Landlock knows no scopes")
def test_sockets_without_a_file_and_signals_stay_inside(ruleset):
    name = f"\0fastframe-{os.getpid()}"

    def attempts():
        with socket.socket(socket.AF_UNIX) as client:
            refused(lambda: client.connect(name), errno.EPERM)
        refused(lambda: os.kill(os.getppid(), 0), errno.EPERM)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        held_to(ruleset, attempts)


@pytest.mark.parametrize(
    ("abi", "files", "network", "scopes"),
    [
        (1, 0x1FFF, 0, 0),
        (2, 0x3FFF, 0, 0),
        (3, 0x7FFF, 0, 0),
        (4, 0x7FFF, 3, 0),
        (5, 0xFFFF, 3, 0),
        (6, 0xFFFF, 3, 3),
        (7, 0xFFFF, 3, 3),
        (99, 0xFFFF, 3, 3),
    ],
)
def test_a_kernel_is_asked_for_what_it_knows(monkeypatch, abi, files, network, scopes):
    known = [landlock._known(rights, abi) for rights in (landlock._FILES, landlock._NETWORK, landlock._SCOPES)]
    assert known == [files, network, scopes]
    if abi <= landlock.version():  # a newer kernel takes what an older one is asked for
        monkeypatch.setattr(landlock, "version", lambda: abi)
        os.close(landlock.create(network=False))


def test_other_systems_have_none(monkeypatch):
    monkeypatch.setattr(landlock.sys, "platform", "darwin")
    assert landlock.version() == 0
