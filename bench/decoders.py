"""What decoders hold: bytes of each of thousands, before a frame, between frames, inside one, and after a large one.

    idle               made, and fed nothing
    one frame          after a frame of 64 B
    16 MiB announced   after the header of such a frame, of which nothing more has come
    after 1 MiB        after such a frame, which came in chunks of 64 KiB: does its memory come back?
    a frame later      after a frame of 64 B behind that: if not at once, then now?

Each contender has processes of its own, `python -m fastframe.bench.decoders NAME COUNT large|small`: one for the large frame,
of fewer decoders, since who keeps a megabyte keeps it for each, and one for the others. The figure is what the kernel says that
the process has written to (Private_Dirty), with the decoders less without them, so what malloc adds to each is in it. What
malloc holds free is nobody's and is given back before each look. One decoder has gone through everything before the first look,
for what it makes for all that come after it is not theirs; and some are made that stay and are not counted, for they take the
room that the interpreter has lying about.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import importlib
import json
import struct
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from . import byhand
from .entry import BenchError, Feed, Kind, Wire
from .measure import spread, take_turns
from .peers import NowhereLoop, connect_to_nobody, hiredis_wire, msgpack_wire, picows_wire
from .processes import memory_of
from .report import say
from .workloads import FORMAT, cut, frame

MIB: Final = 1 << 20
LARGE_MOST: Final = 200  # who keeps 2 MiB after a frame of 1 MiB keeps 400 MiB altogether
FILLERS: Final = 1000  # decoders that take what the interpreter has lying about, before those that are counted
SMALL, LARGE, CHUNK = b"x" * 64, b"x" * MIB, 64 << 10
ANNOUNCED: Final = FORMAT.max_payload_length
STATES: Final = {  # whether it is of the second process
    "idle": False,
    "one frame": False,
    "16 MiB announced": False,
    "after 1 MiB": True,
    "a frame later": True,
}

Row = dict[str, Any]
Make = Callable[[], Any]  # a decoder
Decode = Callable[[Any, bytes], list[bytes]]  # of a decoder and a chunk


class Decoding(NamedTuple):
    """A contender: `start()` imports what it needs and returns what makes a decoder and what feeds one.

    `header` announces a payload of 16 MiB. `most`: how many can be made in a second.
    """

    kind: Kind
    does: str
    start: Callable[[], tuple[Make, Decode]]
    wire: Wire = frame
    header: bytes = struct.pack(">I", ANNOUNCED)
    most: int = 1 << 30


def rows(names: Iterable[str], count: int, repetitions: int, left_out: list[str]) -> list[Row]:
    """Return what a decoder takes in each state: a row for each contender and state, spreads of bytes."""
    say(f"{count:,} decoders")
    players = {name: functools.partial(held, name, count) for name in names}
    turns = take_turns(players, repetitions, lambda name, error: left_out.append(f"{name}: {error}"))
    return [
        {
            "contender": name,
            "state": state,
            "count": how_many(name, count, large=large),
            "bytes": spread([turn[at] for turn in own])._asdict(),
        }
        for name, own in turns.items()
        for at, (state, large) in enumerate(STATES.items())
    ]


def how_many(name: str, count: int, *, large: bool) -> int:
    return min(-(-count // 10), LARGE_MOST) if large else min(count, DECODERS[name].most)


def held(name: str, count: int) -> list[float]:
    """Return the bytes of a decoder in each state, measured in two processes; raise `BenchError` with what they complain of."""
    return [
        bytes_held / how_many(name, count, large=large)
        for large in (False, True)
        for bytes_held in in_a_process(name, how_many(name, count, large=large), large=large)
    ]


def in_a_process(name: str, count: int, *, large: bool) -> list[int]:
    command = [sys.executable, "-m", "fastframe.bench.decoders", name, str(count), "large" if large else "small"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError((done.stderr.strip().splitlines() or [f"its process ended with status {done.returncode}"])[-1])
    found: list[int] = json.loads(done.stdout)
    return found


# In a process of its own


def main(argv: list[str]) -> None:
    name, count, which = argv
    try:
        print(json.dumps(hold(DECODERS[name], int(count), large=which == "large")))
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed; the extra `bench` brings it") from None
    except BenchError as error:
        raise SystemExit(str(error)) from None


def hold(decoding: Decoding, count: int, *, large: bool) -> list[int]:
    """Return how many bytes `count` decoders take altogether, in one state after the other."""
    make, decode = decoding.start()
    small = [decoding.wire([SMALL])]
    phases = [cut(decoding.wire([LARGE]), CHUNK), small] if large else [[], small, [decoding.header]]
    try_out(decoding, make(), decode)
    fillers = [make() for _ in range(min(FILLERS, decoding.most))]
    for filler in fillers:
        decode(filler, small[0])
    decoders = [None] * count
    before = written()
    for at in range(count):
        decoders[at] = make()
    found = []
    for chunks in phases:
        for decoder in decoders:
            for chunk in chunks:
                decode(decoder, chunk)
        found.append(written() - before)
    return found


def try_out(decoding: Decoding, decoder: Any, decode: Decode) -> None:
    """Have a decoder go through all that is measured; raise `BenchError` unless it gives what went in."""
    for payload in (SMALL, LARGE):
        if [each for chunk in cut(decoding.wire([payload]), CHUNK) for each in decode(decoder, chunk)] != [payload]:
            raise BenchError("it does not give the payloads that went in")
    if decode(decoder, decoding.header):
        raise BenchError("it gives payloads that have not come")


def written() -> int:
    """Return the bytes that this process has written to and that are in use."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
        if trim:
            trim(0)
    return memory_of("self", "Private_Dirty")


