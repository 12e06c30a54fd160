"""Output at the pace of who reads it, input within its credit, and the ends of both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tracemalloc

import pytest
from executing import until
from sessions import PATIENCE, played

from fastframe.servers.errors import OperationError
from fastframe.servers.pipes import CREDIT, GRANT, Input, Output, Outputs

FULL = 64 * 1024  # bytes: what a pipe holds
BLOCK = 4 * FULL  # bytes of output in one piece


class Command:
    """Pipes, as a command has them, and this end of each."""

    def __init__(self) -> None:
        self.theirs_in, self.stdin = os.pipe()
        self.stdout, self.theirs_out = os.pipe()
        for descriptor in (self.stdin, self.stdout):
            os.set_blocking(descriptor, False)
        self.ended = asyncio.get_running_loop().create_future()

    def close_stdin(self) -> None:
        descriptor, self.stdin = self.stdin, -1
        if descriptor >= 0:
            os.close(descriptor)

    def write(self, data: bytes) -> None:
        assert os.write(self.theirs_out, data) == len(data)

    def read(self) -> bytes:
        return os.read(self.theirs_in, 1 << 20)

    def close(self, name: str) -> None:
        os.close(getattr(self, name))
        setattr(self, name, -1)


@contextlib.contextmanager
def commanding():
    command = Command()
    try:
        yield command
    finally:
        command.close_stdin()
        for descriptor in (command.theirs_in, command.stdout, command.theirs_out):
            if descriptor >= 0:
                os.close(descriptor)


class Client:
    """Who output is sent to: it takes one piece for each `take`, or all of them."""

    def __init__(self, command: Command, *, waits: bool = False, error: Exception | None = None) -> None:
        self.pieces: list[bytes] = []
        self.is_asked = asyncio.Event()
        self.may_take = asyncio.Semaphore(0)
        self.waits = waits
        self.error = error
        self.over = asyncio.get_running_loop().create_future()
        self.output = Output(command, command.stdout, self.send, self.over.set_result, BLOCK)

    async def send(self, data: bytes) -> int:
        self.is_asked.set()
        if self.waits:
            await self.may_take.acquire()
        if self.error is not None:
            raise self.error
        self.pieces.append(data)
        return len(data)

    async def ends(self) -> BaseException | None:
        async with asyncio.timeout(PATIENCE):
            return await self.over


# Output.


@played
async def test_what_is_written_is_sent_as_it_comes_and_the_end_is_told_once():
    with commanding() as command:
        client = Client(command)
        for number in range(3):
            command.write(b"%d" % number)
            await until(lambda number=number: client.pieces[number:] == [b"%d" % number])
        assert not client.output.is_over
        command.write(b"last")
        command.close("theirs_out")
        assert await client.ends() is None
        assert client.pieces[3:] == [b"last"]
        assert (client.output.is_over, client.output.size) == (True, 7)
        client.output.read()
        await client.output.close()


@played
async def test_who_does_not_take_holds_up_the_writer():
    with commanding() as command:
        os.set_blocking(command.theirs_out, False)
        client = Client(command, waits=True)
        written = os.write(command.theirs_out, bytes(1 << 20))
        await client.is_asked.wait()
        for _ in range(3):  # what was read is on its way, the pipe is full again, and that is all
            with contextlib.suppress(BlockingIOError):
                written += os.write(command.theirs_out, bytes(1 << 20))
            await asyncio.sleep(0)
        assert written == 2 * FULL
        assert client.pieces == []
        command.close("theirs_out")
        client.may_take.release()
        client.may_take.release()
        await client.ends()
        assert sum(map(len, client.pieces)) == written == client.output.size


@played
async def test_the_end_of_the_command_is_the_end_although_somebody_else_holds_the_pipe():
    with commanding() as command:
        client = Client(command)
        command.write(b"last")
        command.ended.set_result({})
        client.output.read()
        assert await client.ends() is None
        assert client.pieces == [b"last"]


@played
async def test_what_somebody_else_goes_on_to_write_is_none_of_the_command():
    with commanding() as command:
        client = Client(command, waits=True)
        command.write(b"last")
        command.ended.set_result({})
        client.output.read()
        await client.is_asked.wait()
        command.write(b"somebody else's")
        client.may_take.release()
        assert await client.ends() is None
        assert client.pieces == [b"last"]


@played
async def test_the_command_ends_while_its_output_waits_for_its_turn():
    with commanding() as command:
        client = Client(command, waits=True)
        command.write(b"first")
        await client.is_asked.wait()
        command.write(b"last")
        command.ended.set_result({})
        client.output.read()
        assert not client.over.done()
        client.may_take.release()
        client.may_take.release()
        assert await client.ends() is None
        assert client.pieces == [b"first", b"last"]


@played
async def test_the_command_ends_when_all_has_been_sent():
    with commanding() as command:
        client = Client(command, waits=True)
        command.write(b"only")
        await client.is_asked.wait()
        client.may_take.release()
        await until(lambda: client.pieces)
        command.ended.set_result({})
        client.output.read()
        assert await client.ends() is None


@played
async def test_an_error_of_who_sends_is_told():
    with commanding() as command:
        error = ConnectionResetError()
        client = Client(command, error=error)
        command.write(b"something")
        assert await client.ends() is error
        assert client.output.is_over


@pytest.mark.parametrize("is_sending", [False, True])
@played
async def test_closing_tells_nobody_and_reads_no_more(is_sending):
    with commanding() as command:
        client = Client(command, waits=True)
        if is_sending:
            command.write(b"something")
            await client.is_asked.wait()
        await client.output.close()
        await client.output.close()
        command.write(b"more")
        client.output.read()
        await asyncio.sleep(0)
        assert (client.over.done(), client.pieces, client.output.is_over) == (False, [], True)
        assert os.read(command.stdout, 100) == b"more"


@played
async def test_who_writes_without_end_leaves_others_their_turn(monkeypatch):
    monkeypatch.setattr(os, "read", lambda *_: bytes(BLOCK))  # the pipe is always full
    with commanding() as command:
        client = Client(command)
        command.write(b"something")
        await client.is_asked.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(client.pieces) < 20
        await client.output.close()


# Both outputs.


@contextlib.contextmanager
def both(most=None, error=None):
    """A command with stdout and stderr, its outputs, and what was sent of them."""

    async def send(number, data):
        if error is not None:
            raise error
        sent.append((number, data))
        return len(data)

    sent, ends = [], []
    with commanding() as command:
        command.stderr, theirs = os.pipe()
        os.set_blocking(command.stderr, False)
        command.end = lambda *why: ends.append(why)
        try:
            yield command, theirs, Outputs(command, send, most, BLOCK), sent, ends
        finally:
            os.close(command.stderr)
            os.close(theirs)


@played
async def test_both_are_over_once_the_command_is():
    with both() as (command, theirs, outputs, sent, ends):
        command.write(b"out")
        os.write(theirs, b"err")
        await until(lambda: len(sent) == 2)
        assert sorted(sent) == [(1, b"out"), (2, b"err")]
        outputs.check()
        assert not outputs.over.done()
        command.ended.set_result({})
        await asyncio.wait_for(outputs.over, PATIENCE)
        assert (outputs.stdout.size, outputs.stderr.size, ends) == (3, 3, [])
        await outputs.close()


@played
async def test_more_than_both_together_may_write_ends_the_command():
    with both(most=5) as (command, theirs, outputs, sent, ends):
        command.write(b"1234")
        await until(lambda: sent == [(1, b"1234")])
        os.write(theirs, b"5678")
        await until(lambda: ends)
        assert sent == [(1, b"1234"), (2, b"5")]
        assert ends == [("limit", "output")]
        await outputs.close()
        assert outputs.over.cancelled()


@played
async def test_what_fails_one_fails_both():
    with both(error=ConnectionResetError()) as (command, _, outputs, _, _):
        command.write(b"x")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(outputs.over, PATIENCE)
        outputs.check(BrokenPipeError())  # which is one too many
        await outputs.close()


# Input.


class Feeding:
    """An input that runs, and what it grants."""

    def __init__(self, command: Command) -> None:
        self.input = Input(command, self.grant)
        self.credit = CREDIT
        self.sent = 0
        self.running: asyncio.Task[None] | None = None

    async def grant(self, count: int) -> None:
        assert count >= GRANT
        self.credit += count

    def send(self, data: bytes) -> None:
        self.credit -= len(data)
        self.sent += len(data)
        self.input.take(memoryview(data))
        self.run()

    def end(self) -> None:
        self.input.end(self.sent)
        self.run()

    def run(self) -> None:
        if self.running is None:
            self.running = asyncio.create_task(self.input.run())

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.running


@contextlib.asynccontextmanager
async def feeding():
    with commanding() as command:
        fed = Feeding(command)
        yield command, fed
        if fed.running is not None:
            fed.running.cancel()
            await asyncio.wait((fed.running,))


@played
async def test_what_comes_is_written_and_the_end_is_the_end():
    async with feeding() as (command, fed):
        for data in (b"first", b"second"):
            fed.send(data)
            await until(lambda: fed.input.size == CREDIT - fed.credit)
            assert command.read() == data
        fed.end()
        await fed.ended()
        assert (command.read(), command.stdin, fed.input.size) == (b"", -1, 11)


@played
async def test_an_input_that_is_only_ended():
    async with feeding() as (command, fed):
        fed.end()
        await fed.ended()
        assert command.read() == b""


@played
async def test_a_slow_reader_gets_all_of_it():
    data = os.urandom(3 * CREDIT + 1)
    async with feeding() as (command, fed):
        os.set_blocking(command.theirs_in, False)
        sent, read = 0, b""
        while len(read) < len(data):
            if piece := data[sent : sent + min(fed.credit, 50_000)]:
                fed.send(piece)
                sent += len(piece)
                if sent == len(data):
                    fed.end()
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                read += os.read(command.theirs_in, 10_000)
        await fed.ended()
        assert read == data
        assert fed.input.size == len(data)


@played
async def test_no_more_is_granted_than_has_been_read():
    async with feeding() as (_command, fed):
        fed.send(bytes(CREDIT))
        await until(lambda: fed.input.size == FULL)  # the pipe
        assert fed.credit == FULL
        with pytest.raises(OperationError) as info:
            fed.input.take(memoryview(bytes(fed.credit + 1)))
        assert info.value.code == "bad_message"


@played
async def test_an_end_that_is_not_where_the_client_says_it_is():
    with commanding() as command:
        fed = Feeding(command)
        fed.send(b"four")
        with pytest.raises(OperationError, match="4 bytes of input came, and 3 were sent"):
            fed.input.end(3)


@pytest.mark.parametrize("again", [lambda fed: fed.input.take(memoryview(b"x")), lambda fed: fed.input.end(fed.sent)])
@played
async def test_nothing_may_come_behind_the_end(again):
    async with feeding() as (_, fed):
        fed.end()
        with pytest.raises(OperationError) as info:
            again(fed)
        assert info.value.code == "bad_message"


@played
async def test_what_nobody_reads_is_thrown_away_and_granted_again():
    async with feeding() as (command, fed):
        command.close("theirs_in")
        for _ in range(10):
            fed.send(bytes(CREDIT // 2))
            await until(lambda: fed.credit > CREDIT // 2)
        fed.end()
        await fed.ended()
        assert fed.input.size == 0


@played
async def test_who_stops_reading_in_the_middle():
    async with feeding() as (command, fed):
        fed.send(bytes(CREDIT))
        await until(lambda: fed.input.size == FULL)
        command.close("theirs_in")
        fed.end()
        await fed.ended()
        assert (fed.credit, fed.input.size) == (CREDIT, FULL)


@played
async def test_a_command_without_input_takes_none():
    async with feeding() as (command, fed):
        command.close_stdin()
        fed.input = Input(command, fed.grant)
        for attempt in (lambda: fed.send(b"x"), fed.end):
            with pytest.raises(OperationError):
                attempt()


@pytest.mark.parametrize("size", [0, 1])
@played
async def test_small_pieces_take_no_more_memory_than_large_ones(size):
    """Each came with other messages, all of which it would keep."""
    async with feeding() as (_command, fed):
        fed.send(bytes(2 * FULL))
        await until(lambda: fed.input.size == FULL)
        tracemalloc.start()
        try:
            for _ in range(1000):
                fed.input.take(memoryview(bytes(10_000))[:size])
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert used < 2 * CREDIT
