"""The members of a room, all in one process: what they say, what each of them gets, and when.

All members of a room get the same bytes, so one of them is enough to be decoded: the first that gets a byte puts it into the
room's `stream`, and what the others get has to be the same. So every byte of every member is looked at, nothing can be missing,
twice, or in another order, and a delivery costs little more than the system call that takes it: the client has one core for as
much as the server has one for.
"""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from fastframe import Decoder, FrameFormat
from fastframe.servers import messages, rooms
from fastframe.servers.messages import Kind
from fastframe.servers.session import DATA_TYPE

from .echoes import UPGRADE, masked_wire
from .entry import BenchError
from .workloads import frame

READ: Final = 16 * 1024  # bytes taken at once: a second of a room, or a TLS record
READY_AT_ONCE: Final = 256  # members that are served before it is somebody's turn to speak
QUIET: Final = 0.3  # seconds without a byte, after which a room is quiet
PATIENCE: Final = 30.0  # seconds without a byte that is still to come
JOIN_AT_ONCE: Final = 25  # for all who are there hear of each of them
NUMBER: Final = 8  # digits at the beginning of a text
LOOK_SECONDS: Final = 0.25
AGAIN: Final = (BlockingIOError, ssl.SSLWantReadError)
ROOM: Final = "bench"
# Of linux/sock_diag.h, linux/inet_diag.h and linux/netlink.h.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, TCP_ESTABLISHED = 4, 20, 1, 1
ALL_STATES: Final = 0xFFFFFFFF
ANY_COOKIE: Final = b"\xff" * 8

Decode = Callable[[bytes], list[tuple[int, bytes]]]


class Wire(NamedTuple):
    """How members speak to a server.

    `knock` asks the server to make a member of a connection, with a name; `enter` waits until it has. `say` makes the bytes
    that say a text, the number-th that is said; `heard` returns the payloads in a stream, and where each ends.
    """

    knock: Callable[[socket.socket, str], None]
    enter: Callable[[socket.socket], None]
    say: Callable[[int, str, str], bytes]
    heard: Decode


