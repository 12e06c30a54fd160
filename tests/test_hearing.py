"""Hearing while sending: a server that ends a put at any moment is heard, and the session goes on."""

from __future__ import annotations

import asyncio

import pytest
from filing import MIB, gone, scripted
from sessions import played

from fastframe.servers import files_client, hearing
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Kind

DATA = bytes(4 * MIB)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


async def put(client, source, **options):
    return await client.put(source, "file", resume=False, block=65_537, **options)


async def drain(peer, count):
    """Hear `count` messages of data."""
    for _ in range(count):
        assert (await peer.hear())[0] is Kind.DATA


async def next_open(peer, operation):
    """Pass over what was on its way; answer the next OPEN."""
    while (await peer.hear())[0] is not Kind.OPEN:
        pass
    await peer.say(Kind.OPENED)
    await peer.say(Kind.RESULT, b'{"kind":"directory","size":0,"modified":0,"mode":493}')


@pytest.mark.parametrize("heard", [None, 0, 1, 7, 31, 63])
@played
async def test_an_error_at_any_moment_of_a_put(source, heard):
    async def script(peer):
        if heard is None:
            await peer.hears(Kind.OPEN, operation="put")
        else:
            await peer.opened("put")
            await drain(peer, heard)
        await peer.say(Kind.ERROR, code="disk_full", message="the server's disk is full")
        await next_open(peer, "stat")
        await gone(peer)

    async with scripted(script) as client:
        with pytest.raises(OperationError, match="disk_full"):
            await put(client, source)
        assert (await client.stat()).kind == "directory"


@played
async def test_an_error_after_the_end(source):
    async def script(peer):
        await peer.opened("put")
        await drain(peer, 64)
        await peer.hears(Kind.END, size=len(DATA))
        await peer.say(Kind.ERROR, code="quota_exceeded", message="")
        await gone(peer)

    async with scripted(script) as client:
        with pytest.raises(OperationError, match="quota_exceeded"):
            await put(client, source)


@played
async def test_pings_are_answered_while_it_sends(source):
    async def script(peer):
        await peer.opened("put")
        await peer.say(Kind.PING, b"are you there")
        while (message := await peer.hear())[0] is Kind.DATA:
            pass
        assert message == (Kind.PONG, b"are you there")
        while (await peer.hear())[0] is not Kind.END:
            pass
        await peer.say(Kind.RESULT)
        await gone(peer)

    async with scripted(script) as client:
        assert (await put(client, source)).size == len(DATA)


@pytest.mark.parametrize("kind", [Kind.RESULT, Kind.CREDIT])
@played
async def test_what_has_no_place_before_the_end(source, kind, monkeypatch):
    monkeypatch.setattr(files_client.session, "CANCEL_SECONDS", 0.1)

    async def script(peer):
        await peer.opened("put")
        await peer.say(kind)
        await gone(peer)

    async with scripted(script) as client:
        with pytest.raises(OperationError, match="bad_message"):
            await asyncio.wait_for(put(client, source), 10)


@played
async def test_an_error_of_a_server_that_reads_no_more(source, monkeypatch):
    monkeypatch.setattr(hearing, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(files_client.session, "CANCEL_SECONDS", 0.1)
    done = asyncio.Event()

    async def script(peer):
        await peer.opened("put")
        peer.stream.transport.pause_reading()
        await asyncio.sleep(0.2)  # for the client to fill what lies between
        await peer.say(Kind.ERROR, code="disk_full", message="")
        await done.wait()

    source.write_bytes(bytes(64 * MIB))
    async with scripted(script) as client:
        with pytest.raises((OperationError, ConnectionError)):  # a TimeoutError would be an OSError too
            await asyncio.wait_for(put(client, source), 10)
        done.set()


@pytest.mark.parametrize("code", ["bad_message", None])
@played
async def test_why_a_server_hung_up_is_told_if_it_said_so(code, monkeypatch):
    monkeypatch.setattr(hearing, "STOP_SECONDS", 0.2)
    monkeypatch.setattr(files_client.session, "CANCEL_SECONDS", 0.1)
    cut = asyncio.Event()

    async def script(peer):
        await peer.opened("put")
        await cut.wait()
        if code is not None:
            await peer.say(Kind.ERROR, code=code, message="what was that")
        await gone(peer)

    async def send(check):
        cut.set()
        raise ConnectionResetError("cut")

    async with scripted(script) as client:
        with pytest.raises(OperationError if code else ConnectionResetError, match="what was that" if code else "cut"):
            async with client.operation("put"):
                await hearing.heard(client, send)


@played
async def test_a_server_that_vanishes(source):
    async def script(peer):
        await peer.opened("put")
        await drain(peer, 3)
        peer.stream.abort()

    async with scripted(script) as client:
        with pytest.raises(OSError, match=r".+"):
            await put(client, source)


@played
async def test_another_digest_than_that_of_what_was_sent(source):
    async def script(peer):
        await peer.opened("put")
        while (await peer.hear())[0] is not Kind.END:
            pass
        await peer.say(Kind.RESULT, digest="another")
        await gone(peer)

    async with scripted(script) as client:
        with pytest.raises(OperationError, match="wrong_digest"):
            await put(client, source)
