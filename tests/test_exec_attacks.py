"""Clients and commands that want more than they may have: the ways that were found to work, each once."""

from __future__ import annotations

import asyncio
import shutil
import tracemalloc
from collections.abc import Iterator

import pytest
from executing import executing, permit, served
from sessions import PATIENCE, played, speaking

from fastframe.servers import keepers
from fastframe.servers.messages import Kind
from fastframe.servers.permits import Sandbox

MIB = 1 << 20


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


# What clients send.


@pytest.mark.parametrize(
    ("data", "beside", "times"), [(b"", b"", 20_000), (b"x", bytes(60_000), 300)], ids=["empty", "a byte in much else"]
)
@played
async def test_input_that_nobody_reads_is_held_in_as_many_bytes_as_it_has(traced, data, beside, times):
    async with served(permit("/bin/sleep")) as server, speaking(server, greeted=True) as peer:
        await peer.say(Kind.OPEN, operation="exec", name="it", arguments=["60"])
        await peer.hears(Kind.OPENED)
        await peer.say(Kind.DATA, bytes(100_000))  # more than the pipe holds
        await peer.say(Kind.PING, b"heard")
        while (heard := await peer.hear())[0] is Kind.CREDIT:
            pass
        assert heard == (Kind.PONG, b"heard")
        before, _ = tracemalloc.get_traced_memory()
        for number in range(times):
            await peer.say(Kind.DATA, data)
            if beside or number % 1000 == 0:
                await peer.say(Kind.PING, beside)
                await peer.hear()
        assert tracemalloc.get_traced_memory()[0] - before < MIB


# What else happens on the machine.


@played
async def test_files_that_are_replaced_between_two_commands(tmp_path):
    log, program = tmp_path / "log", tmp_path / "program"
    log.write_text("old")
    shutil.copy("/bin/cat", program)
    async with executing(permit(str(program), sandbox=Sandbox(read=(str(program), str(log))))) as client:
        assert (await client.run("it", str(log))).stdout == b"old"
        log.rename(tmp_path / "log.1")
        log.write_text("new")
        assert (await client.run("it", str(log))).stdout == b"new"
        program.unlink()
        shutil.copy("/bin/tac", program)
        assert (await client.run("it", str(log))).stdout == b"new"


@pytest.mark.parametrize("sandboxed", [True, False])
@played
async def test_a_directory_that_is_made_again_between_two_commands(tmp_path, sandboxed):
    place = tmp_path / "place"
    place.mkdir()
    sandbox = Sandbox(write=(str(place),)) if sandboxed else False
    async with executing(permit("/bin/sh", sandbox=sandbox, directory=str(place))) as client:
        for _ in range(2):
            assert (await client.run("it", "-c", "echo > file; echo *")).stdout == b"file\n"
            shutil.rmtree(place)
            place.mkdir()


@played
async def test_a_keeper_is_used_again_and_not_for_ever(monkeypatch):
    async with executing(permit("/bin/sh", sandbox=False)) as client:
        first, second = [(await client.run("it", "-c", "echo $PPID")).stdout for _ in "12"]
        monkeypatch.setattr(keepers, "MOST_SECONDS", 0.0)
        assert first == second != (await client.run("it", "-c", "echo $PPID")).stdout


@played
async def test_a_drain_ends_commands_that_are_only_being_started():
    async with served(permit("/bin/sleep", grace=PATIENCE)) as server, speaking(server, greeted=True) as peer:
        await peer.say(Kind.OPEN, operation="exec", name="it", arguments=["60"], no_input=True)
        keepers_of = server._keepers
        while not keepers_of._running["it"]:  # noqa: ASYNC110  the keeper is ready soon
            await asyncio.sleep(0)
        assert not any(keeper.command for keeper in keepers_of._all)
        closing = asyncio.create_task(server.close(PATIENCE))
        await peer.hears(Kind.GOAWAY)
        await peer.hears(Kind.OPENED)
        await peer.hears(Kind.RESULT, reason="drained")
        await peer.stream.close()
        await closing
