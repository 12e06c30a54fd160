"""Messages with descriptors between two processes: borders, ownership, and the longest one."""

from __future__ import annotations

import errno
import os

import pytest

from fastframe.servers import channel
from fastframe.servers.channel import Channel

TEXTS = ["", "a", "\0\x1f\x7f", "é" * 1000, "\N{GRINNING FACE}" * 1000, "\u2028"]


@pytest.fixture
def ends():
    ends = [Channel(connection) for connection in Channel.pair()]
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    channel.close_all(ends)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_message_comes_as_it_was_sent(ends, text):
    ends[0].send({"text": text, text: [1, None]})
    assert ends[1].receive() == ({"text": text, text: [1, None]}, [])


def test_messages_keep_their_borders_both_ways(ends):
    for first, second in (ends, ends[::-1]):
        for number in range(3):
            first.send({"number": number})
        assert [second.receive() for _ in range(3)] == [({"number": number}, []) for number in range(3)]


def test_descriptors_come_with_their_message_and_are_not_inherited(ends, pipe):
    ends[0].send({"without": 1})
    ends[0].send({"with": 2}, pipe)
    assert ends[1].receive() == ({"without": 1}, [])
    _, descriptors = ends[1].receive()
    assert not set(descriptors) & set(pipe)
    assert not any(map(os.get_inheritable, descriptors))
    os.write(descriptors[1], b"through it")
    assert os.read(pipe[0], 100) == b"through it"
    channel.close_all(descriptors)


def test_the_most_descriptors(ends, pipe):
    ends[0].send({}, (pipe * channel.MOST_DESCRIPTORS)[: channel.MOST_DESCRIPTORS])
    _, descriptors = ends[1].receive()
    assert len(descriptors) == channel.MOST_DESCRIPTORS
    channel.close_all(descriptors)


@pytest.mark.parametrize("letter", ["a", "é", "\N{GRINNING FACE}"])
def test_text_takes_as_many_bytes_as_its_utf8(ends, letter):
    text = letter * ((channel.LONGEST - len('{"":""}')) // len(letter.encode()))
    ends[0].send({"": text})
    assert ends[1].receive() == ({"": text}, [])


def test_what_is_longer_is_not_sent_half(ends):
    with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
        ends[0].send({"": "a" * channel.LONGEST})
    ends[0].send({"next": 1})
    assert ends[1].receive() == ({"next": 1}, [])


def test_the_other_end_is_gone(ends):
    ends[0].send({"last": 1})
    ends[0].close()
    assert ends[1].receive() == ({"last": 1}, [])
    assert ends[1].receive() is None
    with pytest.raises(BrokenPipeError):
        ends[1].send({})


def test_the_other_end_is_gone_without_having_read(ends):
    ends[0].send({"never": "read"})
    ends[1].close()
    assert ends[0].receive() is None
    assert ends[0].receive() is None


def test_nothing_is_there_yet():
    first, second = Channel.pair()
    with first, second:
        first.setblocking(False)
        with pytest.raises(BlockingIOError):
            Channel(first).receive()


def test_closing_what_is_closed_does_no_harm(pipe):
    channel.close_all(pipe[:1])
    channel.close_all(pipe)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(pipe[1])
