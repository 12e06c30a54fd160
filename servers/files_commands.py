"""`fastframe get`, `put`, `ls` and `stat`: what they are asked, and what they tell.

Data go to stdout: a file with `-`, names, JSON. All else goes to stderr. A file that fails is told there in one line, does not
end the others, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from fastframe import EndOfStreamError, FrameError

from . import arguments, digests, files_client, files_tree, host, local, logs, memory, offload, progress
from .errors import OperationError
from .files_client import Entry, FilesClient, Manner, Transfer
from .local import LocalError
from .reaching import Unreachable, reaching, session_options
from .root import KINDS

LEAST_RATED: Final = 1024 * 1024  # bytes: a rate of less tells how long a message takes
MARKS: Final = {"directory": "/", "link": "@", "other": "?"}
TYPES: Final = {kind: number for number, kind in KINDS.items()}


def get_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe get",
        description="Fetch a file, or with -r a directory, from a file server. A get that broke off is gone on with.",
        epilog="example: fastframe get files.example:9000 images/big.iso --tls --token ~/.fastframe-token",
    )
    arguments.add_client_options(parser)
    parser.add_argument("name", type=remote_name, metavar="NAME", help="of the file at the server, as images/big.iso")
    parser.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        help="where to put it: a file or a directory, or - for standard output (default: the last part of NAME); with -r the "
        "directory that becomes the copy",
    )
    _add_transfer_options(parser)
    options = parser.parse_intermixed_args(argv)
    last = options.name.rpartition("/")[2]
    if not last and (options.path is None or not options.recursive):
        parser.error("say what to fetch, or with -r where to put all that is there")
    if options.path == "-" and (options.recursive or options.json):
        parser.error("standard output takes one file, and nothing else")
    path = last if options.path is None else options.path
    if os.path.isdir(path) and not options.recursive:
        path = os.path.join(path, last)
    return _run(options, lambda client: _get(client, options, path))


def put_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe put",
        description="Send a file, or with -r a directory, to a file server. A put that broke off is gone on with.",
        epilog="example: fastframe put -r files.example:9000 photos backup/photos --tls --token ~/.fastframe-token",
    )
    arguments.add_client_options(parser)
    parser.add_argument("path", metavar="PATH", help="the file, or the directory with -r")
    parser.add_argument(
        "name",
        nargs="?",
        type=remote_name,
        metavar="NAME",
        help="its name at the server (default: the last part of PATH); with -r that of the directory that becomes the copy",
    )
    parser.add_argument("--parents", action="store_true", help="make the directories above NAME that are missing")
    _add_transfer_options(parser)
    options = parser.parse_intermixed_args(argv)
    if options.name is None:
        try:
            options.name = remote_name(os.path.basename(os.path.abspath(options.path)))
        except argparse.ArgumentTypeError as error:
            parser.error(str(error))
    if not options.name and not options.recursive:
        parser.error("say what the file is to be called")
    return _run(options, lambda client: _put(client, options))


def ls_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe ls",
        description="List a directory of a file server, sorted by name: / marks directories, @ links.",
        epilog="example: fastframe ls -l 127.0.0.1:9000 images",
    )
    arguments.add_client_options(parser)
    parser.add_argument("name", nargs="?", default="", type=remote_name, metavar="NAME", help="default: all that is served")
    parser.add_argument("-l", "--long", action="store_true", help="with mode, size and time")
    _add_common_options(parser)
    options = parser.parse_intermixed_args(argv)
    return _run(options, lambda client: _ls(client, options))


def stat_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe stat",
        description="Tell what a name at a file server is, and the digest of a file.",
        epilog="example: fastframe stat --digest sha256 127.0.0.1:9000 images/big.iso",
    )
    arguments.add_client_options(parser)
    parser.add_argument("name", type=remote_name, metavar="NAME")
    parser.add_argument(
        "--digest", type=digest_name, default="none", metavar="D", help=f"of {', '.join(digests.available())} (default: none)"
    )
    _add_common_options(parser)
    options = parser.parse_intermixed_args(argv)
    return _run(options, lambda client: _stat(client, options))


def remote_name(text: str) -> str:
    """Parse a name at the server; what is behind its last slash does not matter."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{logs.escape(text)} is not UTF-8, as names at a server are") from None
    return text.rstrip("/")


