"""What the tutorial's download and upload share: a root to serve, a connection that is cut, a file on its way at a client."""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from . import host, logs, progress, tutorial
from .errors import OperationError
from .root import Root
from .staging import Staging

if TYPE_CHECKING:
    from .life import Serve
    from .tutorial_streams import RawStream

PROGRESS_SECONDS: Final = 0.05
BLOCK: Final = 256 * 1024  # bytes of a file at a time: no more of it is in memory on either side

Note = Callable[[int, int], object]  # is told the bytes that are done, and those in all


def add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, metavar="DIR", help="where the files are; nothing outside of it is reached")


def serve(parser: argparse.ArgumentParser, options: argparse.Namespace, make: Callable[[Root], Serve]) -> int:
    """Run what `make` makes for the root of the options until a signal ends it; return the exit status."""
    try:
        root = Root(options.root, hidden=(Staging.DIRECTORY,))
    except OSError as error:
        return host.fail(f"cannot serve {options.root}: {error.strerror}", 2)
    with root:
        return tutorial.run(parser, options, make(root))


@contextlib.contextmanager
def cutting(stream: RawStream, what: str) -> Iterator[None]:
    """Log why a transfer failed, and have its connection cut: there is nothing on these wires that could tell."""
    try:
        yield
    except OperationError as error:
        logs.event(logging.WARNING, f"{what} failed", peer=stream.peername, code=error.code, reason=error.message)
        raise ConnectionAbortedError(error.code) from error


def add_client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="tell nothing but what failed")


def transfer(options: argparse.Namespace, shown: str, work: Callable[[socket.socket, Note], int]) -> int:
    """Connect, show the progress of the file that `work` transfers, and how large it was; return the exit status."""

    def talk(connection: socket.socket) -> int:
        try:
            with progress.display(quiet=options.quiet) as display:
                size = work(connection, _now_and_then(display.begin(shown)))
                display.say(f"{logs.escape(shown)}: {progress.size_text(size)}")
        except OperationError as error:
            return host.fail(logs.escape(str(error)))
        return 0

    return tutorial.run_client(options, talk)


def _now_and_then(show: progress.Progress | None) -> Note:
    """Return what calls `show` not oftener than anybody can see."""
    latest = 0.0

    def note(done: int, total: int) -> None:
        nonlocal latest
        if show is not None and (done == total or time.monotonic() - latest >= PROGRESS_SECONDS):
            latest = time.monotonic()
            show(done, total)

    return note
