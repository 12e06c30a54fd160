"""The sockets that a server accepts on: what the options name, or what systemd passed. Open before there is a loop or a worker.

An address that others can reach is refused unless clients have to show certificates, or the risk is named. Descriptors are
asked for here, too: there have to be as many as the connections that the limits allow.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import ipaddress
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from . import logs, systemd
from .arguments import DEFAULT_HOST, UsageError

if TYPE_CHECKING:
    from fastframe import aio

# For the standard streams, listeners, the loop's own, files and libraries that are opened later.
OWN_DESCRIPTORS: Final = 64
UNLIMITED_DESCRIPTORS: Final = 10_240  # macOS has no hard limit, and takes no higher soft one than this (OPEN_MAX)

Bind = Callable[..., list[socket.socket]]  # called with a host and a port, or with a path


class ListenError(Exception):
    """Say that an address cannot be listened on."""


class Listeners:
    """Listening sockets, and the files that the Unix ones among them are."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self._files: list[tuple[str, int]] = []  # path and inode: another server may have taken the name over

    def bind(self, bind: Bind, host: str, port: int) -> None:
        with _telling(f"{host}, port {port}"):
            self.sockets += bind(host, port)

    def bind_unix(self, bind: Bind, path: str, mode: int | None) -> None:
        with _telling(path), _umask(None if mode is None else 0o777 & ~mode):
            self.sockets += bind(path=path)
            self._files.append((path, os.stat(path).st_ino))

    def remove_files(self) -> None:
        """Remove the sockets' files, so that a successor can bind their names while this server drains."""
        for path, inode in self._files:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
        self._files = []

    def close(self) -> None:
        """Close this process's copies, too; a loop that uses them has to have let go of them before."""
        for listener in self.sockets:
            listener.close()
        self.remove_files()


def open_listeners(options: argparse.Namespace, bind: Bind, kind: socket.SocketKind = socket.SOCK_STREAM) -> Listeners:
    """Open what the options name, or take what systemd passed, which has to be of `kind`; raise UsageError or ListenError."""
    if options.unix_mode is not None and not options.unix:
        raise UsageError("--unix-mode is for the files of --unix")
    listeners = Listeners()
    with contextlib.ExitStack() as undo:
        undo.callback(listeners.close)
        listeners.sockets = systemd.passed_sockets()
        if listeners.sockets:
            _check_passed(listeners.sockets, kind, options)
        else:
            _bind_all(listeners, bind, options, kind)
        undo.pop_all()
    return listeners


def refuse_public(host: str, options: argparse.Namespace, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    """Raise UsageError if others can reach `host`, nobody would authenticate them, and the options do not accept that."""
    if not options.public and not _is_loopback(host):
        raise UsageError(
            f"{host!r} can be reached by others, and there is neither TLS nor a password here: say 127.0.0.1 or ::1"
        )
    # A token keeps others out, but what follows it can be read and changed without TLS.
    authenticates = options.tls_client_ca or (options.tls_cert and getattr(options, "tokens", None))
    if not options.insecure and not authenticates and not _is_loopback(host):
        means = "--tokens or --tls-client-ca" if hasattr(options, "tokens") else "--tls-client-ca"
        remedy = f"give --tls-cert with {means}, or " if kind == socket.SOCK_STREAM else ""  # no TLS for datagrams
        lack = (
            "what follows a token could be changed on the way"
            if getattr(options, "tokens", None)
            else "nothing here authenticates them"
        )
        raise UsageError(f"{host!r} can be reached by others, and {lack}: {remedy}say --insecure to allow it")


def allow(limits: aio.Limits, workers: int) -> aio.Limits:
    """Return one worker's share of `limits`, with no more connections than it may have descriptors for."""
    most = _raise_descriptor_limit() - OWN_DESCRIPTORS
    asked = limits.max_connections
    share = most if asked is None else -(-asked // workers)
    if share > most:
        logs.event(logging.WARNING, "max connections lowered", asked=share, allowed=most, reason="open files limit (ulimit -n)")
    return dataclasses.replace(limits, max_connections=max(1, min(share, most)))


def _raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors, which old programs need low, to the hard one; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(soft, UNLIMITED_DESCRIPTORS) if hard == resource.RLIM_INFINITY else hard
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def _bind_all(listeners: Listeners, bind: Bind, options: argparse.Namespace, kind: socket.SocketKind) -> None:
    hosts = options.host or ([] if options.unix else [DEFAULT_HOST])
    for host in hosts:
        refuse_public(host, options, kind)
    for host in hosts:
        listeners.bind(bind, host, options.port)
    for path in options.unix or ():
        listeners.bind_unix(bind, path, options.unix_mode)


def _check_passed(sockets: list[socket.socket], kind: socket.SocketKind, options: argparse.Namespace) -> None:
    if options.host or options.unix or options.backlog:
        raise UsageError("systemd passed the sockets to listen on: leave out --host, --unix and --backlog")
    for passed in sockets:
        listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if passed.type != kind or (kind == socket.SOCK_STREAM and not listens):
            wanted = "ListenStream= and Accept=no" if kind == socket.SOCK_STREAM else "ListenDatagram="
            raise UsageError(f"systemd passed a socket of the wrong kind: this server wants {wanted}")
        if passed.family in (socket.AF_INET, socket.AF_INET6):
            refuse_public(passed.getsockname()[0], options, kind)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _telling(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        raise ListenError(f"cannot listen on {where}: {getattr(error, 'strerror', None) or error}") from None


@contextlib.contextmanager
def _umask(mask: int | None) -> Iterator[None]:
    """Have files made with `mask`: a socket that gets its mode later can be connected to in between."""
    before = os.umask(0)
    os.umask(before if mask is None else mask)
    try:
        yield
    finally:
        os.umask(before)
