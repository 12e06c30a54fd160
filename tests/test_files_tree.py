"""Whole directories there and back, gone on with, with files that fail, and from servers that would lead outside."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from filing import filing, gone, scripted
from sessions import played

from fastframe import EndOfStreamError
from fastframe.servers import files_tree
from fastframe.servers.errors import OperationError
from fastframe.servers.files_client import Manner
from fastframe.servers.files_tree import Watch
from fastframe.servers.local import LocalError
from fastframe.servers.messages import Kind

TIME = 1_500_000_000_123_456_789


class Witness(Watch):
    """Writes down what it is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def begin(self, name, size):
        return None

    def done(self, name, transfer):
        self.told.append(("done", name))

    def unchanged(self, name):
        self.told.append(("unchanged", name))

    def skipped(self, name, reason):
        self.told.append(("skipped", name))

    def failed(self, name, error):
        super().failed(name, error)
        self.told.append((error.code, name))


@pytest.fixture
def tree(tmp_path):
    """A directory with all that a directory may have."""
    top = tmp_path / "tree"
    for directory in ("", "a", "a/b", "empty", "read-only", "grüße 日本"):
        (top / directory).mkdir()
    for at, name in enumerate(("a/one", "a/b/two", "read-only/three", "grüße 日本/\n", ".hidden", "empty.file")):
        (top / name).write_bytes(name.encode() * at)
        (top / name).chmod(0o640 + at)
        os.utime(top / name, ns=(TIME + at, TIME + at))
    (top / "read-only").chmod(0o555)
    for at, directory in enumerate(("a/b", "a", "empty", "read-only", "grüße 日本", "")):
        os.utime(top / directory, ns=(TIME - at, TIME - at))
    yield top
    (top / "read-only").chmod(0o755)


@pytest.fixture
def served(tmp_path):
    path = tmp_path / "served"
    path.mkdir()
    return path


def facts(top: Path) -> dict:
    """Return what there is to know of each name."""
    found = {}
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        found[str(path.relative_to(top))] = (status.st_mode, status.st_mtime_ns, content)
    return found


FILES = [".hidden", "empty.file", "a/one", "a/b/two", "grüße 日本/\n", "read-only/three"]


@played
async def test_a_tree_there_and_back(tree, served, tmp_path):
    up, down = Witness(), Witness()
    async with filing(served) as client:
        await files_tree.put_tree(client, tree, "x/copy", watch=up)
        await files_tree.get_tree(client, "x/copy", tmp_path / "back", watch=down)
    assert up.told == down.told == [("done", name) for name in FILES]
    assert facts(served / "x/copy") == facts(tree)
    assert facts(tmp_path / "back") == facts(tree)


@played
async def test_directories_that_their_group_shares_stay_so(tree, served, tmp_path):
    (served / "copy").mkdir()
    (tmp_path / "back").mkdir()
    for top in (served / "copy", tmp_path / "back"):
        top.chmod(0o2775)
    async with filing(served) as client:
        await files_tree.put_tree(client, tree, "copy")
        await files_tree.get_tree(client, "copy", tmp_path / "back")
    assert (served / "copy").stat().st_mode & 0o7000 == (tmp_path / "back").stat().st_mode & 0o7000 == 0o2000


@played
async def test_a_tree_to_and_from_the_servers_root(tree, served, tmp_path):
    async with filing(served) as client:
        await files_tree.put_tree(client, tree, "")
        await files_tree.get_tree(client, "", tmp_path / "back")
    back, expected = facts(tmp_path / "back"), facts(tree)
    del back["."], expected["."]  # the server's own is left as it is
    assert back == expected


@played
async def test_what_is_there_is_passed_over(tree, served, tmp_path):
    back = tmp_path / "back"
    async with filing(served) as client:
        await files_tree.put_tree(client, tree, "copy")
        await files_tree.get_tree(client, "copy", back)
        for name in ("a/one", "read-only/three"):
            os.utime(served / "copy" / name, ns=(TIME + 99, TIME + 99))
        up, down = Witness(), Witness()
        await files_tree.put_tree(client, tree, "copy", Manner(replace=True), up)
        assert {name for what, name in up.told if what == "done"} == {"a/one", "read-only/three"}
        os.utime(back / "a/one")
        (back / "read-only/three").unlink()
        await files_tree.get_tree(client, "copy", back, Manner(), down)
    assert facts(served / "copy") == facts(tree)
    assert ("exists", "a/one") in down.told
    assert ("done", "read-only/three") in down.told
    assert [what for what, _ in down.told].count("unchanged") == len(FILES) - 2


