"""Frames that carry a part of a file: over each kind of connection, from files that end early, to peers that take nothing."""

import asyncio
import concurrent.futures
import contextlib
import errno
import functools
import os
import socket
import threading

import pytest
from peers import ALL_LOOPS, play, tls_contexts, until
from vectors import frame

from fastframe import (
    CorruptFrameError,
    Encoder,
    FrameFormat,
    FrameTooLargeError,
    MisuseError,
    ShortFileError,
    _endpoint,
    _file_frame,
    _frame_socket,
    aio,
    sync,
)

# The clock that leaps would, while threads work.
LOOPS = {**ALL_LOOPS, "asyncio": asyncio.new_event_loop}
U32 = FrameFormat("u32be", max_payload_length=64 << 20)
SIZE = 3_000_000  # more than a few pieces
SMALL = 1000
ENDLESS = 50 << 20
IN_KERNEL = 140_000  # fits into the buffer of a Unix socket, but is large enough not to be read
T = 0.1


@pytest.fixture(scope="module")
def contents() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture(scope="module")
def file(contents, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(contents)
    with path.open("rb") as file:
        yield file


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A file of more than any kernel buffers."""
    with (tmp_path_factory.mktemp("files") / "endless").open("w+b") as file:
        file.truncate(ENDLESS)
        yield file


@pytest.fixture(autouse=True)
def _no_descriptor_stays():
    before = open_files()
    yield
    assert open_files() <= before


def open_files() -> set[str]:
    """Return the sockets and files that this process has open, and not what else loops keep."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in found if name.startswith(("socket:", "/"))}


class Drain:
    """The other end of a connection, which a thread reads to its end if asked to."""

    def __init__(self, raw: socket.socket):
        self.raw = raw
        self.received = bytearray()

    def read(self) -> None:
        with contextlib.suppress(OSError):
            while more := self.raw.recv(1 << 20):
                self.received += more


def pair(kind: str) -> tuple[socket.socket, socket.socket]:
    if kind == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


@contextlib.asynccontextmanager
async def aio_stream(kind, format):
    """Yield a stream and what reads from its other end."""
    near, far = pair(kind)
    loop = asyncio.get_running_loop()
    contexts = tls_contexts() if kind == "tls" else None
    shaking = asyncio.to_thread(contexts[0].wrap_socket, far, server_side=True) if contexts else asyncio.sleep(0, far)
    making = loop.create_connection(
        lambda: aio.FrameStream(format),
        sock=near,
        ssl=contexts and contexts[1],
        server_hostname="127.0.0.1" if contexts else None,
    )
    far, (_, stream) = await asyncio.gather(shaking, making)
    with far:
        async with stream:
            yield stream, Drain(far)


KINDS = ["tcp", "unix", "tls"]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(_endpoint, "DEFAULT_LIMITS", aio.Limits(linger_timeout=0.05))  # no peer here leaves when told to


@pytest.fixture
def each_codec(codec, monkeypatch):
    for module in (_endpoint, _frame_socket):
        monkeypatch.setattr(module, "Decoder", codec.Decoder)
        monkeypatch.setattr(module, "Encoder", codec.Encoder)


async def send_on_a_loop(kind, format, steps):
    async with aio_stream(kind, format) as (stream, drain):
        reading = asyncio.create_task(asyncio.to_thread(drain.read))
        await steps(stream)
        await stream.close()
        await reading
        return bytes(drain.received)


def send_blocking(kind, format, steps):
    near, far = pair(kind)
    drain = Drain(far)

    def read():
        if kind == "tls":
            drain.raw = tls_contexts()[0].wrap_socket(far, server_side=True)
        with drain.raw:
            drain.read()
            if kind == "tls":
                drain.raw.unwrap()

    reader = threading.Thread(target=read)
    reader.start()
    if kind == "tls":
        near = tls_contexts()[1].wrap_socket(near, server_hostname="127.0.0.1")
    with sync.FrameSocket(near, format) as stream:
        asyncio.run(steps(Awaited(stream)))
        if kind == "tls":  # a close before it has read what the handshake brought late would be a reset
            near.unwrap()
    reader.join()
    return bytes(drain.received)


@pytest.fixture(params=[*LOOPS, "sync"])
def sent(request, quick):
    """Run a sender on a connection, `await steps(stream)`, and return what came at the other end."""

    def run(kind, steps, format=U32):
        if request.param == "sync":
            return send_blocking(kind, format, steps)
        results = []

        async def main():
            results.append(await send_on_a_loop(kind, format, steps))

        play(LOOPS[request.param], main)
        return results[0]

    return run


class Awaited:
    """A FrameSocket whose calls can be awaited."""

    def __init__(self, blocking):
        self.blocking = blocking

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            return getattr(self.blocking, name)(*args, **kwargs)

        return call


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_file_are_frames_among_others(sent, kind, file, contents):
    parts = [(0, None), (0, SMALL), (17, 100_000), (SIZE - 5, 5), (SIZE, 0), (SIZE, None), (0, 1 << 20), (SIZE // 2, None)]
    file.seek(11)

    async def steps(stream):
        await stream.send(b"first")
        for offset, count in parts:
            await stream.send_file(file, offset, count, prefix=b"D")
        await stream.send_file(file.fileno(), prefix=bytearray(100_000))
        await stream.send(b"last")

    stops = [SIZE if count is None else offset + count for offset, count in parts]
    payloads = [b"D" + contents[offset:stop] for (offset, _), stop in zip(parts, stops, strict=True)]
    assert sent(kind, steps) == b"".join(map(frame, [b"first", *payloads, bytes(100_000) + contents, b"last"]))
    assert file.tell() == 11


@pytest.mark.usefixtures("each_codec")
@pytest.mark.parametrize("count", [3, 200_000])
@pytest.mark.parametrize("text", ["netstring", "varint", "u32be,strip=0"])
def test_any_format(sent, file, contents, text, count):
    fmt = FrameFormat.parse(text)
    prefix = b"D" if fmt.initial_bytes_to_strip is None else count.to_bytes(4, "big")

    async def steps(stream):
        await stream.send_file(file, 0, count, prefix=prefix)
        if text.endswith("strip=0"):
            with pytest.raises(CorruptFrameError):
                await stream.send_file(file, 0, count + 1, prefix=prefix)
        await stream.send_file(file, 0, count, prefix=prefix)

    assert sent("tcp", steps, fmt) == 2 * Encoder(fmt).encode(prefix + contents[:count])


def test_what_is_wrong_is_told_before_anything_is_sent(sent, file):
    async def steps(stream):
        with pytest.raises(FrameTooLargeError):
            await stream.send_file(file, 0, 100_000, prefix=b"D")
        for offset, count in ((-1, None), (0, -1)):
            with pytest.raises(ValueError, match="at least 0, not -1"):
                await stream.send_file(file, offset, count)
        with pytest.raises(OSError, match="Bad file"):
            await stream.send_file(1 << 20)
        with pytest.raises(TypeError):
            await stream.send_file(file, 0, 3, prefix=3)
        await stream.send(b"next")

    assert sent("tcp", steps, FrameFormat("u32be", max_payload_length=100_000)) == frame(b"next")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("have", "missing"), [(0, 1), (10, 100), (10, 400_000), (300_000, 1), (300_000, 300_000)])
def test_a_file_that_ends_too_early_is_told_and_its_frame_is_whole(sent, kind, file, contents, have, missing):
    async def steps(stream):
        with pytest.raises(ShortFileError) as caught:
            await stream.send_file(file, SIZE - have, have + missing, prefix=b"D")
        assert (caught.value.sent, caught.value.count, caught.value.__cause__) == (have, have + missing, None)
        await stream.send(b"next")

    assert sent(kind, steps) == frame(b"D" + contents[SIZE - have :] + bytes(missing)) + frame(b"next")


def failing(call, at, number=errno.EIO):
    """Have a call of `os` fail from a position of the file on."""

    def pread(file, count, offset):
        check(offset)
        return call(file, min(count, at - offset), offset)

    def sendfile(connection, file, offset, count):
        check(offset)
        return call(connection, file, offset, min(count, at - offset))

    def check(offset):
        if offset >= at:
            raise OSError(number, os.strerror(number))

    return pread if call is os.pread else sendfile


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, 1_000_000])
def test_a_file_that_cannot_be_read_is_told_and_its_frame_is_whole(sent, kind, file, contents, monkeypatch, at):
    for call in (os.sendfile, os.pread):
        monkeypatch.setattr(os, call.__name__, failing(call, at))

    async def steps(stream):
        with pytest.raises(ShortFileError) as caught:
            await stream.send_file(file)
        assert (caught.value.sent, caught.value.count, caught.value.__cause__.errno) == (at, SIZE, errno.EIO)
        await stream.send(b"next")

    assert sent(kind, steps) == frame(contents[:at] + bytes(SIZE - at)) + frame(b"next")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("at", [0, 1_000_000])