def digest_name(text: str) -> str:
    if text not in digests.available():
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(digests.available())}")
    return text


class Told(files_tree.Watch):
    """Tells what becomes of each file: on stderr, and on stdout as JSON."""

    def __init__(self, display: progress.Display, *, as_json: bool) -> None:
        super().__init__()
        self._display = display
        self._as_json = as_json
        self._counts = {"done": 0, "unchanged": 0, "skipped": 0, "failed": 0}

    def begin(self, name: str, size: int) -> files_client.Progress | None:  # noqa: ARG002
        return self._display.begin(name)

    def done(self, name: str, transfer: Transfer) -> None:
        self._display.say(f"{logs.escape(name)}  {transfer_text(transfer)}")
        self._note("done", name, **dataclasses.asdict(transfer))

    def unchanged(self, name: str) -> None:
        self._note("unchanged", name)

    def skipped(self, name: str, reason: str) -> None:
        self._display.say(f"{logs.escape(name)}  skipped: {reason}")
        self._note("skipped", name, reason=reason)

    def failed(self, name: str, error: OperationError) -> None:
        super().failed(name, error)
        self._display.complain(f"fastframe: {error_text(error, name)}")
        self._note("failed", name, code=error.code, message=error.message)

    def sum_up(self) -> None:
        self._display.say(
            ", ".join(f"{count} {outcome}" for outcome, count in self._counts.items() if count) or "nothing there"
        )

    def _note(self, outcome: str, name: str, **fields: object) -> None:
        self._counts[outcome] += 1
        if self._as_json:
            output(json.dumps({"name": name, "outcome": outcome, **fields}))


class Stdout:
    """A sink that is standard output."""

    def write(self, chunks: list[memoryview]) -> None:
        with local.here("standard output"), _read():
            sys.stdout.buffer.writelines(chunks)
            sys.stdout.buffer.flush()


class Unread(Exception):  # noqa: N818  no error of the connection, which may have a BrokenPipeError of its own
    """Nobody reads standard output any more."""


@contextlib.contextmanager
def _read() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise Unread from None


def output(line: str) -> None:
    """Print a line of data."""
    with _read():
        print(line, flush=True)


def error_text(error: OperationError, name: str) -> str:
    """Return what is told of an error that `name` has met, escaped: a server may have written it."""
    text, name = str(error), name or "the root"
    if not isinstance(error, LocalError) and error.code not in FilesClient.ENDING and not text.startswith(f"{name}: "):
        text = f"{name}: {text}"
    return logs.escape(text)


def transfer_text(transfer: Transfer) -> str:
    came = transfer.size - transfer.resumed_from
    parts = [f"{progress.size_text(transfer.size)} in {transfer.seconds:.1f} s"]
    if came >= LEAST_RATED:
        parts.append(f"{progress.size_text(round(came / transfer.seconds))}/s")
    if transfer.resumed_from:
        parts.append(f"{progress.size_text(transfer.resumed_from)} were there")
    return ", ".join(parts)


def entry_line(entry: Entry) -> str:
    """Return a line of `ls -l`."""
    mode, size = stat.filemode(TYPES.get(entry.kind, 0) | entry.mode), progress.size_text(entry.size)
    return f"{mode}  {size:>9}  {moment(entry.modified, '%Y-%m-%d %H:%M')}  {marked(entry)}"


def marked(entry: Entry) -> str:
    return logs.escape(entry.name) + MARKS.get(entry.kind, "")


