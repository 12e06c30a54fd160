"""The tutorial's UDP programs: clients that speak the original bytes, what ended the originals, and the commands."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from serving import FASTFRAME, serving
from threaded import PATIENCE, threaded

from fastframe import datagram
from fastframe.servers import echo_udp, tutorial_udp
from fastframe.servers.tutorial_udp import BYE, MOST_MEMBERS, SILENCE_SECONDS, Room

MESSAGES = [
    b"hello",
    b"",
    b"\xff",
    b"x" * 2000,
    "grüß".encode(),
    b"PING12345678",
    b"\0\0\0\1x",
    b"bye",
    bytes(datagram.MAX_DATAGRAM),
]


@contextlib.contextmanager
def served(handler, *hosts):
    """Serve on a port of each host; yield the server."""
    sockets = [sock for host in hosts or ("127.0.0.1",) for sock in echo_udp.bind_free(host)]
    with threaded(lambda: datagram.serve(handler, sockets=sockets, format=None)) as server:
        yield server


class Client:
    """A client as the tutorial has it: `sendto` and `recvfrom`, with more room than its 1,024 bytes."""

    def __init__(self, server, endpoint=0):
        self.server = server.endpoints[endpoint].address
        self.socket = socket.socket(socket.AF_INET if len(self.server) == 2 else socket.AF_INET6, socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def say(self, message):
        self.socket.sendto(message, self.server)

    def hear(self):
        message, sender = self.socket.recvfrom(70_000)
        assert sender == self.server
        return message

    def ask(self, message):
        self.say(message)
        return self.hear()

    def leave(self):
        """Leave, and return what came before the receipt."""
        self.say(BYE)
        return list(itertools.takewhile(lambda message: message != BYE, iter(self.hear, None)))


def test_the_numbers_in_the_documentation():
    text = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert f"or nothing for {SILENCE_SECONDS:g} s; {MOST_MEMBERS} may be there" in text.replace("\n", " ")
    assert f"every {tutorial_udp.ALIVE_SECONDS:g} s" in text
    assert f"one datagram costs up to {MOST_MEMBERS - 1}" in text


# Echo


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_datagram_comes_back_as_it_came(host):
    with served(tutorial_udp.echo, host) as server, Client(server) as client:
        for message in MESSAGES:
            assert client.ask(message) == message


@pytest.mark.parametrize("harm", MESSAGES)
def test_nothing_that_one_client_sends_ends_the_echo_of_another(harm):
    with served(tutorial_udp.echo) as server, Client(server) as bad, Client(server) as good:
        bad.say(harm)
        assert good.ask(b"still there") == b"still there"
        assert bad.hear() == harm
        assert bad.ask(b"he, too") == b"he, too"


@pytest.mark.parametrize("handler", [tutorial_udp.echo, Room()])
def test_servers_that_are_pointed_at_each_other_and_at_themselves_fall_silent(handler):
    """Each one's own socket sends before they serve: that is what a forged sender address looks like."""
    sockets = [echo_udp.bind_free("127.0.0.1")[0] for _ in range(2)]
    for sender, target in itertools.product(sockets, repeat=2):
        for message in (b"hello", b"", BYE):
            sender.sendto(message, target.getsockname())
    with threaded(lambda: datagram.serve(handler, sockets=sockets, format=None)) as server, Client(server) as client:
        assert client.ask(BYE) == BYE
    assert server.counters == {"received": 13, "bad": 12, "sent": 1}


# The room


def test_a_message_goes_to_all_others_as_it_came_and_not_back():
    with served(Room()) as server, Client(server) as one, Client(server) as two, Client(server) as three:
        assert one.ask(b"bye") == b"bye"  # who never was there
        assert one.ask(b"bye\n") == b"bye\n"  # as nc sends it
        one.say(b"nobody is here yet")
        two.say(b"hello")
        assert one.hear() == b"hello"
        three.say("für alle".encode())
        assert [one.hear(), two.hear()] == ["für alle".encode()] * 2
        one.say(b"x" * 2000)
        assert [two.hear(), three.hear()] == [b"x" * 2000] * 2
        assert [client.leave() for client in (one, two, three)] == [[], [], []]


def test_an_empty_datagram_makes_a_member_and_goes_to_nobody():
    with served(Room()) as server, Client(server) as one, Client(server) as two:
        one.say(b"")
        two.say(b"")
        two.say(b"hello")
        assert one.hear() == b"hello"
        assert two.leave() == one.leave() == []


def test_one_bad_byte_is_nobodys_concern():
    with served(Room()) as server, Client(server) as good, Client(server) as bad, Client(server) as other:
        good.say(b"")
        bad.say(b"\xff")
        other.say(b"hello")
        assert good.hear() == b"hello"
        assert bad.leave() == []  # such a message makes no member
        bad.say("mended: ü".encode())
        assert [good.hear(), other.hear()] == ["mended: ü".encode()] * 2
    assert server.counters["bad"] == 1


