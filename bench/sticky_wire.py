"""Sockets that keep a log: each call on them, what it sent or returned, and which message each byte belongs to.

A stream keeps the order of its bytes. So whoever knows which messages went in, and how long they are, knows of each chunk that
comes out where a message ends in it and where one is cut: `announce` tells the lengths, a `Ruler` at each end lays them along
the bytes. Nothing else is known of them, and nothing is invented: the chunks are what the kernel returned.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing_extensions import Buffer

LOOPBACK: Final = ("127.0.0.1", 0)
PATIENCE: Final = 10.0  # seconds; what is waited for has been sent already, so only a broken machine takes as long

BORDER: Final = "|"  # a message begins or ends
SEAM: Final = ":"  # inside a message, between a header and what follows it
CUT: Final = "~"  # inside a message, and only because a chunk begins or ends here

# linux/tcp.h, struct tcp_info, since 4.6: 8 bytes of flags, 24 u32, 4 u64, and 5 u32 before this one
TCP_INFO_DATA_SEGS_OUT: Final = 8 + 24 * 4 + 4 * 8 + 5 * 4


@dataclass(frozen=True)
class Piece:
    """The bytes of a chunk that belong to one part of one message; `before` and `after` are what is at its ends."""

    letter: str  # of the message; none for an acknowledgement
    data: bytes
    before: str
    after: str


@dataclass(frozen=True)
class Call:
    """A call on a socket: `name` with its arguments, and the bytes that it sent or returned."""

    who: str
    name: str
    pieces: tuple[Piece, ...]

    @property
    def sends(self) -> bool:
        return self.name.startswith("send")

    @property
    def letters(self) -> list[str]:
        """The messages that the bytes belong to, each once."""
        return list(dict.fromkeys(piece.letter for piece in self.pieces))

    @property
    def data(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces)


@dataclass(frozen=True)
class Remark:
    """What is said between calls; `code`: it is the source of what follows."""

    text: str
    code: bool = False


Entry = Call | Remark


class Ruler:
    """Messages laid along the bytes of one direction, as one end has seen them so far."""

    def __init__(self) -> None:
        self._parts: deque[tuple[str, int, str, str]] = deque()  # letter, length, before, after
        self._done = 0  # bytes of the first part that are past

    @property
    def left(self) -> int:
        """How many bytes of the messages are still to come."""
        return sum(length for _, length, _, _ in self._parts) - self._done

    def lay(self, letter: str, lengths: Sequence[int]) -> None:
        """Add a message, made of parts with these lengths."""
        marks = [BORDER, *[SEAM] * (len(lengths) - 1), BORDER]
        for length, before, after in zip(lengths, marks, marks[1:], strict=False):
            self._parts.append((letter, length, before, after))

    def measure(self, data: bytes) -> Iterator[Piece]:
        """Yield the pieces of `data`, which are the next bytes."""
        while data:
            letter, length, before, after = self._parts[0]
            taken, data = data[: length - self._done], data[length - self._done :]
            begins, self._done = self._done == 0, self._done + len(taken)
            ends = self._done == length
            yield Piece(letter, taken, before if begins else CUT, after if ends else CUT)
            if ends:
                self._parts.popleft()
                self._done = 0

    def drop_message(self) -> None:
        """Pass what is left of a message that was begun: a datagram's, which is gone when it was cut."""
        if self._done:
            self._parts.popleft()
            self._done = 0


class Tap(socket.socket):
    """A connected socket that logs what is called.

    `out` and `into` are its own rulers, `far` is the one at which the peer measures what is sent here.
    """

    def __init__(self, raw: socket.socket, who: str, log: list[Entry], *, out: Ruler, far: Ruler, into: Ruler) -> None:
        super().__init__(fileno=raw.detach())
        self.settimeout(PATIENCE)
        self._who, self._log = who, log
        self._out, self._far, self._in = out, far, into

    def announce(self, letter: str, *lengths: int) -> None:
        """Tell that the next bytes sent are a message of parts with these lengths."""
        for ruler in (self._out, self._far):
            ruler.lay(letter, lengths)

    def wait(self) -> None:
        """Wait until all that the peer has announced can be received."""
        count = self._in.left
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)  # select says nothing of fewer
        readable, _, _ = select.select([self], [], [], PATIENCE)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if not readable:
            raise TimeoutError(f"{count} bytes did not come within {PATIENCE:g} seconds")

    def segments(self) -> int | None:
        """Return how many TCP segments with data have left; None where the kernel does not tell."""
        if sys.platform != "linux":
            return None
        info = self.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_DATA_SEGS_OUT + 4)
        if len(info) < TCP_INFO_DATA_SEGS_OUT + 4:
            return None
        return int(struct.unpack_from("=I", info, TCP_INFO_DATA_SEGS_OUT)[0])

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        count = super().send(data, flags)
        self._sent("send", bytes(data)[:count])
        return count

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        super().sendall(data, flags)
        self._sent("sendall", bytes(data))

    def sendmsg(self, buffers: Iterable[Buffer], *rest: Any) -> int:
        buffers = list(buffers)
        count = super().sendmsg(buffers, *rest)
        self._sent("sendmsg", b"".join(buffers)[:count])
        return count

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        self._received(bufsize, data)
        return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        with memoryview(buffer) as view:
            count = super().recv_into(view, nbytes, flags)
            self._received(nbytes or len(view), bytes(view[:count]))
        return count

    def _sent(self, name: str, data: bytes) -> None:
        if not self._out.left and data:
            self.announce("", len(data))
        self._log.append(Call(self._who, name, tuple(self._out.measure(data))))

    def _received(self, size: int, data: bytes) -> None:
        self._log.append(Call(self._who, f"recv({size})", tuple(self._in.measure(data))))
        if self.type == socket.SOCK_DGRAM:
            self._in.drop_message()


@contextlib.contextmanager
def tcp_pair(log: list[Entry]) -> Iterator[tuple[Tap, Tap]]:
    """Yield both ends of a TCP connection on the loopback interface."""
    with socket.create_server(LOOPBACK) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with _tapped(client, server, log) as ends:
        yield ends


@contextlib.contextmanager
def udp_pair(log: list[Entry]) -> Iterator[tuple[Tap, Tap]]:
    """Yield two UDP sockets that are connected to each other."""
    client, server = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for end in (client, server):
        end.bind(LOOPBACK)
    client.connect(server.getsockname())
    server.connect(client.getsockname())
    with _tapped(client, server, log) as ends:
        yield ends


@contextlib.contextmanager
def _tapped(client: socket.socket, server: socket.socket, log: list[Entry]) -> Iterator[tuple[Tap, Tap]]:
    sent, arriving, answered, returning = Ruler(), Ruler(), Ruler(), Ruler()
    with (
        Tap(client, "client", log, out=sent, far=arriving, into=returning) as one,
        Tap(server, "server", log, out=answered, far=returning, into=arriving) as other,
    ):
        yield one, other
