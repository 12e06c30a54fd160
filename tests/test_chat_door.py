"""The door of the chat server over datagrams: cookies, how often one may come, and tokens."""

from __future__ import annotations

import pytest
from calling import Caller, Server, Wire, read

from fastframe.servers import chat_door, credentials
from fastframe.servers.chat_door import COOKIE_SECONDS, HELLO_LENGTH, Peer
from fastframe.servers.chat_hall import CODEC, encode
from fastframe.servers.credentials import Challenge, Keyring, proof
from fastframe.servers.messages import Kind

TOKEN = "0123456789abcdef" * 4


@pytest.fixture
def server():
    return Server()


def hello(caller, size):
    """A HELLO of so many bytes."""
    bare = len(encode(Kind.HELLO, {"version": 1, "nonce": caller.nonce, "pad": ""}))
    return encode(Kind.HELLO, {"version": 1, "nonce": caller.nonce, "pad": "0" * (size - bare)})


def test_the_answer_to_a_stranger_is_shorter_than_what_it_sent(server):
    caller = server(1)
    server.give(hello(caller, HELLO_LENGTH), caller.address)
    (answer,) = server.wire.taken(caller.address)
    kind, welcome = read(answer)
    assert kind is Kind.WELCOME
    assert (welcome["to"], welcome["version"], welcome["auth"]) == (caller.nonce, 1, [])
    assert credentials.is_nonce(welcome["nonce"])
    assert len(answer) < 300 < HELLO_LENGTH


def test_a_short_hello_is_not_answered(server):
    caller = server(1)
    assert caller.give(hello(caller, HELLO_LENGTH - 1)) == []
    assert server.wire.counters == {"bad": 1}


@pytest.mark.parametrize("fields", [{"nonce": "0"}, {"nonce": 7}, {"nonce": "G" * 64}, {"version": "1"}])
def test_a_hello_that_is_none_is_not_answered(server, fields):
    assert server(1).hello(**fields) == []
    assert server.wire.counters == {"bad": 1}


def test_another_version_is_told_so(server):
    caller = server(1)
    ((kind, error),) = caller.hello(version=2)
    assert (kind, error["to"], error["code"]) == (Kind.ERROR, caller.nonce, "unsupported")


def test_of_strangers_nothing_is_kept(server):
    for number in range(50):
        server(number).hello()
    door = server.chat._door
    assert (len(server.chat), door._sources, server.chat._nonces) == (0, {}, {})


def test_a_cookie_is_good_where_it_was_sent_for_a_while(server):
    caller = server(1)
    caller.knock()
    server.clock.now += COOKIE_SECONDS
    assert code_of(caller.open(name="ann")) == ""


def told_timeout(caller, **asked):
    """Whether an OPEN is answered with a sentence that is shorter than it."""
    request = encode(Kind.OPEN, {"nonce": caller.nonce, "cookie": caller.cookie} | asked)
    caller.server.give(request, caller.address)
    (answer,) = caller.server.wire.taken(caller.address)
    return read(answer) == (Kind.ERROR, {"to": caller.nonce, "code": "timeout"}) and len(answer) < len(request)


def test_an_old_cookie_is_good_for_nothing(server):
    caller = server(1)
    caller.knock()
    server.clock.now += 2 * COOKIE_SECONDS
    assert told_timeout(caller)


@pytest.mark.parametrize("address", [("127.0.0.1", 40_002), ("127.0.0.2", 40_001), ("::1", 40_001, 0, 0), "/run/client"])
def test_a_cookie_is_good_for_nothing_elsewhere(server, address):
    caller = server(1)
    caller.knock()
    other = Caller(server, address)
    other.cookie, other.nonce = caller.cookie, caller.nonce
    assert told_timeout(other)


def test_a_cookie_is_for_one_nonce_and_of_one_server(server):
    caller, other = server(1), Server()(1)
    caller.knock()
    other.cookie, other.nonce = caller.cookie, caller.nonce
    assert told_timeout(other)
    caller.nonce = other.nonce[:-1] + "f"
    assert told_timeout(caller)