def test_whoever_says_bye_hears_no_more_and_others_go_on():
    with served(Room()) as server, Client(server) as one, Client(server) as two, Client(server) as three:
        for client in (one, two, three):
            client.say(b"")
        assert one.leave() == []
        two.say(b"still there?")
        assert three.hear() == b"still there?"
        assert one.leave() == []
        one.say(b"here again")
        assert [two.hear(), three.hear()] == [b"here again"] * 2


def test_the_lock_step_clients_of_the_tutorial_talk():
    """Each sends and then waits for an answer; the original waited for three of them before it gave one."""
    with served(Room()) as server, Client(server) as one, Client(server) as two:
        one.say(b"anybody there?")
        two.say(b"0")
        for number in range(20):
            assert one.hear() == b"%d" % number
            one.say(b"answer")
            assert two.hear() == b"answer"
            two.say(b"%d" % (number + 1))


def test_one_room_for_all_addresses():
    with served(Room(), "127.0.0.1", "::1") as server, Client(server) as four, Client(server, endpoint=1) as six:
        four.say(b"")
        six.say(b"hello")
        assert four.hear() == b"hello"
        four.say(b"hello, six")
        assert six.hear() == b"hello, six"


class Endpoint:
    """An endpoint that keeps what is sent."""

    address = ("127.0.0.1", 9000)

    def __init__(self):
        self.sent = []
        self.counters = Counter()

    def send(self, message, address):
        self.sent.append((message, address))


def client(number):
    return ("127.0.0.1", echo_udp.CLIENT_PORTS + number)


def test_a_silent_member_is_forgotten_and_one_that_says_anything_is_not():
    now, endpoint = [0.0], Endpoint()
    room = Room(now=lambda: now[0])
    room(endpoint, [(b"", client(0)), (b"", client(1))])
    now[0] = SILENCE_SECONDS - 1
    room(endpoint, [(b"", client(1))])
    now[0] = SILENCE_SECONDS + 1
    room(endpoint, [(b"hello", client(2))])
    assert endpoint.sent == [(b"hello", client(1))]
    assert room.members == 2


def test_there_is_room_for_so_many_and_a_message_costs_no_more_datagrams():
    endpoint, room = Endpoint(), Room()
    room(endpoint, [(b"", client(number)) for number in range(MOST_MEMBERS + 1)])
    room(endpoint, [(b"nobody hears that", client(MOST_MEMBERS))])
    assert (room.members, endpoint.sent, endpoint.counters) == (MOST_MEMBERS, [], {"full": 2})
    room(endpoint, [(b"hello", client(0))])
    assert len(endpoint.sent) == MOST_MEMBERS - 1
    room(endpoint, [(BYE, client(0)), (b"now there is room", client(MOST_MEMBERS))])
    assert (room.members, endpoint.counters) == (MOST_MEMBERS, {"full": 2})


@pytest.mark.parametrize("sender", [("127.0.0.1", echo_udp.CLIENT_PORTS - 1), ("::1", 53, 0, 0), "/run/socket", None])
def test_no_server_becomes_a_member_whoever_forges_its_address(sender):
    endpoint, room = Endpoint(), Room()
    room(endpoint, [(b"", client(0)), (b"hello", sender), (BYE, sender)])
    assert (room.members, endpoint.sent, endpoint.counters) == (1, [], {"bad": 2})


# The commands