class Member:
    """One in the room. `position`: how much of the stream it had; `receipts`: how much after each reception, and when."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self.connection = connection
        self.recv = connection.recv
        self.name = name
        self.position = 0
        self.receipts: list[tuple[int, int]] = []


class Heard(NamedTuple):
    """What a room got: how many texts were said in how many nanoseconds, and how long each delivery took, in order."""

    said: int
    ns: int
    latencies: list[int]


class Crowd:
    """The members of a room at one server. `connect` makes a connection, TLS and all."""

    def __init__(self, wire: Wire, connect: Callable[[int], socket.socket]) -> None:
        self.wire = wire
        self.stream = bytearray()
        self.cut: list[float] = []  # when each of the slow ones was, in seconds since they became slow
        self._connect = connect
        self._members: dict[int, Member] = {}
        self._slow: list[Member] = []
        self._readable = select.epoll()
        self._slow_since = self._looked = 0.0
        self._received = 0
        self._joined = 0
        self._said = 0

    def join(self, count: int) -> list[Member]:
        """Let so many more in, and return them when all is quiet."""
        found: list[Member] = []
        while len(found) < count:
            some = [self._knock() for _ in range(min(JOIN_AT_ONCE, count - len(found)))]
            for member in some:
                self.wire.enter(member.connection)
                member.connection.setblocking(False)
                self._members[member.connection.fileno()] = member
                self._readable.register(member.connection.fileno(), select.EPOLLIN)
            self.settle(0)
            found += some
        self.settle(QUIET)
        return found

    def slow_down(self, members: Iterable[Member]) -> None:
        """Have these members not take anything any more."""
        for member in members:
            number = member.connection.fileno()
            self._slow.append(self._members.pop(number))
            self._readable.unregister(number)
        self._slow_since = self._looked = time.monotonic()

    def all_cut(self) -> bool:
        """Tell whether all who became slow have been cut, and note in `cut` when each was. It looks four times a second."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            for member in [member for member in self._slow if not is_served(member.connection)]:
                self.cut.append(now - self._slow_since)
                self._slow.remove(member)
                member.connection.close()
        return not self._slow

    def dismiss_slow(self) -> None:
        """Hang up those who became slow and were not cut."""
        while self._slow:
            self._slow.pop().connection.close()

    def settle(self, seconds: float) -> None:
        """Take what comes until nothing comes for so long, and forget it: who joins later was told of fewer others."""
        while ready := self._readable.poll(seconds, READY_AT_ONCE):
            for number, _ in ready:
                with contextlib.suppress(*AGAIN):
                    self._take(self._members[number])
        self.stream.clear()
        self._received = 0
        for member in self._members.values():
            member.position = 0
            member.receipts.clear()

    def talk(self, rate: float, seconds: float, over: Callable[[], bool] = lambda: False) -> Heard:
        """Have members say `rate` texts a second, one after the other, so long or until it is over; wait until all have all."""
        self.settle(0)
        members, first = list(self._members.values()), self._said
        said_at: list[int] = []
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds and not over():
            while len(said_at) < passed * rate:
                said_at.append(self._say(members[self._said % len(members)]))
            self._listen(max(0.0, len(said_at) / rate - passed))
        self._hear_out(len(said_at))
        latencies = self._latencies(first, said_at)
        if len(latencies) != len(said_at) * len(members):
            raise BenchError(f"{len(latencies):,} deliveries of {len(said_at) * len(members):,}")
        return Heard(len(said_at), max(member.receipts[-1][1] for member in members) - said_at[0], latencies)

    def close(self) -> None:
        self.dismiss_slow()
        for member in self._members.values():
            member.connection.close()
        self._readable.close()

    def _knock(self) -> Member:
        member = Member(self._connect(self._joined), f"m{self._joined}")
        self._joined += 1
        self.wire.knock(member.connection, member.name)
        return member

    def _say(self, member: Member) -> int:
        text = self.wire.say(self._said, member.name, f"{self._said:0{NUMBER}}")
        self._said += 1
        now = time.monotonic_ns()
        try:
            sent = member.connection.send(text)
        except AGAIN:
            sent = 0
        if sent != len(text):
            raise BenchError("the server does not read what is said")
        return now

    def _listen(self, seconds: float) -> bool:
        """Take what came; wait so long for it. Tell whether there was any."""
        stream, now = self.stream, time.monotonic_ns
        ready = self._readable.poll(seconds, READY_AT_ONCE)
        for number, _ in ready:
            member = self._members[number]
            try:
                chunk = self._take(member)
            except AGAIN:
                continue
            if not stream.startswith(chunk, member.position):
                self._extend(chunk, member)
            member.position += len(chunk)
            self._received += len(chunk)
            member.receipts.append((member.position, now()))
        return bool(ready)

    def _take(self, member: Member) -> bytes:
        try:
            chunk = member.recv(READ)
        except ConnectionError as error:
            raise BenchError(f"{member.name} was cut: {error.strerror}") from None
        if not chunk:
            raise BenchError(f"{member.name} was cut")
        return chunk

    def _extend(self, chunk: bytes, member: Member) -> None:
        """Put what nobody had before into the stream; raise `BenchError` if what others had is something else."""
        known = self.stream[member.position :]
        if not chunk.startswith(known):
            if b'"type":"gap"' in chunk + known:
                raise BenchError(f"{member.name} was served so late that the server told it of a gap: is the machine busy?")
            raise BenchError(f"{member.name} did not get what the others got")
        self.stream += chunk[len(known) :]

    def _hear_out(self, said: int) -> None:
        """Wait until everybody has all that was said."""
        while self._received < len(self.stream) * len(self._members) or self._count() < said:
            if not self._listen(PATIENCE):
                raise BenchError(f"{self._count():,} of {said:,} texts came in {PATIENCE:g} s")

    def _count(self) -> int:
        return sum(is_said(payload) for _, payload in self.wire.heard(bytes(self.stream)))

    def _latencies(self, first: int, said_at: list[int]) -> list[int]:
        """Return how long each text took to each member, in order; raise `BenchError` if one came twice or was never said."""
        ends, starts = [], []
        for end, payload in self.wire.heard(bytes(self.stream)):
            if is_said(payload):
                ends.append(end)
                starts.append(number_of(payload) - first)
        if sorted(starts) != list(range(len(said_at))):
            raise BenchError("not every text came once")
        found = []
        for member in self._members.values():
            at = 0
            for position, now in member.receipts:
                while at < len(ends) and ends[at] <= position:
                    found.append(now - said_at[starts[at]])
                    at += 1
        found.sort()
        return found


def is_served(connection: socket.socket) -> bool:
    """Tell whether the server still has its end of a connection, for its client may not see that: sock_diag(7).

    To the client, who takes nothing, the kernel cannot send the end of what the server gave up.
    """
    (own_host, own_port), (host, port) = connection.getsockname(), connection.getpeername()
    end = struct.pack("!HH4s12x4s12x", port, own_port, socket.inet_aton(host), socket.inet_aton(own_host))
    request = struct.pack("=BBxxI", socket.AF_INET, socket.IPPROTO_TCP, ALL_STATES) + end + struct.pack("=I8s", 0, ANY_COOKIE)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + request)
        answer = kernel.recv(READ)
    (kind,) = struct.unpack_from("=H", answer, 4)
    return kind == SOCK_DIAG_BY_FAMILY and answer[17] == TCP_ESTABLISHED


