"""The options that every server has, and what their texts are parsed to.

argparse shows an ArgumentTypeError's text and hides a ValueError's: each parser below says in a line what it wanted. What only
shows after parsing (a file that is no certificate, an address that may not be served) is a `UsageError`. Both are status 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Collection
from typing import Any, Final, Literal

from fastframe import FrameFormat, aio

from . import messages

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 9000
BACKLOG: Final = 4096  # the kernel's own limit, as Linux has it
DEFAULT_LOOP: Final = "asyncio"
LOOPS: Final = ("auto", "asyncio", "uvloop", "aiofastnet")
# For answers that are on their way; docker kills 10 s after SIGTERM, Kubernetes after 30, systemd after 90.
DRAIN_SECONDS: Final = 8.0
LEAST_RATE: Final = 0.001  # a second: once in a quarter of an hour
MOST_RATE: Final = 1e6  # which nothing reaches: no limit
LONGEST_WAIT: Final = 31 * 24 * 3600  # seconds: more than anybody waits, and less than what a socket can be told
MOST_WORKERS: Final = 256
SIZES: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20}
LONG_SIZES: Final = {**SIZES, "GiB": 1 << 30, "TiB": 1 << 40}
MOST_BYTES: Final = (1 << 63) - 1  # of a file: off_t
LEAST_PAYLOAD: Final = 64 * 1024  # control messages have up to that
MOST_PAYLOAD: Final = 64 * 1024 * 1024


class UsageError(Exception):
    """Say that the command was asked for what cannot be: status 2."""


def add_server_options(parser: argparse.ArgumentParser, limits: aio.Limits | None = None, *, public: bool = True) -> None:
    """Add what every server has; `limits` are its defaults, if they are not those of `aio.Limits`.

    Unless it is `public`, it listens where this machine alone reaches it, without TLS, and nothing of its wire need be a frame.
    """
    _add_listeners(parser.add_argument_group("where it listens"), public)
    if public:
        _add_tls(parser.add_argument_group("TLS", "With a client CA only clients whose certificate it signed get in."))
    else:
        parser.set_defaults(tls_cert=None, tls_key=None, tls_client_ca=None, insecure=False)
    _add_limits(
        parser.add_argument_group(
            "limits of a connection", "In seconds (S), bytes and counts; `none` where there may be no limit. Not for datagrams."
        ),
        limits or aio.Limits(),
        without=() if public else ("handshake_timeout", "frames_per_turn"),
    )
    parser.set_defaults(default_limits=limits or aio.Limits(), public=public)
    _add_processes(parser.add_argument_group("how it runs"))


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """Add what the framed servers share: whom they let in, and how large their messages may be."""
    parser.set_defaults(greets=True)
    parser.add_argument(
        "--tokens", metavar="FILE", help="let only those in who know a token of this file: lines KEY TOKEN, mode 0600"
    )
    parser.add_argument(
        "--max-payload",
        type=payload_size,
        default=messages.MAX_PAYLOAD,
        metavar="BYTES",
        help="of a message; a client is held to 16KiB until it is known (default: 1MiB)",
    )


def add_token_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token", metavar="FILE", help="for a server with --tokens: a file with one line KEY TOKEN, mode 0600")


def add_format_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        type=frame_format,
        default=FrameFormat("u32be"),
        help="frame format, as u16le,offset=2,adjust=-4,strip=0,max=1MiB (default: %(default)s)",
    )


def add_address_options(parser: argparse.ArgumentParser, name: str = "address", default: str | None = None) -> None:
    """Add where a client's server is, under a name that may have a default, and how long it waits for it."""
    text = "host:port, [v6]:port or unix:PATH" + (f" (default: {default})" if default else "")
    parser.add_argument(name, type=address, metavar="ADDR", default=default, help=text)
    parser.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="S", help="seconds to wait for an answer (default: %(default)g)"
    )


