"""What the kinds of tutorials share: two commands, where they may listen, what clients say of a server that is not there."""

from __future__ import annotations

import importlib
import socket

import pytest
from serving import FASTFRAME, connect, serving

from fastframe import aio, datagram
from fastframe.servers import arguments, listeners, tutorial


@pytest.mark.parametrize("side", ["serve", "client"])
@pytest.mark.parametrize("kind", tutorial.KINDS)
def test_every_kind_has_both_ends_with_an_example(kind, side, capsys):
    main = tutorial.serve_main if side == "serve" else tutorial.client_main
    command = f"fastframe serve tutorial {kind}" if side == "serve" else f"fastframe tutorial {kind}"
    with pytest.raises(SystemExit) as exit_:
        main([kind, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert exit_.value.code == 0
    assert f"usage: {command}" in shown
    assert f"example: {command}" in shown
    assert "--tls" not in shown
    assert "--insecure" not in shown
    assert "0.0.0.0" not in shown


@pytest.mark.parametrize("main", [tutorial.serve_main, tutorial.client_main])
@pytest.mark.parametrize("words", [[], ["nothing"], ["--unknown"]])
def test_no_kind_or_another_is_wrong_usage(main, words, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert "KIND" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_only_this_machine_may_reach_it(host, capsys):
    assert tutorial.serve_main(["echo", "--host", host, "--port", "0"]) == 2
    assert capsys.readouterr().err.startswith(f"fastframe: {host!r} can be reached by others")


@pytest.mark.parametrize(("kind", "bind"), [(socket.SOCK_STREAM, aio.bind), (socket.SOCK_DGRAM, datagram.bind)])
def test_loopback_of_both_families_and_unix_sockets_are_allowed(kind, bind, tmp_path):
    words = ["--host", "127.0.0.1", "--host", "::1", "--port", "0", "--unix", str(tmp_path / "s")]
    opened = listeners.open_listeners(tutorial.server_parser("echo", "", "").parse_args(words), bind, kind)
    assert [listener.family for listener in opened.sockets] == [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]
    opened.close()


def test_limits_of_connections_are_nothing_for_datagrams(capsys):
    parser = tutorial.server_parser("udp-echo", "", "")
    with pytest.raises(SystemExit):
        tutorial.run(parser, parser.parse_args(["--idle-timeout", "5"]), None, socket.SOCK_DGRAM)
    assert "datagrams have no connections" in capsys.readouterr().err


def test_an_operator_has_one_terminal(capsys):
    with pytest.raises(SystemExit):
        tutorial.serve_main(["chat", "--workers", "2"])
    assert "one terminal" in capsys.readouterr().err


def test_a_client_says_that_nobody_is_there(capsys, tmp_path):
    assert tutorial.client_main(["echo", "--address", f"unix:{tmp_path}/none", "x"]) == 1
    assert capsys.readouterr().err == f"fastframe: cannot connect to unix:{tmp_path}/none: No such file or directory\n"


def test_a_client_does_not_wait_for_ever(capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert tutorial.client_main(["hello", "--address", address, "--timeout", "0.1"]) == 1
    assert capsys.readouterr().err == "fastframe: no answer within 0.1 s\n"


def test_what_a_peer_sent_cannot_steer_a_terminal():
    assert tutorial.printable("你好\u3000\x1b[2J\u202e\n\r\n") == "你好\u3000\\x1b[2J\\u202e"


def test_a_server_on_several_sockets_and_processes(tmp_path):
    words = ["serve", "tutorial", "echo", "--upper", "--port", "0", "--host", "127.0.0.1", "--host", "::1", "--workers", "2"]
    with serving(command=[*FASTFRAME, *words, "--unix", str(tmp_path / "s")], listeners=3) as server:
        for address in server.addresses:
            with connect(address) as raw:
                raw.sendall(b"hello")
                assert raw.recv(100) == b"HELLO"
        assert server.end()[0] == 0


def test_every_kind_is_a_pair_of_functions():
    for kind, (server, client, _) in tutorial.KINDS.items():
        for side, name in (("serve", server), ("client", client)):
            module = importlib.import_module(f"fastframe.servers.{name}")
            assert callable(getattr(module, f"{side}_{kind.replace('-', '_')}"))


def test_the_default_address_is_where_servers_listen():
    options = tutorial.client_parser("echo", "", "").parse_args([])
    assert options.address == {"host": arguments.DEFAULT_HOST, "port": arguments.DEFAULT_PORT}
