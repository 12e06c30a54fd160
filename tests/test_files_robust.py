"""The file server and the worst that peers do, seen from outside: what they get, what is on the disk, what others notice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import FASTFRAME, Serving, poll, serving
from wires import HELLO, hear, message, read_all, reset

from fastframe.servers import transfer
from fastframe.servers.messages import Kind
from fastframe.servers.staging import Staging

SERVE_FILES = [*FASTFRAME, "serve", "files"]
HI = b"hi" * 30
DATA = b"hello world!"
BIG = 1 << 30


GET = HELLO + message(Kind.OPEN, operation="get", name="hi")


def opened_put(name: str, data: bytes = DATA, **fields: object) -> bytes:
    return message(Kind.OPEN, operation="put", name=name, size=len(data), modified=1, **fields)


def sent(data: bytes = DATA) -> bytes:
    half = len(data) // 2
    end = message(Kind.END, size=len(data), digest=hashlib.sha256(data).hexdigest())
    return message(Kind.DATA, data[:half]) + message(Kind.DATA, data[half:]) + end


PUT = HELLO + opened_put("cut", replace=True) + sent()


def outcome(raw: socket.socket) -> str:
    """Hear up to the end of an operation; return its code."""
    while True:
        kind, body = hear(raw)
        if kind in (Kind.RESULT, Kind.ERROR):
            return json.loads(body).get("code", "done")


def messages_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what whole messages are in `data`."""
    while len(data) >= 4 and len(data) >= 4 + (length := struct.unpack(">I", data[:4])[0]):
        yield data[4], data[5 : 4 + length]
        data = data[4 + length :]


def is_served(server: Serving) -> bool:
    with server.connect() as raw:
        raw.sendall(GET)
        return [hear(raw) for _ in range(3)][2] == (Kind.DATA, HI)


def files(root: Path, *arguments: object, **options) -> contextlib.AbstractContextManager[Serving]:
    (root / "hi").write_bytes(HI)
    return serving("--root", root, "--write", "--port", "0", *arguments, command=SERVE_FILES, **options)


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def shared(request, tmp_path_factory) -> Iterator[tuple[Serving, Path]]:
    """A server for all the tests that leave it as it was, which has nothing to complain of in the end."""
    root = tmp_path_factory.mktemp("root")
    with files(root, "--loop", request.param) as server:
        yield server, root
        assert server.end() == (0, "", "")


@pytest.fixture
def root(shared) -> Path:
    return shared[1]


@pytest.fixture
def server(shared) -> Iterator[Serving]:
    """The same; others are served afterwards, and no descriptor is left."""
    server, _ = shared
    assert is_served(server)
    before = server.descriptors()
    yield server
    assert is_served(server)
    poll(lambda: server.descriptors() <= before)


# Ends and garbage


@pytest.mark.parametrize(
    "end", [lambda raw: raw.shutdown(socket.SHUT_WR), socket.socket.close, reset], ids=["eof", "close", "reset"]
)
@pytest.mark.parametrize("wire", [PUT, GET], ids=["put", "get"])
def test_an_exchange_that_is_cut_at_any_byte_leaves_all_or_nothing(server, root, wire, end):
    raws, idle = [], server.descriptors()
    for cut in range(len(wire) + 1):
        raws.append(server.connect())
        raws[-1].sendall(wire[:cut])
        end(raws[-1])
        if cut % 50 == 0 or cut == len(wire):
            for raw in raws:
                if raw.fileno() >= 0:
                    read_all(raw)
                    raw.close()
            raws = []
        if (root / "cut").exists():
            assert (root / "cut").read_bytes() == DATA
    poll(lambda: server.descriptors() <= idle)  # the last of them may still be on its way
    assert set(os.listdir(root)) <= {"hi", "cut", Staging.DIRECTORY}
    (root / "cut").unlink(missing_ok=True)