def add_client_options(parser: argparse.ArgumentParser) -> None:
    add_address_options(parser)
    group = parser.add_argument_group("TLS")
    group.add_argument("--tls", action="store_true", help="speak TLS; each option below asks for it, too")
    group.add_argument(
        "--tls-ca", metavar="FILE", help="who may have signed the server's certificate (default: the system's CAs)"
    )
    group.add_argument("--tls-name", metavar="NAME", help="the name on the server's certificate (default: the host of ADDR)")
    group.add_argument("--tls-cert", metavar="FILE", help="own certificate, for a server that asks for one (PEM)")
    group.add_argument("--tls-key", metavar="FILE", help="its key (default: it is in the certificate's file)")


def _add_listeners(group: Any, public: bool) -> None:
    several = "0.0.0.0 and ::" if public else "127.0.0.1 and ::1"
    group.add_argument(
        "--host",
        action="append",
        metavar="HOST",
        help=f"address to bind; repeat it for more, as {several} (default: {DEFAULT_HOST}, or none with --unix)",
    )
    group.add_argument(
        "--port", type=port_number, default=DEFAULT_PORT, help="of every host; 0 picks a free one (default: %(default)s)"
    )
    group.add_argument(
        "--unix", action="append", type=socket_path, metavar="PATH", help="Unix socket to listen on; repeat it for more"
    )
    group.add_argument(
        "--unix-mode", type=file_mode, metavar="MODE", help="its permissions, as 660 (default: what the umask leaves)"
    )
    group.add_argument(
        "--backlog",
        type=functools.partial(count, most=65535),
        metavar="N",
        help=f"connections that wait in the kernel to be accepted, up to its own net.core.somaxconn (default: {BACKLOG})",
    )
    if public:
        group.add_argument(
            "--insecure",
            action="store_true",
            help="allow an address that others reach, without client certificates or tokens over TLS",
        )


def _add_tls(group: Any) -> None:
    group.add_argument("--tls-cert", metavar="FILE", help="certificate and its chain (PEM); SIGHUP loads it and its key anew")
    group.add_argument("--tls-key", metavar="FILE", help="its key, not encrypted (default: it is in the certificate's file)")
    group.add_argument("--tls-client-ca", metavar="FILE", help="CA whose certificates clients must have (PEM)")


def _add_limits(group: Any, defaults: aio.Limits, without: Collection[str]) -> None:
    for name, parse, metavar, reason in LIMITS:
        if name in without:
            continue
        default = getattr(defaults, name)
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=or_none(parse) if _may_be_none(name) else parse,
            default=argparse.SUPPRESS,  # what is not given stays away: see `for_connections`
            metavar=metavar,
            help=f"{reason} (default: {'none' if default is None else f'{default:g}' if parse is seconds else default})",
        )


def _add_processes(group: Any) -> None:
    group.add_argument(
        "--workers",
        type=functools.partial(count, most=MOST_WORKERS),
        default=1,
        metavar="N",
        help="processes that share the listeners; one that dies is started again (default: %(default)s)",
    )
    group.add_argument(
        "--drain-timeout",
        type=wait,
        metavar="S",
        default=DRAIN_SECONDS,
        help="time from SIGTERM or Ctrl-C until the connections that are left are cut; a second signal cuts them at once "
        "(default: %(default)g)",
    )
    group.add_argument(
        "--metrics-port",
        type=port_number,
        metavar="PORT",
        help="serve /metrics, /livez and /readyz on this port of 127.0.0.1, in a process of its own (default: nowhere)",
    )
    group.add_argument("--log-format", choices=("text", "json"), default="text", help="lines on stderr (default: %(default)s)")
    group.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="warning",
        help="the least that is logged (default: %(default)s)",
    )
    group.add_argument(
        "--loop", choices=LOOPS, default=DEFAULT_LOOP, help="event loop; auto: the fastest installed (default: %(default)s)"
    )


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def socket_path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty path is no Unix socket")
    return text


