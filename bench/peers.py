"""Other projects' decoders, one small adapter each, given the same payloads in their own wire format.

Each is shown at its best: no event loop runs, Twisted calls `list.append` where a program has a method of its own, and no
transport is paused. picows takes bytes in its own buffer only, so it is charged the copy that `recv_into` would have made.
One that is not installed, or that cannot be driven in this way any more, is left out with the reason.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import importlib
import importlib.metadata
import re
import struct
from collections.abc import Callable
from typing import Any, Final

from .entry import Contenders, DecodeContender, EncodeContender, Feed, Kind, LeftOutError, Wire, decoded, fed, first_line
from .workloads import FORMAT, cut, frame

MAX_LENGTH: Final = FORMAT.max_payload_length
TRIAL: Final = [b"", b"a", bytes(126), bytes(70_000), b"b"]  # every length of header that there is
WEBSOCKET_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def add_peers(found: Contenders) -> None:
    """Add all that can take part, tried out."""
    for name, kind, start, wire in PEERS:
        try:
            try_out(name, start, wire)
        except LeftOutError as error:
            found.left_out.append(str(error))
            continue
        found.versions[name] = importlib.metadata.version(name)
        found.decode[name] = DecodeContender(kind, first_line(start), start, fed(wire))
        if name == "msgpack":
            found.encode[name] = msgpack_encoder()


def try_out(name: str, start: Callable[[], Feed], wire: Wire) -> None:
    """Raise LeftOutError unless the peer decodes a few payloads."""
    try:
        right = decoded(start(), cut(wire(TRIAL), 1000)) == TRIAL
    except ModuleNotFoundError as error:
        raise LeftOutError(f"{name}: {error.name} is not installed; the extra `bench` brings it") from None
    except Exception as error:  # a peer may change as it likes, and its text may have any number of lines
        version = importlib.metadata.version(name)
        raise LeftOutError(f"{name}: {version} fails with {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not right:
        raise LeftOutError(f"{name}: {importlib.metadata.version(name)} does not give the payloads that went in")


def msgpack_decoder() -> Feed:
    """Feed an `Unpacker` and list what it iterates over; bin payloads, its buffer twice the largest."""
    unpacker = importlib.import_module("msgpack").Unpacker(max_buffer_size=2 * MAX_LENGTH)
    feed = unpacker.feed

    def feed_and_iterate(chunk: bytes) -> list[bytes]:
        feed(chunk)
        return list(unpacker)

    return feed_and_iterate


def msgpack_encoder() -> EncodeContender:
    """Pack with one `Packer`; many: join what it gives for each."""
    packer = importlib.import_module("msgpack").Packer()

    def pack_many(payloads: list[bytes]) -> bytes:
        return b"".join(map(packer.pack, payloads))

    return EncodeContender("compiled", first_line(msgpack_encoder), packer.pack, pack_many, msgpack_wire)


def msgpack_wire(payloads: list[bytes]) -> bytes:
    def header(length: int) -> bytes:
        for code, field, limit in ((0xC4, "B", 1 << 8), (0xC5, "H", 1 << 16)):
            if length < limit:
                return struct.pack(">B" + field, code, length)
        return struct.pack(">BI", 0xC6, length)

    return b"".join([header(len(payload)) + payload for payload in payloads])


def hiredis_decoder() -> Feed:
    """Feed a `Reader` and call `gets` until there is no more; bulk strings of Redis, bytes come out."""
    reader = importlib.import_module("hiredis").Reader()
    feed, gets = reader.feed, reader.gets

    def feed_and_get(chunk: bytes) -> list[bytes]:
        feed(chunk)
        payloads = []
        while (payload := gets()) is not False:
            payloads.append(payload)
        return payloads

    return feed_and_get


def hiredis_wire(payloads: list[bytes]) -> bytes:
    return b"".join([b"$%d\r\n%b\r\n" % (len(payload), payload) for payload in payloads])


def twisted_decoder() -> Feed:
    """Call an `Int32StringReceiver`'s `dataReceived`; its `stringReceived` is `list.append`; u32be, `MAX_LENGTH` as in ours."""
    receiver = importlib.import_module("twisted.protocols.basic").Int32StringReceiver()
    receiver.MAX_LENGTH = MAX_LENGTH

    def feed(chunk: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        receiver.stringReceived = payloads.append
        receiver.dataReceived(chunk)
        return payloads

    return feed


def picows_decoder() -> Feed:
    """Copy into a WebSocket client's buffer; its listener makes bytes of each frame; unmasked, `max_frame_size` as in ours."""
    picows = importlib.import_module("picows")
    payloads: list[bytes] = []

    class Listener(picows.WSListener):  # type: ignore[misc, name-defined]  # a class of a module imported by name
        def on_ws_frame(self, transport: object, message: Any) -> None:  # noqa: ARG002
            payloads.append(message.get_payload_as_bytes())

    with contextlib.closing(NowhereLoop()) as loop:
        protocol = connect_to_nobody(picows, Listener, loop)
    get_buffer, buffer_updated = protocol.get_buffer, protocol.buffer_updated

    def feed(chunk: bytes) -> list[bytes]:
        nonlocal payloads
        payloads = []
        pos = 0
        while pos < len(chunk):
            buffer = get_buffer(-1)
            piece = chunk[pos : pos + len(buffer)]
            buffer[: len(piece)] = piece
            buffer_updated(len(piece))
            pos += len(piece)
        return payloads

    return feed


def picows_wire(payloads: list[bytes]) -> bytes:
    def header(length: int) -> bytes:
        if length < 126:
            return struct.pack(">BB", 0x82, length)
        return struct.pack(">BBH", 0x82, 126, length) if length < 1 << 16 else struct.pack(">BBQ", 0x82, 127, length)

    return b"".join([header(len(payload)) + payload for payload in payloads])


class NowhereLoop(asyncio.SelectorEventLoop):
    """A loop whose connections lead nowhere."""

    async def create_connection(self, factory: Any, *args: object, **options: object) -> Any:  # type: ignore[override]  # noqa: ARG002
        return Nowhere(factory()).shake_hands()


def connect_to_nobody(picows: Any, listener: Callable[[], object], loop: NowhereLoop) -> Any:
    """Return the protocol of a WebSocket client that has shaken hands, with a transport that answers as a server does."""
    connecting = picows.ws_connect(
        listener,
        "ws://nowhere/",
        websocket_handshake_timeout=None,
        max_frame_size=MAX_LENGTH,
        use_aiofastnet=False,
    )
    transport, _ = loop.run_until_complete(connecting)
    return transport.underlying_transport.protocol


class Nowhere(asyncio.Transport):
    """A transport and its socket in one, that says yes to the upgrade it is asked for, and drops everything else."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.asked = b""

    def shake_hands(self) -> tuple[Nowhere, Any]:
        self.protocol.connection_made(self)
        (key,) = re.findall(rb"(?i)sec-websocket-key: *(\S+)", self.asked)
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())  # noqa: S324  what RFC 6455 asks for
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
        )
        answer %= accept
        self.protocol.get_buffer(-1)[: len(answer)] = answer
        self.protocol.buffer_updated(len(answer))
        return self, self.protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def write(self, data: Any) -> None:
        self.asked += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def setsockopt(self, *args: object) -> None:
        pass

    def getsockopt(self, *args: object) -> int:  # noqa: ARG002
        return 0

    def fileno(self) -> int:
        return -1


PEERS: Final[tuple[tuple[str, Kind, Callable[[], Feed], Wire], ...]] = (
    ("msgpack", "compiled", msgpack_decoder, msgpack_wire),
    ("hiredis", "compiled", hiredis_decoder, hiredis_wire),
    ("picows", "compiled", picows_decoder, picows_wire),
    ("Twisted", "python", twisted_decoder, frame),
)
