# cython: language_level=3, boundscheck=False, wraparound=False
"""Datagrams in and out of a socket with one system call for many: `_singly.py` with Linux's recvmmsg and sendmmsg.

Addresses are tuples as Python's sockets have them. Those of IPv4 and IPv6 are read and written here where they are all numbers;
others, and Unix sockets, go the way of `_singly`.
"""

import mmap
import threading

from ._singly import count, send_one
from ._singly import receive as receive_singly

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.errno cimport EAGAIN
from libc.errno cimport errno as c_errno
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcmp, memset

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/socket.h>
    """
    ctypedef unsigned int socklen_t
    int AF_INET, AF_INET6, MSG_DONTWAIT
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    int recvmmsg(int socket, mmsghdr *messages, unsigned int count, int flags, void *timeout)
    int sendmmsg(int socket, mmsghdr *messages, unsigned int count, int flags)

cdef extern from "netinet/in.h" nogil:
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id

cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int family, const void *source, char *text, socklen_t size)
    int inet_pton(int family, const char *text, void *target)
    uint16_t htons(uint16_t value)
    uint16_t ntohs(uint16_t value)
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)

cdef enum:
    ROOM = 32  # BURST
    LONGEST = 65_507  # MAX_DATAGRAM
    SLOT = 65_536  # the longest datagram and a byte that tells a longer one, in whole pages
    TEXT_ROOM = 46  # of an address as text: INET6_ADDRSTRLEN

cdef union Name:
    sockaddr_in v4
    sockaddr_in6 v6

cdef struct Burst:
    mmsghdr messages[ROOM]
    iovec vectors[ROOM]
    Name names[ROOM]


class _ReceiveMemory(threading.local):
    """What all sockets of a thread receive into: two megabytes of addresses, and as much memory as datagrams were long.

    Private, or a process that is forked off would receive into the same memory.
    """

    def __init__(self):
        self.view = memoryview(mmap.mmap(-1, ROOM * SLOT, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


cdef object _memory = _ReceiveMemory()


def receive(sock, counters):
    """Return what has come, at most `BURST` datagrams and their senders; what is over `MAX_DATAGRAM` counts as `cut`."""
    cdef Burst burst
    cdef int descriptor, received
    if sock.family != AF_INET and sock.family != AF_INET6:
        return receive_singly(sock, counters)
    descriptor = sock.fileno()
    view = _memory.view
    prepare_to_receive(&burst, <char *>PyMemoryView_GET_BUFFER(view).buf)
    with nogil:
        received = recvmmsg(descriptor, burst.messages, ROOM, MSG_DONTWAIT, NULL)
    if received < 0:
        if c_errno != EAGAIN:
            count(c_errno, counters)
        return []
    return datagrams_of(&burst, received, counters)


def send(sock, list datagrams, Py_ssize_t start, counters):
    """Send `datagrams` from number `start` on, to the connected peer where the address is None; return how far it came.

    That is the number of the first one that the kernel has no room for at the moment, or of all. Those that cannot be sent at
    all are passed over. Raise what `socket.sendto` raises for what is no address.
    """
    cdef Burst burst
    cdef int descriptor = sock.fileno(), family = sock.family, ready, sent
    cdef Py_ssize_t at = start
    cdef list batch
    while at < len(datagrams):
        batch = datagrams[at : at + ROOM]  # kept, since another thread may change the list while the kernel reads
        ready = prepare_to_send(&burst, family, batch)
        if ready == 0:
            if not send_one(sock, datagrams[at], counters):
                return at
            at += 1
            continue
        with nogil:
            sent = sendmmsg(descriptor, burst.messages, ready, MSG_DONTWAIT)
        if sent > 0:
            counters["sent"] += sent
            at += sent
        elif c_errno == EAGAIN:
            return at
        else:
            count(c_errno, counters)
            at += 1
    return len(datagrams)


cdef void prepare_to_receive(Burst *burst, char *memory) noexcept nogil:
    cdef int at
    memset(burst, 0, sizeof(Burst))
    for at in range(ROOM):
        burst.vectors[at].iov_base = memory + at * SLOT
        burst.vectors[at].iov_len = LONGEST + 1
        describe(burst, at, sizeof(Name))


cdef list datagrams_of(Burst *burst, int received, counters):
    cdef list datagrams = []
    cdef int at
    address = None
    for at in range(received):
        if at == 0 or memcmp(&burst.names[at], &burst.names[at - 1], sizeof(Name)) != 0:
            address = address_of(&burst.names[at])
        if burst.messages[at].msg_len > LONGEST:
            counters["cut"] += 1
        else:
            datagram = PyBytes_FromStringAndSize(<char *>burst.vectors[at].iov_base, burst.messages[at].msg_len)
            datagrams.append((datagram, address))
    return datagrams


cdef int prepare_to_send(Burst *burst, int family, list batch) except -1:
    """Describe the datagrams up to the first that is the other way's; return how many."""
    cdef int at = 0
    cdef socklen_t length = 0
    last = batch  # which is no address
    for each in batch:
        if type(each) is not tuple or len(<tuple>each) != 2 or type((<tuple>each)[0]) is not bytes:
            break
        datagram, address = <tuple>each
        if address is last:
            burst.names[at] = burst.names[at - 1]
        else:
            length = name_of(&burst.names[at], family, address)
            if length == 0 and address is not None:
                break
            last = address
        burst.vectors[at].iov_base = PyBytes_AS_STRING(datagram)
        burst.vectors[at].iov_len = PyBytes_GET_SIZE(datagram)
        describe(burst, at, length)
        at += 1
    return at