def file_mode(text: str) -> int:
    if re.fullmatch("0?[0-7]{3}", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not three octal digits, as 660")
    return int(text, 8)


def seconds(text: str) -> float:
    """Parse a waiting time, which is above 0."""
    if (value := _number(text)) is None or not 0 < value <= LONGEST_WAIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def wait(text: str) -> float:
    """Parse a waiting time that may be 0: not at all."""
    if (value := _number(text)) is None or not 0 <= value <= LONGEST_WAIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, or 0")
    return value


def rate(text: str) -> float:
    """Parse how often something may happen, a second."""
    if (value := _number(text)) is None or not LEAST_RATE <= value <= MOST_RATE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {LEAST_RATE:g} to {MOST_RATE:,.0f}")
    return value


def count(text: str, most: int = 1 << 30) -> int:
    if re.fullmatch("[0-9]{1,10}", text, re.ASCII) is None or not 0 < int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
    return int(text)


def size(text: str) -> int:
    match = re.fullmatch("([0-9]{1,10})(|KiB|MiB)", text, re.ASCII)
    if match is None or not 0 < (value := int(match[1]) * SIZES[match[2]]) < 1 << 31:  # what a socket option holds
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes such as 65536, 64KiB or 1MiB")
    return value


def long_size(text: str) -> int:
    """Parse the size of a file."""
    match = re.fullmatch("([0-9]{1,19})(|KiB|MiB|GiB|TiB)", text, re.ASCII)
    if match is None or not 0 < (value := int(match[1]) * LONG_SIZES[match[2]]) <= MOST_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes such as 65536, 64KiB or 10GiB")
    return value


def payload_size(text: str) -> int:
    if not LEAST_PAYLOAD <= (value := size(text)) <= MOST_PAYLOAD:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes from 64KiB to 64MiB")
    return value


def size_or_0(text: str) -> int:
    return 0 if text == "0" else size(text)


def or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text == "none" else parse(text)


def frame_format(text: str) -> FrameFormat:
    try:
        return FrameFormat.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def address(text: str) -> dict[str, Any]:
    """Return what `host:port`, `[v6]:port` or `unix:PATH` is to `connect`: its keyword arguments."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return {"path": text.removeprefix("unix:")}
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+)):(\d{1,5})", text, re.ASCII)
    if match is None or not 0 < int(match[3]) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, [v6]:port or unix:PATH")
    return {"host": match[1] or match[2], "port": int(match[3])}


def limits(options: argparse.Namespace) -> aio.Limits:
    """Return what the options say; raise UsageError if that cannot be."""
    if "handshake_timeout" in options and options.tls_cert is None and not getattr(options, "greets", False):
        raise UsageError("--handshake-timeout is for TLS: give --tls-cert")
    try:
        defaults: aio.Limits = options.default_limits
        return dataclasses.replace(defaults, **{name: getattr(options, name) for name, *_ in LIMITS if name in options})
    except ValueError as error:
        raise UsageError(error) from None


def for_connections(options: argparse.Namespace) -> list[str]:
    """Return the options that were given and say something of connections, where there are none."""
    given = [name for name in ("tls_cert", "tls_key", "tls_client_ca", "backlog") if getattr(options, name) is not None]
    given += [name for name, *_ in LIMITS if name in options]
    return [f"--{name.replace('_', '-')}" for name in given]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _may_be_none(name: str) -> bool:
    return "None" in str(aio.Limits.__annotations__[name])


# Every field of `aio.Limits`, in its order; what a peer could do without it.
LIMITS: Final[tuple[tuple[str, Callable[[str], Any], Literal["S", "N", "BYTES"], str], ...]] = (
    ("handshake_timeout", seconds, "S", "time for the TLS handshake, in all: a trickle of bytes does not prolong it"),
    ("frame_timeout", seconds, "S", "time for a frame that has begun to come whole, or 64 KiB more of it"),
    ("write_timeout", seconds, "S", "time for a peer to take 64 KiB of what waits for it"),
    ("idle_timeout", seconds, "S", "silence of a peer until its connection is closed"),
    ("linger_timeout", seconds, "S", "time for a peer that is told to leave to take its last answers and hang up"),
    ("keepalive", count, "S", "silence until TCP asks whether the other machine is still there"),
    ("high_water", size, "BYTES", "what may wait for a peer until its own frames are no longer read"),
    ("low_water", size_or_0, "BYTES", "what may still wait when they are read again"),
    ("unsent", size, "BYTES", "what may wait in the kernel besides: a peer that never reads costs that much"),
    ("frames_per_turn", count, "N", "frames of one connection until the others have their turn"),
    ("max_connections", count, "N", "connections at once, shared out among the workers; further ones wait in the backlog"),
    ("max_connections_per_source", count, "N", "connections at once from one address, in each worker; further ones are cut"),
)
