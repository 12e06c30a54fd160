"""The members of the chat benchmark: whatever one of them gets that is not what was said is found out."""

import contextlib
import select
import socket
import threading
import time

import pytest

from fastframe.bench import chats
from fastframe.bench.chats import Crowd, bare, event, heard_from_ours, heard_from_websocket, is_served, say_ours
from fastframe.bench.entry import BenchError
from fastframe.bench.peers import picows_wire
from fastframe.bench.workloads import frame
from fastframe.servers import messages

LENGTH = 20


def faithful(member, text):
    return text


@contextlib.contextmanager
def crowd(told=faithful, count=3):
    """Yield members of a room in a thread, which tells each what `told` makes of a text."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        members = []

        def room():
            while True:
                for ready in select.select([listener, *members], [], [])[0]:
                    if ready is listener:
                        members.append(stack.enter_context(listener.accept()[0]))
                        members[-1].sendall(frame([chats.GREETING]))
                    elif not (text := receive(ready)):
                        return
                    else:
                        for number, member in enumerate(members):
                            with contextlib.suppress(ConnectionError):  # they leave as soon as something is wrong
                                member.sendall(told(number, text))

        thread = threading.Thread(target=room)
        thread.start()
        found = Crowd(bare(LENGTH), lambda _: socket.create_connection(listener.getsockname()))
        try:
            found.join(count)
            yield found
        finally:
            found.close()
            thread.join()


def receive(connection):
    with contextlib.suppress(ConnectionError):
        return connection.recv(4096)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(chats, "QUIET", 0.05)


def test_everybody_hears_everything():
    with crowd() as room:
        for _ in range(2):
            heard = room.talk(200, 0.05)
            assert 1 <= heard.said <= 11
            assert len(heard.latencies) == 3 * heard.said
            assert 0 < heard.latencies[0] <= heard.latencies[-1] <= heard.ns


def test_it_is_over_when_it_is_said_to_be():
    with crowd() as room:
        began = time.monotonic()
        assert room.talk(1000, 60, over=lambda: time.monotonic() - began > 0.05).said < 1000
        assert time.monotonic() - began < 10


def changed(text):
    return text.replace(b"..", b".!")


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (lambda member, text: changed(text) if member == 1 else text, "did not get what the others got"),
        (lambda member, text: text.replace(b'"said"', b'"gap"') if member == 1 else text, "served so late"),
        (lambda member, text: b"" if member == 1 else text, "texts came in 0.2 s"),
        (lambda member, text: text[:-1] if member == 1 else text, "did not get what the others got|texts came"),
        (lambda member, text: text + text, "not every text came once"),
    ],
    ids=["another", "gap", "none", "cut", "twice"],
)
def test_what_is_wrong_is_found(told, error, monkeypatch):
    monkeypatch.setattr(chats, "PATIENCE", 0.2 if "0.2 s" in error else 1.0)
    with crowd(told) as room, pytest.raises(BenchError, match=error):
        room.talk(100, 0.05)


def test_two_that_hear_another_order_are_found():
    kept = []

    def swapped(member, text):
        if member != 1:
            return text
        kept.append(text)
        return b"".join([kept.pop(), kept.pop()]) if len(kept) == 2 else b""

    with crowd(swapped) as room, pytest.raises(BenchError, match="did not get what the others got"):
        room.talk(100, 0.05)


def test_a_member_that_is_cut_is_found():
    with crowd() as room:
        next(iter(room._members.values())).connection.shutdown(socket.SHUT_RDWR)
        with pytest.raises(BenchError, match="m0 was cut"):
            room.talk(100, 0.05)


def test_slow_members_hear_nothing_and_are_seen_when_they_are_cut(monkeypatch):
    monkeypatch.setattr(chats, "LOOK_SECONDS", 0)
    with crowd() as room:
        (slow,) = room.join(1)
        room.slow_down([slow])
        heard = room.talk(100, 0.05, room.all_cut)
        assert len(heard.latencies) == 3 * heard.said
        assert not room.all_cut()
        slow.connection.shutdown(socket.SHUT_RDWR)
        assert room.all_cut()
        assert len(room.cut) == 1
        room.dismiss_slow()


def test_a_server_that_gave_up_a_connection_is_seen_though_its_client_is_not_told():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        peer = listener.accept()[0]
        peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                peer.send(bytes(1 << 20))
        assert is_served(client)
        peer.close()
        assert not is_served(client)


def test_an_event_of_the_others_is_as_long_as_one_of_ours():
    payload = event(200, 12345, "m7", "00012345")
    assert chats.number_of(payload) == 12345
    assert chats.is_said(payload)
    body = messages.decode_fields(payload[1:])
    assert body.keys() == {"seq", "time", "type", "name", "id", "text"}
    assert len(body["text"]) == 200
    asked = messages.decode_fields(say_ours(200, 12345, "m7", "00012345")[5:])
    assert asked == {"type": "say", "text": body["text"]}


def test_numbers_that_do_not_follow_each_other_are_found():
    payloads = [event(LENGTH, number, "m", "0") for number in (4, 5, 7)]
    assert [end for end, _ in heard_from_ours(frame(payloads[:2]))] == [len(payloads[0]) + 4, len(frame(payloads[:2]))]
    assert heard_from_ours(b"") == []
    with pytest.raises(BenchError, match="do not follow"):
        heard_from_ours(frame(payloads))


def test_websocket_frames_are_decoded_as_far_as_they_are_here():
    payloads = [event(200, number, "m", "0") for number in range(2)]
    wire = picows_wire(payloads)
    assert [payload for _, payload in heard_from_websocket(wire)] == payloads
    assert heard_from_websocket(wire)[-1][0] == len(wire)
    assert [payload for _, payload in heard_from_websocket(wire[:-1])] == payloads[:1]
    with pytest.raises(BenchError, match="none of the room"):
        heard_from_websocket(b"\x88\x02\x03\xe8")
