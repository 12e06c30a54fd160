"""The file server: put, get, list, stat and mkdir beneath one directory, on `session.py`. docs/files.md has every field.

    get    OPEN name, digest, offset, proof   OPENED size ...   DATA ... END digest   RESULT
    put    OPEN name, size, digest ...        OPENED offset     DATA ... END digest   RESULT, when it is on disk

Names are resolved by `root.py`, uploads become files in `staging.py`; this is what the messages mean. Nothing of the disk is
done on the event loop: while one block is read, hashed or written in a thread, the one before or behind it is on the network.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from . import arguments, credentials, digests, host, logs, memory, offload, placing, transfer
from .errors import OperationError, told
from .root import Listing, Root, kind_of
from .service import Operation, ServerSession, Service, ServiceServer
from .source import Source
from .staging import Staging, Upload

if TYPE_CHECKING:
    from .messages import Fields

# Bytes of a listing in one DATA message, and a line more: half of what --max-payload allows at least.
LISTING: Final = arguments.LEAST_PAYLOAD // 2
LIFETIME: Final = 7 * 24 * 3600.0  # seconds that an upload which broke off waits to be resumed
EXPIRY_SECONDS: Final = 3600.0  # between two looks for uploads that nobody went on with
# Failures after which the client may go on with what is here. After others it is wrong, or takes room that is needed.
RESUMABLE: Final = frozenset({"cancelled", "timeout", "busy", "exists", "name_conflict", "not_same_file", "bad_message"})


class Files:
    """The operations on one root. `staging`: where uploads wait to be whole; None refuses them. `max_size`: bytes of a file."""

    def __init__(self, root: Root, staging: Staging | None = None, max_size: int = arguments.MOST_BYTES) -> None:
        self._root = root
        self._staging = staging
        self._max_size = max_size
        self.expiry: asyncio.Task[None] | None = None

    @property
    def operations(self) -> dict[str, Operation]:
        return {"get": self.get, "put": self.put, "list": self.list, "stat": self.stat, "mkdir": self.mkdir}

    async def get(self, session: ServerSession, asked: Fields) -> dict[str, Any]:
        """Send a file from `offset` on, if `proof` is the digest of what is before it."""
        name, digest, offset = (
            asked.text("name"),
            asked.text("digest", default=digests.DEFAULT),
            asked.integer("offset", default=0),
        )
        proof = asked.text("proof", default="")
        block = min(asked.integer("block", default=transfer.BLOCK_SIZE, least=1), session.max_data)
        source = await offload.run(self._open_source, name, digest)
        with contextlib.closing(source):
            if offset:
                source.check_offset(offset)
                await _hash(session, source.hash, offset)
                source.check_proof(proof)
            await session.opened(size=source.size, modified=source.modified, mode=source.mode, offset=offset)
            async with session.listening():
                await transfer.send(session, source, offset, block, lambda _: session.check_cancelled())
            await session.send_end(size=source.size, digest=await offload.run(source.finish))
        return {}

    async def put(self, session: ServerSession, asked: Fields) -> dict[str, Any]:
        """Take a file, from `offset` on if `proof` is the digest of what is here, and answer when it is on disk."""
        staging = self._writable()
        upload, digest = self._upload(session, asked), asked.text("digest", default=digests.DEFAULT)
        offset, proof, replace = asked.integer("offset", default=0), asked.text("proof", default=""), asked.flag("replace")
        hasher = digests.new(digest)  # before anything is made
        if asked.flag("parents"):
            await offload.run(self._make_parents, upload.name)
        await offload.run(staging.check, upload, replace=replace)
        partial = await offload.run(staging.open, upload)
        try:
            await _hash(session, functools.partial(partial.hash, hasher), offset)
            await offload.run(partial.resume, offset, hasher.hexdigest(), proof)
            await session.opened(offset=offset)
            await transfer.receive(session.data, partial.write, hasher)
            end = await session.end()
            if end.integer("size") != upload.size or partial.size != upload.size:
                raise OperationError("wrong_size", f"{upload.name}: {partial.size} bytes came, {upload.size} were to come")
            if end.text("digest") != hasher.hexdigest():
                raise OperationError("wrong_digest")
            await offload.run(partial.commit, replace=replace)
        except OperationError as error:
            if error.code not in RESUMABLE:
                await offload.run(partial.discard)
            raise
        finally:
            await offload.run(partial.keep)  # if nothing has ended it: the client may come back
        return {"size": upload.size, "digest": hasher.hexdigest()}

    async def list(self, session: ServerSession, asked: Fields) -> dict[str, Any]:
        """Send the entries of a directory as lines of JSON, in no order."""
        listing = await offload.run(self._root.scan, asked.text("name", default=""))
        count = 0
        with contextlib.closing(listing):
            await session.opened()
            async with session.listening():
                while entries := await offload.run(_lines, listing):
                    session.check_cancelled()
                    count += len(entries)
                    await session.send_data(b"".join(entries))
        await session.send_end(size=count, digest="")
        return {"entries": count, "unnamed": listing.unnamed}

    async def stat(self, session: ServerSession, asked: Fields) -> dict[str, Any]:
        """Tell what a name leads to; its digest, if one is asked for; how much of an upload is here, if one is described."""
        name, digest = asked.text("name", default=""), asked.text("digest", default="none")
        await session.opened()
        if "size" in asked:
            partial = await offload.run(self._writable().size_of, self._upload(session, asked))
            return {"partial": partial}
        found = entry(await offload.run(self._root.stat, name))
        if digest != "none":
            source = await offload.run(self._open_source, name, digest)
            with contextlib.closing(source):
                await _hash(session, source.hash, source.size)
                found["digest"] = await offload.run(source.finish)
        return found

    async def mkdir(self, session: ServerSession, asked: Fields) -> dict[str, Any]:
        """Make a directory, with those above it, or take the one that is there; set its mode and time if they are given."""
        self._writable()
        name = asked.text("name")
        mode = asked.integer("mode", most=0o777) if "mode" in asked else None
        modified = asked.integer("modified") if "modified" in asked else None
        await session.opened()
        await offload.run(self._make_directory, name, mode, modified)
        return {}

    def _open_source(self, name: str, digest: str) -> Source:
        return Source(self._root.open_file(name), name, digest)

    def _make_parents(self, name: str) -> None:
        directory, _ = self._root.open_parent(name, create=True)
        os.close(directory)

    def _make_directory(self, name: str, mode: int | None, modified: int | None) -> None:
        parent, last = self._root.open_parent(name, create=True)
        try:
            with told(name):
                is_there = placing.is_there(parent, last)
        finally:
            os.close(parent)
        try:
            if not is_there:
                self._root.make_directory(name)
        except OperationError as error:
            if error.code != "exists":  # somebody else has made it meanwhile
                raise
        self._root.set_directory(name, mode, modified)

    def _writable(self) -> Staging:
        if self._staging is None:
            raise OperationError("read_only")
        return self._staging

    def _upload(self, session: ServerSession, asked: Fields) -> Upload:
        upload = Upload(
            name=asked.text("name"),
            size=asked.integer("size"),
            modified=asked.integer("modified"),
            mode=asked.integer("mode", default=0o644, most=0o777),
            owner=session.user,
        )
        if upload.size > self._max_size:
            raise OperationError("too_large", f"{upload.name}: {upload.size} bytes, and a file may have {self._max_size}")
        return upload


async def _hash(session: ServerSession, work: Callable[[int, int], None], stop: int) -> None:
    """Have the first `stop` bytes of a file hashed; raise what ends that: the client has cancelled, or has gone."""
    async with session.peeking():
        await offload.in_turns(work, stop, session.check_wanted)


def entry(status: os.stat_result) -> dict[str, Any]:
    """Return what a client is told of a file or directory."""
    return {
        "kind": kind_of(status),
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "mode": status.st_mode & 0o777,
    }


def _lines(listing: Listing) -> list[bytes]:
    """Return the next entries of a directory, a line each; [] at its end."""
    lines, size = [], 0
    for name, status in listing.entries:
        fields = {"name": name, **entry(status)}
        lines.append(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        size += len(lines[-1])
        if size >= LISTING:
            break
    return lines


async def _expire(staging: Staging) -> None:
    """Remove uploads that nobody goes on with, now and then."""
    while True:
        try:
            if removed := await offload.run(staging.remove_expired):
                logs.event(logging.INFO, "uploads expired", count=removed)
        except OperationError as error:
            logs.event(logging.WARNING, "uploads not looked at", reason=error.code)
        await asyncio.sleep(EXPIRY_SECONDS)


def serve_main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe serve files",
        usage="%(prog)s --root DIR [OPTION ...]",
        description="Serve the files beneath a directory to `fastframe get`, `put`, `ls` and `stat`, until SIGTERM or Ctrl-C.",
        epilog="example: fastframe serve files --root /srv/files --write",
    )
    parser.add_argument("--root", required=True, metavar="DIR", help="what is served; nothing outside of it is reached")
    parser.add_argument("--write", action="store_true", help="take uploads, too")
    parser.add_argument(
        "--max-file-size",
        type=arguments.long_size,
        metavar="BYTES",
        help="of an upload, as 10GiB (default: what the disk holds)",
    )
    parser.add_argument(
        "--upload-lifetime",
        type=arguments.seconds,
        metavar="S",
        help=f"how long an upload that broke off can be resumed (default: {LIFETIME:g}, a week)",
    )
    arguments.add_service_options(parser)
    arguments.add_server_options(parser)
    options = parser.parse_args(argv)
    if not options.write and (options.max_file_size or options.upload_lifetime):
        parser.error("--max-file-size and --upload-lifetime are for --write")
    try:
        root = Root(options.root, hidden=(Staging.DIRECTORY,))
        keyring = credentials.keyring(options.tokens)
    except OSError as error:
        return host.fail(f"cannot serve {options.root}: {error.strerror}", 2)
    except arguments.UsageError as error:
        return host.fail(error, 2)
    staging = Staging(root, options.upload_lifetime or LIFETIME) if options.write else None
    files = Files(root, staging, options.max_file_size or arguments.MOST_BYTES)
    offer = {"operations": sorted(files.operations), "digests": digests.available(), "write": options.write}
    service = Service(files.operations, keyring=keyring, max_payload=options.max_payload, offer=offer)

    async def serve(**given: Any) -> ServiceServer:
        server = await service.serve(**given)
        if staging is not None:
            files.expiry = asyncio.create_task(_expire(staging))  # until the loop ends
        return server

    if options.tls_cert is None:
        memory.keep()
    with root:
        return host.run(options, serve)