def test_what_sendfile_refuses_is_read(sent, kind, file, contents, monkeypatch, at):
    monkeypatch.setattr(os, "sendfile", failing(os.sendfile, at, errno.EINVAL))

    async def steps(stream):
        await stream.send_file(file)
        await stream.send(b"next")

    assert sent(kind, steps) == frame(contents) + frame(b"next")


# On an event loop


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def run(request, quick):
    return functools.partial(play, request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_what_others_send_meanwhile_follows_in_order(run, kind, file, contents):
    async def main():
        async with aio_stream(kind, U32) as (stream, drain):
            sending = asyncio.create_task(stream.send_file(file, prefix=b"1"))
            await until(lambda: stream._passage)
            others = [asyncio.create_task(stream.send(b"%d" % number)) for number in range(3)]
            others.append(asyncio.create_task(stream.send_file(file, prefix=b"2")))
            await asyncio.sleep(0)
            others[1].cancel()
            reading = asyncio.create_task(asyncio.to_thread(drain.read))
            await asyncio.gather(sending, *others, return_exceptions=True)
            await stream.send(b"last")
            await stream.close()
            await reading
            payloads = [b"1" + contents, b"0", b"1", b"2", b"2" + contents, b"last"]
            assert drain.received == b"".join(map(frame, payloads))

    run(main)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_follows_what_waits_and_a_slow_peer_gets_all(run, kind, file, contents):
    before = [bytes([number]) * (1 << 20) for number in range(8)]

    async def main():
        async with aio_stream(kind, U32) as (stream, drain):
            limits = stream.transport.get_write_buffer_limits()
            sending = asyncio.create_task(stream.send_many(before))
            await asyncio.sleep(0)
            file_sending = asyncio.create_task(stream.send_file(file))
            await asyncio.sleep(T)
            wire = b"".join(map(frame, [*before, contents]))
            for _ in range(40):
                drain.received += await asyncio.to_thread(drain.raw.recv, 50_000)
                await asyncio.sleep(T / 50)
            assert not file_sending.done()
            reading = asyncio.create_task(asyncio.to_thread(drain.read))
            await asyncio.gather(sending, file_sending)
            assert stream.transport.get_write_buffer_limits() == limits
            await stream.close()
            await reading
            assert drain.received == wire

    run(main)


def test_a_file_does_not_overtake_what_the_transport_has(run, file, contents):
    async def main():
        async with aio_stream("tcp", U32) as (stream, drain):
            count = 0
            stream.transport.set_write_buffer_limits(SIZE)  # the kernel may take nothing of the last write
            while not stream.transport.get_write_buffer_size():
                await stream.send(bytes(10_000))
                count += 1
            assert stream._writable is None
            sending = asyncio.create_task(stream.send_file(file))
            reading = asyncio.create_task(asyncio.to_thread(drain.read))
            await sending
            await stream.close()
            await reading
            assert drain.received == frame(bytes(10_000)) * count + frame(contents)

    run(main)


def test_peers_that_take_nothing_hold_no_thread(run, file, contents):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(2))
        async with contextlib.AsyncExitStack() as stack:
            stuck = [(await stack.enter_async_context(aio_stream("unix", U32)))[0] for _ in range(5)]
            tasks = [asyncio.create_task(stream.send_file(file)) for stream in stuck]
            stream, drain = await stack.enter_async_context(aio_stream("unix", U32))
            drain.raw.setblocking(False)
            sending = asyncio.create_task(stream.send_file(file))
            while len(drain.received) < 4 + SIZE:
                drain.received += await loop.sock_recv(drain.raw, 1 << 20)
            await sending
            assert drain.received == frame(contents)
            for stream in stuck:
                stream.abort()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} == {ConnectionAbortedError}

    run(main)