@pytest.mark.parametrize("asked", [{}, {"cookie": ""}, {"cookie": "0" * 63}, {"cookie": None}])
def test_who_has_no_cookie_at_all_is_not_answered(server, asked):
    assert server(1).tell(Kind.OPEN, nonce="0" * 64, operation="chat", room="lobby", name="ann", **asked) == []
    assert server.wire.counters == {"bad": 1}


# How often


def code_of(answers):
    ((kind, fields),) = answers[:1]
    return "" if kind is Kind.OPENED else fields["code"]


def test_a_source_may_not_come_too_often():
    server = Server(entries=(2.0, 3))

    def enter(number, host="127.0.0.1"):
        caller = Caller(server, (host, 40_000 + number))
        caller.knock()
        return code_of(caller.open(name=f"{host} {number}"))

    assert [enter(number) for number in range(4)] == ["", "", "", "busy"]
    assert enter(4, "127.0.0.2") == ""
    server.clock.now += 0.5
    assert [enter(number) for number in range(5, 7)] == ["", "busy"]


def test_so_many_sources_are_known(monkeypatch):
    monkeypatch.setattr(chat_door, "MOST_SOURCES", 3)
    server = Server()
    for number, host in enumerate((0, 1, 2, 0, 3)):
        Caller(server, (f"127.0.0.{host}", 40_000 + number)).enter(name=str(number))
    assert list(server.chat._door._sources) == ["127.0.0.2", "127.0.0.0", "127.0.0.3"]


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (("127.0.0.1", 7), "127.0.0.1"),
        (("2001:db8::1:2", 7, 0, 0), "2001:db8::/64"),
        (("fe80::1%lo", 7, 0, 1), "fe80::/64"),
        (("::ffff:10.0.0.1", 7, 0, 0), "10.0.0.1"),
        ("/run/client", "unix"),
        (b"\0abc", "unix"),
    ],
)
def test_sources(address, source):
    assert Peer(Wire(), address).source == source


# Tokens


@pytest.fixture
def guarded():
    return Server(keyring=Keyring({"ann": TOKEN, "bob": TOKEN[::-1]}))


def asked_with(caller, key="ann", token=TOKEN):
    welcome = caller.knock()
    assert welcome["auth"] == ["token"]
    challenge = Challenge(key, caller.nonce, caller.cookie)
    return challenge, {"key": key, "proof": proof(token, "client", challenge)}


def test_who_proves_a_token_has_its_name_and_gets_a_proof(guarded):
    caller = guarded(1)
    challenge, asked = asked_with(caller)
    ((kind, opened), *_) = caller.open(name="bob", **asked)
    assert (kind, opened["name"]) == (Kind.OPENED, "ann")
    assert credentials.is_proof(opened["proof"], TOKEN, "server", challenge)


@pytest.mark.parametrize(("key", "token"), [("ann", TOKEN[::-1]), ("zoe", TOKEN), ("", TOKEN)])
def test_who_does_not_is_not_let_in_and_the_next_one_from_there_waits(guarded, key, token):
    caller = guarded(1)
    _, asked = asked_with(caller, key, token)
    assert code_of(caller.open(**asked)) == "unauthenticated"
    assert code_of(caller.open(**asked)) == "busy"
    assert len(guarded.chat) == 0


def test_without_a_proof_nobody_is_let_in(guarded):
    caller = guarded(1)
    caller.knock()
    assert code_of(caller.open(name="ann")) == "unauthenticated"


def test_a_proof_is_for_one_cookie(guarded):
    caller, other = guarded(1), guarded(2)
    _, asked = asked_with(caller)
    other.knock()
    assert code_of(other.open(**asked)) == "unauthenticated"


def test_what_is_sent_can_be_read():
    assert CODEC.decode(encode(Kind.END, {"secret": "0"})) == b'\x14{"secret":"0"}'
