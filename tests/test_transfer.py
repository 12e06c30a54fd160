"""What is held of a file that comes, while the disk has its time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import re
import threading

import pytest
from sessions import played

from fastframe.servers import local, transfer
from fastframe.servers.errors import OperationError
from fastframe.servers.source import Source

MIB = 1024 * 1024


async def received(portions, write):
    """Receive `portions`, each a list of chunks; return their digest."""
    remaining = itertools.chain(portions, [[]])

    async def data():
        await asyncio.sleep(0)
        return [memoryview(chunk) for chunk in next(remaining)]

    hasher = hashlib.sha256()
    await transfer.receive(data, write, hasher)
    return hasher.hexdigest()


@pytest.mark.parametrize("size", [0, 1, 1000, transfer.JOINED - 1, transfer.JOINED, 300_000])
@pytest.mark.parametrize("count", [1, 7, 20])
@played
async def test_chunks_of_all_sizes_are_written_and_hashed_in_order(size, count):
    portions = [[bytes([number % 251]) * size for number in range(count)], [b"end"], [b"", b"."]]
    written = bytearray()
    whole = b"".join(map(b"".join, portions))
    digest = await received(portions, lambda chunks: [written.extend(chunk) for chunk in chunks])
    assert written == whole
    assert digest == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 100])
@pytest.mark.parametrize("together", [1, 1000])
@played
async def test_small_chunks_are_not_held_without_bound(size, together):
    """Each is an object of some 200 bytes, and a peer sends a million of them in seconds."""
    counts = []
    await received([[b"x" * size] * together] * (12_000 // together), lambda chunks: counts.append(len(chunks)))
    assert max(counts) <= transfer.PORTION / transfer.CHUNK_COST


@pytest.mark.parametrize("size", [0, 1, transfer.JOINED, MIB])
@played
async def test_nothing_more_is_received_while_the_disk_hangs(size):
    asked = 0

    async def data():
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return [memoryview(b"x" * size)]

    hanging = threading.Event()
    receiving = asyncio.create_task(transfer.receive(data, lambda chunks: hanging.wait(10), hashlib.sha256()))
    before = -1
    async with asyncio.timeout(10):
        while asked != before or not asked:
            before = asked
            await asyncio.sleep(0.05)
    receiving.cancel()
    hanging.set()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert asked * (size + transfer.CHUNK_COST) < 2 * transfer.HELD + 2 * MIB


@played
async def test_what_small_chunks_came_with_is_not_kept():
    """A message of one byte and a PING of a megabyte arrive in one piece of memory."""
    kept = []
    await received(
        ([memoryview(bytes(MIB))[:1]] for _ in range(20)), lambda chunks: kept.append(sum(len(chunk.obj) for chunk in chunks))
    )
    assert max(kept) == 20


@pytest.mark.parametrize("block", [1, 100, 4096])
@played
async def test_the_messages_that_wait_for_a_peer_are_few_however_small(tmp_path, block):
    class Peer:
        sent, counts = bytearray(), []

        async def send_many_data(self, pieces):
            self.counts.append(len(pieces))
            self.sent += b"".join(pieces)

    data = os.urandom(300_001)
    (tmp_path / "file").write_bytes(data)
    with contextlib.closing(Source(os.open(tmp_path / "file", os.O_RDONLY), "file", "sha256")) as source:
        await transfer.send(Peer(), source, 0, block, lambda done: None)
        assert source.finish() == hashlib.sha256(data).hexdigest()
    assert Peer.sent == data
    assert max(Peer.counts) <= 2048


@pytest.mark.parametrize(
    ("number", "error", "text"),
    [
        (errno.EMFILE, OperationError, "(busy)"),
        (errno.ENFILE, OperationError, "(busy)"),
        (errno.EPIPE, BrokenPipeError, "Broken"),
    ],
)
@played
async def test_a_server_without_descriptors_is_busy_and_a_lost_connection_is_lost(tmp_path, number, error, text):
    class Session:
        async def send_file(self, *args):
            raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_bytes(b"x")
    source = Source(os.open(tmp_path / "file", os.O_RDONLY), "file", "sha256")
    with contextlib.closing(source), pytest.raises(error, match=re.escape(text)) as info:
        await transfer.send(Session(), source, 0, MIB, lambda _: None)
    if error is OperationError:
        assert local.blamed("file", info.value).message == f"file: {os.strerror(number)}"  # a client's own are not the server's