@pytest.mark.parametrize("at_hand", [True, False])
def test_what_is_small_needs_a_thread_only_if_it_is_not_at_hand(run, file, contents, monkeypatch, at_hand):
    def preadv(file, buffers, offset, flags):
        assert flags == os.RWF_NOWAIT
        if not at_hand:
            raise BlockingIOError
        buffers[0][:] = os.pread(file, len(buffers[0]), offset)
        return len(buffers[0])

    def payload(frame, read=_file_frame.FileFrame.payload):
        threads.append(threading.current_thread())
        return read(frame)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(_file_frame.FileFrame, "payload", payload)
    threads = []

    async def main():
        async with aio_stream("tcp", U32) as (stream, drain):
            await stream.send_file(file, 7, SMALL)
            assert (threads == []) is at_hand
            assert threading.main_thread() not in threads
            await stream.close()
            await asyncio.to_thread(drain.read)
            assert drain.received == frame(contents[7 : 7 + SMALL])

    run(main)


def test_a_slow_disk_does_not_stop_the_loop(run, file, monkeypatch):
    waiting, read = threading.Event(), threading.Event()

    def sendfile(*arguments):
        waiting.set()
        assert read.wait(10)
        monkeypatch.undo()
        return os.sendfile(*arguments)

    monkeypatch.setattr(os, "sendfile", sendfile)

    async def main():
        async with aio_stream("tcp", U32) as (stream, drain):
            sending = asyncio.create_task(stream.send_file(file, 0, 200_000))
            await until(waiting.is_set)
            read.set()
            await sending
            await stream.close()
            await asyncio.to_thread(drain.read)
            assert len(drain.received) == 200_004

    run(main)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["cancel", "close", "abort", "reset"])