def is_said(payload: bytes) -> bool:
    return b'"type":"said"' in payload


def number_of(payload: bytes) -> int:
    return int(payload.partition(b'"text":"')[2][:NUMBER])


# the wires: our protocol, bare frames and WebSocket's


def event(length: int, number: int, name: str, text: str) -> bytes:
    """Return an event as our server makes it of a text that is filled up to `length` bytes."""
    fields = {
        "seq": number,
        "time": round(time.time(), 3),
        "type": "said",
        "name": name,
        "id": "",
        "text": text.ljust(length, "."),
    }
    return DATA_TYPE + rooms.encode(**fields)


def knock_ours(connection: socket.socket, name: str) -> None:
    hello = {"version": messages.VERSION, "agent": "bench", "nonce": "ab" * 32}
    asked = {"operation": "chat", "room": ROOM, "name": name, "history": 0}
    connection.sendall(frame([messages.encode(Kind.HELLO, hello), messages.encode(Kind.OPEN, asked)]))


def enter_ours(connection: socket.socket) -> None:
    decoder = Decoder(FORMAT)
    while True:
        for payload in decoder.feed(received(connection)):
            if payload[0] == Kind.ERROR:
                raise BenchError(f"the server lets nobody in: {payload[1:].decode()}")
            if payload[0] == Kind.OPENED:
                return


def received(connection: socket.socket) -> bytes:
    data = connection.recv(READ)
    if not data:
        raise BenchError("the server hangs up")
    return data


def say_ours(length: int, number: int, name: str, text: str) -> bytes:  # noqa: ARG001  the server adds who and when
    return frame([messages.encode(Kind.DATA, {"type": "say", "text": text.ljust(length, ".")})])


def heard_from_ours(stream: bytes) -> list[tuple[int, bytes]]:
    """Return the events in a stream; raise `BenchError` if their numbers do not follow each other."""
    found = heard_in_frames(stream)
    numbers = [messages.decode_fields(payload[1:])["seq"] for _, payload in found]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) if numbers else False:
        raise BenchError("the numbers of the events do not follow each other")
    return found


def knock_nowhere(connection: socket.socket, name: str) -> None:
    """Do nothing: who connects is in, and nobody is called anything there."""


def enter_frames(connection: socket.socket) -> None:
    if received(connection) != frame([GREETING]):
        raise BenchError("the server does not greet")


def say_in_frames(length: int, number: int, name: str, text: str) -> bytes:
    return frame([event(length, number, name, text)])


def heard_in_frames(stream: bytes) -> list[tuple[int, bytes]]:
    found, end = [], 0
    for payload in Decoder(FORMAT).feed(stream):
        end += 4 + len(payload)
        found.append((end, payload))
    return found


def knock_by_http(connection: socket.socket, name: str) -> None:  # noqa: ARG001  nobody is called anything there
    connection.sendall(UPGRADE)


def enter_websocket(connection: socket.socket) -> None:
    answer = b""
    while not answer.endswith(GREETING):
        answer += received(connection)
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise BenchError("the WebSocket was refused")


def say_to_websocket(length: int, number: int, name: str, text: str) -> bytes:
    return masked_wire([event(length, number, name, text)])


def heard_from_websocket(stream: bytes) -> list[tuple[int, bytes]]:
    """Return the payloads of whole frames that carry 126 bytes to 64 KiB (RFC 6455, section 5.2)."""
    found, at = [], 0
    while len(stream) - at >= 4:
        if stream[at : at + 2] != b"\x82\x7e":
            raise BenchError("a WebSocket frame that is none of the room")
        end = at + 4 + int.from_bytes(stream[at + 2 : at + 4])
        if end > len(stream):
            break
        found.append((end, stream[at + 4 : end]))
        at = end
    return found


FORMAT: Final = FrameFormat("u32be", max_payload_length=messages.MAX_PAYLOAD)
GREETING: Final = b"welcome"  # what our peers say to a connection when it will get what is said from now on


def ours(length: int) -> Wire:
    return Wire(knock_ours, enter_ours, functools.partial(say_ours, length), heard_from_ours)


def bare(length: int) -> Wire:
    return Wire(knock_nowhere, enter_frames, functools.partial(say_in_frames, length), heard_in_frames)


def websocket(length: int) -> Wire:
    return Wire(knock_by_http, enter_websocket, functools.partial(say_to_websocket, length), heard_from_websocket)
