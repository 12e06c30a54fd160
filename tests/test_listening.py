"""Listening sockets: what is bound, how, and what is left when it fails."""

import os
import socket

import pytest

from fastframe import _listening
from fastframe.aio import bind


def close(listeners) -> None:
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_an_address_is_bound_and_accepts(host, family):
    (listener,) = bind(host, 0)
    assert listener.family == family
    assert not listener.get_inheritable()
    with listener, socket.create_connection(listener.getsockname()[:2], timeout=5):
        listener.accept()[0].close()


def test_a_name_is_bound_at_every_address_of_it(monkeypatch):
    both = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    found = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in both]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    listeners = bind("a.name", 0)
    assert [listener.family for listener in listeners] == [socket.AF_INET, socket.AF_INET6]
    close(listeners)


def test_no_host_is_every_address():
    listeners = bind("", 0)
    assert {listener.getsockname()[0] for listener in listeners} >= {"0.0.0.0"}
    close(listeners)


def test_the_same_port_of_both_families_is_two_sockets():
    (six,) = bind("::", 0)
    (four,) = bind("127.0.0.83", six.getsockname()[1])  # where nobody else is: at 0.0.0.0 the port may be taken already
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    close([six, four])


def test_a_port_can_be_bound_again_while_old_connections_linger():
    (listener,) = bind("127.0.0.1", 0)
    address = listener.getsockname()
    with socket.create_connection(address):
        listener.accept()[0].close()  # the side that closes first is the one that keeps the port in TIME_WAIT
    listener.close()
    close(bind(*address))


def test_a_port_that_is_served_is_not_shared_and_nothing_stays_open(monkeypatch):
    opened = []
    plain = socket.socket

    def noted(*arguments, **options):
        opened.append(plain(*arguments, **options))
        return opened[-1]

    (listener,) = bind("127.0.0.1", 0)
    free, taken = ("127.0.0.1", 0), listener.getsockname()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (free, taken)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(_listening.socket, "socket", noted)
    with listener, pytest.raises(OSError, match="in use"):
        bind("a.name", 0)
    assert [each.fileno() for each in opened] == [-1, -1]


def test_a_burst_waits_in_the_backlog():
    (listener,) = bind("127.0.0.1", 0)
    with listener:
        clients = [socket.create_connection(listener.getsockname(), timeout=0.9) for _ in range(300)]  # a second SYN: after 1 s
        close(clients)


def test_a_path_is_bound_and_a_socket_that_was_left_is_replaced(tmp_path):
    path = tmp_path / "socket"
    close(bind(path=path))
    assert path.exists()
    (listener,) = bind(path=os.fspath(path))
    with listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))


def test_a_path_that_is_served_or_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "socket"
    (listener,) = bind(path=path)
    with listener, pytest.raises(OSError, match="in use"):
        bind(path=path)
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        bind(path=file)
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    "address", [{}, {"host": "::1"}, {"port": 1}, {"path": "x", "port": 1}, {"path": "x", "host": "::1"}], ids=repr
)
def test_there_is_one_address(address):
    with pytest.raises(ValueError, match="give either a host and a port, or a path"):
        bind(**address)