def test_a_file_that_cannot_go_on_ends_the_connection(run, kind, endless, how):
    async def main():
        async with aio_stream(kind, U32) as (stream, drain):
            sending = asyncio.create_task(stream.send_file(endless))
            other = asyncio.create_task(stream.send(b"behind"))
            await asyncio.sleep(T)
            assert not sending.done()
            for misuse in (stream.detach, stream.send_eof):
                with pytest.raises((MisuseError, NotImplementedError)):
                    misuse()
            if how == "cancel":
                sending.cancel()
            elif how == "close":
                await asyncio.wait_for(stream.close(), 2)  # it has five seconds for what is whole
            elif how == "abort":
                stream.abort()
            elif how == "reset":
                reset(drain.raw)
            error = OSError if how != "cancel" else asyncio.CancelledError
            with pytest.raises(error):
                await sending
            with pytest.raises(OSError):  # noqa: PT011  its class depends on who noticed first
                await other
            with pytest.raises((OSError, MisuseError)):
                await stream.send(b"too late")
            if how != "reset":
                await asyncio.to_thread(drain.read)
                assert len(drain.received) < ENDLESS

    run(main)


def reset(raw):
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raw.close()


def test_a_connection_that_is_cut_ends_although_the_thread_waits_for_a_disk(run, file, monkeypatch):
    waiting, read = threading.Event(), threading.Event()

    def sendfile(connection, file, offset, count):
        waiting.set()
        assert read.wait(10)
        raise OSError(errno.EIO, "a disk")

    monkeypatch.setattr(os, "sendfile", sendfile)

    async def main():
        async with aio_stream("tcp", U32) as (stream, drain):
            sending = asyncio.create_task(stream.send_file(file))
            await until(waiting.is_set)
            sending.cancel()
            try:
                await asyncio.wait_for(asyncio.to_thread(drain.read), 5)
            finally:
                read.set()
            assert drain.received[4:] == b""

    run(main)


def test_a_reset_is_noticed_by_who_does_not_read(run, endless):
    """The transport does not notice it then."""

    async def main():
        async with aio_stream("tcp", U32) as (stream, drain):
            stream._pause_reading(True)
            sending = asyncio.create_task(stream.send_file(endless))
            await asyncio.sleep(T)
            reset(drain.raw)
            with pytest.raises(OSError):  # noqa: PT011
                await sending

    run(main)


def test_who_is_cancelled_before_it_is_its_turn_harms_nobody(run, file, endless):
    async def main():
        async with aio_stream("tcp", U32) as (stream, drain):
            first = asyncio.create_task(stream.send_file(endless))
            await until(lambda: stream._passage)
            second = asyncio.create_task(stream.send_file(file))
            await asyncio.sleep(0)
            second.cancel()
            reading = asyncio.create_task(asyncio.to_thread(drain.read))
            await first
            await stream.send(bytes(1 << 20))
            await stream.close()
            await reading
            assert drain.received == frame(bytes(ENDLESS)) + frame(bytes(1 << 20))

    run(main)


# A server's peers


@pytest.mark.parametrize("way", ["tcp", "tls", "unix"])
def test_a_peer_that_takes_nothing_of_a_file_is_cut(run, file, tmp_path, way):
    async def main():
        handler = functools.partial(send_files, file, 20)
        began = asyncio.get_running_loop().time()
        async with serving_at(handler, way, tmp_path, write_timeout=3 * T) as (server, connect), connect() as stream:
            await until(lambda: server.counters["accepted"])
            while server.connections:  # noqa: ASYNC110  nothing else tells
                await asyncio.sleep(T / 10)
            assert 2 * T < asyncio.get_running_loop().time() - began < 100 * T
            assert server.counters["writes_overdue"] == 1
            stream.abort()

    run(main)


