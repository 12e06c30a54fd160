"""The chat server and the worst that members may do: each concerns nobody else, and leaves nobody in the room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl

import pytest
import trustme
from executing import until
from sessions import PATIENCE, played, where
from test_chat import Talker, served, talking
from wires import HELLO, message

from fastframe import aio
from fastframe.servers import service, session
from fastframe.servers.messages import Kind

STAY = (
    HELLO
    + message(Kind.OPEN, operation="chat", room="lobby", name="bob")
    + message(Kind.DATA, b'{"type":"say","text":"hi"}')
    + message(Kind.DATA, b'{"type":"who"}')
    + message(Kind.END)
)


@contextlib.asynccontextmanager
async def raw(server):
    reader, writer = await asyncio.open_connection(**where(server))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def alone(ann: Talker, *, but: int = 0) -> None:
    """See that nobody else is in the room, after a moment in which the server finds that out."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await ann.ask(type="who")
            while (event := await ann.event())["type"] != "who":
                pass
            if event["count"] == 1 + but:
                return


@played
async def test_a_stay_that_is_cut_anywhere():
    async with served() as server, talking(server, "ann") as ann:
        for cut in range(len(STAY)):
            async with raw(server) as (reader, writer):
                writer.write(STAY[:cut])
                if cut % 2:  # or a reset
                    writer.write_eof()
                    await asyncio.wait_for(reader.read(), PATIENCE)
        await alone(ann)


@played
async def test_a_stay_byte_by_byte_is_the_same():
    async with served() as server, raw(server) as (reader, writer):
        for byte in STAY:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        assert answer.count(b'"joined"') == answer.count(b'"said"') == answer.count(b'"left","name"') == 1
        assert answer.endswith(message(Kind.RESULT)[4:5] + b'{"seq":3}')


@pytest.mark.parametrize("seed", range(5))
@played
async def test_garbage_in_a_room(seed):
    chance = random.Random(seed)
    async with served() as server, talking(server, "ann") as ann:
        for _ in range(20):
            async with raw(server) as (reader, writer):
                begun = STAY[: -len(message(Kind.END))]
                kinds = [chance.choice([*Kind, 0, 255]) for _ in range(5)]
                writer.write(begun + b"".join(message(kind, chance.randbytes(chance.randrange(40))) for kind in kinds))
                writer.write(chance.randbytes(chance.randrange(100)))
                writer.write_eof()
                await asyncio.wait_for(reader.read(), PATIENCE)
        await alone(ann)


@pytest.mark.parametrize("tls", [False, True])
@played
async def test_members_over_tls_and_without_come_and_go(tls):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    client = None
    if context is not None:
        authority.issue_cert("localhost").configure_cert(context)
        client = ssl.create_default_context()
        authority.configure_trust(client)
    async with served(ssl=context) as server:

        async def visit(name: str) -> list[int]:
            async with aio.connect(
                **where(server), format=session.frame_format(1 << 20), ssl=client, server_hostname="localhost" if tls else None
            ) as stream:
                talker = Talker(stream)
                await talker.greet()
                await talker.enter(name, history=0)
                for number in range(5):
                    await talker.ask(type="say", text=str(number))
                await talker.say(Kind.END)
                seqs = []
                while (heard := await talker.hear())[0] is Kind.DATA:
                    seqs.append(int(heard[1].split(b",")[0].rpartition(b":")[2]))
                assert heard == (Kind.RESULT, {"seq": seqs[-1]})
                return seqs

        for seqs in await asyncio.gather(*(visit(f"m{number}") for number in range(20))):
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


@played
async def test_who_hangs_up_while_it_is_let_in():
    async with served() as server, talking(server, "ann") as ann:
        for _ in range(50):
            async with raw(server) as (_, writer):
                writer.write(HELLO + message(Kind.OPEN, operation="chat", room="lobby", name="bob", history=1000))
        await alone(ann)


@played
async def test_who_comes_again_before_it_was_let_in(monkeypatch):
    """The first stay has not sent OPENED yet when the second takes its place."""
    waiting, go_on = asyncio.Event(), asyncio.Event()
    opened = service.ServerSession.opened

    async def slowly(self, **fields):
        if not waiting.is_set():
            secrets.append(fields["secret"])
            waiting.set()
            await go_on.wait()
        await opened(self, **fields)

    secrets: list[str] = []
    monkeypatch.setattr(service.ServerSession, "opened", slowly)
    async with served() as server, talking(server) as first, talking(server) as second:
        await first.say(Kind.OPEN, operation="chat", room="lobby", name="ann")
        await waiting.wait()
        await second.enter("ann", secret=secrets[0], history=0)
        go_on.set()
        await first.hears(Kind.OPENED)
        while (heard := await first.hear())[0] is Kind.DATA:
            pass
        assert heard[1]["code"] == "name_taken"
        await second.ask(type="say", text="alone")
        await second.event(type="left", reason="replaced")
        await second.event(type="joined")
        await second.event(text="alone")


@played
async def test_nothing_of_members_who_are_gone_is_left():
    async with served() as server, talking(server, "ann") as ann:
        before = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        for number in range(50):
            async with talking(server, f"m{number}", room=f"r{number % 3}", history=0):
                pass
        await alone(ann)
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before[0] and len(asyncio.all_tasks()) <= before[1])


@played
async def test_a_reset_in_the_middle_of_talk():
    async with served() as server, talking(server, "ann") as ann, contextlib.AsyncExitStack() as stack:
        others = [await stack.enter_async_context(talking(server, f"m{number}")) for number in range(10)]
        for number in range(200):
            await ann.ask(type="say", text=str(number))
            if number % 20 == 10:
                others[number // 20].stream.abort()
        texts = []
        while len(texts) < 200:
            event = await ann.event()
            if event["type"] == "said":
                texts.append(event["text"])
        assert texts == [str(number) for number in range(200)]
        await alone(ann)


@played
async def test_a_speaker_that_is_in_no_room_hears_nothing():
    async with served() as server, talking(server, "ann") as ann, raw(server) as (reader, writer):
        writer.write(HELLO)
        await reader.readexactly(5)
        await ann.ask(type="say", text="secret")
        await ann.event(text="secret")
        writer.write(message(Kind.DATA, b'{"type":"say","text":"from outside"}'))  # late data of no stay: ignored
        writer.write(message(Kind.PING, b"x"))
        answer = await reader.readuntil(b"\x22x")
        assert b"secret" not in answer
        await ann.ask(type="who")
        await ann.event(type="who", count=1)
