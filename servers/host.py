"""How any server is run: where it binds, what it prints, how it ends.

A server prints `listening on ADDR` to stdout, flushed, for each listener once it accepts, so that a script may use `--port 0`.
SIGTERM and SIGINT end it with status 0: it stops accepting, gives the connections a moment, and cuts what is left.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from fastframe import FrameFormat

DRAIN_SECONDS: Final = 1.0  # for answers that are on their way when the server is told to end
DEFAULT_PORT: Final = 9000


class Server(Protocol):
    """What `aio.serve` and its like return."""

    @property
    def addresses(self) -> list[str]: ...

    async def close(self, grace: float = 0.0) -> None: ...


def add_listener_options(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("where it listens")
    where.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    where.add_argument("--port", type=port_number, default=DEFAULT_PORT, help="0 picks a free one (default: %(default)s)")
    where.add_argument("--unix", type=socket_path, metavar="PATH", help="listen on a Unix socket instead")
    where.add_argument("--insecure", action="store_true", help="allow a public address, where anybody may connect")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="event loop (default: %(default)s)")


def add_format_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        type=frame_format,
        default=FrameFormat("u32be"),
        help="frame format, as u16le,offset=2,adjust=-4,strip=0,max=1MiB (default: %(default)s)",
    )


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def socket_path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty path is no Unix socket")
    return text


def seconds(text: str) -> float:
    """Parse a waiting time; a month is more than anybody waits, and less than what a socket can be told."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 31 * 24 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def frame_format(text: str) -> FrameFormat:
    """Parse a format for argparse, which shows an ArgumentTypeError's text and hides a ValueError's."""
    try:
        return FrameFormat.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_address(text: str) -> dict[str, Any]:
    """Return what `host:port`, `[v6]:port` or `unix:PATH` is to `connect`: its keyword arguments."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return {"path": text.removeprefix("unix:")}
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+)):(\d{1,5})", text, re.ASCII)
    if match is None or not 0 < int(match[3]) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, [v6]:port or unix:PATH")
    return {"host": match[1] or match[2], "port": int(match[3])}


def fail(reason: object, status: int = 1) -> int:
    """Say on stderr, in one line, why the command ends, and return its exit status."""
    print(f"fastframe: {reason}", file=sys.stderr)
    return status


def refusal(options: argparse.Namespace) -> str | None:
    """Return why a server with these options must not start, if it must not."""
    if options.unix is None and not options.insecure and not _is_loopback(options.host):
        return f"{options.host} can be reached by others, and nothing here authenticates them: say --insecure to allow it"
    return None


def run(options: argparse.Namespace, serve: Callable[..., Awaitable[Server]]) -> int:
    """Run the server that `serve(**where)` starts until a signal ends it; return the exit status."""
    if (reason := refusal(options)) is not None:
        return fail(reason, 2)
    where = {"path": options.unix} if options.unix is not None else {"host": options.host, "port": options.port}
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if options.loop == "uvloop":
        try:
            import uvloop  # noqa: PLC0415  an extra
        except ModuleNotFoundError:
            return fail("uvloop is not installed: pip install 'fastframe[servers]'", 2)
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_serve_until_signal(where, serve))


async def _serve_until_signal(where: dict[str, Any], serve: Callable[..., Awaitable[Server]]) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        server = await serve(**where)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        return fail(f"cannot listen: {getattr(error, 'strerror', None) or error}")
    try:
        for address in server.addresses:
            print(f"listening on {address}", flush=True)
        await stopped.wait()
    finally:
        await server.close(grace=DRAIN_SECONDS)
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
