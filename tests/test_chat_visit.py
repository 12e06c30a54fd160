"""A stay in a room over datagrams, at a time that is set: what comes in whatever order, and what is said again."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest
from calling import Server, Wire

from fastframe.servers import chat_visit, messages
from fastframe.servers.chat_hall import CODEC
from fastframe.servers.chat_visit import MOST_TRIES, WINDOW, Visit
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Fields, Kind

LOG, SECRET = "0" * 16, "5" * 32
START = 1000.0


@pytest.fixture(autouse=True)
def _without_chance(monkeypatch):
    monkeypatch.setattr(chat_visit, "JITTER", 0.0)


def visit(next=1, head=0, **opened):
    limits = {"text": 4096, "rate": 5.0, "burst": 20}
    said = {"log": LOG, "secret": SECRET, "name": "ann", "next": next, "head": head, "limits": limits}
    return Visit(Fields(said | opened), START)


def message(kind, **fields):
    return messages.decode(messages.encode(kind, fields))


def said(seq, text="hi", name="bob", id="1", log=LOG):
    return message(Kind.DATA, log=log, seq=seq, time=1.5, type="said", name=name, id=id, text=text)


def own(kind, to=SECRET, **fields):
    return message(kind, to=to, **fields)


def numbers(events):
    return [event.seq or event.type for event in events]


def sent(payloads):
    found = []
    for payload in payloads:
        one = messages.decode(payload)
        fields = messages.decode_fields(one.data) if one.kind in messages.BYTES else one.fields
        assert fields.pop("secret") == SECRET
        found.append((one.kind, fields))
    return found


def pings(stay, now):
    return [fields for kind, fields in sent(stay.due(now)) if kind is Kind.PING]


# What comes


def test_events_are_put_in_order_and_come_once():
    stay = visit()
    came = [stay.take(said(seq), START) for seq in (1, 3, 3, 5, 2, 1, 4, 5, 6)]
    assert list(map(numbers, came)) == [[1], [], [], [], [2, 3], [], [4, 5], [], [6]]


@pytest.mark.parametrize(
    "stranger",
    [
        said(1, log="1" * 16),
        own(Kind.DATA, type="gap", next=7, to="6" * 32),
        own(Kind.RESULT, to="6" * 32),
        own(Kind.ERROR, to="6" * 32, code="going_away"),
        message(Kind.ERROR, code="going_away"),
        message(Kind.RESULT),
        message(Kind.DATA, type="said", seq=1, time=1, name="bob", id="1", text="hi"),
        message(Kind.DATA, log=LOG, type="said", seq="1", time=1, name="bob", id="1", text="hi"),
        message(Kind.DATA, log=LOG, type="said", seq=1, time=-1, name="bob", id="1", text="hi"),
        messages.decode(b"\x12{"),
        messages.decode(b"\x12[]"),
        messages.decode(b"\x22pong"),
        own(Kind.PONG, head=-1),
        message(Kind.PONG, head=7),
    ],
)
def test_what_is_not_of_this_server_or_no_message_is_passed_over(stranger):
    stay = visit()
    assert stay.take(stranger, START) == []
    assert not stay.is_over
    assert numbers(stay.take(said(1), START)) == [1]
    assert stay._head == 1


def test_an_event_far_ahead_is_not_kept():
    stay = visit()
    assert [stay.take(said(seq), START) for seq in (WINDOW + 1, WINDOW)] == [[], []]
    assert (list(stay._held), stay._head) == ([WINDOW], WINDOW + 1)


# What is missing


def test_what_is_missing_is_asked_for_after_a_moment_and_again_after_pauses_that_double():
    stay = visit()
    stay.take(said(1), START)
    for seq in (3, 6):
        stay.take(said(seq), START)
    assert pings(stay, START) == []
    now, pauses = START, []
    for _ in range(6):
        pauses.append(round(stay.next_due - now, 3))
        now = stay.next_due
        assert pings(stay, now) == [{"seq": 1, "missing": [2, 4, 5]}]
        stay.take(own(Kind.PONG, head=6), now)
    assert pauses == [0.02, 0.1, 0.2, 0.4, 0.8, 1.0]


def test_what_comes_by_itself_is_not_asked_for():
    stay = visit()
    for seq in (2, 1):
        stay.take(said(seq), START)
    assert pings(stay, START + 0.5) == []


def test_what_comes_while_one_enters_is_not_asked_for_at_once():
    stay = visit(next=5, head=5)  # the event that one has joined
    assert pings(stay, START) == []
    assert pings(stay, START + 0.02) == [{"seq": 4, "missing": [5]}]


def test_what_is_still_missing_behind_what_came_has_a_moment_too():
    stay = visit()
    for seq in (4, 1, 2):
        stay.take(said(seq), START)
    assert pings(stay, START) == []
    assert pings(stay, START + 0.02) == [{"seq": 2, "missing": [3]}]
    stay.take(said(3), START + 0.02)
    stay.take(own(Kind.PONG, head=6), START + 0.02)
    stay.take(said(5), START + 0.02)  # so that only the head is missing
    assert pings(stay, START + 0.04) == [{"seq": 5, "missing": [6]}]


def test_a_long_history_is_asked_for_piece_by_piece_each_at_once():
    stay = visit(next=11, head=90)
    for piece in (range(11, 43), range(43, 75), range(75, 91)):
        (asked,) = pings(stay, START)
        assert asked == {"seq": piece[0] - 1, "missing": list(piece)}
        assert [event.seq for seq in piece for event in stay.take(said(seq), START)] == list(piece)
    assert pings(stay, START + 0.5) == []


def test_the_tail_is_found_by_a_ping_after_a_second():
    stay = visit()
    stay.take(said(1), START)
    assert stay.next_due == START + 1
    assert pings(stay, START + 1) == [{"seq": 1, "missing": []}]
    stay.take(own(Kind.PONG, head=2), START + 1)
    assert pings(stay, START + 1.02) == [{"seq": 1, "missing": [2]}]


def test_in_silence_the_pauses_grow_to_five_seconds():
    stay, now, pauses = visit(next=2, head=1), START, []
    for _ in range(5):
        pauses.append(stay.next_due - now)
        now = stay.next_due
        assert len(pings(stay, now)) == 1
        stay.take(own(Kind.PONG, head=1), now)
    assert pauses == [1, 2, 4, 5, 5]


def test_in_a_busy_room_there_is_a_ping_every_five_seconds():
    stay, times = visit(), []
    for seq in range(1, 2001):
        now = START + seq / 100
        stay.take(said(seq), now)
        times += [now for _ in pings(stay, now)]
        stay.take(own(Kind.PONG, head=seq), now) if times[-1:] == [now] else None
    assert times == pytest.approx([START + 5, START + 10, START + 15, START + 20], abs=0.05)


def test_a_server_that_is_silent_is_given_up():
    stay = visit(next=2, head=1)
    assert sum(len(pings(stay, stay.next_due)) for _ in range(11)) == 11
    with pytest.raises(TimeoutError, match="the server is silent"):
        stay.due(stay.next_due)


def test_a_server_whose_events_come_is_not_silent_though_no_answer_comes():
    stay = visit(next=2, head=1)
    for seq in range(2, 8):
        now = START + 3 * seq
        assert len(pings(stay, now)) == 1
        stay.take(said(seq), now)


def test_the_last_events_that_never_come_are_a_gap():
    stay, events = visit(next=2, head=4), []
    while not events:
        now = stay.next_due
        stay.due(now)
        events = stay.take(own(Kind.PONG, head=4), now)
    assert [(event.type, event.next) for event in events] == [("gap", 5)]
    assert numbers(stay.take(said(5), now)) == [5]


def test_an_event_that_never_comes_is_a_gap():
    stay, now, events = visit(), START, []
    for seq in (1, 4):
        stay.take(said(seq), START)
    tries = 0
    while not events:
        now = stay.next_due
        tries += len(pings(stay, now))
        events = stay.take(own(Kind.PONG, head=4), now)
    assert tries == MOST_TRIES
    assert [(event.type, event.seq or event.next) for event in events] == [("gap", 4), ("said", 4)]


def test_what_the_server_does_not_keep_is_a_gap():
    stay = visit(next=5, head=20)
    stay.take(said(13), START)
    came = stay.take(own(Kind.DATA, type="gap", next=12), START)
    assert [(event.type, event.next) for event in came] == [("gap", 12)]
    assert stay.take(own(Kind.DATA, type="gap", next=12), START) == []
    assert numbers(stay.take(said(12), START)) == [12, 13]


# What is said


def say(id="1", **fields):
    return {"type": "say", "text": "hello", "id": id} | fields


def test_a_text_is_said_again_until_it_is_seen():
    stay, now, pauses = visit(next=2, head=1), START, []
    stay.wish(say(), now)
    while len(pauses) < 5:
        if (Kind.DATA, say()) in sent(stay.due(now)):
            pauses.append(now - START)
        stay.take(own(Kind.PONG, head=1), now)
        now = stay.next_due
    assert pauses == [0, 0.5, 1.5, 3.5, 7.5]
    assert not stay.is_idle
    stay.take(said(2, name="bob", id="1"), now)  # somebody else, with the same id
    assert not stay.is_idle
    stay.take(said(4, name="ann", id="1"), now)  # behind one that is missing
    assert stay.is_idle
    assert [fields for kind, fields in sent(stay.due(now + 3)) if kind is Kind.DATA] == []


def test_one_thing_at_a_time_in_the_order_of_the_wishes():
    stay = visit(next=2, head=1)
    wishes = [say("1"), {"type": "topic", "topic": "new", "id": "2"}, {"type": "who", "id": "3"}, say("4"), say("5")]
    for wish in wishes:
        stay.wish(wish, START)
    answers = [
        said(2, name="ann", id="1"),
        message(Kind.DATA, log=LOG, seq=3, time=1, type="topic", name="ann", topic="new"),
        own(Kind.DATA, type="who", id="3", count=1, members=["ann"]),
        own(Kind.DATA, type="refused", id="4", code="too_large", message="a text"),
        said(4, name="ann", id="5"),
    ]
    for wish, answer in zip(wishes, answers, strict=True):
        assert sent(stay.due(START)) == [(Kind.DATA, wish)]
        assert len(stay.take(answer, START)) == 1
        assert stay.take(answer, START) == []
    assert stay.is_idle


def test_no_more_is_said_than_the_server_takes():
    stay, now = visit(next=2, head=1), START
    for number in range(23):
        stay.wish(say(str(number)), START)
    times = []
    for number in range(23):
        while not any(kind is Kind.DATA for kind, _ in sent(stay.due(now))):
            now = stay.next_due
        times.append(now - START)
        stay.take(said(2 + number, name="ann", id=str(number)), now)
    assert times == pytest.approx([0] * 20 + [0.2, 0.4, 0.6])


def test_what_was_too_early_is_said_again_and_nobody_is_told():
    stay = visit(next=2, head=1)
    stay.wish(say(), START)
    stay.due(START)
    assert stay.take(own(Kind.DATA, type="refused", id="1", code="busy", message=""), START) == []
    assert sent(stay.due(START + 0.1)) == []
    assert sent(stay.due(START + 0.2)) == [(Kind.DATA, say())]


def test_only_the_own_topic_ends_the_wish_for_it():
    stay = visit(next=2, head=1)
    stay.wish({"type": "topic", "topic": "new", "id": "1"}, START)
    for seq, (name, topic) in enumerate((("bob", "new"), ("ann", "old"), ("ann", "new")), 2):
        assert not stay.is_idle
        stay.take(message(Kind.DATA, log=LOG, seq=seq, time=1, type="topic", name=name, topic=topic), START)
    assert stay.is_idle


@pytest.mark.parametrize("rate", ["5", None, 0, -1, 1e-9, 1e9])
def test_a_rate_that_cannot_be_is_refused(rate):
    with pytest.raises(OperationError, match="a rate"):
        visit(limits={"rate": rate, "burst": 20})


def test_chance_makes_pauses_shorter(monkeypatch):
    monkeypatch.setattr(chat_visit, "JITTER", 0.25)
    assert all(0.75 <= visit(next=2, head=1).next_due - START < 1 for _ in range(20))


def test_a_refusal_that_comes_twice_is_one():
    stay = visit(next=2, head=1)
    stay.wish(say(), START)
    refusal = own(Kind.DATA, type="refused", id="1", code="too_large", message="a text")
    assert [len(stay.take(refusal, START)) for _ in range(2)] == [1, 0]


def test_a_text_that_does_not_get_through_is_refused_in_the_end():
    stay, events, tries = visit(next=2, head=1), [], 0
    stay.wish(say(), START)
    stay.wish(say("2"), START)
    while not events:
        now = stay.next_due
        tries += sum(kind is Kind.DATA for kind, _ in sent(stay.due(now)))
        events = stay.take(own(Kind.PONG, head=1), now)
    assert tries == MOST_TRIES
    assert [(event.type, event.id, event.code) for event in events] == [("refused", "1", "timeout")]
    assert (Kind.DATA, say("2")) in sent(stay.due(stay.next_due))


def test_leaving_is_said_again_until_it_is_heard():
    stay = visit(next=2, head=1)
    stay.leave(START)
    for pause in (0, 0.1, 0.3):
        stay.leave(START + pause)
        assert stay.next_due == pytest.approx(START + pause)
        assert sent(stay.due(stay.next_due)) == [(Kind.END, {})]
    stay.take(own(Kind.RESULT, seq=2), START)
    assert stay.is_over


@pytest.mark.parametrize(
    ("code", "error"),
    [("unauthenticated", ConnectionResetError), ("going_away", OperationError), ("name_taken", OperationError)],
)
def test_the_server_ends_it(code, error):
    with pytest.raises(error):
        visit().take(own(Kind.ERROR, code=code), START)


# All of it, on a bad network


class Network(Wire):
    """Loses, doubles, and holds back, as chance has it, of a seed; in a time of its own."""

    is_quiet = False
    now = START

    def __init__(self, seed, *, loss=0.25, doubled=0.15, longest=0.08):
        super().__init__()
        self._chance = random.Random(seed)
        self._rates = loss, doubled, longest
        self._order = itertools.count()
        self.passing = []
        self.visits = {}
        self.events = {}

    def send_many(self, datagrams):
        if self.is_quiet:
            return super().send_many(datagrams)
        for datagram, address in datagrams:
            self.carry(datagram, address)
        return len(datagrams)

    def carry(self, datagram, address, sender=None):
        loss, doubled, longest = self._rates
        for _ in range(1 + (self._chance.random() < doubled)):
            if self._chance.random() >= loss:
                when = self.now + self._chance.uniform(0, longest)
                heapq.heappush(self.passing, (when, next(self._order), datagram, address, sender))

    def enter(self, server, number, name):
        """Enter by a better network than one stays on."""
        self.is_quiet = True
        caller = server(number, name)
        self.is_quiet = False
        self.sent.clear()
        self.visits[caller.address] = Visit(caller.opened, self.now)
        self.events[caller.address] = []

    def step(self, server):
        """Go to the next moment at which something happens."""
        due = min(stay.next_due for stay in self.visits.values())
        server.clock.now = self.now = min(due, self.passing[0][0] if self.passing else due)
        while self.passing and self.passing[0][0] <= self.now:
            _, _, datagram, address, sender = heapq.heappop(self.passing)
            if sender is not None:
                server.give(datagram, sender)
            else:
                self.events[address] += self.visits[address].take(messages.decode(CODEC.decode(datagram)), self.now)
        for address, stay in self.visits.items():
            for payload in stay.due(self.now):
                self.carry(CODEC.encode(payload), self.address, address)


@pytest.mark.parametrize("seed", range(5))
def test_everybody_sees_every_number_once_in_order_and_each_text_is_said_once(seed):
    network = Network(seed)
    server = Server(network)
    for number, name in enumerate(("ann", "bob", "cy", "dee")):
        network.enter(server, number, name)
    texts = {address: [f"{address[1]} {number}" for number in range(40)] for address in network.visits}
    for address, stay in network.visits.items():
        for text in texts[address]:
            stay.wish({"type": "say", "text": text, "id": text}, START)
    last = 4 + 160
    while any(len(events) < last for events in network.events.values()) and network.now < START + 300:
        network.step(server)
        server.chat.expire()
    seen = [[(event.seq, event.text) for event in events] for events in network.events.values()]
    assert [seq for seq, _ in seen[0]] == list(range(1, last + 1))
    assert all(set(one) <= set(seen[0]) for one in seen)
    for position, one in enumerate(seen):
        assert [seq for seq, _ in one] == list(range(one[0][0], last + 1)), position
    for address, expected in texts.items():
        assert [text for _, text in seen[0] if text.startswith(f"{address[1]} ")] == expected
    assert network.now < START + 60
