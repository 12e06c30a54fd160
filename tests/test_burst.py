"""Datagrams in and out of plain sockets, one at a time and many with one call: the same datagrams, addresses and counts."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import Counter
from pathlib import Path

import pytest

from fastframe import _burst
from fastframe._singly import BURST, MAX_DATAGRAM

V4, V6 = (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0))
FAMILIES = pytest.mark.parametrize("where", [V4, V6], ids=["ipv4", "ipv6"])


@contextlib.contextmanager
def bound(family=socket.AF_INET, address=("127.0.0.1", 0)):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.setblocking(False)
        yield sock


@pytest.fixture
def pair():
    with bound() as one, bound() as other:
        yield one, other


def refusing(sock):
    """Connect a socket to a port where nobody is any more, and have it told so."""
    with bound() as gone:
        sock.connect(gone.getsockname())
    sock.send(b"anybody?")


@FAMILIES
def test_datagrams_come_in_order_with_their_senders_as_pythons_sockets_tell_them(burst, where):
    sizes = [0, 1, 512, 2000, MAX_DATAGRAM]
    with bound(*where) as server, bound(*where) as one, bound(*where) as other:
        for size in sizes:
            for client in (one, other):
                client.sendto(b"x" * size, server.getsockname())
        expected = [(b"x" * size, client.getsockname()) for size in sizes for client in (one, other)]
        assert burst.receive(server, counters := Counter()) == expected
        assert burst.receive(server, counters) == []
    assert counters == {}


@FAMILIES
def test_datagrams_go_to_their_addresses_in_order(burst, where):
    with bound(*where) as server, bound(*where) as one, bound(*where) as other:
        datagrams = [(b"%d" % at * at, client.getsockname()) for at in range(2 * BURST + 3) for client in (one, other)]
        assert burst.send(server, datagrams, 0, counters := Counter()) == len(datagrams)
        for client in (one, other):
            sent = [datagram for datagram, address in datagrams if address == client.getsockname()]
            assert [client.recvfrom(4096) for _ in sent] == [(datagram, server.getsockname()) for datagram in sent]
    assert counters == {"sent": len(datagrams)}


def test_a_burst_has_a_limit(burst, pair):
    one, other = pair
    for _ in range(BURST + 1):
        one.sendto(b"x", other.getsockname())
    assert len(burst.receive(other, Counter())) == BURST
    assert len(burst.receive(other, Counter())) == 1


def test_what_is_received_stays_as_it_is(burst, pair):
    one, other = pair
    one.sendto(b"first", other.getsockname())
    [(first, _)] = burst.receive(other, Counter())
    one.sendto(b"other", other.getsockname())
    burst.receive(other, Counter())
    assert first == b"first"


def test_a_datagram_that_is_too_long_is_counted_and_the_next_is_whole(burst):
    with bound(*V6) as server, bound(*V6) as client:
        for size in (MAX_DATAGRAM + 1, MAX_DATAGRAM, MAX_DATAGRAM + 20, 3):
            client.sendto(b"x" * size, server.getsockname())
        received = burst.receive(server, counters := Counter())
    assert [len(datagram) for datagram, _ in received] == [MAX_DATAGRAM, 3]
    assert counters == {"cut": 2}


def test_a_unix_datagram_that_is_too_long_is_counted(burst, tmp_path):
    path = str(tmp_path / "socket")
    with bound(socket.AF_UNIX, path) as server, bound(socket.AF_UNIX, str(tmp_path / "client")) as client:
        counters: Counter[str] = Counter()
        received = []
        for size in (100_000, MAX_DATAGRAM, MAX_DATAGRAM + 1, 0):
            client.sendto(b"x" * size, path)
            received += burst.receive(server, counters)
    sender = str(tmp_path / "client")
    assert [(len(datagram), address) for datagram, address in received] == [(MAX_DATAGRAM, sender), (0, sender)]
    assert counters == {"cut": 2}


def test_without_an_address_it_goes_to_the_connected_peer(burst, pair):
    one, other = pair
    one.connect(other.getsockname())
    assert burst.send(one, [(b"a", None), (b"b", None)], 0, Counter()) == 2
    assert [other.recv(10) for _ in range(2)] == [b"a", b"b"]


def test_it_sends_from_a_place_in_the_list_on(burst, pair):
    one, other = pair
    datagrams = [(b"%d" % at, other.getsockname()) for at in range(5)]
    assert burst.send(one, datagrams, 3, Counter()) == 5
    assert burst.send(one, datagrams, 5, Counter()) == 5
    assert [other.recv(10) for _ in range(2)] == [b"3", b"4"]
    with pytest.raises(BlockingIOError):
        other.recv(10)


def test_any_pairs_of_any_buffers(burst, pair):
    one, other = pair
    address = other.getsockname()
    datagrams = [(b"a", address), [b"b", address], (bytearray(b"c"), address), (memoryview(b"d"), address), (b"e", address)]
    assert burst.send(one, datagrams, 0, Counter()) == 5
    assert [other.recv(10) for _ in range(5)] == [b"a", b"b", b"c", b"d", b"e"]


@pytest.mark.parametrize("wrong", [(b"x",), (b"x", None, None), None, ("text", ("127.0.0.1", 9))])
def test_what_is_no_pair_with_a_buffer_raises(burst, pair, wrong):
    one, other = pair
    with pytest.raises((TypeError, ValueError)):
        burst.send(one, [(b"good", other.getsockname()), wrong], 0, Counter())
    assert other.recv(10) == b"good"


def test_a_refusal_is_counted_when_receiving(burst, pair):
    one, _ = pair
    refusing(one)
    assert burst.receive(one, counters := Counter()) == []
    assert counters == {"ECONNREFUSED": 1}
    assert burst.receive(one, counters) == []
    assert counters == {"ECONNREFUSED": 1}


def test_a_refusal_is_counted_when_sending(burst, pair):
    one, _ = pair
    refusing(one)
    assert burst.send(one, [(b"again", None)], 0, counters := Counter()) == 1
    assert counters == {"ECONNREFUSED": 1}


@pytest.mark.parametrize(
    ("payload", "address", "why"),
    [
        (b"x", ("127.0.0.1", 0), "EINVAL"),  # a sender that has no port cannot be answered
        (b"x", ("255.255.255.255", 9), "EACCES"),
        (b"x" * (MAX_DATAGRAM + 1), ("127.0.0.1", 9), "EMSGSIZE"),
    ],
)
def test_one_that_cannot_be_sent_is_counted_and_the_others_are_sent(burst, pair, payload, address, why):
    one, other = pair
    good = (b"good", other.getsockname())
    datagrams = [good, (payload, address), (payload, address), good, (payload, address)]
    assert burst.send(one, datagrams, 0, counters := Counter()) == len(datagrams)
    assert counters == {"sent": 2, why: 3}
    assert [other.recv(10) for _ in range(2)] == [b"good", b"good"]


def test_it_stops_where_the_kernel_has_no_room(burst, tmp_path):
    path = str(tmp_path / "socket")
    with bound(socket.AF_UNIX, path) as server, bound(socket.AF_UNIX, "") as client:
        datagrams = [(b"%d" % at, path) for at in range(10_000)]
        at = burst.send(client, datagrams, 0, counters := Counter())
        assert 0 < at < len(datagrams)
        assert counters == {"sent": at}
        assert len(burst.receive(server, Counter())) == min(at, BURST)
        assert burst.send(client, datagrams, at, counters) > at


@pytest.mark.parametrize(
    "address",
    [
        ("localhost", 0),
        ("0", 0),  # 0.0.0.0 in an old way of writing
        ("127.1", 0),
        ["127.0.0.1", 0],
    ],
)
def test_addresses_that_are_not_plain_numbers_are_the_sockets_affair(burst, pair, address):
    one, other = pair
    host, _ = address
    target = type(address)([host, other.getsockname()[1]])
    try:
        one.sendto(b"by hand", target)
    except TypeError as error:
        with pytest.raises(type(error)):
            burst.send(one, [(b"x", target)], 0, Counter())
        return
    assert burst.send(one, [(b"a", other.getsockname()), (b"b", target), (b"c", other.getsockname())], 0, Counter()) == 3
    assert [other.recv(10) for _ in range(4)] == [b"by hand", b"a", b"b", b"c"]


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1",),
        ("127.0.0.1", 9, 0, 0),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("127.0.0.1", "9"),
        ("127.0.0.1\0", 9),
        ("127.0.0.1\0.example", 9),
        ("no such host.invalid", 9),
        (b"127.0.0.1", b"9"),
        ("\udcff", 9),
        ("::1", 9),
        "127.0.0.1:9",
        9,
    ],
)
def test_what_is_no_address_raises_what_the_socket_raises(burst, pair, address):
    one, other = pair
    with pytest.raises(Exception) as expected:  # noqa: PT011
        one.sendto(b"x", address)
    with pytest.raises(type(expected.value)):
        burst.send(one, [(b"good", other.getsockname()), (b"x", address)], 0, counters := Counter())
    assert counters == {"sent": 1}
    assert other.recv(10) == b"good"


@pytest.mark.parametrize("address", [("::1", 9, 1 << 20, 0), ("::1", 1 << 16, 0, 0), ("::1", 9, -1, 0)])
def test_numbers_that_do_not_fit_an_ipv6_address_raise_what_the_socket_raises(burst, address):
    with bound(*V6) as one, pytest.raises(OverflowError):
        burst.send(one, [(b"x", address)], 0, Counter())


def test_a_unix_socket_takes_paths_alone(burst, tmp_path):
    with bound(socket.AF_UNIX, str(tmp_path / "socket")) as one, pytest.raises(TypeError):
        burst.send(one, [(b"x", ("::1", 9, 0, 0))], 0, Counter())


@pytest.mark.parametrize("target", [("::1", 0), ("::1", 0, 0), ("::1", 0, 0xFFFFF, 0)])
def test_short_and_long_ipv6_addresses(burst, target):
    with bound(*V6) as one, bound(*V6) as other:
        assert burst.send(one, [(b"x", (target[0], other.getsockname()[1], *target[2:]))], 0, Counter()) == 1
        assert other.recv(10) == b"x"


def test_a_closed_socket_receives_nothing(burst, pair):
    one, _ = pair
    one.close()
    assert burst.receive(one, counters := Counter()) == []
    assert counters == {errno.errorcode[errno.EBADF]: 1}


def test_many_with_one_call_where_that_is_compiled_and_the_kernel_can(compiled):
    assert _burst.receive.__module__ == "fastframe._burst_c"


def test_no_memory_is_shared_with_processes_that_are_forked_off(compiled, pair):
    """They would receive into it at the same time."""
    _burst.receive(pair[0], Counter())
    shared = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.split()[1].endswith("s")]
    assert not [line for line in shared if "/dev/zero" in line]
