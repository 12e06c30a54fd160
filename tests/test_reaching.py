"""What the client commands say where no server is."""

from __future__ import annotations

import socket
import threading

import pytest
import trustme
from serving import serving

from fastframe.__main__ import main

COMMANDS = [["exec", "{}", "name"], ["ls", "{}"], ["echo", "{}", "text"]]


@pytest.fixture
def said(capsys):
    """Have a command reach for an address; return what it says, and see that it failed."""

    def run(command: list[str], address: str) -> str:
        status = main([word.format(address) for word in command])
        assert status == (255 if command[0] == "exec" else 1)
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("command", [*COMMANDS, ["echo", "--udp", "{}", "text"]], ids=" ".join)
def test_the_address_and_the_reason(said, command, tmp_path):
    address = f"unix:{tmp_path}/none"
    assert said(command, address) == f"fastframe: cannot connect to {address}: No such file or directory\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nobody_listens(said, command):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # so that nobody else gets the port
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        assert said(command, address) == f"fastframe: cannot connect to {address}: Connection refused\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_name_that_no_host_can_have(said, command):
    assert said(command, "a..b:80") == "fastframe: cannot connect to a..b:80: no host can have that name\n"


@pytest.mark.parametrize("command", COMMANDS[:2], ids=" ".join)
def test_somebody_who_says_nothing(said, command):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        told = said([command[0], "--timeout", "0.1", *command[1:]], address)
    assert told == f"fastframe: cannot connect to {address}: no answer within 0.1 s\n"


@pytest.mark.parametrize(
    ("options", "hint"), [([], "it may want --tls"), (["--tls"], "it may have no TLS, or want --tls-cert")]
)
@pytest.mark.parametrize("command", COMMANDS[:2], ids=" ".join)
def test_a_server_that_hangs_up(said, command, options, hint):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_hang_up, args=(listener,))
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        told = said([command[0], *options, *command[1:]], address)
        thread.join()
    assert told == f"fastframe: cannot connect to {address}: the server hung up: {hint}\n"


def _hang_up(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1 << 16)


def test_a_certificate_of_nobody_known(said, tmp_path):
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    with serving("--tls-cert", tmp_path / "server.pem") as server:
        told = said(["echo", "--tls", "{}", "text"], server.address)
    assert told.startswith(f"fastframe: cannot connect to {server.address}: [SSL: CERTIFICATE_VERIFY_FAILED]")