cdef inline void describe(Burst *burst, int at, socklen_t length) noexcept nogil:
    memset(&burst.messages[at], 0, sizeof(mmsghdr))
    burst.messages[at].msg_hdr.msg_iov = &burst.vectors[at]
    burst.messages[at].msg_hdr.msg_iovlen = 1
    burst.messages[at].msg_hdr.msg_namelen = length
    if length:
        burst.messages[at].msg_hdr.msg_name = &burst.names[at]


cdef object address_of(const Name *name):
    """Return the tuple that Python's sockets would."""
    cdef char text[TEXT_ROOM]
    if name.v4.sin_family == AF_INET:
        inet_ntop(AF_INET, &name.v4.sin_addr, text, TEXT_ROOM)
        return text.decode("ascii"), ntohs(name.v4.sin_port)
    inet_ntop(AF_INET6, &name.v6.sin6_addr, text, TEXT_ROOM)
    return text.decode("ascii"), ntohs(name.v6.sin6_port), ntohl(name.v6.sin6_flowinfo), name.v6.sin6_scope_id


cdef socklen_t name_of(Name *name, int family, address) except? 0:
    """Write such a tuple as a socket address; return its length, 0 for what is not all numbers."""
    cdef bytes text
    memset(name, 0, sizeof(Name))
    if not is_numeric(family, address):
        return 0
    text = (<str>address[0]).encode("ascii")
    if family == AF_INET:
        name.v4.sin_family = AF_INET
        name.v4.sin_port = htons(address[1])
        return sizeof(sockaddr_in) if inet_pton(AF_INET, text, &name.v4.sin_addr) == 1 else 0
    name.v6.sin6_family = AF_INET6
    name.v6.sin6_port = htons(address[1])
    name.v6.sin6_flowinfo = htonl(address[2])
    name.v6.sin6_scope_id = address[3]
    return sizeof(sockaddr_in6) if inet_pton(AF_INET6, text, &name.v6.sin6_addr) == 1 else 0


cdef bint is_numeric(int family, address) except -1:
    """Tell whether the numbers of an address fit their fields, and its host may be one."""
    if family != AF_INET and family != AF_INET6:
        return False
    if type(address) is not tuple or len(address) != (2 if family == AF_INET else 4) or type(address[0]) is not str:
        return False
    for number, most in zip(address[1:], (0xFFFF, 0xFFFFF, 0xFFFFFFFF)):
        if type(number) is not int or not 0 <= number <= most:
            return False
    return address[0].isascii() and "\0" not in address[0]
