"""The client's end of a session, and servers that say what is not so."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from sessions import NONCE, PATIENCE, TOKEN, Speaker, played, where

from fastframe import EndOfStreamError, FrameTooLargeError, aio
from fastframe.servers import credentials, session
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Kind

WELCOME = {"version": 1, "agent": "test", "auth": [], "nonce": NONCE, "limits": {"max_payload": 65_536}}


@contextlib.asynccontextmanager
async def scripted(script):
    """Serve one connection with `script(speaker)`, which is told its HELLO; give the address."""
    played = asyncio.get_running_loop().create_future()

    async def handle(stream):
        speaker = Speaker(stream)
        try:
            speaker.hello = await speaker.hears(Kind.HELLO)
            played.set_result(await script(speaker))
        except BaseException as error:
            played.set_exception(error)

    async with await aio.serve(handle, "127.0.0.1", 0, format=session.frame_format(1 << 20)) as server:
        yield where(server)
        await asyncio.wait_for(played, PATIENCE)


async def refused(script, **options) -> str:
    """Connect to a server that plays `script`; return the code with which the client refuses."""
    async with scripted(script) as address:
        with pytest.raises(OperationError) as info:
            await session.connect(**address, **options)
    return info.value.code


def saying(kind, **fields):
    async def script(server):
        await server.say(kind, **fields)
        with contextlib.suppress(EndOfStreamError, OSError):
            await server.stream.recv(PATIENCE)

    return script


NO_WELCOME = {
    "another version": (Kind.WELCOME, {**WELCOME, "version": 2}, "unsupported"),
    "no version": (Kind.WELCOME, {"limits": {}}, "bad_request"),
    "no limits": (Kind.WELCOME, {**WELCOME, "limits": {}}, "bad_request"),
    "a limit that fills the memory": (Kind.WELCOME, {**WELCOME, "limits": {"max_payload": 1 << 30}}, "bad_request"),
    "a limit that nothing fits into": (Kind.WELCOME, {**WELCOME, "limits": {"max_payload": 0}}, "bad_request"),
    "another message": (Kind.OPENED, {"size": 1}, "bad_message"),
    "an error": (Kind.ERROR, {"code": "busy", "message": "later"}, "busy"),
    "an error that is none": (Kind.ERROR, {"code": 3}, "bad_request"),
    "an unknown type": (0x7F, {}, "bad_message"),
}


@pytest.mark.parametrize("case", NO_WELCOME)
@played
async def test_a_server_that_does_not_welcome_is_left(case):
    kind, fields, code = NO_WELCOME[case]
    assert await refused(saying(kind, **fields)) == code


@played
async def test_a_welcome_has_16_kib_at_most():
    async with scripted(saying(Kind.WELCOME, **WELCOME, more="x" * 16_384)) as address:
        with pytest.raises(FrameTooLargeError):
            await session.connect(**address)


@played
async def test_a_token_does_not_travel_and_both_sides_prove_it():
    async def script(server):
        await server.say(Kind.WELCOME, **{**WELCOME, "auth": ["token"]})
        auth = await server.hears(Kind.AUTH, key="alice")
        assert TOKEN not in str(auth)
        challenge = credentials.Challenge("alice", server.hello["nonce"], NONCE)
        assert credentials.is_proof(auth["proof"], TOKEN, "client", challenge)
        await server.say(Kind.AUTHENTICATED, proof=credentials.proof(TOKEN, "server", challenge))

    async with scripted(script) as address, session.connect(**address, token=("alice", TOKEN)) as client:
        assert client.max_payload == 65_536


@played
async def test_a_server_that_sends_the_proof_back_is_not_believed():
    async def script(server):
        await server.say(Kind.WELCOME, **{**WELCOME, "auth": ["token"]})
        await server.say(Kind.AUTHENTICATED, proof=(await server.hears(Kind.AUTH))["proof"])

    assert await refused(script, token=("alice", TOKEN)) == "unauthenticated"


@played
async def test_a_server_that_proves_nothing_to_a_client_with_a_token_is_left():
    assert await refused(saying(Kind.WELCOME, **WELCOME), token=("alice", TOKEN)) == "unauthenticated"


@played
async def test_a_client_without_a_token_tells_a_server_that_wants_one_nothing():
    async def script(server):
        await server.say(Kind.WELCOME, **{**WELCOME, "auth": ["token"]})
        with pytest.raises((EndOfStreamError, OSError)):
            await server.stream.recv(PATIENCE)

    assert await refused(script) == "unauthenticated"


@played
async def test_the_handshake_has_a_deadline():
    silence = asyncio.Event()

    async def script(server):
        await silence.wait()

    async with scripted(script) as address:
        with pytest.raises(TimeoutError):
            await session.connect(**address, timeout=0.05)
        silence.set()


@played
async def test_a_server_that_is_none_is_a_connection_that_ended():
    async with scripted(lambda server: asyncio.sleep(0)) as address:
        with pytest.raises(session.GONE):
            await session.connect(**address)


@played
async def test_a_client_finds_out_that_the_servers_machine_is_gone():
    async def script(server):
        await saying(Kind.WELCOME, **WELCOME)(server)

    async with scripted(script) as address, session.connect(**address) as client:
        connection = client.stream.transport.get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def welcomed(server):
    await server.say(Kind.WELCOME, **WELCOME)
    await server.hears(Kind.OPEN)


@played
async def test_a_server_that_sends_on_after_a_cancel_is_cut(monkeypatch):
    monkeypatch.setattr(session, "CANCEL_SECONDS", 0.1)

    async def script(server):
        await welcomed(server)
        await server.say(Kind.OPENED)
        with contextlib.suppress(EndOfStreamError, OSError):
            while True:
                await server.say(Kind.DATA, bytes(1000))

    async def have_enough(client):
        async with client.operation("endless"):
            raise ValueError("enough")

    async with scripted(script) as address, session.connect(**address) as client:
        with pytest.raises(ValueError, match="enough"):
            await have_enough(client)
        with pytest.raises(session.GONE):
            await have_enough(client)


@played
async def test_pings_of_a_server_are_answered_while_data_comes():
    async def script(server):
        await welcomed(server)
        await server.say(Kind.OPENED)
        await server.say(Kind.DATA, b"a")
        await server.say(Kind.PING, b"?")
        await server.say(Kind.DATA, b"b")
        await server.say(Kind.END, size=2)
        await server.say(Kind.RESULT)
        assert await server.hear() == (Kind.PONG, b"?")

    async with scripted(script) as address, session.connect(**address) as client, client.operation("get"):
        data = b""
        while chunks := await client.receive_data():
            data += b"".join(chunks)
        assert data == b"ab"
        await client.expect(Kind.END)
        await client.result()


@played
async def test_a_server_that_goes_away_lets_the_operation_end():
    async def script(server):
        await welcomed(server)
        await server.say(Kind.GOAWAY)
        await server.say(Kind.OPENED)
        await server.say(Kind.RESULT, answer=1)

    async with scripted(script) as address, session.connect(**address) as client:
        async with client.operation("get"):
            assert await client.result() == {"answer": 1}
        assert client.going_away


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.OPEN, Kind.RESULT, Kind.WELCOME])
@played
async def test_a_message_out_of_place_ends_an_operation(kind):
    async def script(server):
        await welcomed(server)
        await saying(kind)(server)

    async with scripted(script) as address, session.connect(**address) as client:
        with pytest.raises(OperationError) as info:
            async with client.operation("get"):
                pass
        assert info.value.code == "bad_message"


@played
async def test_what_is_no_message_cuts_the_connection():
    async def script(server):
        await welcomed(server)
        await saying(0x7F)(server)

    async with scripted(script) as address, session.connect(**address) as client:
        with pytest.raises(OperationError) as info:
            async with client.operation("get"):
                pass
        assert info.value.code == "bad_message"
        with pytest.raises(ConnectionAbortedError):
            await client.operation("get").__aenter__()


@pytest.mark.parametrize("turns", range(1, 4))
@played
async def test_an_operation_that_is_cancelled_as_it_begins_cuts_the_connection_or_was_not_asked_for(turns):
    asked = []

    async def script(server):
        await server.say(Kind.WELCOME, **{**WELCOME, "limits": {"max_payload": 1 << 20}})
        with contextlib.suppress(EndOfStreamError, OSError):
            while True:
                asked.append((await server.hears(Kind.OPEN))["operation"])
                await server.say(Kind.OPENED, operation=asked[-1])
                await server.say(Kind.RESULT)

    async def ask(client, name):
        async with client.operation(name, more="x" * 70_000) as opened:  # more than waits for the turn to end
            await client.result()
            return opened["operation"]

    async with scripted(script) as address, session.connect(**address) as client:
        first = asyncio.create_task(ask(client, "first"))
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait((first,))
        assert first.cancelled()
        with contextlib.suppress(session.GONE):
            assert await ask(client, "second") == "second"
            assert asked == ["second"]


@played
async def test_an_operation_that_is_cancelled_while_it_stops_cuts_the_connection():
    cancelling = asyncio.Event()

    async def script(server):
        await welcomed(server)
        await server.say(Kind.OPENED)
        await server.hears(Kind.CANCEL)
        cancelling.set()
        with contextlib.suppress(EndOfStreamError, OSError):
            await server.stream.recv(PATIENCE)

    async def have_enough(client):
        async with client.operation("endless"):
            raise ValueError("enough")

    async with scripted(script) as address, session.connect(**address) as client:
        first = asyncio.create_task(have_enough(client))
        await asyncio.wait_for(cancelling.wait(), PATIENCE)
        first.cancel()
        await asyncio.wait((first,))
        assert first.cancelled()
        with pytest.raises(ConnectionAbortedError):
            await have_enough(client)
