"""Who a client is: tokens that never travel, and what guessing them costs.

Both sides know a token and prove it with an HMAC over both nonces: the client first, then the server, each with its own label,
so that neither can be sent its own proof. A nonce is new for every connection, so that nothing can be replayed.

A token file has a line `KEY TOKEN` for each client, as `openssl rand -hex 32` makes tokens; it is for its owner's eyes alone.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import stat
import time
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from .arguments import UsageError
from .errors import OperationError

NONCE_BYTES: Final = 32
MIN_TOKEN: Final = 32  # characters: 128 bits in hexadecimal
LINE: Final = re.compile(rf"([\w.@-]{{1,64}})\s+(\S{{{MIN_TOKEN},1024}})", re.ASCII)
LONGEST_FILE: Final = 16 * 1024 * 1024

FIRST_PENALTY: Final = 0.5  # seconds that a source waits after a wrong credential, doubled with each, up to
LAST_PENALTY: Final = 30.0
FORGET_SECONDS: Final = 600.0  # without a wrong one
MOST_SOURCES: Final = 10_000  # who comes from more addresses is not stopped by this: a token cannot be guessed in any time

Side = Literal["client", "server"]


class Challenge(NamedTuple):
    """What a proof is for: one connection, and the key that the client named."""

    key: str
    client_nonce: str
    server_nonce: str


def new_nonce() -> str:
    """Return 32 random bytes in hexadecimal."""
    return secrets.token_hex(NONCE_BYTES)


def is_nonce(text: str) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{2 * NONCE_BYTES}}}", text) is not None


def proof(token: str, side: Side, challenge: Challenge) -> str:
    """Return what proves the knowledge of `token`, in hexadecimal: HMAC-SHA256 (RFC 2104) over five lines.

    `side`: whose proof it is. The nonces stand there as they travelled, in hexadecimal.
    """
    return hmac.new(token.encode(), "\n".join(("fastframe 1", side, *challenge)).encode(), hashlib.sha256).hexdigest()


def is_proof(given: str, token: str, side: Side, challenge: Challenge) -> bool:
    """Tell whether `given` proves the knowledge of `token`, in a time that does not depend on how much of it is right."""
    return hmac.compare_digest(proof(token, side, challenge).encode(), given.encode())


def source_of(peername: str) -> str:
    """Return whom a wrong credential is counted to: an IPv4 address, an IPv6 network of 64 bits, or "unix"."""
    if peername.startswith("unix:"):
        return "unix"
    ip = ipaddress.ip_address(peername.rpartition(":")[0].strip("[]").partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))


def read_tokens(path: str) -> dict[str, str]:
    """Return the tokens of a file by their keys; raise UsageError if it is not for its owner alone or not of that form."""
    try:
        with open(path, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            text = file.read(LONGEST_FILE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid not in (os.geteuid(), 0):
        raise UsageError(f"{path} holds tokens and can be read by others: chmod 600 {path}")
    tokens: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if match is None or match[1] in tokens:
            raise UsageError(f"{path}, line {number}: not a new KEY and a TOKEN of {MIN_TOKEN} characters or more")
        tokens[match[1]] = match[2]
    if not tokens:
        raise UsageError(f"{path} has no line KEY TOKEN")
    return tokens


def read_token(path: str | None) -> tuple[str, str] | None:
    """Return a client's own key and token, None without a file; raise UsageError unless it has one line."""
    if path is None:
        return None
    tokens = read_tokens(path)
    if len(tokens) != 1:
        raise UsageError(f"{path} has {len(tokens)} tokens, and a client is one")
    return next(iter(tokens.items()))


class Keyring:
    """The tokens of a server. Asking takes the same time whether a key is known or not."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._tokens = dict(tokens)
        self._nobodys = secrets.token_hex(NONCE_BYTES)

    def check(self, client_proof: str, challenge: Challenge) -> str | None:
        """Return the server's proof if the client's is right, None if it is not."""
        token = self._tokens.get(challenge.key, self._nobodys)
        right = is_proof(client_proof, token, "client", challenge)
        return proof(token, "server", challenge) if right and challenge.key in self._tokens else None


def keyring(path: str | None) -> Keyring | None:
    """Return the keyring of a token file, None if there is none; raise UsageError."""
    return None if path is None else Keyring(read_tokens(path))


class Penalties:
    """How long each source has to wait before its next credential is looked at, however many connections it has."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[int, float]] = {}  # wrong ones, and when the next is looked at; the oldest first

    def wait(self, source: str, patience: float) -> float:
        """Return for how many seconds a credential from `source` has to wait, and have the next one wait behind it.

        Raise OperationError (busy) if that is more than `patience`.
        """
        wrong, due = self._sources.get(source, (0, 0.0))
        now = time.monotonic()
        if not wrong or now - due > FORGET_SECONDS:
            return 0.0
        turn = max(now, due)
        if turn - now > patience:
            raise OperationError(
                "busy", f"after {wrong} wrong credentials from there the next is looked at in {turn - now:.0f} s"
            )
        self._sources[source] = wrong, turn + _penalty(wrong)
        return turn - now

    def note_wrong(self, source: str) -> None:
        wrong, due = self._sources.pop(source, (0, 0.0))
        self._sources[source] = wrong + 1, max(due, time.monotonic() + _penalty(wrong + 1))
        if len(self._sources) > MOST_SOURCES:
            del self._sources[next(iter(self._sources))]


def _penalty(wrong: int) -> float:
    return min(FIRST_PENALTY * 2.0 ** min(wrong - 1, 16), LAST_PENALTY)