# Contenders


def ours(module: str) -> tuple[Make, Decode]:
    """`Decoder.feed`."""
    decoder = importlib.import_module(f"fastframe.{module}").Decoder
    return functools.partial(decoder, FORMAT), decoder.feed


def msgpack() -> tuple[Make, Decode]:
    """`Unpacker.feed`, iterated; its buffer as it comes, a limit that lets 16 MiB through."""
    unpacker = importlib.import_module("msgpack").Unpacker

    def decode(own: Any, chunk: bytes) -> list[bytes]:
        own.feed(chunk)
        return list(own)

    return lambda: unpacker(max_buffer_size=2 * ANNOUNCED), decode


def hiredis() -> tuple[Make, Decode]:
    """`Reader.feed` and `gets`."""
    reader = importlib.import_module("hiredis").Reader

    def decode(own: Any, chunk: bytes) -> list[bytes]:
        own.feed(chunk)
        return list(iter(own.gets, False))

    return reader, decode


def picows() -> tuple[Make, Decode]:
    """The protocol of a WebSocket client with its transport and listener: there is no parser without them."""
    module = importlib.import_module("picows")
    loop = NowhereLoop()
    payloads: list[bytes] = []

    class Listener(module.WSListener):  # type: ignore[misc, name-defined]  # a class of a module imported by name
        def on_ws_frame(self, transport: object, message: Any) -> None:  # noqa: ARG002
            payloads.append(message.get_payload_as_bytes())

    def decode(own: Any, chunk: bytes) -> list[bytes]:
        while chunk:
            buffer = own.get_buffer(-1)
            length = min(len(buffer), len(chunk))
            buffer[:length] = chunk[:length]
            own.buffer_updated(length)
            chunk = chunk[length:]
        return taken(payloads)

    weakref.finalize(decode, loop.close)
    return lambda: connect_to_nobody(module, Listener, loop), decode


def twisted() -> tuple[Make, Decode]:
    """`Int32StringReceiver.dataReceived`, a class with a limit of 16 MiB and `stringReceived`, without a transport."""
    payloads: list[bytes] = []

    class Receiver(importlib.import_module("twisted.protocols.basic").Int32StringReceiver):  # type: ignore[misc]
        MAX_LENGTH = ANNOUNCED

        def stringReceived(self, payload: bytes) -> None:  # noqa: N802
            payloads.append(payload)

    def decode(own: Any, chunk: bytes) -> list[bytes]:
        own.dataReceived(chunk)
        return taken(payloads)

    return Receiver, decode


def streams() -> tuple[Make, Decode]:
    """`asyncio.StreamReader` and the coroutine that waits in `readexactly` for it, without a task."""
    loop = asyncio.new_event_loop()
    loop.close()  # a reader wants one, and only makes futures with it
    payloads: list[bytes] = []

    async def read(reader: asyncio.StreamReader) -> None:
        while True:
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            payloads.append(await reader.readexactly(length))  # no name of its own that would keep it

    def make() -> tuple[asyncio.StreamReader, Any]:
        reader = asyncio.StreamReader(loop=loop)
        reading = read(reader)
        reading.send(None)
        return reader, reading

    def decode(own: Any, chunk: bytes) -> list[bytes]:
        reader, reading = own
        reader.feed_data(chunk)
        reading.send(None)
        return taken(payloads)

    return make, decode


def fed(feed: Feed, chunk: bytes) -> list[bytes]:
    payloads: list[bytes] = feed(chunk)
    return payloads


def taken(payloads: list[bytes]) -> list[bytes]:
    """Return what is in `payloads`, and empty it."""
    found = payloads[:]
    payloads.clear()
    return found


DECODERS: Final[dict[str, Decoding]] = {
    "compiled": Decoding("ours", "the compiled codec: Decoder.feed", lambda: ours("_codec_c")),
    "pure": Decoding("ours", "the codec in pure Python: Decoder.feed", lambda: ours("_codec_py")),
    "msgpack": Decoding(
        "compiled",
        "Unpacker, of bin: feed, and iterated; its buffer of 1 MiB as it comes",
        msgpack,
        msgpack_wire,
        struct.pack(">BI", 0xC6, ANNOUNCED),
    ),
    "hiredis": Decoding("compiled", "Reader, of bulk strings: feed and gets", hiredis, hiredis_wire, b"$%d\r\n" % ANNOUNCED),
    "picows": Decoding(
        "compiled",
        "the protocol of a WebSocket client with its transport and listener: there is no parser without them",
        picows,
        picows_wire,
        struct.pack(">BBQ", 0x82, 127, ANNOUNCED),
        most=300,  # each shakes hands
    ),
    "Int32StringReceiver": Decoding("python", "Twisted's: dataReceived and stringReceived, without a transport", twisted),
    "StreamReader": Decoding(
        "python", "asyncio's, and the coroutine that waits in readexactly for it, without a task", streams
    ),
    "by hand/rolling": Decoding(
        "python", "a bytearray that chunks are appended to and frames cut off", lambda: (byhand.rolling, fed)
    ),
    "by hand/direct": Decoding(
        "python", "frames cut out of the chunk at hand, the pieces of a large one joined", lambda: (byhand.direct, fed)
    ),
}


if __name__ == "__main__":
    main(sys.argv[1:])