@pytest.mark.parametrize("way", ["tcp", "tls", "unix"])
def test_a_peer_that_takes_a_file_in_time_is_not_cut(run, file, contents, tmp_path, way):
    async def main():
        handler = functools.partial(send_files, file, 2)
        async with serving_at(handler, way, tmp_path, write_timeout=6 * T) as (server, connect), connect() as stream:
            for _ in range(2):
                await asyncio.sleep(4 * T)
                assert await stream.recv() == contents
            assert server.counters["writes_overdue"] == 0

    run(main)


def test_a_peer_that_does_not_take_the_end_of_a_file_is_cut(run, file, tmp_path):
    async def handler(stream):
        await stream.send_file(file, 0, IN_KERNEL)
        assert not stream.transport.get_write_buffer_size()
        sent.append(True)
        await stream.recv()

    sent = []

    async def main():
        async with serving_at(handler, "unix", tmp_path, write_timeout=T) as (server, _), raw_peer(tmp_path):
            await until(lambda: sent)
            while server.connections:  # noqa: ASYNC110  nothing else tells
                await asyncio.sleep(T / 10)
            assert server.counters["writes_overdue"] == 1

    run(main)


def test_a_peer_that_takes_all_the_time_is_not_cut(run, endless, tmp_path):
    """The thread does not come back then, and a Unix socket does not tell what was taken."""

    async def main():
        handler = functools.partial(send_files, endless, 1)
        async with serving_at(handler, "unix", tmp_path, write_timeout=3 * T) as (server, _), raw_peer(tmp_path) as raw:
            left = 4 + ENDLESS
            while left:
                await asyncio.sleep(0.002)
                with contextlib.suppress(BlockingIOError):
                    left -= len(raw.recv(200_000)) or left
            assert server.counters["writes_overdue"] == 0

    run(main)


@contextlib.asynccontextmanager
async def raw_peer(tmp_path):
    """Yield a peer of a Unix socket that reads nothing by itself."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.setblocking(False)
        raw.connect(str(tmp_path / "socket"))
        yield raw


async def send_files(file, count, stream):
    for _ in range(count):
        await stream.send_file(file)
    await stream.recv()


@contextlib.asynccontextmanager
async def serving_at(handler, way, tmp_path, **limits):
    """Yield a server, and what connects to it."""
    contexts = tls_contexts() if way == "tls" else (None, None)
    path = {"path": str(tmp_path / "socket")} if way == "unix" else {}
    address = path or {"host": "127.0.0.1", "port": 0}
    async with await aio.serve(handler, **address, format=U32, ssl=contexts[0], limits=aio.Limits(**limits)) as server:
        if not path:
            address["port"] = int(server.addresses[0].rpartition(":")[2])
        yield server, functools.partial(aio.connect, **address, format=U32, ssl=contexts[1])


# Blocking


@pytest.fixture
def blocking():
    near, far = socket.socketpair()
    with far, sync.FrameSocket(near, U32) as stream:
        yield stream, Drain(far)


@pytest.mark.parametrize("tls", [False, True])
def test_a_file_that_timed_out_goes_on_with_the_next(blocking, file, contents, tls):
    stream, drain = blocking
    if tls:
        stream._send_from = stream._send_piece
    for _ in range(2):
        with pytest.raises(TimeoutError):
            stream.send_file(file, timeout=0.05)
    stream.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        stream.send_file(file, 0, 20 << 10)
    with pytest.raises(ShortFileError):
        stream.send_file(file, SIZE - 10, 1 << 20)
    stream.socket.setblocking(True)
    reader = threading.Thread(target=drain.read)
    reader.start()
    stream.send(b"last")
    stream.close()
    reader.join()
    payloads = [contents, contents, contents[: 20 << 10], contents[-10:].ljust(1 << 20, b"\0"), b"last"]
    assert drain.received == b"".join(map(frame, payloads))


def test_a_slow_peer_of_a_socket_with_a_timeout_gets_all(blocking, file, contents):
    stream, drain = blocking
    reader = threading.Thread(target=drain.read)
    threading.Timer(0.1, reader.start).start()
    stream.socket.settimeout(5)
    stream.send_file(file, timeout=10)
    stream.send_file(file)
    stream.close()
    reader.join()
    assert drain.received == frame(contents) * 2


def test_a_file_to_a_peer_that_is_gone_fails_and_stays_failed(blocking, file):
    stream, drain = blocking
    drain.raw.close()
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            stream.send_file(file)
    with pytest.raises(BrokenPipeError):
        stream.send(b"x")
    stream.close()
    with pytest.raises(MisuseError, match="close"):
        stream.send_file(file)
