"""Credentials: token files, proofs that hold for one connection, penalties that no number of connections evades."""

from __future__ import annotations

import hashlib
import hmac
import time

import pytest

from fastframe.servers import credentials
from fastframe.servers.arguments import UsageError
from fastframe.servers.credentials import Challenge, Keyring, Penalties, proof, read_tokens, source_of
from fastframe.servers.errors import OperationError

TOKEN = "0123456789abcdef" * 4
CHALLENGE = Challenge("alice", "aa" * 32, "bb" * 32)


def token_file(tmp_path, text, mode=0o600):
    file = tmp_path / "tokens"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def test_a_token_file_has_a_line_for_each_key(tmp_path):
    path = token_file(tmp_path, f"# who\n\nalice {TOKEN}\n  bob@host\t{TOKEN[::-1]}  \n")
    assert read_tokens(path) == {"alice": TOKEN, "bob@host": TOKEN[::-1]}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_token_file_that_others_can_read_is_refused(tmp_path, mode):
    with pytest.raises(UsageError, match="chmod 600"):
        read_tokens(token_file(tmp_path, f"alice {TOKEN}", mode))


@pytest.mark.parametrize("line", ["alice", "alice short", f"al/ice {TOKEN}", f"alice {TOKEN} more", f"{'a' * 65} {TOKEN}"])
def test_a_line_that_is_no_key_and_token_is_refused_by_its_number(tmp_path, line):
    with pytest.raises(UsageError, match="line 2"):
        read_tokens(token_file(tmp_path, f"bob {TOKEN}\n{line}\n"))


def test_a_key_may_not_come_twice(tmp_path):
    with pytest.raises(UsageError, match="line 2"):
        read_tokens(token_file(tmp_path, f"bob {TOKEN}\nbob {TOKEN}\n"))


@pytest.mark.parametrize("content", [b"", b"# nobody\n", b"\xff\xfe"])
def test_a_file_without_tokens_is_refused(tmp_path, content):
    file = tmp_path / "tokens"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(UsageError):
        read_tokens(str(file))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_tokens(str(tmp_path / "missing"))


def test_a_proof_is_an_hmac_over_five_lines():
    said = f"fastframe 1\nclient\nalice\n{'aa' * 32}\n{'bb' * 32}"
    assert proof(TOKEN, "client", CHALLENGE) == hmac.new(TOKEN.encode(), said.encode(), hashlib.sha256).hexdigest()


def test_the_right_proof_is_answered_with_the_servers_own():
    answer = Keyring({"alice": TOKEN}).check(proof(TOKEN, "client", CHALLENGE), CHALLENGE)
    assert answer == proof(TOKEN, "server", CHALLENGE)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "ü",
        "00" * 32,
        proof(TOKEN, "server", CHALLENGE),  # reflected
        proof(TOKEN[::-1], "client", CHALLENGE),
        proof(TOKEN, "client", CHALLENGE._replace(key="bob")),
        proof(TOKEN, "client", CHALLENGE._replace(client_nonce="cc" * 32)),
        proof(TOKEN, "client", CHALLENGE._replace(server_nonce="cc" * 32)),  # replayed
    ],
)
def test_another_proof_is_wrong(given):
    assert Keyring({"alice": TOKEN}).check(given, CHALLENGE) is None


def test_an_unknown_key_is_wrong_whatever_it_proves():
    ring = Keyring({"bob": TOKEN})
    assert ring.check(proof(TOKEN, "client", CHALLENGE), CHALLENGE) is None
    assert ring.check(proof(ring._nobodys, "client", CHALLENGE), CHALLENGE) is None


@pytest.mark.parametrize(
    ("peername", "source"),
    [
        ("192.0.2.1:80", "192.0.2.1"),
        ("[2001:db8::1:2]:80", "2001:db8::/64"),
        ("[fe80::1%eth0]:80", "fe80::/64"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("unix:", "unix"),
        ("unix:/run/x", "unix"),
    ],
)
def test_a_source_is_an_address_or_an_ipv6_network(peername, source):
    assert source_of(peername) == source


def at(monkeypatch, now):
    monkeypatch.setattr(time, "monotonic", lambda: now)


def test_who_was_never_wrong_does_not_wait(monkeypatch):
    assert Penalties().wait("a", 1.0) == 0.0


def test_each_wrong_credential_doubles_the_wait(monkeypatch):
    penalties = Penalties()
    at(monkeypatch, 1000.0)
    penalties.note_wrong("a")
    assert penalties.wait("a", 10.0) == 0.5
    at(monkeypatch, 1001.0)
    penalties.note_wrong("a")
    assert penalties.wait("a", 10.0) == pytest.approx(1.0)
    assert penalties.wait("b", 10.0) == 0.0


def test_many_connections_wait_one_behind_the_other(monkeypatch):
    penalties = Penalties()
    at(monkeypatch, 1000.0)
    penalties.note_wrong("a")
    assert [penalties.wait("a", 1.0) for _ in range(2)] == [0.5, 1.0]
    for _ in range(1000):
        with pytest.raises(OperationError, match="busy"):
            penalties.wait("a", 1.0)
    at(monkeypatch, 1001.5)  # those who were turned away have taken nobody's turn
    assert penalties.wait("a", 1.0) == 0.0


def test_the_wait_is_bounded_and_forgotten(monkeypatch):
    penalties = Penalties()
    at(monkeypatch, 1000.0)
    for _ in range(100):
        penalties.note_wrong("a")
    assert penalties.wait("a", 100.0) == credentials.LAST_PENALTY
    at(monkeypatch, 3000.0)
    assert penalties.wait("a", 1.0) == 0.0


def test_the_sources_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(credentials, "MOST_SOURCES", 2)
    penalties = Penalties()
    for source in "abc":
        penalties.note_wrong(source)
    assert penalties.wait("a", 10.0) == 0.0
    assert penalties.wait("c", 10.0) > 0.0
