"""TLS contexts from files, and what is wrong with the files, each in a line.

A server's context asks for client certificates when it has a CA to check them with: mutual TLS. Protocol versions (1.2 and
1.3) and ciphers are those of `ssl.create_default_context`, which follows the times.
"""

from __future__ import annotations

import argparse
import ssl

from .arguments import UsageError


def server_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context that the options ask for, None for plain connections; raise UsageError."""
    if options.tls_cert is None:
        if options.tls_key is not None or options.tls_client_ca is not None:
            raise UsageError("--tls-key and --tls-client-ca need --tls-cert")
        return None
    authorities = options.tls_client_ca
    context = (
        _trusting(authorities, ssl.Purpose.CLIENT_AUTH) if authorities else ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    )
    context.verify_mode = ssl.CERT_REQUIRED if authorities else ssl.CERT_NONE
    # A client that renegotiates in a TLS 1.2 connection makes the server work; OpenSSL 1.1.1 still lets it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    _load_chain(context, options.tls_cert, options.tls_key)
    return context


def reload(context: ssl.SSLContext, options: argparse.Namespace) -> None:
    """Load certificate and key anew, for the handshakes to come; raise UsageError and leave the old ones if that fails.

    A client CA cannot be taken out of a context: a change of it takes a restart.
    """
    server_context(options)  # a chain that fails half-way would leave the new certificate with the old key
    _load_chain(context, options.tls_cert, options.tls_key)


def is_wanted(options: argparse.Namespace) -> bool:
    """Tell whether a client's options ask for TLS."""
    return bool(options.tls or options.tls_ca or options.tls_name or options.tls_cert or options.tls_key)


def client_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context that a client's options ask for, None for a plain connection; raise UsageError."""
    if not is_wanted(options):
        return None
    if options.tls_key is not None and options.tls_cert is None:
        raise UsageError("--tls-key needs --tls-cert")
    if "path" in options.address and options.tls_name is None:
        raise UsageError("a Unix socket has no name that a certificate could have: say --tls-name")
    context = ssl.create_default_context() if options.tls_ca is None else _trusting(options.tls_ca)
    if options.tls_cert is not None:
        _load_chain(context, options.tls_cert, options.tls_key)
    return context


def _load_chain(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    for file in (cert, key or cert):
        _check_readable(file)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"the key in {key or cert} does not belong to the certificate in {cert}") from None
        raise UsageError(f"{cert} and {key or cert} are not a certificate and its key in PEM: {error}") from None


def _trusting(file: str, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> ssl.SSLContext:
    """Return a context that trusts the CAs in `file` instead of the system's."""
    _check_readable(file)
    try:
        return ssl.create_default_context(purpose, cafile=file)
    except ssl.SSLError as error:
        raise UsageError(f"{file} has no CA certificate in PEM: {error}") from None


def _check_readable(file: str) -> None:
    """Raise a UsageError that names the file, which ssl's own errors do not."""
    try:
        with open(file, "rb"):
            pass
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None


def _no_password() -> str:
    """Answer for who would otherwise be asked on the terminal, and perhaps is not there."""
    raise UsageError("the TLS key is encrypted, and nobody is there to be asked for its password: decrypt the file")