BOMBS = {
    "announced": struct.pack(">I", 1 << 30) + b"\x12" * 1000,
    "most": b"\xff" * 4 + b"\x12",
    "empty": bytes(4),
    "deep": message(Kind.OPEN, b'{"operation":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "long": message(Kind.OPEN, b'{"a":"' + b"x" * 900_000 + b'"}'),
    "digits": message(Kind.OPEN, b'{"size":' + b"9" * 60_000 + b"}"),
    "twice": message(Kind.OPEN, b'{"a":1,"a":2}'),
    "surrogate": message(Kind.OPEN, b'{"operation":"stat","name":"\\ud800"}'),
    "list": message(Kind.OPEN, b"[1]"),
    "no text": message(Kind.OPEN, b"\xff\xfe{}"),
    "nan": message(Kind.OPEN, b'{"operation":NaN}'),
    **{f"random {seed}": random.Random(seed).randbytes(50_000) for seed in range(3)},
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("before", [b"", HELLO], ids=["first", "later"])
def test_what_is_no_message_ends_the_connection(server, before, bomb):
    with server.connect() as raw:
        with contextlib.suppress(OSError):
            raw.sendall(before + bomb)
        heard = list(messages_of(read_all(raw)))
    assert [kind for kind, _ in heard] in ([Kind.WELCOME] * bool(before), [Kind.WELCOME] * bool(before) + [Kind.ERROR])


def any_message(chance: random.Random) -> bytes:
    """Return a message that is right as such; most of its fields are, too."""
    fields: dict[str, object] = {
        "operation": chance.choice(["get", "put", "list", "stat", "mkdir"]),
        "name": chance.choice(
            ["hi", "new", "dir", "dir/new", "", "../x", "/x", "a" * 300, "a\0b", Staging.DIRECTORY, "hi/x", "HI"]
        ),
        "size": chance.choice([0, 1, 12, 1 << 40, -1, "1", True]),
        "modified": chance.choice([0, 1, (1 << 63) - 1, None]),
        "digest": chance.choice(["sha256", "none", "md5", "crc", 7]),
        "offset": chance.choice([0, 0, 1, (1 << 63) - 1]),
        "replace": chance.choice([True, False, 1]),
        "parents": chance.choice([True, False]),
    }
    data = chance.randbytes(chance.choice([0, 1, 12, 5000]))
    end = message(Kind.END, size=len(DATA), digest=hashlib.sha256(DATA).hexdigest())
    plain = [message(Kind.DATA, data), message(Kind.DATA, DATA), end, message(Kind.CANCEL), message(Kind.PING, b"1"), HELLO]
    asked = {name: value for name, value in fields.items() if name in ("operation", "name") or chance.random() < 0.6}
    return chance.choice([message(Kind.OPEN, **asked), message(Kind.OPEN, **asked), opened_put("new", replace=True), *plain])


def test_messages_in_any_order_are_answered_or_refused_by_name(server, root):
    codes = Counter()
    for seed in range(300):
        chance = random.Random(seed)
        with server.connect() as raw:
            with contextlib.suppress(OSError):
                raw.sendall(HELLO + b"".join(any_message(chance) for _ in range(chance.randrange(1, 12))))
                raw.shutdown(socket.SHUT_WR)
            heard = list(messages_of(read_all(raw)))
        assert heard[0][0] == Kind.WELCOME
        codes.update(json.loads(body)["code"] for kind, body in heard if kind == Kind.ERROR)
    assert not codes["internal"]
    assert len(codes) > 8
    assert set(os.listdir(root)) <= {"hi", "new", "dir", "HI", Staging.DIRECTORY}
    assert (root / "hi").read_bytes() == HI


# Many, slow, and changing


def test_of_many_uploads_of_one_name_one_is_there_and_whole(server, root):
    data = os.urandom(500_000)
    codes: list[str] = []

    def put() -> None:
        with server.connect() as raw:
            raw.sendall(HELLO + opened_put("same", data, replace=True))
            hear(raw)
            kind, body = hear(raw)
            if kind == Kind.OPENED:
                raw.sendall(sent(data))
                codes.append(outcome(raw))
            else:
                codes.append(json.loads(body)["code"])

    putting = [threading.Thread(target=put) for _ in range(40)]
    for thread in putting:
        thread.start()
    for thread in putting:
        thread.join()
    assert set(codes) <= {"done", "busy"}
    assert "done" in codes
    assert len(codes) == len(putting)
    assert (root / "same").read_bytes() == data
    assert not list((root / Staging.DIRECTORY).glob("*"))
    (root / "same").unlink()


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * 100)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: os.truncate(path, 1000), "changed"),
    "emptied": (lambda path: os.truncate(path, 0), "changed"),
    "grown": (lambda path: os.truncate(path, BIG + 1), "changed"),
    "rewritten": (rewrite, "changed"),
    "removed": (Path.unlink, "done"),
    "forbidden": (lambda path: path.chmod(0), "done"),
}


