"""Standard streams on a loop: pipes, terminals, sockets and files, each in the place of a standard stream's number."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import socket
import tty

import pytest
from sessions import PATIENCE, played

from fastframe.servers import stdio

MIB = 1024 * 1024
DATA = os.urandom(MIB)


def a_pipe():
    return os.pipe()


def a_socket():
    return tuple(end.detach() for end in socket.socketpair())[::-1]


def a_terminal():
    ends = pty.openpty()
    tty.setraw(ends[1])
    return ends


def a_pipe_that_cannot_be_opened_again(monkeypatch):
    monkeypatch.setattr(stdio, "_opened_again", lambda number, flags: None)
    return os.pipe()


def a_non_blocking_pipe(monkeypatch):
    ends = a_pipe_that_cannot_be_opened_again(monkeypatch)
    os.set_blocking(ends[1], False)
    return ends


KINDS = [a_pipe, a_socket, a_terminal, a_pipe_that_cannot_be_opened_again, a_non_blocking_pipe]


@contextlib.contextmanager
def ends_of(kind, monkeypatch):
    """Give the two ends: to read from, to write to."""
    ends = kind(monkeypatch) if kind.__code__.co_argcount else kind()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


@contextlib.contextmanager
def standing_in(number, descriptor):
    """Have `descriptor` in the place of the standard stream of that number."""
    kept = os.dup(number)
    os.dup2(descriptor, number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


@contextlib.contextmanager
def opened(path, flags):
    descriptor = os.open(path, flags | os.O_CREAT if flags else flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


def taken(descriptor, size, data=b""):
    while len(data) < size:
        data += os.read(descriptor, size - len(data))
    return data


@pytest.mark.parametrize("kind", KINDS)
@played
async def test_an_output_that_nobody_takes_does_not_hold_the_loop(kind, monkeypatch):
    with ends_of(kind, monkeypatch) as (source, sink), contextlib.closing(stdio.Output(sink, "output")) as output:
        flags = fcntl.fcntl(sink, fcntl.F_GETFL)
        writing = asyncio.create_task(output.write([DATA[:1], b"", memoryview(DATA)[1:]]))
        await turns()
        assert not writing.done()
        assert await asyncio.to_thread(taken, source, MIB) == DATA
        await writing
        assert fcntl.fcntl(sink, fcntl.F_GETFL) == flags


@pytest.mark.parametrize("kind", KINDS)
@played
async def test_an_input_is_read_as_it_comes(kind, monkeypatch):
    with ends_of(kind, monkeypatch) as ends:
        source, sink = ends[::-1] if kind is a_terminal else ends
        with standing_in(0, source), contextlib.closing(stdio.Input()) as standard:
            reading = asyncio.create_task(standard.read())
            await turns()
            assert not reading.done()
            os.write(sink, b"first")
            assert await asyncio.wait_for(reading, PATIENCE) == b"first"
            os.write(sink, b"second")
            assert await standard.read() == b"second"
            if kind is not a_terminal:
                os.close(sink)
                assert await standard.read() == b""


@played
async def test_a_file_is_read_to_its_end_and_written_where_it_is(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with opened(path, os.O_RDONLY) as file, standing_in(0, file), contextlib.closing(stdio.Input()) as standard:
        data = b""
        while piece := await standard.read():
            data += piece
    assert data == DATA
    with opened(path, os.O_WRONLY | os.O_APPEND) as file, contextlib.closing(stdio.Output(file, "output")) as output:
        await output.write([b"%d\n" % number for number in range(3000)])
    assert path.read_bytes() == DATA + b"".join(b"%d\n" % number for number in range(3000))


@pytest.mark.parametrize("kind", [a_pipe, a_socket, a_pipe_that_cannot_be_opened_again])
@played
async def test_an_output_that_nobody_reads_any_more(kind, monkeypatch):
    with ends_of(kind, monkeypatch) as (source, sink), contextlib.closing(stdio.Output(sink, "output")) as output:
        writing = asyncio.create_task(output.write([DATA]))
        await turns()
        os.close(source)
        with pytest.raises(stdio.Unread):
            await writing
    with ends_of(kind, monkeypatch) as (source, sink):
        os.close(source)
        with contextlib.closing(stdio.Output(sink, "output")) as output, pytest.raises(stdio.Unread):
            await output.write([b"x"])


@played
async def test_a_failure_names_the_stream(tmp_path):
    with opened(tmp_path, os.O_RDONLY) as directory, standing_in(0, directory), contextlib.closing(stdio.Input()) as source:
        await fails(source.read(), "standard input: Is a directory")
    with opened("/dev/full", os.O_WRONLY) as full, contextlib.closing(stdio.Output(full, "the output")) as output:
        await fails(output.write([b"x"]), "the output: No space left on device")


async def fails(awaitable, text):
    with pytest.raises(stdio.Unusable) as info:
        await awaitable
    assert str(info.value) == text


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="Linux has that")
@played
async def test_a_pipe_is_widened_when_it_is_full_and_never_made_smaller(monkeypatch):
    for before, after in ((65536, stdio.PIPE_SIZE), (MIB, MIB)):
        with ends_of(a_pipe, monkeypatch) as (source, sink), contextlib.closing(stdio.Output(sink, "output")) as output:
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, before)
            await output.write([DATA[:before]])
            assert fcntl.fcntl(sink, fcntl.F_GETPIPE_SZ) == before
            writing = asyncio.create_task(output.write([DATA]))
            await turns()
            assert fcntl.fcntl(sink, fcntl.F_GETPIPE_SZ) == after
            await asyncio.to_thread(taken, source, before + MIB)
            await writing


@pytest.mark.parametrize(("pieces", "at_start"), [([], True), ([b"a\n"], True), ([b"a\n", b"b", b""], False)], ids=str)
@played
async def test_an_output_knows_whether_a_line_is_begun(tmp_path, pieces, at_start):
    with opened(tmp_path / "file", os.O_WRONLY) as file, contextlib.closing(stdio.Output(file, "output")) as output:
        await output.write(pieces)
        assert output.at_line_start is at_start


def test_nothing_stays_open_and_what_was_given_does(monkeypatch):
    with ends_of(a_pipe, monkeypatch) as (_, sink):
        before = len(os.listdir("/proc/self/fd"))
        output = stdio.Output(sink, "output")
        assert len(os.listdir("/proc/self/fd")) == before + 1
        output.close()
        assert len(os.listdir("/proc/self/fd")) == before
        os.fstat(sink)