@played
async def test_links_and_the_like_are_skipped(tmp_path, served):
    top = tmp_path / "tree"
    top.mkdir()
    (top / "link").symlink_to("/etc")
    os.mkfifo(top / "fifo")
    (top / ".big.fastframe-part").touch()
    (top / "file").touch()
    witness = Witness()
    async with filing(served) as client:
        await files_tree.put_tree(client, top, "copy", watch=witness)
        (served / "copy/other").symlink_to("/etc")
        await files_tree.get_tree(client, "copy", tmp_path / "back", watch=witness)
    assert sorted(witness.told) == [
        ("done", "file"),
        ("done", "file"),
        ("skipped", ".big.fastframe-part"),
        ("skipped", "fifo"),
        ("skipped", "link"),
        ("skipped", "other"),
    ]
    assert witness.failures == 0
    assert os.listdir(tmp_path / "back") == ["file"]


@played
async def test_a_file_that_fails_does_not_end_the_rest(tree, served, tmp_path):
    up, down = Witness(), Witness()
    async with filing(served) as client:
        (served / "copy/a/b/two").mkdir(parents=True)
        (served / "copy/empty").touch()
        await files_tree.put_tree(client, tree, "copy", Manner(replace=True), watch=up)
        assert sorted(told for told in up.told if told[0] != "done") == [
            ("not_a_directory", "empty"),
            ("not_a_file", "a/b/two"),
        ]
        (tmp_path / "back/.hidden").mkdir(parents=True)
        await files_tree.get_tree(client, "copy", tmp_path / "back", Manner(replace=True), watch=down)
    assert ("not_a_file", ".hidden") in down.told
    assert (up.failures, down.failures) == (2, 1)
    assert len(down.told) == len(FILES)


@played
async def test_names_that_are_no_utf8_are_told(served, tmp_path):
    top = os.fsencode(tmp_path) + b"/tree"
    os.mkdir(top)
    os.close(os.open(top + b"/b\xe4d", os.O_CREAT))
    os.mkdir(served / "copy")
    witness = Witness()
    async with filing(served) as client:
        await files_tree.put_tree(client, tmp_path / "tree", "copy", watch=witness)
        os.close(os.open(os.fsencode(served) + b"/copy/b\xe4d", os.O_CREAT))
        await files_tree.get_tree(client, "copy", tmp_path / "back", watch=witness)
    assert witness.told == [("bad_name", ".")] * 2


@played
async def test_what_is_no_directory_is_no_tree(served, tmp_path):
    (served / "file").touch()
    async with filing(served) as client:
        with pytest.raises(OperationError, match="not_a_directory"):
            await files_tree.get_tree(client, "file", tmp_path / "back")
        with pytest.raises(OperationError, match="not_found"):
            await files_tree.get_tree(client, "missing", tmp_path / "back")
        with pytest.raises(LocalError, match="not_found"):
            await files_tree.put_tree(client, tmp_path / "missing", "copy")
        with pytest.raises(LocalError, match="not_a_directory"):
            await files_tree.put_tree(client, served / "file", "copy")
    async with filing(served, write=False) as client:
        with pytest.raises(OperationError, match="read_only"):
            await files_tree.put_tree(client, served, "copy")


# servers that would lead outside

EVIL = ["..", ".", "", "/etc/evil", "../evil", "a/../../evil", "sub/evil", "nul\0", "x" * 300]


def line(name, kind="file", size=4):
    return json.dumps({"name": name, "kind": kind, "size": size, "modified": TIME, "mode": 0o777}).encode() + b"\n"


async def listing(peer, *lines):
    await peer.opened("list")
    await peer.stream.send(bytes([Kind.DATA]) + b"".join(lines))
    await peer.end(len(lines), "")


