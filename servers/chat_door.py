"""The door of the chat server over datagrams: who is at the address that it sends from, how often it comes, and who it is.

    HELLO nonce, padding      ->
                              <-   WELCOME cookie      of a stranger nothing is kept, and nothing longer goes back
    OPEN nonce, cookie, ...   ->                       whoever says the cookie is where it says it is

The cookie is an HMAC over the address, the client's nonce and the time, with a key that nobody else has. With tokens it is the
server's nonce, and the proofs are those of `credentials.py`, in OPEN and OPENED.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from . import credentials, messages, rooms
from .errors import OperationError
from .messages import Kind
from .rooms import Flood
from .session import AGENT

if TYPE_CHECKING:
    from fastframe import datagram

    from .messages import Fields

HELLO_LENGTH: Final = 512  # bytes of a HELLO at least; WELCOME has some 210: a forged sender is sent less than the forger sent
COOKIE_SECONDS: Final = 60  # that a cookie is good for, and up to twice as long
ENTRIES: Final = 10.0, 100  # of one source into rooms, a second and at once: everybody in a room is told of each
MOST_SOURCES: Final = 10_000  # that those are counted for


class Peer(NamedTuple):
    """Where a datagram came from, and goes back to."""

    endpoint: datagram.DatagramEndpoint
    address: datagram.Address

    @property
    def source(self) -> str:
        """Whom entries and wrong credentials are counted to."""
        return credentials.source_of(f"[{self.address[0]}]:0" if isinstance(self.address, tuple) else "unix:")


class Door:
    """Lets clients in. `entries`: how many a source may have, a second and at once."""

    def __init__(self, keyring: credentials.Keyring | None = None, entries: tuple[float, int] = ENTRIES) -> None:
        self._keyring = keyring
        self._entries = entries
        self._key = secrets.token_bytes(32)
        self._sources: OrderedDict[str, Flood] = OrderedDict()  # the one that came last at the end
        self._penalties = credentials.Penalties()

    def greet(self, peer: Peer, asked: Fields, size: int, now: float) -> tuple[Kind, dict[str, Any]]:
        """Return the answer to a HELLO of `size` bytes; raise OperationError if there is none."""
        nonce = nonce_of(asked)
        if size < HELLO_LENGTH:
            raise OperationError("bad_message", f"a HELLO of {size} bytes")
        if asked.integer("version") != messages.VERSION:
            return Kind.ERROR, {"to": nonce, "code": "unsupported", "message": f"this is version {messages.VERSION}"}
        auth = [] if self._keyring is None else ["token"]
        cookie = self._cookie(peer, nonce, now)
        return Kind.WELCOME, {"to": nonce, "version": messages.VERSION, "nonce": cookie, "agent": AGENT, "auth": auth}

    def has_cookie(self, peer: Peer, asked: Fields, now: float) -> bool:
        """Return whether an OPEN has the cookie of where it came from; raise OperationError if it has none at all."""
        cookie, nonce = nonce_of(asked, "cookie"), nonce_of(asked)
        return any(hmac.compare_digest(self._cookie(peer, nonce, then), cookie) for then in (now, now - COOKIE_SECONDS))

    def identify(self, peer: Peer, asked: Fields, now: float) -> tuple[str, dict[str, str]]:
        """Return as whom somebody comes that has the cookie, and the server's own proof where there are tokens.

        Raise OperationError: bad_name, unauthenticated, busy.
        """
        self._count(peer.source, now)
        if self._keyring is None:
            return rooms.checked_name(asked.text("name")), {}
        self._penalties.wait(peer.source, 0.0)
        challenge = credentials.Challenge(asked.text("key", default="", most=64), nonce_of(asked), nonce_of(asked, "cookie"))
        proof = self._keyring.check(asked.text("proof", default="", most=64), challenge)
        if proof is None:
            self._penalties.note_wrong(peer.source)
            raise OperationError("unauthenticated")
        return rooms.checked_name(challenge.key), {"proof": proof}

    def _cookie(self, peer: Peer, nonce: str, now: float) -> str:
        """Return a cookie in the form of a nonce: where there are tokens it is the server's."""
        text = f"{int(now // COOKIE_SECONDS)}\n{nonce}\n{peer.address!r}"
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def _count(self, source: str, now: float) -> None:
        """Count an entry; raise OperationError (busy) if it is one too many."""
        flood = self._sources.setdefault(source, Flood(*self._entries))
        self._sources.move_to_end(source)
        if len(self._sources) > MOST_SOURCES:
            self._sources.popitem(last=False)
        if flood.early(now):
            raise OperationError("busy", f"more than {self._entries[0]:g} a second come from there")
        flood.take(now)


def nonce_of(asked: Fields, name: str = "nonce") -> str:
    """Return the nonce that a client chose, or the cookie it was given; raise OperationError if it is none."""
    nonce = asked.text(name, most=2 * credentials.NONCE_BYTES)
    if not credentials.is_nonce(nonce):
        raise OperationError("bad_request", f"{name!r} is no nonce")
    return nonce
