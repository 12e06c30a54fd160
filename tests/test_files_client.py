"""The client of the file server: whole files, files that broke off anywhere, and servers that say what is not so."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import random
import resource

import pytest
from filing import MIB, descriptors, files_served, filing, gone, scripted
from peers import tls_contexts
from serving import poll
from sessions import played, where

from fastframe import EndOfStreamError
from fastframe.servers import digests, files_client, local, transfer
from fastframe.servers.errors import OperationError
from fastframe.servers.files_client import Entry
from fastframe.servers.local import LocalError
from fastframe.servers.messages import Kind
from fastframe.servers.root import Root
from fastframe.servers.staging import Staging, Upload

DATA = random.Random(7).randbytes(700_001)
TIME = 1_600_000_000_123_456_789
EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def served(tmp_path):
    path = tmp_path / "served"
    path.mkdir()
    return path


@pytest.fixture
def here(tmp_path):
    path = tmp_path / "here"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def nothing_stays_open():
    before = descriptors()
    yield
    poll(lambda: descriptors() <= before)


def write(path, data=DATA, mode=0o640):
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(TIME, TIME))
    return path


def digest(data, name="sha256"):
    hasher = digests.new(name)
    hasher.update(data)
    return hasher.hexdigest()


def part(here, name="copy"):
    return here / local.part_name(name)


def is_same(one, two):
    facts = [(path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) for path in (one, two)]
    return facts[0] == facts[1]


@contextlib.asynccontextmanager
async def refused(code, kind=OperationError):
    with pytest.raises(kind) as info:
        yield info
    assert info.value.code == code


# whole files


@pytest.mark.parametrize("size", [0, 1, 65_536, len(DATA)])
@pytest.mark.parametrize("name", ["sha256", "none", "md5"])
@played
async def test_a_file_there_and_back(served, here, size, name):
    source = write(here / "source", DATA[:size])
    async with filing(served) as client:
        sent = await client.put(source, "grüße", digest=name)
        came = await client.get("grüße", here / "copy", digest=name)
    assert is_same(source, served / "grüße")
    assert is_same(source, here / "copy")
    assert (sent.size, sent.digest, sent.resumed_from) == (size, digest(DATA[:size], name), 0)
    assert (came.size, came.digest, came.resumed_from) == (size, digest(DATA[:size], name), 0)
    assert sent.seconds > 0
    assert sorted(os.listdir(here)) == ["copy", "source"]


@pytest.mark.parametrize("block", [1, 1000, 65_536, MIB, 1 << 40])
@played
async def test_blocks_of_any_size(served, here, block):
    size = 3000 if block == 1 else len(DATA)
    source = write(here / "source", DATA[:size])
    async with filing(served) as client:
        await client.put(source, "file", block=block)
        await client.get("file", here / "copy", block=block)
    assert is_same(source, here / "copy")


@played
async def test_progress_from_the_beginning_to_the_end_and_not_for_each_block(served, here):
    source, seen = write(here / "source"), []
    async with filing(served) as client:
        await client.put(source, "file", block=100, progress=lambda *now: seen.append(now))
        await client.get("file", here / "copy", block=100, progress=lambda *now: seen.append(now))
    assert [now for now in seen if now[0] in (0, len(DATA))] == [(0, len(DATA)), (len(DATA), len(DATA))] * 2
    assert len(seen) < 400  # of 14,000 messages; at most 20 a second are shown


@played
async def test_nothing_is_replaced_that_was_not_asked_to_be(served, here):
    write(served / "file", b"there")
    write(here / "copy", b"here")
    async with filing(served) as client:
        async with refused("exists", LocalError) as info:
            await client.get("file", here / "copy")
        assert str(here / "copy") in str(info.value)
        async with refused("exists"):
            await client.put(here / "copy", "file")
        assert (served / "file").read_bytes() == b"there"
        assert (here / "copy").read_bytes() == b"here"
        await client.get("file", here / "copy", replace=True)
        assert (here / "copy").read_bytes() == b"there"
        await client.put(write(here / "new", b"new"), "file", replace=True)
    assert (served / "file").read_bytes() == b"new"


@played
async def test_parents_are_made_when_asked_for(served, here):
    async with filing(served) as client:
        async with refused("not_found"):
            await client.put(write(here / "source"), "a/b/file")
        await client.put(here / "source", "a/b/file", parents=True)
    assert is_same(here / "source", served / "a/b/file")


@played
async def test_a_file_before_1970_is_sent_as_of_1970(served, here):
    os.utime(write(here / "source"), ns=(-1, -1))
    async with filing(served) as client:
        await client.put(here / "source", "file")
    assert (served / "file").stat().st_mtime_ns == 0


@played
async def test_many_operations_one_after_the_other(served, here):
    async with filing(served) as client:
        for at in range(20):
            await client.put(write(here / f"{at}", DATA[:at]), f"{at}")
            await client.get(f"{at}", here / f"{at}.copy")
            async with refused("not_found"):
                await client.get("missing", here / "missing")
        entries = await client.list()
    assert sorted(entry.size for entry in entries) == list(range(20))
    assert not part(here, "missing").exists()


@pytest.mark.parametrize("what", ["missing", "directory", "fifo", ""])
@played
async def test_what_is_no_file_is_not_sent(served, here, what):
    (here / "directory").mkdir()
    os.mkfifo(here / "fifo")
    async with filing(served) as client:
        with pytest.raises(LocalError) as info:
            await client.put(here / what if what else "", "name")
        await client.stat()
    assert info.value.code == ("not_found" if what in ("missing", "") else "not_a_file")


@played
async def test_a_digest_that_is_unknown(served, here):
    write(served / "file")
    async with filing(served) as client:
        async with refused("unsupported"):
            await client.get("file", here / "copy", digest="crc7")
        async with refused("unsupported"):
            await client.put(write(here / "source"), "new", digest="crc7")
    assert sorted(os.listdir(here)) == ["source"]


@played
async def test_a_server_that_takes_nothing(served, here):
    async with filing(served, write=False) as client:
        async with refused("read_only"):
            await client.put(write(here / "source"), "file")
        async with refused("read_only"):
            await client.mkdir("new")


# list, stat, mkdir


@played
async def test_a_listing_longer_than_a_message(served):
    for at in range(1200):
        (served / f"{at:04}-{'ä' * 100}").touch()
    (served / "link").symlink_to("nowhere")
    async with filing(served) as client:
        entries = {entry.name: entry for entry in await client.list()}
    assert len(entries) == 1201
    assert entries["link"].kind == "link"
    assert entries[f"0007-{'ä' * 100}"].kind == "file"


@played
async def test_names_that_are_no_utf8_are_counted(served):
    (served / "good").touch()
    os.close(os.open(os.fsencode(served) + b"/b\xe4d", os.O_CREAT))
    async with filing(served) as client:
        assert [entry.name for entry in await client.list()] == ["good"]
        assert client.unnamed == 1


@played
async def test_stat_and_mkdir(served):
    write(served / "file")
    async with filing(served) as client:
        known = await client.stat("file", "sha256")
        assert known == Entry("file", "file", len(DATA), TIME, 0o640, digest(DATA))
        await client.mkdir("a/b", 0o700, TIME)
        assert (await client.stat("a/b")).modified == TIME
        assert ((await client.stat("a/b")).kind, (await client.stat("a/b")).mode) == ("directory", 0o700)
        await client.mkdir("a/b")


# what broke off


@pytest.mark.parametrize("there", [1, 4095, 65_537, len(DATA) - 1, len(DATA)])
@played
async def test_a_get_goes_on_with_what_is_there(served, here, there):
    write(served / "file")
    part(here).write_bytes(DATA[:there])
    seen = []
    async with filing(served) as client:
        came = await client.get("file", here / "copy", progress=lambda *now: seen.append(now))
    assert came.resumed_from == there
    assert seen[0] == (there, len(DATA))
    assert is_same(served / "file", here / "copy")
    assert os.listdir(here) == ["copy"]


@pytest.mark.parametrize("there", [b"x" * 1000, DATA + b"more", DATA[:-1] + b"!"])
@played
async def test_a_get_begins_again_where_something_else_is(served, here, there):
    write(served / "file")
    part(here).write_bytes(there)
    async with filing(served) as client:
        assert (await client.get("file", here / "copy")).resumed_from == 0
    assert is_same(served / "file", here / "copy")


@pytest.mark.parametrize("manner", [{"resume": False}, {"digest": "none"}])
@played
async def test_a_get_that_shall_not_go_on(served, here, manner):
    write(served / "file")
    part(here).write_bytes(b"x" * 1000)
    async with filing(served) as client:
        assert (await client.get("file", here / "copy", **manner)).resumed_from == 0
    assert is_same(served / "file", here / "copy")


def partial_of(served, source, data):
    """Have the server hold the beginning of an upload."""
    status = source.stat()
    with Root(served) as root:
        partial = Staging(root).open(Upload("file", status.st_size, status.st_mtime_ns, 0o640, ""))
        partial.resume(0, "sha256", "")
        partial.write([memoryview(data)])
        partial.keep()


@pytest.mark.parametrize("there", [1, 65_537, len(DATA) - 1, len(DATA)])
@played
async def test_a_put_goes_on_with_what_is_there(served, here, there):
    source, seen = write(here / "source"), []
    partial_of(served, source, DATA[:there])
    async with filing(served) as client:
        sent = await client.put(source, "file", progress=lambda *now: seen.append(now))
    assert sent.resumed_from == there
    assert sent.digest == digest(DATA)
    assert seen[0][0] == there
    assert is_same(source, served / "file")


@pytest.mark.parametrize("manner", [{}, {"resume": False}, {"digest": "none"}])
@played
async def test_a_put_begins_again_where_something_else_is(served, here, manner):
    source = write(here / "source")
    partial_of(served, source, b"x" * 1000)
    async with filing(served) as client:
        assert (await client.put(source, "file", **manner)).resumed_from == 0
    assert is_same(source, served / "file")


class BrokenError(Exception):
    pass


def by_cancelling(client, task):
    task.cancel()


def by_a_lost_connection(client, task):
    client.stream.abort()


def by_an_error(client, task):
    raise BrokenError


WAYS = (by_cancelling, by_a_lost_connection, by_an_error)
LONG = random.Random(8).randbytes(2_000_003)
STOPS = range(0, len(LONG), 333_667)


async def broken_off(client, way, stop, begin):
    """Begin a transfer, and break it off when it has come to `stop`; tell whether that came in time."""
    task = None

    def progress(done, total):
        if done >= stop:
            way(client, task)

    task = asyncio.create_task(begin(progress))
    try:
        await task
    except (asyncio.CancelledError, EndOfStreamError, OSError, BrokenError):
        return True
    return False


@pytest.mark.parametrize("way", WAYS)
@played
async def test_a_get_that_broke_off_anywhere(served, here, way):
    write(served / "file", LONG)
    resumed = []
    for stop in STOPS:
        async with filing(served) as client:
            get = functools.partial(client.get, "file", here / "copy", block=65_537)
            assert await broken_off(client, way, stop, lambda note, get=get: get(progress=note))
            assert not (here / "copy").exists()
        async with filing(served) as client:
            resumed.append((await client.get("file", here / "copy")).resumed_from)
        assert is_same(served / "file", here / "copy")
        assert os.listdir(here) == ["copy"]
        (here / "copy").unlink()
    assert sum(map(bool, resumed)) >= len(STOPS) // 2


@pytest.mark.parametrize("way", WAYS)
@played
async def test_a_put_that_broke_off_anywhere(served, here, way):
    source = write(here / "source", LONG)
    resumed = []
    for stop in STOPS:
        async with filing(served) as client:
            await broken_off(client, way, stop, lambda note: client.put(source, "file", block=65_537, progress=note))
        async with filing(served) as client:
            resumed.append((await client.put(source, "file", replace=True)).resumed_from)
        assert is_same(source, served / "file")
        (served / "file").unlink()
    assert sum(map(bool, resumed)) >= len(STOPS) // 2


@played
async def test_the_session_goes_on_after_an_error_of_this_side(served, here):
    write(served / "file", LONG)
    async with filing(served) as client:
        assert await broken_off(client, by_an_error, 1, lambda note: client.get("file", here / "copy", progress=note))
        assert await broken_off(client, by_an_error, 1, lambda note: client.put(served / "file", "new", progress=note))
        assert (await client.get("file", here / "copy")).size == len(LONG)


@pytest.fixture(autouse=True)
def every_progress(monkeypatch):
    monkeypatch.setattr(files_client, "PROGRESS_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Have files of less than a megabyte sent in several portions."""
    for name in ("BLOCK_SIZE", "WINDOW"):
        monkeypatch.setattr(transfer, name, 256 * 1024)