async def top(peer):
    await peer.opened("stat")
    await peer.say(Kind.RESULT, line("top", "directory")[:-1])


@pytest.mark.parametrize("kind", ["file", "directory"])
@played
async def test_no_name_leads_outside(tmp_path, kind):
    inside = tmp_path / "outside/inside"
    inside.mkdir(parents=True)

    async def script(peer):
        await top(peer)
        await listing(peer, *(line(name, kind) for name in EVIL))
        await gone(peer)

    witness = Witness()
    async with scripted(script) as client:
        await files_tree.get_tree(client, "top", inside, watch=witness)
    assert {code for code, _ in witness.told} == {"bad_name"}
    assert len(witness.told) == len(EVIL)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["outside", "outside/inside"]


@played
async def test_no_link_that_is_there_leads_outside(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").mkdir()
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "file").symlink_to(tmp_path / "outside/file")

    async def script(peer):
        await top(peer)
        await listing(peer, line("link", "directory"), line("file"))
        await peer.opened("get", size=4, modified=TIME, mode=0o777, offset=0)
        await peer.stream.send(bytes([Kind.DATA]) + b"evil")
        await peer.end(4, "")
        await gone(peer)

    witness = Witness()
    async with scripted(script) as client:
        await files_tree.get_tree(client, "top", inside, Manner(digest="none", replace=True), watch=witness)
    assert sorted(witness.told) == [("done", "file"), ("outside_root", "link")]
    assert os.listdir(tmp_path / "outside") == []
    assert (inside / "file").read_bytes() == b"evil"  # in the place of the link


@played
async def test_a_part_is_not_fetched_as_a_file_of_its_own(tmp_path):
    async def script(peer):
        await top(peer)
        await listing(peer, line(".victim.fastframe-part"))
        await gone(peer)

    witness = Witness()
    async with scripted(script) as client:
        await files_tree.get_tree(client, "top", tmp_path / "back", watch=witness)
    assert witness.told == [("skipped", ".victim.fastframe-part")]


@played
async def test_a_lost_connection_ends_it_all(tmp_path):
    async def script(peer):
        await top(peer)
        await listing(peer, line("one"), line("two"))
        await peer.opened("get", size=4, modified=TIME, mode=0o777, offset=0)
        await peer.stream.close()

    witness = Witness()
    async with scripted(script) as client:
        with pytest.raises((EndOfStreamError, OSError)):
            await files_tree.get_tree(client, "top", tmp_path / "back", watch=witness)
    assert witness.told == []


@played
async def test_a_server_that_is_ending_ends_it_all(tmp_path):
    async def script(peer):
        await top(peer)
        await peer.say(Kind.GOAWAY)
        await listing(peer, line("one"), line("two"))
        await gone(peer)

    witness = Witness()
    async with scripted(script) as client:
        with pytest.raises(OperationError, match="going_away"):
            await files_tree.get_tree(client, "top", tmp_path / "back", watch=witness)
    assert witness.told == []


def test_what_became_a_link_after_it_was_listed_is_not_sent(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").symlink_to(tmp_path / "secret")
    with files_tree.Root(tmp_path / "tree") as root, pytest.raises(LocalError, match="not_a_file"):
        files_tree._open_source(root, "file", "sha256", str(tmp_path / "tree/file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@played
async def test_a_directory_that_may_not_be_written_to_is_gone_on_with(tree, served, tmp_path):
    async with filing(served) as client:
        await files_tree.put_tree(client, tree, "copy")
        await files_tree.get_tree(client, "copy", tmp_path / "back")
        for top in (served / "copy", tmp_path / "back"):
            (top / "read-only").chmod(0o755)
            (top / "read-only/three").unlink()
            (top / "read-only").chmod(0o555)
        await files_tree.put_tree(client, tree, "copy")
        await files_tree.get_tree(client, "copy", tmp_path / "back")
    assert facts(served / "copy") == facts(tmp_path / "back") == facts(tree)
    for top in (served / "copy", tmp_path / "back"):
        (top / "read-only").chmod(0o755)
