"""A bad network: datagrams get lost, come twice, and overtake each other."""

from __future__ import annotations

import random
import selectors
import socket
import threading
from collections import Counter


class Relay:
    """A bad network between one client and a server: what it loses, doubles and holds back is chance's, of a seed."""

    def __init__(self, server, seed, *, loss=0.25, doubled=0.15, held=0.3):
        self._chance = random.Random(seed)
        self._rates = loss, doubled, held
        self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.bind(("127.0.0.1", 0))
        self._far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._far.connect(server)
        self.address = self._near.getsockname()
        self.counts = Counter()
        self._held = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()
        self._near.close()
        self._far.close()

    def _run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._near, selectors.EVENT_READ, self._far.send)
            selector.register(self._far, selectors.EVENT_READ, lambda answer: self._near.sendto(answer, self._client))
            while not self._ended.is_set():
                for key, _ in selector.select(0.002):
                    passing, sender = key.fileobj.recvfrom(70_000)
                    if key.fileobj is self._near:
                        self._client = sender
                    self._pass_on(passing, key.data)
                self._chance.shuffle(self._held)
                while self._held:
                    held, send = self._held.pop()
                    send(held)

    def _pass_on(self, passing, send):
        loss, doubled, held = self._rates
        if self._chance.random() < loss:
            self.counts["lost"] += 1
            return
        for _ in range(1 + (self._chance.random() < doubled)):
            if self._chance.random() < held:
                self._held.append((passing, send))
            else:
                send(passing)
