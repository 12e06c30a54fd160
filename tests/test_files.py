"""The file server, message by message: what it sends and takes, what it refuses, and what stays of what failed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import random
import unicodedata

import pytest
from executing import until
from filing import files_served
from sessions import PATIENCE, TOKEN, Speaker, played, speaking

from fastframe.servers import arguments, offload, placing
from fastframe.servers.credentials import Keyring
from fastframe.servers.messages import Kind
from fastframe.servers.staging import Staging, Upload

DATA = random.Random(1).randbytes(800_001)  # fits into one message
SHA256 = hashlib.sha256(DATA).hexdigest()
MODIFIED = 1_700_000_000_123_456_789


@contextlib.asynccontextmanager
async def asking(path, **options):
    """Serve a directory, and greet the server."""
    async with files_served(path, **options) as server, speaking(server, greeted=True) as client:
        yield client


async def got(client: Speaker, name: str = "file", **asked) -> tuple[dict, bytes, dict]:
    """Get a file; return what OPENED and END say, and the bytes between them."""
    await client.say(Kind.OPEN, operation="get", name=name, **asked)
    opened = await client.hears(Kind.OPENED)
    data = b""
    while (heard := await client.hear())[0] is Kind.DATA:
        data += heard[1]
    if heard[0] is Kind.ERROR:
        return opened, data, heard[1]
    assert heard[0] is Kind.END
    await client.hears(Kind.RESULT)
    return opened, data, heard[1]


async def put(client: Speaker, data: bytes = DATA, name: str = "file", offset: int = 0, **asked) -> dict:
    """Put a file; return RESULT or ERROR."""
    asked = {"size": len(data), "modified": MODIFIED, "offset": offset, **asked}
    said = {key: asked.pop(key) for key in ("end_size", "end_digest") if key in asked}
    await client.say(Kind.OPEN, operation="put", name=name, **asked)
    heard, body = await client.hear()
    if heard is Kind.ERROR:
        return body
    for start in range(offset, len(data), 100_000):
        await client.say(Kind.DATA, data[start : start + 100_000] or b"")
    digest = hashlib.sha256(data).hexdigest()
    await client.say(Kind.END, size=said.get("end_size", len(data)), digest=said.get("end_digest", digest))
    heard, body = await client.hear()
    assert heard in (Kind.RESULT, Kind.ERROR)
    return body


async def refused(client: Speaker, operation: str, **asked) -> str:
    """Ask for what is refused; return the code, which comes before or after OPENED."""
    await client.say(Kind.OPEN, operation=operation, **asked)
    heard, body = await client.hear()
    if heard is Kind.OPENED:
        heard, body = await client.hear()
    assert heard is Kind.ERROR, (heard, body)
    assert "/" not in body["message"] or "/" in asked.get("name", "")
    return body["code"]


@pytest.fixture
def place(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    return root


@pytest.fixture
def file(place):
    path = place / "file"
    path.write_bytes(DATA)
    path.chmod(0o640)
    os.utime(path, ns=(MODIFIED, MODIFIED))
    return path


def partials(place) -> list[str]:
    directory = place / Staging.DIRECTORY
    return os.listdir(directory) if directory.exists() else []


# get


@pytest.mark.parametrize("digest", ["sha256", "md5", "blake3", "xxh3", "none"])
@played
async def test_a_file_is_sent_with_its_digest(place, file, digest):
    async with asking(place) as client:
        opened, data, end = await got(client, digest=digest)
        assert opened == {"size": len(DATA), "modified": MODIFIED, "mode": 0o640, "offset": 0}
        assert data == DATA
        assert end["size"] == len(DATA)
        if digest in ("sha256", "md5"):
            assert end["digest"] == hashlib.new(digest, DATA).hexdigest()
        assert bool(end["digest"]) == (digest != "none")


@pytest.mark.parametrize("block", [1, 1000, 65_536, 100_000, 1 << 40])
@pytest.mark.parametrize("size", [0, 1, 70_000])
@played
async def test_a_file_is_sent_in_blocks_of_any_size(place, block, size):
    (place / "file").write_bytes(DATA[:size])
    async with asking(place) as client:
        await client.say(Kind.OPEN, operation="get", name="file", block=block)
        await client.hears(Kind.OPENED)
        blocks = []
        while (heard := await client.hear())[0] is Kind.DATA:
            blocks.append(heard[1])
        assert b"".join(blocks) == DATA[:size]
        assert {len(sent) for sent in blocks[:-1]} <= {block}


@pytest.mark.parametrize("offset", [1, 65_537, len(DATA) - 1, len(DATA)])
@played
async def test_a_file_is_sent_from_where_the_client_has_it(place, file, offset):
    async with asking(place) as client:
        _, data, end = await got(client, offset=offset, proof=hashlib.sha256(DATA[:offset]).hexdigest())
        assert data == DATA[offset:]
        assert end == {"size": len(DATA), "digest": SHA256}


@played
async def test_what_the_client_has_of_another_file_is_not_gone_on_with(place, file):
    async with asking(place) as client:
        assert await refused(client, "get", name="file", offset=5, proof=SHA256) == "not_same_file"
        assert await refused(client, "get", name="file", offset=len(DATA) + 1, proof=SHA256) == "not_same_file"
        assert await refused(client, "get", name="file", offset=5, digest="none") == "not_same_file"


NAMES = {
    "": "bad_name",
    "/etc/passwd": "bad_name",
    "../secret": "bad_name",
    "a/../../secret": "bad_name",
    "a\0b": "bad_name",
    "x" * 256: "bad_name",
    "x/" * 1500 + "x": "bad_name",
    "missing": "not_found",
    "out": "outside_root",
    "proc": "outside_root",
    "up/secret": "outside_root",
    "directory": "not_a_file",
    "fifo": "not_a_file",
    "file/x": "not_a_directory",
    Staging.DIRECTORY: "not_found",
    f"{Staging.DIRECTORY}/x": "not_found",
}


@pytest.mark.parametrize("name", NAMES)
@played
async def test_names_lead_to_files_inside_or_nowhere(place, file, name):
    (place / "out").symlink_to("/etc/passwd")
    (place / "proc").symlink_to("/proc/self/root/etc/passwd")
    (place / "up").symlink_to("..")
    (place / "directory").mkdir()
    os.mkfifo(place / "fifo")
    async with asking(place) as client:
        assert await refused(client, "get", name=name) == NAMES[name]
        assert (await got(client))[1] == DATA  # and the server is well


@pytest.mark.parametrize("digest", ["sha256", "none"])
@pytest.mark.parametrize("change", [0, len(DATA) // 2, len(DATA) + 1])
@played
async def test_a_file_that_changes_while_it_is_sent_is_an_error_and_never_an_end(place, digest, change):
    big = place / "file"
    big.write_bytes(bytes(20_000_000))  # more than fits between the two
    async with asking(place) as client:
        await client.say(Kind.OPEN, operation="get", name="file", digest=digest)
        await client.hears(Kind.OPENED)
        await client.hear()
        os.truncate(big, change)
        while (heard := await client.hear())[0] is Kind.DATA:
            pass
        assert heard[0] is Kind.ERROR
        assert heard[1]["code"] == "changed"
        assert (await client.say(Kind.OPEN, operation="stat", name="file")) is None
        await client.hears(Kind.OPENED)
        await client.hears(Kind.RESULT, size=change)


@played
async def test_a_disk_that_fails_is_told(place, file, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    async with asking(place) as client:
        monkeypatch.setattr(os, "preadv", fail)
        _, _, error = await got(client)
        assert error["code"] == "io_error"
        monkeypatch.undo()
        assert (await got(client))[1] == DATA


@played
async def test_a_get_is_cancelled_between_two_blocks(place):
    (place / "file").write_bytes(bytes(20_000_000))
    async with asking(place) as client:
        await client.say(Kind.OPEN, operation="get", name="file")
        await client.hears(Kind.OPENED)
        await client.say(Kind.CANCEL)
        count = 0
        while (heard := await client.hear())[0] is Kind.DATA:
            count += len(heard[1])
        assert heard == (Kind.ERROR, heard[1])
        assert heard[1]["code"] == "cancelled"
        assert count < 20_000_000


# put


@pytest.mark.parametrize("size", [0, 1, len(DATA)])
@played
async def test_a_file_is_taken_with_its_mode_and_time(place, size):
    async with asking(place) as client:
        result = await put(client, DATA[:size], mode=0o600)
        assert result == {"size": size, "digest": hashlib.sha256(DATA[:size]).hexdigest()}
        status = (place / "file").stat()
        assert (place / "file").read_bytes() == DATA[:size]
        assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o600, MODIFIED)
        assert partials(place) == []


@played
async def test_without_write_nothing_is_taken_or_made(place):
    async with asking(place, write=False) as client:
        assert (await put(client))["code"] == "read_only"
        assert await refused(client, "mkdir", name="x") == "read_only"
        assert await refused(client, "stat", name="x", size=1, modified=1) == "read_only"
        assert os.listdir(place) == []


@played
async def test_a_file_is_replaced_only_when_that_is_asked(place, file):
    async with asking(place) as client:
        assert (await put(client, b"new"))["code"] == "exists"
        assert file.read_bytes() == DATA
        assert (await put(client, b"new", replace=True))["size"] == 3
        assert file.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["FILE", "File"])
@played
async def test_a_name_that_differs_only_in_case_is_a_conflict(place, file, name):
    async with asking(place) as client:
        assert (await put(client, name=name))["code"] == "name_conflict"
        assert (await put(client, name=name, replace=True))["code"] == "name_conflict"
        assert file.read_bytes() == DATA


@played
async def test_a_name_that_differs_only_in_its_unicode_form_is_a_conflict(place):
    composed, apart = (unicodedata.normalize(form, "grüße") for form in ("NFC", "NFD"))
    async with asking(place) as client:
        assert (await put(client, name=composed))["size"] == len(DATA)
        assert (await put(client, name=apart))["code"] == "name_conflict"


@pytest.mark.parametrize(
    "name", [name for name, code in NAMES.items() if code == "bad_name"] + [Staging.DIRECTORY, "up/new", "no/new"]
)
@played
async def test_no_name_leads_an_upload_outside(place, name):
    (place / "up").symlink_to("..")
    async with asking(place) as client:
        assert (await put(client, name=name))["code"] in ("bad_name", "not_found", "outside_root")
    assert set(os.listdir(place.parent)) == {"root", "secret"}


@played
async def test_an_upload_replaces_a_link_and_not_what_it_leads_to(place):
    (place / "file").symlink_to("../secret")
    async with asking(place) as client:
        assert (await put(client))["code"] == "exists"
        assert (await put(client, replace=True))["size"] == len(DATA)
    assert (place.parent / "secret").read_bytes() == b"secret"
    assert not (place / "file").is_symlink()


@played
async def test_directories_above_are_made_if_that_is_asked(place):
    async with asking(place) as client:
        assert (await put(client, name="a/b/file"))["code"] == "not_found"
        assert (await put(client, name="a/b/file", parents=True))["size"] == len(DATA)
    assert (place / "a/b/file").read_bytes() == DATA


WRONG = {
    "short": ({"size": len(DATA) + 1, "end_size": len(DATA) + 1}, "wrong_size"),
    "long": ({"size": len(DATA) - 1, "end_size": len(DATA) - 1}, "wrong_size"),
    "said otherwise": ({"end_size": 3}, "wrong_size"),
    "digest": ({"end_digest": "00" * 32}, "wrong_digest"),
    "no digest": ({"end_digest": ""}, "wrong_digest"),
    "strange digest": ({"end_digest": "ü"}, "wrong_digest"),
}


@pytest.mark.parametrize("case", WRONG)
@played
async def test_what_is_not_what_was_said_is_not_kept(place, case):
    said, code = WRONG[case]
    async with asking(place) as client:
        assert (await put(client, **said))["code"] == code
        assert not (place / "file").exists()
        assert partials(place) == []
        assert (await put(client))["size"] == len(DATA)


@played
async def test_a_file_over_the_limit_is_refused_before_a_byte(place):
    async with asking(place, max_size=len(DATA) - 1) as client:
        assert await refused(client, "put", name="file", size=len(DATA), modified=0) == "too_large"
        assert (await put(client, DATA[1:]))["size"] == len(DATA) - 1


@played
async def test_a_file_larger_than_the_disk_is_refused_before_a_byte(place):
    async with asking(place) as client:
        assert await refused(client, "put", name="file", size=1 << 39, modified=0) == "disk_full"
        assert partials(place) == []


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk_full"), (errno.EDQUOT, "quota_exceeded"), (errno.EIO, "io_error")]
)
@played
async def test_a_disk_that_fails_while_a_file_is_taken_is_told_and_nothing_stays(place, file, monkeypatch, number, code):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    async with asking(place) as client:
        monkeypatch.setattr(os, "pwritev", fail)
        assert (await put(client, b"new", replace=True))["code"] == code
        monkeypatch.undo()
        assert file.read_bytes() == DATA
        assert partials(place) == []
        assert (await put(client, b"new", replace=True))["size"] == 3


@played
async def test_a_failed_fsync_is_no_success(place, file, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    async with asking(place) as client:
        monkeypatch.setattr(os, "fsync", fail)
        assert (await put(client, b"new", replace=True))["code"] == "io_error"
        monkeypatch.undo()
        assert file.read_bytes() == DATA
        assert partials(place) == []


async def broken_off(server, data: bytes, **asked) -> None:
    """Begin to put DATA, send `data` of it, and cut the connection."""
    async with speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, operation="put", name="file", size=len(DATA), modified=MODIFIED, **asked)
        await client.hears(Kind.OPENED)
        await client.say(Kind.DATA, data)
        client.stream.send_eof()
        assert await client.ended()


async def waiting(client: Speaker) -> int:
    """Return how many bytes of DATA are there already, once nobody else has them."""
    await client.say(Kind.OPEN, operation="stat", name="file", size=len(DATA), modified=MODIFIED)
    await client.hears(Kind.OPENED)
    return (await client.hears(Kind.RESULT))["partial"]


@pytest.mark.parametrize("count", [1, 100_001, len(DATA) - 1, len(DATA)])
@played
async def test_an_upload_that_broke_off_is_gone_on_with_after_proof(place, count):
    async with files_served(place) as server:
        await broken_off(server, DATA[:count])
        assert not (place / "file").exists()
        async with speaking(server, greeted=True) as client:
            assert await waiting(client) == count
            proof = hashlib.sha256(DATA[:count]).hexdigest()
            assert (await put(client, offset=count, proof="00" * 32))["code"] == "not_same_file"
            assert await waiting(client) == count
            assert (await put(client, offset=count, proof=proof))["digest"] == SHA256
            assert await waiting(client) == 0
    assert (place / "file").read_bytes() == DATA


@played
async def test_another_users_upload_is_not_gone_on_with(place):
    ring = Keyring({"alice": TOKEN, "bob": TOKEN})
    async with files_served(place, keyring=ring) as server:
        for key, count in (("alice", 0), ("bob", 0)):
            async with speaking(server) as client:
                await client.authenticate(await client.greet(), key)
                await client.hears(Kind.AUTHENTICATED)
                assert await waiting(client) == count
                await client.say(Kind.OPEN, operation="put", name="file", size=len(DATA), modified=MODIFIED)
                await client.hears(Kind.OPENED)
                await client.say(Kind.DATA, DATA[:1000])
                await client.say(Kind.CANCEL)
                await client.hears(Kind.ERROR, code="cancelled")
                assert await waiting(client) == 1000
        assert len(partials(place)) == 2


@played
async def test_one_upload_has_one_writer(place):
    async with files_served(place) as server, speaking(server, greeted=True) as one, speaking(server, greeted=True) as other:
        await one.say(Kind.OPEN, operation="put", name="file", size=len(DATA), modified=MODIFIED)
        await one.hears(Kind.OPENED)
        assert (await put(other))["code"] == "busy"
        assert (await put(other, b"another"))["size"] == 7
        await one.say(Kind.DATA, DATA)
        await one.say(Kind.END, size=len(DATA), digest=SHA256)
        await one.hears(Kind.ERROR, code="exists")
    assert (place / "file").read_bytes() == b"another"


@played
async def test_data_that_comes_after_an_error_is_ignored(place, file):
    async with asking(place) as client:
        await client.say(Kind.OPEN, operation="put", name="file", size=3, modified=0)
        await client.say(Kind.DATA, b"abc")
        await client.say(Kind.END, size=3, digest="")
        await client.hears(Kind.ERROR, code="exists")
        assert (await got(client))[1] == DATA


@played
async def test_uploads_are_taken_one_beside_the_other(place):
    async def one(server, number):
        async with speaking(server, greeted=True) as client:
            return await put(client, DATA[number:], name=f"file{number}")

    async with files_served(place) as server:
        results = await asyncio.gather(*(one(server, number) for number in range(8)))
    assert [result["size"] for result in results] == [len(DATA) - number for number in range(8)]
    assert all((place / f"file{number}").read_bytes() == DATA[number:] for number in range(8))


# list, stat, mkdir


async def listed(client: Speaker, name: str = "") -> tuple[list[dict], dict]:
    await client.say(Kind.OPEN, operation="list", name=name)
    await client.hears(Kind.OPENED)
    lines = b""
    while (heard := await client.hear())[0] is Kind.DATA:
        lines += heard[1]
    entries = [json.loads(line) for line in lines.splitlines()]
    assert heard == (Kind.END, {"size": len(entries), "digest": ""})
    return sorted(entries, key=lambda entry: entry["name"]), await client.hears(Kind.RESULT)


@played
async def test_a_directory_is_listed(place, file):
    (place / "directory").mkdir()
    (place / "link").symlink_to("/etc/passwd")
    os.mkfifo(place / "pipe")
    (place / "grüße").touch()
    (place / Staging.DIRECTORY).mkdir()
    os.mknod(os.fsencode(place) + b"/\xff")
    async with asking(place) as client:
        entries, result = await listed(client)
        assert [(entry["name"], entry["kind"]) for entry in entries] == [
            ("directory", "directory"),
            ("file", "file"),
            ("grüße", "file"),
            ("link", "link"),
            ("pipe", "other"),
        ]
        assert entries[1] == {"name": "file", "kind": "file", "size": len(DATA), "modified": MODIFIED, "mode": 0o640}
        assert result == {"entries": 5, "unnamed": 1}
        assert await listed(client, "directory") == ([], {"entries": 0, "unnamed": 0})
        assert await refused(client, "list", name="file") == "not_a_directory"
        assert await refused(client, "list", name="none") == "not_found"
        assert await refused(client, "list", name="link") == "outside_root"


@played
async def test_a_large_directory_is_listed_in_portions(place):
    for number in range(1234):
        (place / f"{number:04}").touch()
    async with asking(place) as client:
        entries, _ = await listed(client)
        assert [entry["name"] for entry in entries] == [f"{number:04}" for number in range(1234)]


@pytest.mark.parametrize("name", ["n" * 251, "\x01" * 251, "\N{SNOWMAN}" * 83])
@played
async def test_a_directory_of_long_names_is_listed_in_the_smallest_messages(place, name):
    for number in range(600):
        (place / f"{number:04}{name}").touch()
    async with asking(place, max_payload=arguments.LEAST_PAYLOAD) as client:
        entries, result = await listed(client)
        assert [entry["name"] for entry in entries] == [f"{number:04}{name}" for number in range(600)]
        assert result == {"entries": 600, "unnamed": 0}


@played
async def test_a_name_is_told_of(place, file):
    (place / "link").symlink_to("file")
    async with asking(place) as client:
        for name in ("file", "link"):
            await client.say(Kind.OPEN, operation="stat", name=name, digest="sha256")
            await client.hears(Kind.OPENED)
            assert await client.hears(Kind.RESULT) == {
                "kind": "file",
                "size": len(DATA),
                "modified": MODIFIED,
                "mode": 0o640,
                "digest": SHA256,
            }
        await client.say(Kind.OPEN, operation="stat")
        await client.hears(Kind.OPENED)
        assert (await client.hears(Kind.RESULT))["kind"] == "directory"
        assert await refused(client, "stat", name="none") == "not_found"


@played
async def test_a_directory_is_made_with_its_mode_and_time(place):
    async with asking(place) as client:
        for _ in range(2):  # the second finds it
            await client.say(Kind.OPEN, operation="mkdir", name="a/b", mode=0o750, modified=MODIFIED)
            await client.hears(Kind.OPENED)
            await client.hears(Kind.RESULT)
        status = (place / "a/b").stat()
        assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o750, MODIFIED)
        (place / "file").touch()
        assert await refused(client, "mkdir", name="file") in ("exists", "not_a_directory")
        assert await refused(client, "mkdir", name="FILE") == "name_conflict"
        assert await refused(client, "mkdir", name="a/B") == "name_conflict"


@played
async def test_a_directory_that_somebody_makes_at_the_same_moment_is_taken(place, monkeypatch):
    is_there = placing.is_there

    def slow(directory, name):
        try:
            return is_there(directory, name)
        finally:
            (place / "new").mkdir()

    monkeypatch.setattr(placing, "is_there", slow)
    async with asking(place) as client:
        await client.say(Kind.OPEN, operation="mkdir", name="new")
        await client.hears(Kind.OPENED)
        await client.hears(Kind.RESULT)


@played
async def test_a_directory_that_its_group_shares_stays_so(place):
    """Its special bits are not among those that a client names."""
    (place / "shared").mkdir()
    (place / "shared").chmod(0o3775)
    async with asking(place) as client:
        await client.say(Kind.OPEN, operation="mkdir", name="shared", mode=0o750)
        await client.hears(Kind.OPENED)
        await client.hears(Kind.RESULT)
    assert (place / "shared").stat().st_mode & 0o7777 == 0o3750


# What takes minutes: hashing a file of a terabyte


@pytest.fixture
def endless(place):
    for name in ("endless", f"{Staging.DIRECTORY}/{ENDLESS.key()}"):
        path = place / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.truncate(path, ENDLESS.size)
    return place


ENDLESS = Upload("new", 1 << 40, MODIFIED, 0o644, "")
HASHING = [
    {"operation": "stat", "name": "endless", "digest": "sha256"},
    {"operation": "get", "name": "endless", "offset": 1 << 39},
    {"operation": "put", "name": "new", "size": ENDLESS.size, "modified": MODIFIED, "offset": 1 << 39},
]


@pytest.mark.parametrize("asked", HASHING, ids=lambda asked: asked["operation"])
@played
async def test_hashing_is_cancelled(endless, monkeypatch, asked):
    monkeypatch.setattr("fastframe.servers.staging._check_space", lambda directory, wanted: None)
    async with asking(endless) as client:
        await client.say(Kind.OPEN, **asked)
        await client.say(Kind.CANCEL)
        if asked["operation"] == "stat":
            await client.hears(Kind.OPENED)
        await client.hears(Kind.ERROR, code="cancelled")


@pytest.mark.parametrize("asked", HASHING, ids=lambda asked: asked["operation"])
@played
async def test_clients_that_have_gone_leave_no_hashing_behind(endless, monkeypatch, asked):
    monkeypatch.setattr("fastframe.servers.staging._check_space", lambda directory, wanted: None)
    async with files_served(endless) as server:
        for _ in range(offload.THREADS + 1):
            async with speaking(server, greeted=True) as client:
                await client.say(Kind.OPEN, **asked)
        async with speaking(server, greeted=True) as client:
            assert await refused(client, "stat", name="nothing") == "not_found"
        await until(lambda: not server.connections)


@played
async def test_a_server_that_ends_does_not_wait_for_hashing(endless):
    async with files_served(endless) as server, speaking(server, greeted=True) as client:
        await client.say(Kind.OPEN, **HASHING[0])
        await client.hears(Kind.OPENED)
        async with asyncio.timeout(PATIENCE):
            await server.close(0.05)


@pytest.mark.parametrize("operation", ["get", "put", "list", "stat", "mkdir"])
@played
async def test_a_session_holds_no_descriptor_when_it_is_over(place, file, operation):
    def count():
        return len(os.listdir("/proc/self/fd"))

    async with files_served(place) as server:
        before = count()
        async with speaking(server, greeted=True) as client:
            await client.say(Kind.OPEN, operation=operation, name="file", size=5, modified=1)
            await client.hear()
        await until(lambda: count() <= before)