@pytest.mark.parametrize("kind", ["tls", "unix"])
@pytest.mark.parametrize("sum_name", ["sha256", "none"])
@played
async def test_files_travel_over_tls_and_unix_sockets_too(served, here, tmp_path, kind, sum_name):
    server_context, client_context = tls_contexts()
    options = {"ssl": server_context} if kind == "tls" else {"path": str(tmp_path / "socket")}
    secure = {"ssl": client_context, "server_hostname": "127.0.0.1"} if kind == "tls" else {}
    source = write(here / "source", LONG)
    async with files_served(served, **options) as server, files_client.connect(**where(server), **secure) as client:
        await client.put(source, "file", digest=sum_name)
        await client.get("file", here / "copy", digest=sum_name)
    assert is_same(source, here / "copy")


# what changes, and what is full


@played
async def test_a_source_that_changes_while_it_is_sent(served, here):
    source = write(here / "source", LONG)
    async with filing(served) as client:
        for change in (lambda: os.truncate(source, 1000), lambda: source.write_bytes(LONG[::-1]), lambda: os.utime(source)):
            async with refused("changed", LocalError) as info:
                await client.put(source, "file", progress=lambda done, total: done > 1_000_000 and change())  # noqa: B023
            assert str(source) in str(info.value)
            write(source, LONG)
        assert not (served / "file").exists()
        assert (await client.put(source, "file")).digest == digest(LONG)


