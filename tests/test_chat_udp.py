"""Chat rooms over datagrams: what members get, and what strangers do not; at a time that is set, and as a user runs it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from calling import SERVER, Caller, Server, Wire, read
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import FASTFRAME, serving

from fastframe import datagram
from fastframe.datagram import MAX_DATAGRAM
from fastframe.servers import chat, chat_udp, chat_visit
from fastframe.servers.chat_door import ENTRIES, HELLO_LENGTH
from fastframe.servers.chat_hall import CODEC, MOST_IDS, MOST_RESENT, RESENDS, WHO_LENGTH, encode
from fastframe.servers.messages import Kind
from fastframe.servers.rooms import LONGEST_TEXT, Rooms

SERVE = [*FASTFRAME, "serve", "chat", "--udp", "--port", "0"]
DOCUMENT = Path(__file__).parent.parent / "docs" / "chat.md"


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def quick():
    """A server where everybody may say as much as they like."""
    return Server(rooms=Rooms(rate=1e6))


def events(answers):
    """The events for all, shortly."""
    return [(one["seq"], one["type"], one.get("text", one["name"])) for kind, one in answers if "log" in one]


def answers_of(answers, kind):
    return [fields for one, fields in answers if one is kind and "log" not in fields]


# What members get


def test_everybody_gets_each_event_once_and_the_same_bytes(server):
    ann, bob = server(1, "ann"), server(2, "bob")
    ann.heard()
    server.give(encode(Kind.DATA, {"secret": ann.secret, "type": "say", "text": "hi", "id": "1"}), ann.address)
    (one,), (other,) = server.wire.taken(ann.address), server.wire.taken(bob.address)
    assert one == other
    kind, event = read(one)
    assert event.pop("time") > 1e9
    assert (kind, event) == (
        Kind.DATA,
        {"log": ann.opened["log"], "seq": 3, "type": "said", "name": "ann", "id": "1", "text": "hi"},
    )


def test_what_happens_in_a_room(server):
    ann = server(1)
    assert events(ann.enter(name="ann")) == [(1, "joined", "ann")]
    bob = server(2, "bob")
    assert events(ann.heard()) == [(2, "joined", "bob")]
    assert events(bob.do(Kind.DATA, type="topic", topic="new", id="1")) == [(3, "topic", "bob")]
    (gone,) = answers_of(bob.do(Kind.END), Kind.RESULT)
    assert gone == {"to": bob.secret, "seq": 4}
    assert events(ann.heard()) == [(3, "topic", "bob"), (4, "left", "bob")]
    assert bob.heard() == []


def test_what_opened_says(server):
    server(1, "ann").say("old")
    bob = server(2, "bob", room="LOBBY", history=1)
    assert len(bob.opened.pop("secret")) == 32
    assert re.fullmatch("[0-9a-f]{16}", bob.opened.pop("log"))
    assert bob.opened == {
        "to": bob.nonce,
        "next": 2,
        "gap": False,
        "room": "lobby",
        "name": "bob",
        "topic": "",
        "head": 3,
        "members": 2,
        "limits": {"text": 4096, "rate": 5.0, "burst": 20},
    }


def test_rooms_are_apart(server):
    ann, bob = server(1, "ann", room="one"), server(2, "bob", room="two")
    ann.say("hi")
    assert events(bob.heard()) == []


def test_who(server):
    ann, _ = server(1, "ann"), server(2, "bob")
    answers = ann.do(Kind.DATA, type="who", id="7")
    assert answers_of(answers, Kind.DATA) == [
        {"to": ann.secret, "type": "who", "id": "7", "count": 2, "members": ["ann", "bob"]}
    ]


def test_who_names_as_many_as_fit_one_packet(server):
    callers = [server(number, f"{number:032}") for number in range(50)]
    server.wire.sent.clear()
    server.give(encode(Kind.DATA, {"secret": callers[0].secret, "type": "who", "id": "7"}), callers[0].address)
    (answer,) = server.wire.taken(callers[0].address)
    _, who = read(answer)
    assert (who["count"], len(who["members"])) == (50, 28)
    assert len(answer) < 1200


@pytest.mark.parametrize("name", ["ann", "ANN", "\uff41nn"])
def test_a_name_is_taken_once(server, name):
    server(1, "ann")
    other = server(2)
    other.knock()
    ((kind, error),) = other.open(name=name)
    assert (kind, error["to"], error["code"]) == (Kind.ERROR, other.nonce, "name_taken")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"name": ""}, "bad_name"),
        ({"name": "a\n"}, "bad_name"),
        ({}, "bad_request"),
        ({"name": "ann", "room": ""}, "bad_name"),
        ({"name": "ann", "operation": "get"}, "unsupported"),
        ({"name": "ann", "since": "x"}, "bad_request"),
        ({"name": "ann", "secret": "0" * 33}, "bad_request"),
    ],
)
def test_who_asks_for_what_cannot_be_is_told(server, asked, code):
    caller = server(1)
    caller.knock()
    ((kind, error),) = caller.open(**asked)
    assert (kind, error["code"]) == (Kind.ERROR, code)


def test_the_longest_event_fits_a_datagram(server):
    ann = server(1, "\U0001f600" * 32)
    text = "\x01" * LONGEST_TEXT
    server.give(encode(Kind.DATA, {"secret": ann.secret, "type": "say", "text": text, "id": "\x01" * 32}), ann.address)
    (event,) = server.wire.taken(ann.address)
    assert read(event)[1]["text"] == text
    assert LONGEST_TEXT < len(event) < MAX_DATAGRAM / 2


def test_a_text_that_is_too_long_is_refused_again_and_again(server):
    ann = server(1, "ann")
    for _ in range(2):
        (refused,) = answers_of(ann.say("x" * (LONGEST_TEXT - 1) + "é", id="1"), Kind.DATA)
        assert (refused["type"], refused["id"], refused["code"]) == ("refused", "1", "too_large")


# What comes twice, late, or not at all


def test_a_text_that_comes_twice_is_said_once(server):
    ann, bob = server(1, "ann"), server(2, "bob")
    for _ in range(3):
        ann.say("hi", id="1")
    assert answers_of(ann.say("hi", id="1"), Kind.PONG) == [{"to": ann.secret, "head": 3}]
    assert events(bob.heard()) == [(3, "said", "hi")]
    assert events(ann.ping(seq=0)) == [(1, "joined", "ann"), (2, "joined", "bob"), (3, "said", "hi")]


def test_ids_are_each_members_own_and_the_last_ones_are_known(quick):
    ann, bob = quick(1, "ann"), quick(2, "bob")
    ann.heard()
    for number in range(MOST_IDS):
        assert len(events(ann.say("hi", id=str(number)))) == 1
    assert len(events(bob.say("hi", id="0"))) == MOST_IDS + 1
    ann.heard()
    assert events(ann.say("hi", id="0")) == []
    ann.say("hi", id="new")
    assert len(events(ann.say("hi", id="0"))) == 1  # no datagram is as late as that


def test_without_an_id_nothing_is_done(server):
    ann = server(1, "ann")
    assert ann.do(Kind.DATA, type="say", text="hi") == []
    assert server.wire.counters == {"bad": 1}


def test_an_open_that_comes_again_gets_the_same_answer_until_the_client_goes_on(server):
    ann = server(1, "ann")
    assert ann.open(name="ann") == [(Kind.OPENED, ann.opened)]
    assert len(server.chat) == 1
    ann.ping(seq=1)
    assert ann.open(name="ann") == []


def test_an_open_that_comes_late_brings_nobody_back(server):
    ann = server(1, "ann")
    ann.do(Kind.END)
    assert ann.open(name="ann") == []
    assert len(server.chat) == 0


def test_so_many_that_have_gone_are_known(server, monkeypatch):
    monkeypatch.setattr(chat_udp, "MOST_NONCES", 3)
    callers = []
    for number in range(5):
        callers.append(server(number, "ann"))
        callers[-1].do(Kind.END)
    assert list(server.chat._nonces) == [caller.nonce for caller in callers[2:]]


def test_leaving_twice_is_no_harm(server):
    ann, bob = server(1, "ann"), server(2, "bob")
    ann.do(Kind.END)
    request = encode(Kind.END, {"secret": ann.secret})
    server.give(request, ann.address)
    (answer,) = server.wire.taken(ann.address)
    assert read(answer) == (Kind.RESULT, {"to": ann.secret})
    assert len(answer) <= len(request)
    assert events(bob.heard()) == [(3, "left", "ann")]


def test_what_is_missing_is_sent_to_who_asks(server):
    ann, bob = server(1, "ann"), server(2, "bob")
    for number in range(5):
        ann.say(f"text {number}", id=str(number))
    bob.heard()
    answers = bob.ping(seq=2, missing=[3, 6, 9])
    assert events(answers) == [(3, "said", "text 0"), (6, "said", "text 3")]
    assert answers[-1] == (Kind.PONG, {"to": bob.secret, "head": 7})
    assert ann.heard() == []


def test_the_tail_is_sent_to_who_has_less_and_asks_for_nothing(server):
    ann = server(1, "ann")
    for number in range(15):
        ann.say("hi", id=str(number))
    assert [event[0] for event in events(ann.ping(seq=10))] == [11, 12, 13, 14, 15, 16]
    assert [event[0] for event in events(ann.ping(seq=16))] == []
    assert [event[0] for event in events(ann.ping(seq=99))] == []


def test_a_ping_is_answered_with_so_many_events(quick):
    ann = quick(1, "ann")
    for number in range(50):
        ann.say("hi", id=str(number))
    assert len(events(ann.ping(seq=0))) == MOST_RESENT


@pytest.mark.parametrize("missing", ["7", 7, ["7"], [7.0], [True], [[7]], list(range(MOST_RESENT + 1)), {"a": 1}])
def test_what_is_no_list_of_events_is_not_answered(server, missing):
    ann = server(1, "ann")
    assert ann.do(Kind.PING, seq=0, missing=missing) == []


def test_what_is_not_kept_any_more_is_a_gap():
    server = Server(rooms=Rooms(history=3))
    ann = server(1, "ann")
    for number in range(5):
        ann.say("hi", id=str(number))
    answers = ann.ping(seq=1, missing=[-3, 0, 2, 3, 4, 5])
    assert answers_of(answers, Kind.DATA) == [{"to": ann.secret, "type": "gap", "next": 4}]
    assert [event[0] for event in events(answers)] == [4, 5]


def test_not_everything_can_be_asked_for_again_and_again(server):
    ann = server(1, "ann")
    assert sum(len(events(ann.ping(seq=0))) for _ in range(60)) == 40
    assert ann.ping(seq=0) == [(Kind.PONG, {"to": ann.secret, "head": 1})]
    server.clock.now += 0.5
    assert sum(len(events(ann.ping(seq=0))) for _ in range(60)) == 10


def test_asking_for_nothing_costs_nothing(server):
    ann = server(1, "ann")
    for _ in range(60):
        ann.ping(seq=1)
    assert [event[0] for event in events(ann.ping(seq=0))] == [1]


# Who may


def test_who_says_too_much_is_refused_until_later(server):
    ann = server(1, "ann")
    refused = [answers_of(ann.say("hi", id=str(number)), Kind.DATA) for number in range(22)]
    assert refused[:20] == [[]] * 20
    assert [(one["type"], one["id"], one["code"]) for (one,) in refused[20:]] == [
        ("refused", "20", "busy"),
        ("refused", "21", "busy"),
    ]
    server.clock.now += 0.2
    assert events(ann.say("hi", id="21")) == [(22, "said", "hi")]
    ((kind, _),) = ann.say("hi", id="0")
    assert kind is Kind.PONG  # what was done already counts for nothing


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.PING])
def test_nobody_speaks_for_others(server, kind):
    ann, bob = server(1, "ann"), server(2, "bob")
    ann.heard()
    forged = {"secret": ann.secret, "type": "say", "text": "", "id": "1", "seq": 0, "missing": []}
    requests = [(encode(kind, forged), server(3).address), (encode(kind, forged), bob.address)]
    requests += [(encode(kind, forged | {"secret": secret}), ann.address) for secret in ("0" * 32, "", bob.secret)]
    for request, address in requests:
        server.give(request, address)
        (answer,) = server.wire.taken(address)
        told, error = read(answer)
        assert (told, error["code"]) == (Kind.ERROR, "unauthenticated")
        assert len(answer) <= len(request)
    assert server.wire.sent == []
    assert server.wire.counters == {"turned_away": 5}


def test_nobody_makes_others_leave(server):
    ann, bob = server(1, "ann"), server(2, "bob")
    for caller, secret in ((server(3), ann.secret), (bob, ann.secret), (ann, "0" * 32)):
        caller.tell(Kind.END, secret=secret)
    assert len(server.chat) == 2


def test_the_answer_to_a_stranger_is_never_longer_than_what_it_sent(server):
    for secret in ("", "\x01" * 32, "0" * 32):
        for kind in (Kind.DATA, Kind.PING, Kind.END):
            request = encode(kind, {"secret": secret})
            server.give(request, server(1).address)
            assert all(len(answer) <= len(request) for answer in server.wire.taken(server(1).address))
    assert server.wire.counters["turned_away"] == 9


def test_the_last_pings_of_clients_are_answered(server):
    """The shortest PING of a client leaves room for the answer that it is known no more."""
    ((kind, error),) = server(1).tell(Kind.PING, secret="0" * 32, seq=1, missing=[])
    assert (kind, error) == (Kind.ERROR, {"to": "0" * 32, "code": "unauthenticated"})


def test_who_is_silent_for_long_is_gone(server):
    ann, bob = server(1, "ann"), server(2, "bob")
    for _ in range(2):
        server.clock.now += 15
        bob.ping(seq=2)
        server.chat.expire()
    assert events(bob.heard()) == [(3, "left", "ann")]
    assert len(server.chat) == 1
    ann.heard()
    assert [kind for kind, _ in ann.ping(seq=2)] == [Kind.ERROR]
    server.clock.now += 30
    server.chat.expire()
    assert (len(server.chat), server.chat._halls) == (0, {})


def test_who_was_heard_stays_although_it_came_first(server):
    ann, _ = server(1, "ann"), server(2, "bob")
    server.clock.now += 29
    ann.ping(seq=2)
    server.clock.now += 29
    server.chat.expire()
    assert events(ann.heard()) == [(3, "left", "bob")]


def test_who_comes_when_another_has_left_is_in_the_same_room(server):
    ann, bob = server(1, "ann"), server(2, "bob")
    bob.do(Kind.END)
    ann.heard()
    server(3, "cid")
    assert events(ann.heard()) == [(4, "joined", "cid")]


def test_who_comes_again_has_its_name_and_what_it_missed(server):
    ann, bob = server(1, "ann"), server(2, "bob")
    bob.say("missed", id="1")
    ann.heard()
    again = server(3)
    secret = ann.secret
    rest = again.enter(name="ann", since=1, log=ann.opened["log"], secret=secret)
    assert (again.secret, again.opened["next"], again.opened["gap"], again.opened["head"]) == (secret, 2, False, 5)
    assert events(rest) == [(4, "left", "ann"), (5, "joined", "ann")]
    assert events(again.ping(seq=1)) == [(2, "joined", "bob"), (3, "said", "missed"), (4, "left", "ann"), (5, "joined", "ann")]
    assert ann.heard() == [(Kind.ERROR, {"to": secret, "code": "name_taken"})]
    assert [kind for kind, _ in ann.say("hi")] == [Kind.ERROR]
    assert events(bob.heard())[-2:] == [(4, "left", "ann"), (5, "joined", "ann")]


def test_who_comes_again_alone_finds_the_room_as_it_was(server):
    ann = server(1, "ann")
    again = server(2)
    rest = again.enter(name="ann", since=1, log=ann.opened["log"], secret=ann.secret)
    assert events(rest) == [(2, "left", "ann"), (3, "joined", "ann")]
    assert (len(server.chat), len(server.chat._halls)) == (1, 1)


def test_who_was_in_another_log_has_a_gap(server):
    ann = server(1, "ann", since=7, log="0" * 16)
    assert (ann.opened["next"], ann.opened["gap"]) == (1, True)


def test_a_port_may_be_another_clients_later(server):
    server(1, "ann")
    bob = server(1)
    assert events(bob.enter(name="bob")) == [(3, "joined", "bob")]
    assert (len(server.chat), bob.opened["members"]) == (1, 1)


def test_there_is_room_for_so_many():
    server = Server(most_seats=2)
    server(1, "ann"), server(2, "bob")
    caller = server(3)
    caller.knock()
    assert [fields["code"] for _, fields in caller.open(name="cy")] == ["busy"]


def test_who_is_here_is_told_when_the_server_ends(server):
    callers = [server(1, "ann"), server(2, "bob", room="other")]
    server.wire.sent.clear()
    server.chat.drain()
    for caller in callers:
        assert caller.heard() == [(Kind.ERROR, {"to": caller.secret, "code": "going_away"})]


# What is not answered


def test_what_comes_from_itself_or_from_nowhere_is_not_answered(server):
    request = encode(Kind.HELLO, {"version": 1, "nonce": "0" * 64, "pad": "0" * 512})
    server.give(request, SERVER)
    for _ in range(2):
        server.give(request, None)
    assert (server.wire.sent, server.wire.counters) == ([], {"own": 1, "nameless": 2})


def test_what_servers_say_is_not_answered(server):
    ann, stranger = server(1, "ann"), server(2)
    for kind in (Kind.WELCOME, Kind.OPENED, Kind.PONG, Kind.RESULT, Kind.ERROR):
        assert ann.do(kind) == stranger.tell(kind, secret="5" * 32) == []
    assert server.wire.counters == {"answers": 10}


GARBAGE = st.binary(max_size=60) | st.builds(
    lambda kind, body: CODEC.encode(bytes((kind,)) + body),
    st.sampled_from([*Kind, 0, 0xFF]),
    st.binary(max_size=40)
    | st.sampled_from([b"{}", b"[]", b'{"secret":7}', b'{"secret":"0"}', b'{"nonce":"0"}', b"\xff", b'{"a":']),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(GARBAGE, max_size=5))
def test_a_bad_datagram_concerns_nobody_else(garbage):
    server = Server()
    ann, bob = server(1, "ann"), server(2, "bob")
    ann.heard()
    for datagram_ in garbage:
        for address in (("127.0.0.1", 7), ann.address):
            server.give(datagram_, address)
            assert sum(map(len, server.wire.taken(address))) <= len(datagram_)
    assert bob.heard() == []
    bob.say("hi")
    assert events(ann.heard()) == [(3, "said", "hi")]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_two_servers_that_are_pointed_at_each_other_fall_silent(data):
    """Whatever one of them has said, the other says nothing to it."""
    server, other = Server(), Server()
    ann, bob = server(1, "ann"), server(2, "bob")
    ann.say("hi"), ann.do(Kind.DATA, type="who", id="2"), ann.say("", id="3"), ann.ping(seq=0)
    server.give(encode(Kind.HELLO, {"version": 1, "nonce": "0" * 64, "pad": "0" * 512}), ("127.0.0.1", 7))
    bob.tell(Kind.END, secret=ann.secret)
    server.chat.drain()
    said = data.draw(st.sampled_from([datagram_ for datagram_, _ in server.wire.sent]))
    other.give(said, (*SERVER[:1], 9001))
    assert other.wire.sent == []


def test_several_endpoints_are_one_server(server):
    ann = server(1, "ann")
    first, second = server.wire, Wire(("::1", 9000, 0, 0))
    server.wire = second
    bob = Caller(server, ("::1", 40_001, 0, 0))
    bob.enter(name="bob")
    bob.say("hi")
    assert [events([read(datagram_)])[0][2] for datagram_ in first.taken(ann.address)] == ["bob", "hi"]
    assert second.sent == []


# As it is written down


def test_the_bytes_in_the_documentation():
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = re.search(r"^(00 00 00 2e  14 .*)\n +(.*)\n +END (.*)$", text, re.MULTILINE)
    assert bytes.fromhex(lines[1] + lines[2]) == encode(Kind.END, json.loads(lines[3]))


def test_the_types_and_the_limits_in_the_documentation():
    text = DOCUMENT.read_text(encoding="utf-8").partition("## Datagrams\n")[2]
    for number, name in re.findall(r"^\| `(..)` \| ([A-Z]+) \|", text, re.MULTILINE):
        assert Kind[name] == int(number, 16)
    flat = " ".join(text.split())
    for limit in (
        f"{HELLO_LENGTH} bytes long",
        f"not heard for {chat_udp.EXPIRY_SECONDS:g} s",
        f"the last {MOST_IDS} ids",
        f"{RESENDS[1]} times at once, and {RESENDS[0]:g} times a second",
        f"up to {MOST_RESENT} numbers",
        f"fit in {WHO_LENGTH:,} bytes",
        f"{chat_udp.MOST_SEATS:,} members",
        f"{ENTRIES[1]} may come at once, and {ENTRIES[0]:g} a second",
        f"waits {1000 * chat_visit.REORDER_SECONDS:g} ms",
        f"after {1000 * chat_visit.FIRST_ASK:g} ms",
        f"after {chat_visit.FIRST_SAY:g} s, twice as long each time up to {chat_visit.LONGEST_SAY:g} s",
        f"if no PONG comes for {chat_visit.LOST_SECONDS:g} s",
        f"after {chat_visit.MOST_TRIES} tries",
    ):
        assert limit in flat, limit


# As a user runs it


def test_it_serves_and_tells_what_it_counted():
    async def main():
        room_server = chat_udp.Chat(Rooms(), chat_udp.Door(), expiry=0)
        server = await chat_udp.serve(room_server, sockets=datagram.bind("127.0.0.1", 0))
        assert server.addresses[0].startswith("udp 127.0.0.1:")
        assert (server.connections, server.accepting, server.counters["datagrams_turned_away"]) == (0, True, 0)
        await asyncio.gather(server.close(grace=5), server.close())
        assert not server.accepting
        await asyncio.sleep(0)  # for what was cancelled to end
        assert len(asyncio.all_tasks()) == 1  # this one

    asyncio.run(main())


def test_silence_is_looked_for(monkeypatch):
    monkeypatch.setattr(chat_udp, "EXPIRY_PULSE", 0)

    async def main():
        rooms_server = chat_udp.Chat(Rooms(), chat_udp.Door())
        looked = asyncio.Event()
        rooms_server.expire = looked.set
        server = await chat_udp.serve(rooms_server, sockets=datagram.bind("127.0.0.1", 0))
        async with asyncio.timeout(30):
            await looked.wait()
        await server.close()

    asyncio.run(main())


def test_a_server_runs_until_it_is_told_to_end():
    with serving(command=SERVE) as server:
        where = server.address.removeprefix("udp ").rpartition(":")
        with datagram.connect(where[0], int(where[2])) as sock:
            sock.send(CODEC.decode(encode(Kind.HELLO, {"version": 1, "nonce": "0" * 64, "pad": "0" * 512})))
            assert sock.recv(10)[0][0] == Kind.WELCOME
        assert server.end() == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tls-cert", "x"], "no connections: --udp leaves no use for --tls-cert"),
        (["--write-timeout", "1"], "no connections: --udp leaves no use for --write-timeout"),
        (["--workers", "2"], "--workers 1"),
        (["--max-payload", "1MiB", "--backlog", "7"], "--backlog"),
        (["--max-payload", "2MiB"], "are for connections"),
        (["--lag", "1"], "are for connections"),
    ],
)
def test_what_is_for_connections_is_refused(capfd, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        chat.serve_main(["--udp", *arguments])
    assert said in capfd.readouterr()[1]


def test_an_address_that_others_reach_needs_a_word(capfd, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"ann {'0' * 64}\n")
    assert chat.serve_main(["--udp", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "say --insecure to allow it" in capfd.readouterr()[1]
    assert chat.serve_main(["--udp", "--host", "0.0.0.0", "--port", "0", "--tokens", str(tokens)]) == 2
    assert "could be changed on the way: say --insecure" in capfd.readouterr()[1]
