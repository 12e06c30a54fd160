"""How the client commands reach a server: what `connect` is asked for, and what is said if nobody is there.

The system's own words, as "[Errno 2] No such file or directory", do not tell which address they are about.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from fastframe import EndOfStreamError

from . import credentials, tls
from .errors import in_words


class Unreachable(Exception):  # noqa: N818
    """There is no connection; the text says to where, and why."""


def session_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a framed client's `connect` is given; raise UsageError for a file that is not right."""
    return {
        **options.address,
        "ssl": tls.client_context(options),
        "server_hostname": options.tls_name,
        "token": credentials.read_token(options.token),
        "timeout": options.timeout,
    }


@contextlib.contextmanager
def reaching(options: argparse.Namespace) -> Iterator[None]:
    """Raise Unreachable if the body does not connect to the ADDR of these options."""
    try:
        yield
    except (OSError, EndOfStreamError, UnicodeError) as error:
        raise Unreachable(f"cannot connect to {address_text(**options.address)}: {_reason(error, options)}") from error


def address_text(host: str = "", port: int = 0, path: str | None = None) -> str:
    """Return ADDR as it is given to a command: `host:port`, `[v6]:port` or `unix:PATH`."""
    if path is not None:
        return f"unix:{path}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError | EndOfStreamError | UnicodeError, options: argparse.Namespace) -> str:
    if isinstance(error, UnicodeError):
        return "no host can have that name"
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer within {options.timeout:g} s"
    if isinstance(error, EndOfStreamError) or not str(error):  # asyncio has no words for a TLS handshake that is broken off
        return f"the server hung up: it may {_wish(options)}"
    return in_words(error)


def _wish(options: argparse.Namespace) -> str:
    """Return what most often makes a server hang up on a client with these options."""
    if not tls.is_wanted(options):
        return "want --tls"
    return "have no TLS, or want --tls-cert" if options.tls_cert is None else "have no TLS, or not know the certificate"
