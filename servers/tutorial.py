"""The tutorial servers: the programs of a well-known series of socket tutorials, byte for byte, and without their bugs.

    fastframe serve tutorial KIND        fastframe tutorial KIND        docs/tutorial.md draws what each KIND sends

Each kind is a pair of functions, `serve_KIND(argv)` and `client_KIND(argv)`, imported when it is asked for; what they share is
here. Their wires have neither TLS nor passwords: servers listen where this machine alone reaches them.
"""

from __future__ import annotations

import argparse
import importlib
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from fastframe import EndOfStreamError, FrameError, sync

from . import arguments, chat_text, echo_udp, host, stdio
from .reaching import Unreachable, reaching

if TYPE_CHECKING:
    from fastframe import aio

    from .life import Serve

# Each kind: the modules of its server and of its client, and what the server does.
KINDS: Final = {
    "chat": ("tutorial_talk", "tutorial_talk", "an operator types each answer"),
    "echo": ("tutorial_talk", "tutorial_talk", "what comes goes back, with --upper in upper case"),
    "hello": ("tutorial_talk", "tutorial_talk", "whatever comes is answered with hello"),
    "exec-plain": ("tutorial_exec", "tutorial_exec_client", "run a command; nothing marks where its output ends"),
    "exec-struct": ("tutorial_exec", "tutorial_exec_client", "run a command; the length of its output comes first"),
    "exec-json": ("tutorial_exec", "tutorial_exec_client", "run a command; a description of its output comes first"),
    "download": ("tutorial_download", "tutorial_download", "send a file: flag, size, bytes and MD5, acknowledged in between"),
    "upload": ("tutorial_upload", "tutorial_upload", "take a file: a description, and its bytes"),
    "udp-echo": ("tutorial_udp", "tutorial_udp", "each datagram goes back, until its sender says bye"),
    "udp-chat": ("tutorial_udp", "tutorial_udp", "each datagram goes to everybody else in the room"),
}
DEFAULT_ADDRESS: Final = f"{arguments.DEFAULT_HOST}:{arguments.DEFAULT_PORT}"


def serve_main(argv: list[str]) -> int:
    return _hand_over("serve tutorial", "serve", 0, argv)


def client_main(argv: list[str]) -> int:
    return _hand_over("tutorial", "client", 1, argv)


def server_parser(
    kind: str, description: str, epilog: str, limits: aio.Limits | None = None, *, usage: str = "[OPTION ...]"
) -> argparse.ArgumentParser:
    """Return a parser with what every tutorial server has; `limits` are its defaults, if they are not those of `aio.Limits`."""
    prog = f"fastframe serve tutorial {kind}"
    parser = argparse.ArgumentParser(prog=prog, usage=f"%(prog)s {usage}", description=description, epilog=f"example: {epilog}")
    arguments.add_server_options(parser, limits, public=False)
    return parser


def client_parser(kind: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return a parser with what every tutorial client has: `address` for `connect`, and `timeout` in seconds."""
    prog = f"fastframe tutorial {kind}"
    parser = argparse.ArgumentParser(prog=prog, description=description, epilog=f"example: {epilog}")
    arguments.add_address_options(parser, "--address", default=DEFAULT_ADDRESS)
    parser.set_defaults(tls=False, tls_ca=None, tls_name=None, tls_cert=None, tls_key=None)
    return parser


def run(
    parser: argparse.ArgumentParser, options: argparse.Namespace, serve: Serve, kind: socket.SocketKind = socket.SOCK_STREAM
) -> int:
    """Run a server on sockets of that kind until a signal ends it; return the exit status."""
    if kind == socket.SOCK_STREAM:
        return host.run(options, serve)
    if useless := arguments.for_connections(options):
        parser.error(f"datagrams have no connections: there is no use for {' and '.join(useless)}")
    return host.run(options, serve, echo_udp.bind, kind)  # which takes no client's port for port 0


def run_client(options: argparse.Namespace, talk: Callable[[socket.socket], int]) -> int:
    """Connect, and return the exit status that `talk(connection)` returns; its socket has the timeout of the options."""
    try:
        with reaching(options):
            connection, _ = sync.connect(**options.address, timeout=options.timeout).detach()
    except Unreachable as error:
        return host.fail(error)
    with connection:
        connection.settimeout(options.timeout)
        try:
            return talk(connection)
        except stdio.Unread:
            raise BrokenPipeError from None  # nobody reads what is printed, which main() knows
        except TimeoutError:
            return host.fail(f"no answer within {options.timeout:g} s")
        except EndOfStreamError:
            return host.fail("the server hung up before it had answered")
        except (FrameError, OSError) as error:
            return host.fail(error)


def typed(prompt: str) -> Iterator[bytes]:
    """Yield the lines of standard input, without their ends and what is blank around them; ask for each at a terminal."""
    while True:
        if sys.stdin.isatty():
            print(prompt, end="", file=sys.stderr, flush=True)
        if not (line := sys.stdin.buffer.readline()):
            break
        yield line.strip()
    if sys.stdin.isatty():
        print(file=sys.stderr)


def print_bytes(data: bytes) -> None:
    """Write to standard output, at once; raise Unread, since a BrokenPipeError could be of the connection."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise stdio.Unread from None


def printable(text: str) -> str:
    """Return what a peer sent with escapes for all that could steer a terminal, and without the line end that nc(1) sends."""
    return chat_text.plain(text.rstrip("\r\n"))


def _hand_over(command: str, side: str, at: int, argv: list[str]) -> int:
    """Call what serves or talks to the kind that is named."""
    kinds = "\n".join(f"  {kind:<12} {does}" for kind, (*_, does) in KINDS.items())
    parser = argparse.ArgumentParser(
        prog=f"fastframe {command}",
        usage=f"fastframe {command} KIND [OPTION ...]",
        description=f"kinds:\n{kinds}",
        epilog=f"fastframe {command} KIND --help tells more.\n\nexample: fastframe {command} echo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND")
    kind = parser.parse_args(argv[:1]).kind
    module = importlib.import_module(f"{__package__}.{KINDS[kind][at]}")
    status: int = getattr(module, f"{side}_{kind.replace('-', '_')}")(argv[1:])
    return status