def moment(nanoseconds: int, form: str) -> str:
    """Return a time as it is here."""
    return time.strftime(form, time.localtime(nanoseconds // 1_000_000_000))


def _add_transfer_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-r", "--recursive", action="store_true", help="a directory, with all below it but links")
    parser.add_argument("--replace", action="store_true", help="take the place of a file that has that name")
    parser.add_argument(
        "--digest",
        type=digest_name,
        default=digests.DEFAULT,
        metavar="D",
        help=f"what is compared, of {', '.join(digests.available())} (default: %(default)s)",
    )
    parser.add_argument(
        "--no-resume", dest="resume", action="store_false", help="begin again what broke off, as with --digest none"
    )
    parser.add_argument("--quiet", action="store_true", help="tell nothing but what failed")
    _add_common_options(parser)


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    arguments.add_token_option(parser)
    parser.add_argument("--json", action="store_true", help="tell it on standard output, a JSON object for each file")


def _run(options: argparse.Namespace, work: Callable[[FilesClient], Awaitable[int]]) -> int:
    """Connect and do the work; return the exit status, and say what went wrong."""
    try:
        connection = session_options(options)
    except arguments.UsageError as error:
        return host.fail(error, 2)

    async def run() -> int:
        with reaching(options):
            client = await files_client.connect(**connection)
        async with client:
            return await work(client)

    try:
        memory.keep()
        return asyncio.run(run())
    except Unread:
        raise BrokenPipeError from None  # which main() knows
    except OperationError as error:
        return host.fail(error_text(error, options.name))
    except EndOfStreamError:
        return host.fail("the server hung up")
    except TimeoutError as error:
        return host.fail(str(error) or f"no answer within {options.timeout:g} s")
    except (Unreachable, FrameError, OSError) as error:
        return host.fail(error)


async def _transfer(
    options: argparse.Namespace,
    tree: Callable[[Manner, Told], Awaitable[None]],
    file: Callable[[Manner], Awaitable[Transfer]],
) -> int:
    """Have a tree or a file transferred as the options say, and tell what becomes of it."""
    with progress.display(quiet=options.quiet) as display:
        told = Told(display, as_json=options.json)
        manner = Manner(options.digest, None, options.resume, options.replace, getattr(options, "parents", False))
        if options.recursive:
            await tree(manner, told)
            told.sum_up()
        else:
            try:
                told.done(options.name, await file(dataclasses.replace(manner, progress=told.begin(options.name, 0))))
            except OperationError as error:
                told.failed(options.name, error)
    return 1 if told.failures else 0


async def _get(client: FilesClient, options: argparse.Namespace, path: str) -> int:
    async def file(manner: Manner) -> Transfer:
        if path == "-":
            return await client.get_into(options.name, Stdout(), manner)
        return await client.get_part(options.name, await offload.run(local.open_part, path), manner)

    return await _transfer(options, lambda *given: files_tree.get_tree(client, options.name, path, *given), file)


async def _put(client: FilesClient, options: argparse.Namespace) -> int:
    def file(manner: Manner) -> Awaitable[Transfer]:
        opener = functools.partial(local.open_source, options.path, manner.digest)
        return client.put_source(opener, options.name, manner)

    return await _transfer(options, lambda *given: files_tree.put_tree(client, options.path, options.name, *given), file)


async def _ls(client: FilesClient, options: argparse.Namespace) -> int:
    try:
        entries = await client.list(options.name)
    except OperationError as error:
        if error.code != "not_a_directory":
            raise
        entries = [await client.stat(options.name)]
    for entry in sorted(entries, key=lambda entry: entry.name):
        if options.json:
            fields = dataclasses.asdict(entry)
            del fields["digest"]
            output(json.dumps(fields))
        else:
            output(entry_line(entry) if options.long else marked(entry))
    if client.unnamed:
        print(f"fastframe: {client.unnamed} more names are not UTF-8, and cannot be told", file=sys.stderr)
    return 0


async def _stat(client: FilesClient, options: argparse.Namespace) -> int:
    entry = await client.stat(options.name, options.digest)
    if options.json:
        output(json.dumps(dataclasses.asdict(entry)))
        return 0
    output(f"name      {logs.escape(entry.name)}")
    output(f"kind      {logs.escape(entry.kind)}")
    output(f"size      {entry.size} ({progress.size_text(entry.size)})")
    output(f"modified  {moment(entry.modified, '%Y-%m-%d %H:%M:%S %z')}")
    output(f"mode      {entry.mode:04o}")
    if entry.digest:
        output(f"{options.digest:<9} {logs.escape(entry.digest)}")
    return 0