@pytest.fixture
def typed(monkeypatch):
    """Standard input, to write to."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as stdin, open(writing, "wb", buffering=0) as typing:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield typing


def at(server):
    return ["--address", server.addresses[0], "--timeout", str(PATIENCE)]


def test_the_echo_client_prints_what_comes_back_until_bye(capfdbinary):
    with served(tutorial_udp.echo) as server:
        assert tutorial_udp.client_udp_echo([*at(server), "hello", "", "\udcff", "bye", "not sent"]) == 0
    assert capfdbinary.readouterr() == (b"hello\n\n\xff\nbye\n", b"")
    assert server.counters["received"] == 4


def test_the_echo_client_reads_standard_input(typed, capfdbinary):
    typed.write(b"one\n\xff\nlast")
    typed.close()
    with served(tutorial_udp.echo) as server:
        assert tutorial_udp.client_udp_echo(at(server)) == 0
    assert capfdbinary.readouterr() == (b"one\n\xff\nlast\n", b"")


def test_the_chat_client_sends_lines_with_a_name_and_leaves(typed):
    with served(Room()) as server, Client(server) as other:
        other.say(b"")
        typed.write(b"hello\n\nno line feed")
        typed.close()
        assert tutorial_udp.client_udp_chat([*at(server), "--name", "alice"]) == 0
        said = [b"alice is here", b"alice: hello", b"alice: ", b"alice: no line feed", b"alice leaves"]
        assert [other.hear() for _ in said] == said
        assert other.leave() == []


def test_the_chat_client_without_a_name_sends_the_lines_alone(typed):
    with served(Room()) as server, Client(server) as other:
        other.say(b"")
        typed.write(b"hel")
        typed.write(b"lo\nbye\nnot sent\n")
        assert tutorial_udp.client_udp_chat(at(server)) == 0
        assert other.leave() == [b"hello"]


def test_the_chat_client_shows_what_others_say_and_nothing_steers_its_terminal(typed, capfdbinary):
    def handler(endpoint, received):
        for message, sender in received:
            answers = [message] if message == BYE else ['it\'s "fine" ü'.encode(), b"\x1b[2J\r\xff\ntwo"]
            endpoint.send_many([(answer, sender) for answer in answers])
        typed.write(b"bye\n")

    with served(handler) as server:
        assert tutorial_udp.client_udp_chat(at(server)) == 0
    assert capfdbinary.readouterr() == ('it\'s "fine" ü\n\\x1b[2J\\r\\xff\\ntwo\n'.encode(), b"")


def test_the_chat_client_says_now_and_then_that_it_is_there(typed, monkeypatch):
    monkeypatch.setattr(tutorial_udp, "ALIVE_SECONDS", 0.01)
    heard = []

    def handler(endpoint, received):
        heard.extend(received)
        if len(heard) >= 3:  # of which two may have come together
            typed.close()
        endpoint.send_many([datagram for datagram in received if datagram[0] == BYE])

    with served(handler) as server:
        assert tutorial_udp.client_udp_chat(at(server)) == 0
    assert [message for message, _ in heard[:3]] == [b"", b"", b""]


def test_nobody_there_is_said_soon(typed, capfd):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.connect(("127.0.0.1", 9))  # so that nobody else gets the port, and what comes from elsewhere is refused
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        assert tutorial_udp.client_udp_echo(["--address", address, "hello"]) == 1
        assert "nobody is there" in capfd.readouterr().err
        assert tutorial_udp.client_udp_chat(["--address", address]) == 1
        assert "nobody is there" in capfd.readouterr().err


def test_no_answer_and_what_is_too_long_are_said(capfd):
    with served(lambda endpoint, received: None) as server:
        assert tutorial_udp.client_udp_echo(["--address", server.addresses[0], "--timeout", "0.01", "hello"]) == 1
        assert capfd.readouterr().err == "fastframe: no answer within 0.01 s\n"
        assert tutorial_udp.client_udp_echo([*at(server), "x" * 70_000]) == 1
        assert "70000 bytes was not sent; the network said EMSGSIZE" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (tutorial_udp.serve_udp_echo, ["--port", "32768"], "--port below 32768, or 0, and no --unix"),
        (tutorial_udp.serve_udp_chat, ["--unix", "x"], "--port below 32768, or 0, and no --unix"),
        (tutorial_udp.serve_udp_chat, ["--workers", "2"], "a room of its own"),
        (tutorial_udp.serve_udp_echo, ["--idle-timeout", "3"], "no use for --idle-timeout"),
        (tutorial_udp.client_udp_echo, ["--address", "unix:x"], "this is UDP"),
        (tutorial_udp.client_udp_chat, ["--address", "unix:x"], "this is UDP"),
    ],
)
def test_what_cannot_be_is_status_2(capfd, command, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        command(arguments)
    assert said in capfd.readouterr().err


def test_others_cannot_be_let_in(capfd):
    assert tutorial_udp.serve_udp_chat(["--host", "0.0.0.0"]) == 2
    assert "0.0.0.0" in capfd.readouterr().err


def test_a_room_and_its_clients_as_a_user_runs_them():
    command = [*FASTFRAME, "serve", "tutorial", "udp-chat", "--port", "0"]
    with serving("--host", "127.0.0.1", "--host", "::1", command=command, listeners=2) as server:
        four, six = (address.removeprefix("udp ") for address in server.addresses)
        client = [*FASTFRAME, "tutorial", "udp-chat", "--address"]
        with subprocess.Popen([*client, six], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
            host, _, port = four.rpartition(":")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
                raw.settimeout(PATIENCE)
                raw.sendto(b"", (host, int(port)))
                listener.stdin.write("I am there\n")
                listener.stdin.flush()
                assert raw.recv(100) == b"I am there"
                raw.sendto(b"welcome", (host, int(port)))
            assert listener.stdout.readline() == "welcome\n"
            listener.send_signal(signal.SIGINT)
            assert listener.wait(PATIENCE) == 130
        assert server.end() == (0, "", "")
