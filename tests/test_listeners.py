import argparse
import contextlib
import os
import resource
import socket
import stat

import pytest
from serving import connect, is_echoed, refused, serving

from fastframe import aio
from fastframe.servers import arguments, listeners


def parse(*words):
    parser = argparse.ArgumentParser()
    arguments.add_service_options(parser)
    arguments.add_server_options(parser)
    return parser.parse_args(words)


@contextlib.contextmanager
def opened(*words):
    made = listeners.open_listeners(parse("--port", "0", *words), aio.bind)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ([], True),
        (["--host", "::1"], True),
        (["--host", "localhost"], True),
        (["--host", "127.8.8.8"], True),
        (["--host", "0.0.0.0"], False),
        (["--host", "::"], False),
        (["--host", ""], False),
        (["--host", "example.org"], False),
        (["--host", "127.0.0.1", "--host", "0.0.0.0"], False),
        (["--host", "0.0.0.0", "--tls-cert", "x"], False),
        (["--host", "0.0.0.0", "--tls-cert", "x", "--tls-client-ca", "y"], True),
        (["--host", "0.0.0.0", "--tokens", "x"], False),  # what follows a token could be changed on the way
        (["--host", "0.0.0.0", "--tls-cert", "x", "--tokens", "y"], True),
        (["--host", "0.0.0.0", "--insecure"], True),
        (["--host", "0.0.0.0", "--unix", "x"], False),
        (["--unix", "x"], True),
    ],
)
def test_a_public_address_needs_client_certificates_or_the_word(words, allowed, monkeypatch):
    monkeypatch.setattr(listeners.Listeners, "bind", lambda *_: None)
    monkeypatch.setattr(listeners.Listeners, "bind_unix", lambda *_: None)
    with contextlib.nullcontext() if allowed else pytest.raises(arguments.UsageError, match="say --insecure"):
        listeners.open_listeners(parse(*words), aio.bind)


def test_a_server_that_knows_tokens_names_them_as_a_remedy():
    with pytest.raises(arguments.UsageError, match="give --tls-cert with --tokens or --tls-client-ca, or say --insecure"):
        listeners.open_listeners(parse("--host", "0.0.0.0", "--tokens", "x"), aio.bind)


def test_what_is_served_without_connections_has_no_certificates():
    with pytest.raises(arguments.UsageError, match="authenticates them: say --insecure"):
        listeners.open_listeners(parse("--host", "::"), aio.bind, socket.SOCK_DGRAM)


def test_a_mode_is_of_a_file():
    with pytest.raises(arguments.UsageError, match="for the files of --unix"):
        listeners.open_listeners(parse("--unix-mode", "660"), aio.bind)


def test_a_refusal_is_one_line_and_status_2():
    status, said = refused("--host", "0.0.0.0")
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("fastframe: '0.0.0.0' can be reached by others")


def test_several_addresses_are_served_at_once(tmp_path):
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    words = ["--host", "127.0.0.1", "--host", "::1", "--unix", paths[0], "--unix", paths[1], "--unix-mode", "600"]
    with serving(*words, listeners=4) as server:
        assert [address.partition(":")[0] for address in server.addresses] == ["127.0.0.1", "[", "unix", "unix"]
        assert server.addresses[2:] == [f"unix:{path}" for path in paths]
        for address in server.addresses:
            with connect(address) as raw:
                assert is_echoed(raw)
        assert server.end() == (0, "", "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_unix_socket_has_the_mode_that_was_asked_for_from_the_start(mode, tmp_path, monkeypatch):
    path = str(tmp_path / "socket")
    seen = []
    listen = socket.socket.listen
    monkeypatch.setattr(socket.socket, "listen", lambda *given: seen.append(os.stat(path).st_mode) or listen(*given))
    with opened("--unix", path, "--unix-mode", f"{mode:o}"):
        assert stat.S_IMODE(seen[0]) == stat.S_IMODE(os.stat(path).st_mode) == mode


def test_the_umask_is_left_as_it_was(tmp_path):
    before = os.umask(0o027)
    try:
        with opened("--unix", str(tmp_path / "a"), "--unix-mode", "600"), opened("--unix", str(tmp_path / "b")):
            assert stat.S_IMODE(os.stat(tmp_path / "b").st_mode) == 0o750
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_one_address_that_fails_closes_the_others(tmp_path):
    path = str(tmp_path / "socket")
    with opened() as first:
        port = str(first.sockets[0].getsockname()[1])
        options = parse("--unix", path, "--unix", str(tmp_path / "no" / "where"))
        with pytest.raises(listeners.ListenError, match=r"cannot listen on .*where: No such file"):
            listeners.open_listeners(options, aio.bind)
        assert os.listdir(tmp_path) == []
        with pytest.raises(listeners.ListenError, match=f"127.0.0.1, port {port}: Address already in use"):
            listeners.open_listeners(parse("--port", port), aio.bind)


def test_a_file_that_another_server_made_since_is_left_to_it(tmp_path):
    path = tmp_path / "socket"
    with opened("--unix", str(path)):
        path.unlink()
        path.touch()
    assert path.exists()


def test_a_host_name_that_cannot_be_one_is_told():
    with pytest.raises(listeners.ListenError, match=r"a\.\.b"):
        listeners.open_listeners(parse("--host", "a..b", "--insecure"), aio.bind)


def test_descriptors_are_asked_for_and_bound_the_connections(monkeypatch, caplog):
    limits = {"now": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.update(now=both))
    assert listeners.allow(aio.Limits(max_connections=1000), 1).max_connections == 1000
    assert limits["now"] == (4096, 4096)
    assert not caplog.records
    most = 4096 - listeners.OWN_DESCRIPTORS
    assert listeners.allow(aio.Limits(max_connections=10_000), 1).max_connections == most
    assert "max connections lowered" in caplog.text
    assert listeners.allow(aio.Limits(max_connections=None), 1).max_connections == most


def test_no_hard_limit_of_descriptors_is_no_number(monkeypatch):
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: asked.append(both))
    assert listeners.allow(aio.Limits(max_connections=1000), 1).max_connections == 1000
    assert asked == [(listeners.UNLIMITED_DESCRIPTORS, resource.RLIM_INFINITY)]


@pytest.mark.parametrize(("connections", "workers", "share"), [(10, 1, 10), (10, 3, 4), (1, 4, 1)])
def test_workers_share_the_connections(connections, workers, share):
    assert listeners.allow(aio.Limits(max_connections=connections), workers).max_connections == share
