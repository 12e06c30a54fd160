"""Datagrams in and out of a socket, one system call each: the specification of `_burst_c.pyx`, which takes many with one.

A burst is what one wake-up takes. Both calls are for non-blocking sockets and never wait. What the network does to a socket is
no error here but a count, under the name of its errno: an ICMP message that says "refused" can be forged by anybody, and that
one peer cannot be answered is nothing to the others (RFC 8085, section 5.2).
"""

from __future__ import annotations

import errno
import itertools
import socket
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing_extensions import Buffer

# What IPv4's 16 bits of length leave beside its header of 20 bytes and UDP's of 8. IPv6 could carry 20 more.
MAX_DATAGRAM: Final = 65_507
# So many datagrams a wake-up, then it is others' turn. From 16 on, more made an echo server in C no faster.
BURST: Final = 32

Address = tuple[Any, ...] | str | bytes | None
Datagram = tuple[bytes, Address]


def receive(sock: socket.socket, counters: Counter[str]) -> list[Datagram]:
    """Return what has come, at most `BURST` datagrams and their senders; what is over `MAX_DATAGRAM` counts as `cut`."""
    received: list[Datagram] = []
    for _ in range(BURST):
        try:
            datagram, address = sock.recvfrom(MAX_DATAGRAM + 1)
        except BlockingIOError:
            break
        except OSError as error:
            count(error.errno, counters)
            break
        if len(datagram) > MAX_DATAGRAM:
            counters["cut"] += 1
        else:
            received.append((datagram, address))
    return received


def send(sock: socket.socket, datagrams: Sequence[tuple[Buffer, Address]], start: int, counters: Counter[str]) -> int:
    """Send `datagrams` from number `start` on, to the connected peer where the address is None; return how far it came.

    That is the number of the first one that the kernel has no room for at the moment, or of all. Those that cannot be sent at
    all are passed over. Raise what `socket.sendto` raises for what is no address.
    """
    for at, datagram in enumerate(itertools.islice(datagrams, start, None), start):
        if not send_one(sock, datagram, counters):
            return at
    return len(datagrams)


def send_one(sock: socket.socket, datagram: tuple[Buffer, Address], counters: Counter[str]) -> bool:
    """Send one datagram; tell whether the kernel had room for it."""
    payload, address = datagram
    try:
        if address is None:
            sock.send(payload)
        else:
            sock.sendto(payload, address)
        counters["sent"] += 1
    except BlockingIOError:
        return False
    except socket.gaierror:
        raise
    except OSError as error:
        count(error.errno, counters)
    return True


def count(number: int | None, counters: Counter[str]) -> None:
    counters[errno.errorcode.get(number or 0, str(number))] += 1
