"""Addresses as text, the same in both fronts: `host:port`, `[v6]:port`, `unix:PATH`."""

from __future__ import annotations

from typing import Any


def address_text(address: Any) -> str:
    """Return the text of a socket's address, as `getsockname` or a transport's `peername` gives it."""
    if isinstance(address, bytes):
        address = address.decode(errors="backslashreplace")
    if isinstance(address, str) or address is None:  # of a Unix socket; most clients' have no name
        return f"unix:{address or ''}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
