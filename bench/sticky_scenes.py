"""What `fastframe demo sticky` plays: what sticks together without frames, the four cures, and what fastframe does of them.

A scene gets a `Stage`, makes its connections there and calls their sockets, client and server in turn. It comes out the same
each time, since whoever receives what several calls have sent waits first until all of it is there.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from fastframe import FrameError

from . import sticky_cures as cures
from .sticky_stage import Stage

if TYPE_CHECKING:
    from .sticky_wire import Tap

MESSAGES: Final = {"A": b"hello", "B": b"11 o'clock", "C": b"bye"}
ALL: Final = b"".join(MESSAGES.values())
LONG: Final = b"have a nice evening"
COMMANDS: Final = {"A": (b"ls", b"notes.txt\nplan.txt\nsong.mp3\n"), "B": (b"date", b"Mon Nov 23\n")}
HEADER: Final = 4  # bytes of a u32
TRIES: Final = 5  # to send three messages before the first is acknowledged, which takes 40 ms: a busy machine may fail to


def sender(stage: Stage) -> None:
    for _ in range(TRIES):
        stage.log.clear()
        segments = _send_all_receive_once(stage, nodelay=False)
        if segments in (2, None):
            break
    stage.count("no cure", len(ALL), "two meet, or one is cut")
    stage.say("Three sends, one recv. Each byte is right; where a message ends is not among them.")
    if segments is not None:
        why = " B and C waited for the acknowledgement of A, to go as one: that is Nagle's algorithm." if segments == 2 else ""
        stage.say(f"They left in {segments} TCP segments.{why} TCP_NODELAY turns that off. Does it help?")
        segments = _send_all_receive_once(stage, nodelay=True)
        stage.say(f"No: they left in {segments} segments, and met again in the receiver's buffer.")


def _send_all_receive_once(stage: Stage, *, nodelay: bool) -> int | None:
    """Return the number of segments."""
    client, server = stage.tcp(nodelay=nodelay)
    if hasattr(socket, "TCP_QUICKACK"):  # a new connection acknowledges at once; later ones wait for 40 ms, like this one now
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    _send_messages(client)
    server.wait()
    server.recv(1024)
    return client.segments()


def _send_messages(client: Tap) -> None:
    for letter, message in MESSAGES.items():
        client.announce(letter, len(message))
        client.sendall(message)


def receiver(stage: Stage) -> None:
    client, server = stage.tcp()
    _send_messages(client)
    server.wait()
    for _ in MESSAGES:
        server.recv(7)
    stage.say(
        "Three sent, three received, and not one of them is a message. What a recv leaves behind, the next one begins with."
    )


def answer(stage: Stage) -> None:
    client, server = stage.tcp()
    for letter, (command, output) in COMMANDS.items():
        client.announce(letter, len(command))
        client.sendall(command)
        server.recv(1024)
        server.announce(letter.lower(), len(output))
        server.sendall(output)
        client.wait()
        client.recv(16)
    stage.say(
        'Asked for "date", the server answers with the end of "ls", or so it seems. All answers will be late from now on.'
    )


def udp(stage: Stage) -> None:
    client, server = stage.udp()
    _send_messages(client)
    for _ in MESSAGES:
        server.recv(1024)
    stage.say("Three sends, three recvs. Now two more, and a recv that asks for too little:")
    for letter in "BC":
        client.announce(letter, len(MESSAGES[letter]))
        client.sendall(MESSAGES[letter])
    for _ in range(2):
        server.recv(8)
    stage.say(
        "The rest of B is gone; it sticks to nothing. UDP's header has a length, and the kernel keeps each datagram apart."
    )
    stage.say("The price: at most 65,507 bytes, and each may get lost, come twice, or come before an earlier one.")


def ack(stage: Stage) -> None:
    stage.show(cures.ack_between)
    client, server = stage.tcp()
    for letter, message in MESSAGES.items():
        client.announce(letter, len(message))
        cures.ack_between(client, server, message)
    stage.count("1 an ack between", len(ALL), "a message is longer than a recv")
    stage.say("Still fails: an ack says that something came, not that all of it did.")
    for letter, message in (("D", LONG), ("E", b"bye")):
        client.announce(letter, len(message))
        cures.ack_between(client, server, message)


def size(stage: Stage) -> None:
    stage.show(cures.size_first, cures.recv_exactly)
    client, server = stage.tcp()
    for letter, message in MESSAGES.items():
        client.announce(letter, len(str(len(message))), len(message))
        cures.size_first(client, server, message)
    stage.count("2 the size first", len(ALL), "the ack is left out")
    stage.say("Still fails: leave out the ack, which is what takes the time, and the digits stick to the message.")
    client.announce("B", 2, len(MESSAGES["B"]))
    client.sendall(b"10")
    client.sendall(MESSAGES["B"])
    server.wait()
    server.recv(16)
    stage.say("Is the size 10, or 1011?")


def header(stage: Stage) -> None:
    stage.show(cures.send_struct, cures.recv_struct)
    client, server = stage.tcp()
    for letter, message in MESSAGES.items():
        client.announce(letter, HEADER, len(message))
        cures.send_struct(client, message)
    server.wait()
    received = [cures.recv_struct(server) for _ in MESSAGES]
    assert received == list(MESSAGES.values())
    stage.count("3 a struct header", len(ALL), "a length is wrong, or hostile")
    stage.say('Still fails: D comes from a peer that packs its length with "<I", or with "i", as its own machine does.')
    (length,) = struct.unpack(">I", _swapped(stage)[1].recv(HEADER))
    stage.say(f"The server takes 5 for {length:,} and waits for as many bytes: no limit, no error, no end.")


def _swapped(stage: Stage) -> tuple[Tap, Tap]:
    """Return a connection whose client has sent a message with its length in the other byte order."""
    client, server = stage.tcp()
    client.announce("D", HEADER, 5)
    client.sendall(struct.pack("<I", 5) + b"hello")
    return client, server


def described(stage: Stage) -> None:
    stage.show(cures.describe, cures.send_described, cures.recv_described)
    client, server = stage.tcp()
    for letter, message in MESSAGES.items():
        client.announce(letter, HEADER, len(cures.describe(message)), len(message))
        cures.send_described(client, message)
    server.wait()
    received = [cures.recv_described(server) for _ in MESSAGES]
    assert received == list(MESSAGES.values())
    stage.count("4 header, JSON, body", len(ALL), "as 3, though a checksum tells")
    stage.say("Still fails: D says that it has 3 bytes, and has 5. E follows.")
    wrong = cures.describe(b"hello").replace(b'"size":5', b'"size":3')
    client.announce("D", HEADER, len(wrong), len(b"hello"))
    client.sendall(struct.pack(">I", len(wrong)) + wrong + b"hello")
    client.announce("E", HEADER, len(cures.describe(b"bye")), len(b"bye"))
    cures.send_described(client, b"bye")
    server.wait()
    try:
        cures.recv_described(server)
    except ValueError as error:
        stage.say(f"The checksum tells: {error}. But where does E begin? The server takes the next 4 bytes for its header:")
    (length,) = struct.unpack(">I", server.recv(HEADER))
    stage.say(f"A description of {length:,} bytes, as it reads them. This connection is of no use any more.")


def framed(stage: Stage) -> None:
    stage.show(cures.framed, cures.send_framed, cures.recv_framed)
    client, server = stage.tcp()
    for letter, message in MESSAGES.items():
        client.announce(letter, HEADER, len(message))
    cures.send_framed(client, MESSAGES.values())
    payloads = list(itertools.islice(cures.recv_framed(server), len(MESSAGES)))
    assert payloads == list(MESSAGES.values())
    stage.count("5 fastframe", len(ALL), "a wrong length is not too large")
    stage.say("The bytes of cure 3, in one send and one recv, and each payload by itself. What cure 3 waited for without end:")
    _tell_error(stage, _swapped(stage)[1])
    stage.say("And a peer that leaves in the middle of E:")
    client, server = stage.tcp()
    client.announce("E", HEADER, 5)
    client.sendall(struct.pack(">I", 5) + b"he")
    client.shutdown(socket.SHUT_WR)
    _tell_error(stage, server)


def _tell_error(stage: Stage, server: Tap) -> None:
    try:
        next(cures.recv_framed(server))
    except FrameError as error:
        stage.say(f"{type(error).__name__}: {error}")


class Scene(NamedTuple):
    """`title` says what is to be seen, `play` shows it."""

    title: str
    play: Callable[[Stage], None]


SCENES: Final = {
    "sender": Scene("Without frames: the sender lets messages stick together", sender),
    "receiver": Scene("Without frames: the receiver cuts them anywhere", receiver),
    "answer": Scene("Without frames: the rest of an answer becomes the next answer", answer),
    "udp": Scene("UDP has none of that", udp),
    "ack": Scene("Cure 1: an ack between two sends", ack),
    "size": Scene("Cure 2: the size first, as digits, and an ack", size),
    "struct": Scene('Cure 3: a header of fixed length, struct.pack(">I", size)', header),
    "json": Scene("Cure 4: that header, a description in JSON, the message", described),
    "fastframe": Scene("What fastframe does of it", framed),
}


def play(name: str) -> Stage:
    """Play a scene; return the stage with its log."""
    with contextlib.ExitStack() as stack:
        stage = Stage(stack)
        SCENES[name].play(stage)
    return stage
