"""Clients of the chat server over datagrams without sockets: what they send is handed over, what they are sent is kept."""

from __future__ import annotations

import itertools
from collections import Counter

from fastframe.servers import messages
from fastframe.servers.chat_door import HELLO_LENGTH, Door
from fastframe.servers.chat_hall import CODEC, encode
from fastframe.servers.chat_udp import Chat
from fastframe.servers.messages import Fields, Kind
from fastframe.servers.rooms import Rooms

SERVER = ("127.0.0.1", 9000)
NONCES = (f"{number:064x}" for number in itertools.count(1))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Wire:
    """An endpoint whose datagrams go nowhere."""

    def __init__(self, address=SERVER):
        self.address = address
        self.counters = Counter()
        self.sent = []

    def send_many(self, datagrams):
        self.sent += datagrams
        return len(datagrams)

    def taken(self, address):
        """Return, and forget, what was sent to an address."""
        found = [datagram for datagram, receiver in self.sent if receiver == address]
        self.sent = [(datagram, receiver) for datagram, receiver in self.sent if receiver != address]
        return found


class Server:
    """The server on a wire, at a time that is set."""

    def __init__(self, wire=None, *, rooms=None, entries=(1e6, 1000), keyring=None, **options):
        self.wire = wire or Wire()
        self.clock = Clock()
        self.chat = Chat(rooms or Rooms(), Door(keyring, entries), clock=self.clock, **options)

    def give(self, datagram, address):
        self.chat(self.wire, [(datagram, address)])

    def __call__(self, number, name="", **asked):
        """Return a caller, who enters if it has a name."""
        caller = Caller(self, ("127.0.0.1", 40_000 + number))
        if name:
            caller.enter(name=name, **asked)
        return caller


class Caller:
    def __init__(self, server, address):
        self.server = server
        self.address = address
        self.nonce = next(NONCES)
        self.cookie = ""
        self.opened = Fields()

    def tell(self, kind, **fields):
        """Send a message and return what came to this address since the last time."""
        return self.give(encode(kind, fields))

    def give(self, datagram):
        self.server.give(datagram, self.address)
        return self.heard()

    def heard(self):
        return [read(datagram) for datagram in self.server.wire.taken(self.address)]

    def hello(self, **fields):
        return self.tell(Kind.HELLO, **{"version": 1, "nonce": self.nonce, "pad": "0" * HELLO_LENGTH} | fields)

    def open(self, **asked):
        return self.tell(
            Kind.OPEN, **{"operation": "chat", "room": "lobby", "nonce": self.nonce, "cookie": self.cookie} | asked
        )

    def knock(self):
        ((kind, welcome),) = self.hello()
        assert kind is Kind.WELCOME
        self.cookie = welcome["nonce"]
        return welcome

    def enter(self, **asked):
        """Enter a room; return what else came with OPENED."""
        self.knock()
        (kind, self.opened), *rest = self.open(**asked)
        assert kind is Kind.OPENED, self.opened
        return rest

    @property
    def secret(self):
        return self.opened["secret"]

    def do(self, kind, **fields):
        return self.tell(kind, **{"secret": self.secret} | fields)

    def say(self, text, id="1"):
        return self.do(Kind.DATA, type="say", text=text, id=id)

    def ping(self, seq=0, missing=()):
        return self.do(Kind.PING, seq=seq, missing=list(missing))


def read(datagram):
    """Return the kind and the fields of a message."""
    message = messages.decode(CODEC.decode(datagram))
    return message.kind, messages.decode_fields(message.data) if message.kind in messages.BYTES else message.fields