@pytest.mark.parametrize("digest", ["none", "sha256"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_sent(server, root, change, digest):
    path = root / "changing"
    path.touch()
    os.truncate(path, 50_000_000)
    with server.connect() as raw:
        raw.sendall(HELLO + message(Kind.OPEN, operation="get", name="changing", digest=digest))
        for _ in range(3):  # WELCOME, OPENED and the first of its data: the rest does not fit into the connection
            hear(raw)
        CHANGES[change][0](path)
        assert outcome(raw) == CHANGES[change][1]
        raw.sendall(message(Kind.OPEN, operation="stat", name="hi"))
        assert outcome(raw) == "done"
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(("digest", "block"), [("none", 1), ("sha256", 1000), ("none", 1 << 20)])
def test_who_never_reads_costs_little_and_is_cut(tmp_path, digest, block):
    (tmp_path / "big").touch()
    os.truncate(tmp_path / "big", BIG)
    with files(tmp_path, "--write-timeout", "0.5") as server, contextlib.ExitStack() as stack:
        assert is_served(server)
        before = server.memory()
        raws = [stack.enter_context(server.connect()) for _ in range(10)]
        for raw in raws:
            raw.sendall(HELLO + message(Kind.OPEN, operation="get", name="big", digest=digest, block=block))
        assert "writes_overdue" in server.logged("ended by their limits")
        assert server.memory() - before < len(raws) * (4 << 20)
        assert is_served(server)
        poll(lambda: server.descriptors() < 20)
        assert server.end()[0] == 0


# Ends of the server


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_server_that_ends_lets_transfers_finish(tmp_path, loop):
    (tmp_path / "big").touch()
    os.truncate(tmp_path / "big", 50_000_000)
    with files(tmp_path, "--loop", loop, "--log-level", "info") as server:
        with server.connect() as getting, server.connect() as putting, server.connect() as idle:
            getting.sendall(HELLO + message(Kind.OPEN, operation="get", name="big"))
            putting.sendall(HELLO + opened_put("new"))
            idle.sendall(HELLO)
            heard = [hear(raw)[0] for raw in (getting, getting, putting, putting, idle)]
            assert heard == [Kind.WELCOME, Kind.OPENED, Kind.WELCOME, Kind.OPENED, Kind.WELCOME]
            server.process.send_signal(signal.SIGTERM)
            assert "draining" in server.logged("draining")
            assert hear(idle) == (Kind.GOAWAY, b"{}")
            assert hear(putting) == (Kind.GOAWAY, b"{}")
            putting.sendall(sent())
            assert (outcome(putting), outcome(getting)) == ("done", "done")
        assert server.ended()[0] == 0
    assert (tmp_path / "new").read_bytes() == DATA


def test_a_second_signal_cuts_them_and_what_came_is_kept(tmp_path):
    with files(tmp_path, "--log-level", "info") as server, server.connect() as putting:
        putting.sendall(HELLO + opened_put("new", bytes(5_000_000)) + message(Kind.DATA, bytes(1_000_000)) * 3)
        assert [hear(putting)[0] for _ in range(2)] == [Kind.WELCOME, Kind.OPENED]
        poll(lambda: any(path.stat().st_size for path in (tmp_path / Staging.DIRECTORY).glob("*")))
        server.process.send_signal(signal.SIGTERM)
        server.logged("draining")
        server.process.send_signal(signal.SIGTERM)
        assert server.ended()[0] == 1
    assert not (tmp_path / "new").exists()
    assert len(list((tmp_path / Staging.DIRECTORY).iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="tells by /proc/locks who has a lock")
def test_what_a_worker_had_when_it_was_killed_is_gone_on_with_by_another(tmp_path):
    data = os.urandom(2 * transfer.PORTION)
    blocks = [message(Kind.DATA, data[at : at + 500_000]) for at in range(0, len(data), 500_000)]
    written = len(blocks) // 2 + 1  # as many as are handed to the disk
    with files(tmp_path, "--workers", "2") as server:
        with server.connect() as putting:
            putting.sendall(HELLO + opened_put("new", data) + b"".join(blocks[:written]))
            assert [hear(putting)[0] for _ in range(2)] == [Kind.WELCOME, Kind.OPENED]
            poll(lambda: any(path.stat().st_size >= 1_000_000 for path in (tmp_path / Staging.DIRECTORY).glob("*")))
            with server.connect() as other:
                other.sendall(HELLO + opened_put("new", data))
                assert outcome(other) == "busy"
            (part,) = (tmp_path / Staging.DIRECTORY).iterdir()
            os.kill(holders(part)[0], signal.SIGKILL)
            poll(lambda: not holders(part))
            proof = hashlib.sha256(data[:1_000_000]).hexdigest()
            with server.connect() as other:
                other.sendall(HELLO + opened_put("new", data, offset=1_000_000, proof=proof))
                hear(other)
                assert hear(other) == (Kind.OPENED, b'{"offset":1000000}')
                other.sendall(b"".join(blocks[2:]))
                other.sendall(message(Kind.END, size=len(data), digest=hashlib.sha256(data).hexdigest()))
                assert outcome(other) == "done"
        assert (tmp_path / "new").read_bytes() == data
        poll(lambda: len(server.workers()) == 2)
        assert server.end()[0] == 0


def holders(path: Path) -> list[int]:
    """Return who has a lock on that file."""
    number = path.stat().st_ino
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return [int(lock[4]) for lock in locks if lock[5].endswith(f":{number}")]