@played
async def test_a_file_at_the_server_that_changes_while_it_comes(served, here):
    remote = write(served / "file", LONG * 3)
    async with filing(served) as client:
        async with refused("changed"):
            await client.get("file", here / "copy", progress=lambda done, total: os.utime(remote))
        assert not (here / "copy").exists()
        await client.get("file", here / "copy")
    assert is_same(remote, here / "copy")


@contextlib.contextmanager
def short_files():
    """Have the kernel refuse to write further than 100,000 bytes into a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@played
async def test_a_disk_that_takes_no_more(served, here):
    write(served / "file")
    async with filing(served) as client:
        async with refused("too_large", LocalError) as info:
            with short_files():
                await client.get("file", here / "copy")
        assert str(info.value) == f"{here / 'copy'}: File too large (too_large)"
        assert (await client.stat("file")).size == len(DATA)  # the session goes on
    assert os.listdir(here) == [local.part_name("copy")]
    assert 0 < part(here).stat().st_size <= 100_000


@played
async def test_a_directory_that_is_missing_or_may_not_be_written_to(served, here):
    write(served / "file")
    async with filing(served) as client:
        async with refused("not_found", LocalError):
            await client.get("file", here / "missing" / "copy")
        (here / "plain").touch()
        async with refused("not_a_directory", LocalError):
            await client.get("file", here / "plain" / "copy")
        for name in ("", ".", "..", "a/"):
            async with refused("bad_name", LocalError):
                await client.get("file", here.joinpath(name) if name == ".." else f"{here}/{name}")


@played
async def test_two_gets_of_one_file_do_not_mix(served, here):
    write(served / "file")
    descriptor = os.open(part(here), os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    async with filing(served) as client:
        async with refused("busy", LocalError):
            await client.get("file", here / "copy")
        os.close(descriptor)
        await client.get("file", here / "copy")
    assert is_same(served / "file", here / "copy")


# servers that say what is not so

SOME = {"size": 10, "modified": TIME, "mode": 0o640, "offset": 0}


@pytest.mark.parametrize(
    ("code", "came", "end", "name"),
    [
        ("wrong_digest", b"0123456789", (10, EMPTY), "sha256"),
        ("wrong_digest", b"0123456789", (10, "x"), "none"),
        ("wrong_size", b"012345678", (10, digest(b"012345678")), "sha256"),
        ("wrong_size", b"0123456789", (9, digest(b"0123456789")), "sha256"),
        ("wrong_size", b"", (0, EMPTY), "sha256"),
    ],
)
@played
async def test_data_that_are_not_the_file(here, code, came, end, name):
    async def script(peer):
        await peer.opened("get", **SOME)
        await peer.stream.send(bytes([Kind.DATA]) + came)
        await peer.end(*end)
        await gone(peer)

    async with scripted(script) as client, refused(code):
        await client.get("file", here / "copy", digest=name)
    assert not (here / "copy").exists()
    if code == "wrong_digest":
        assert not part(here).exists()


@played
async def test_data_without_end_do_not_fill_the_disk(here):
    async def script(peer):
        await peer.opened("get", **SOME)
        with contextlib.suppress(OSError):
            while True:
                await peer.stream.send(bytes([Kind.DATA]) + bytes(100_000))

    async def flood():
        async with scripted(script) as client:
            client_get = client.get("file", here / "copy")
            async with refused("wrong_size"):
                await client_get

    files_client.session.CANCEL_SECONDS, before = 0.2, files_client.session.CANCEL_SECONDS
    try:
        await flood()
    finally:
        files_client.session.CANCEL_SECONDS = before
    assert not part(here).exists() or part(here).stat().st_size <= 10


@pytest.mark.parametrize(
    "opened",
    [
        {"size": -1},
        {"size": 1 << 63},
        {"size": "10"},
        {"mode": 0o4755},
        {"modified": 1 << 63},
        {"offset": 5},
        {"offset": "0"},
    ],
)
@played
async def test_a_file_that_cannot_be(here, opened):
    async def script(peer):
        await peer.opened("get", **SOME | opened)
        await peer.hears(Kind.CANCEL)
        await peer.say(Kind.ERROR, code="cancelled", message="")
        await gone(peer)

    async with scripted(script) as client:
        with pytest.raises(OperationError) as info:
            await client.get("file", here / "copy")
    assert info.value.code in ("bad_request", "bad_message")
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    "lines",
    [
        b'{"name":"a","kind":"file","size":1,"modified":1,"mode":420}',
        b"\n",
        b"[]\n",
        b'{"name":1,"kind":"file","size":1,"modified":1,"mode":420}\n',
        b'{"name":"a","kind":"file","size":-1,"modified":1,"mode":420}\n',
        b'{"name":"a","kind":"file","size":1,"modified":1,"mode":2541}\n',
        b'{"name":"a","kind":"file","size":1,"modified":1,"mode":420}\n' * 2,
        b"x" * 200_000,
    ],
)
@played
async def test_a_listing_that_is_none(lines):
    async def script(peer):
        await peer.opened("list")
        await peer.stream.send(bytes([Kind.DATA]) + lines)
        await peer.end(1, "")
        await gone(peer)

    async with scripted(script) as client:
        with pytest.raises(OperationError) as info:
            await client.list()
    assert info.value.code in ("bad_request", "bad_message")


@played
async def test_a_listing_without_end_is_left(monkeypatch):
    monkeypatch.setattr(files_client, "MOST_ENTRIES", 100)

    async def script(peer):
        await peer.opened("list")
        line = json.dumps({"name": "x", "kind": "file", "size": 0, "modified": 0, "mode": 0}).encode() + b"\n"
        with contextlib.suppress(EndOfStreamError, OSError):
            while True:
                await peer.say(Kind.DATA, line * 10)

    async with scripted(script) as client, refused("too_large"):
        await client.list()


@played
async def test_a_listing_in_pieces():
    line = b'{"name":"\xc3\xa4","kind":"file","size":1,"modified":1,"mode":420}\n'

    async def script(peer):
        await peer.opened("list")
        for at in range(len(line) * 2):
            await peer.stream.send(bytes([Kind.DATA]) + (line * 2)[at : at + 1])
        await peer.end(2, "")
        await gone(peer)

    async with scripted(script) as client:
        assert [entry.name for entry in await client.list()] == ["ä", "ä"]


@played
async def test_a_partial_larger_than_the_file_is_none(here):
    source = write(here / "source")

    async def script(peer):
        await peer.opened("stat")
        await peer.say(Kind.RESULT, partial=len(DATA) + 1)
        await gone(peer)

    async with scripted(script) as client, refused("bad_request"):
        await client.put(source, "file")


@played
async def test_a_server_that_is_silent(here, monkeypatch):
    monkeypatch.setattr(files_client, "DATA_TIMEOUT", 0.05)
    monkeypatch.setattr(files_client.session, "CANCEL_SECONDS", 0.05)

    async def script(peer):
        await peer.opened("get", **SOME)
        await gone(peer)

    async with scripted(script) as client, refused("timeout"):
        await client.get("file", here / "copy")


@played
async def test_a_server_that_hangs_up_in_the_middle(here):
    async def script(peer):
        await peer.opened("get", **SOME)
        await peer.stream.send(bytes([Kind.DATA]) + b"01234")
        await peer.stream.close()

    async with scripted(script) as client:
        with pytest.raises(EndOfStreamError):
            await client.get("file", here / "copy")
    assert part(here).read_bytes() == b"01234"


def test_a_block_is_no_more_than_the_server_takes():
    assert transfer.BLOCK_SIZE <= MIB
