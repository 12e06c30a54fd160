"""The client of the file server: get, put, list, stat and mkdir, as `files.py` has them.

    async with files_client.connect("127.0.0.1", 9000) as client:
        await client.put("big.iso", "images/big.iso")
        await client.get("images/big.iso", "copy.iso")

A name appears whole or not at all, on either side. What broke off is gone on with, after both sides have compared the digest
of what is there already. While the client sends it hears the server, whose disk may be full.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from . import digests, hearing, local, messages, offload, session, transfer
from .errors import OperationError
from .local import Part
from .messages import Fields, Kind
from .source import Source

if TYPE_CHECKING:
    from fastframe import aio

DATA_TIMEOUT: Final = 60.0  # seconds that a client waits for the next data; the server grants as much
ASKED_SIZE: Final = 256 * 1024  # bytes of a file; a smaller one is sent sooner than the server is asked what it has of it
MOST_ENTRIES: Final = 1_000_000  # that `list` collects, of a server that could send them without end: 300 MiB
PROGRESS_SECONDS: Final = 0.05  # between two calls of `progress`

Chunks = list[memoryview]  # `list` is a method below
Closable = TypeVar("Closable", Source, Part)
Progress = Callable[[int, int], object]  # is told the bytes that are done, and those in all


@dataclasses.dataclass(frozen=True, slots=True)
class Transfer:
    """A file that is there now, whole."""

    size: int  # bytes
    digest: str  # of all, "" if none was asked for
    resumed_from: int  # bytes that were there already
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What a name at the server leads to; in a listing, what the name itself is."""

    name: str
    kind: str  # file, directory, link, other
    size: int  # bytes
    modified: int  # nanoseconds since 1970
    mode: int  # permissions: 0o777
    digest: str = ""  # if one was asked for


@dataclasses.dataclass(frozen=True, slots=True)
class Manner:
    """How a file is transferred: what `get` and `put` are told by keywords."""

    digest: str = digests.DEFAULT
    block: int | None = None
    resume: bool = True
    replace: bool = False
    parents: bool = False
    progress: Progress | None = None

    @property
    def resumes(self) -> bool:
        return self.resume and self.digest != "none"  # which proves nothing


class Sink(Protocol):
    """What takes the bytes of a get, in a thread."""

    def write(self, chunks: Chunks, /) -> None: ...


def wire_time(modified: int) -> int:
    """Return a time as the protocol has it, which has none before 1970."""
    return max(modified, 0)


class FilesClient(session.ClientSession):
    """A connection to a file server; `connect` makes it.

    Its methods raise `OperationError` for what the server refuses; `local.LocalError`, which is one, for what goes wrong on
    this side; OSError and `FrameError` if the connection fails. Anything else is a bug. After an OperationError the next
    operation may follow, unless its code is one of `ENDING`. Cancelling an operation cuts the connection.
    """

    ENDING: Final = frozenset({"bad_message", "unauthenticated", "going_away"})

    def __init__(self, stream: aio.FrameStream) -> None:
        super().__init__(stream)
        self.unnamed = 0  # how many entries the last listing left out, since their names are not UTF-8

    async def get(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        digest: str = digests.DEFAULT,
        block: int | None = None,
        resume: bool = True,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Transfer:
        """Fetch the file `name` to `path`, where it appears when it is whole and on disk.

        `block`: bytes that the server sends at a time; `progress(done, total)` is called now and then, in bytes. What breaks
        off is kept beside `path`, and gone on with unless `resume` is False or `digest` "none".
        """
        part = await offload.run(local.open_part, os.fspath(path))
        return await self.get_part(name, part, Manner(digest, block, resume, replace, progress=progress))

    async def put(
        self,
        path: str | os.PathLike[str],
        name: str,
        *,
        digest: str = digests.DEFAULT,
        block: int | None = None,
        resume: bool = True,
        replace: bool = False,
        parents: bool = False,
        progress: Progress | None = None,
    ) -> Transfer:
        """Send the file `path` to be `name`, where it appears when it is whole and on disk.

        `block`: bytes that are sent at a time; `parents`: make the directories that are missing; `progress` as for `get`. What
        breaks off is kept by the server, and gone on with unless `resume` is False or `digest` "none".
        """
        opener = functools.partial(local.open_source, os.fspath(path), digest)
        return await self.put_source(opener, name, Manner(digest, block, resume, replace, parents, progress))

    async def get_part(self, name: str, part: Part, manner: Manner) -> Transfer:
        """Fetch the file `name` into `part`, which this ends; otherwise as `get`."""
        start = time.monotonic()
        async with _closing(part):
            await offload.run(part.check, replace=manner.replace)
            offset = part.size if manner.resumes else 0
            try:
                arrival = await self._get(name, part, offset, manner)
            except OperationError as error:
                if error.code != "not_same_file" or not offset:
                    raise
                offset = 0
                arrival = await self._get(name, part, offset, manner)
            found = arrival.found
            await offload.run(part.commit, found.modified, found.mode, replace=manner.replace)
        return Transfer(found.size, arrival.hasher.hexdigest(), offset, time.monotonic() - start)

    async def get_into(self, name: str, sink: Sink, manner: Manner) -> Transfer:
        """Fetch the file `name` into `sink`: only when this returns it is known that the bytes were right."""
        start = time.monotonic()
        arrival = await self._fetch(name, sink, digests.new(manner.digest), 0, manner)
        return Transfer(arrival.found.size, arrival.hasher.hexdigest(), 0, time.monotonic() - start)

    async def put_source(self, opener: Callable[[], Source], name: str, manner: Manner) -> Transfer:
        """Send what `opener` opens, which is called again to begin again; otherwise as `put`."""
        start = time.monotonic()
        async with _closing(await offload.run(opener)) as source:
            offset = 0
            if manner.resumes and source.size >= ASKED_SIZE:
                offset = await self._size_of_partial(source, name)
            try:
                digest = await self._send(source, name, offset, manner)
                return Transfer(source.size, digest, offset, time.monotonic() - start)
            except OperationError as error:
                if error.code != "not_same_file" or not offset:
                    raise
        async with _closing(await offload.run(opener)) as source:
            digest = await self._send(source, name, 0, manner)
            return Transfer(source.size, digest, 0, time.monotonic() - start)

    async def list(self, name: str = "") -> list[Entry]:
        """Return what is in the directory `name`, in no order; raise OperationError (too_large) for a million entries."""
        async with contextlib.aclosing(self.entries(name)) as entries:
            return [entry async for entry in _bounded(entries, name)]

    async def entries(self, name: str = "") -> AsyncGenerator[Entry, None]:
        """Yield what is in the directory `name`, in no order, as it comes.

        Until that has ended nothing else can be asked of the server. Who closes it early finds the connection cut.
        """
        count, rest = 0, b""
        async with self.operation("list", name=name):
            while chunks := await self._data():
                *lines, rest = (rest + b"".join(chunks)).split(b"\n")
                if len(rest) > messages.MAX_CONTROL:
                    raise OperationError("bad_message", "a line of the listing does not end")
                for line in lines:
                    yield _entry(messages.decode_fields(line))
                count += len(lines)
            if rest or (await self.expect(Kind.END)).fields.integer("size") != count:
                raise OperationError("bad_message", "the listing is not whole")
            self.unnamed = (await self.result()).integer("unnamed", default=0)

    async def stat(self, name: str = "", digest: str = "none") -> Entry:
        """Return what the server says of `name`, with its digest if one is asked for."""
        async with self.operation("stat", name=name, digest=digest):
            return _entry(Fields({**await self.result(), "name": name}))

    async def mkdir(self, name: str, mode: int | None = None, modified: int | None = None) -> None:
        """Make the directory `name` and those above it, or take the one that is there; set its mode and time if given."""
        given = {"mode": mode, "modified": None if modified is None else wire_time(modified)}
        async with self.operation("mkdir", name=name, **{key: value for key, value in given.items() if value is not None}):
            await self.result()

    async def _get(self, name: str, part: Part, offset: int, manner: Manner) -> _Arrival:
        hasher = await offload.run(part.resume, offset, manner.digest)
        try:
            return await self._fetch(name, part, hasher, offset, manner)
        except OperationError as error:
            if error.code == "wrong_digest":
                await offload.run(part.discard)
            raise

    async def _fetch(self, name: str, sink: Sink, hasher: digests.Hasher, offset: int, manner: Manner) -> _Arrival:
        """Have the server send a file from `offset` on, whose beginning `hasher` has; return when all of it is in `sink`."""
        asked = {"name": name, "digest": manner.digest, "offset": offset, "proof": hasher.hexdigest() if offset else ""}
        if manner.block is not None:
            asked["block"] = manner.block
        async with self.operation("get", **asked) as opened:
            _check_offset(opened, offset)
            arrival = _Arrival(_entry(Fields({**opened, "name": name, "kind": "file"})), hasher, offset, manner.progress)
            await transfer.receive(functools.partial(self._data, arrival.note), sink.write, hasher)
            end = (await self.expect(Kind.END)).fields
            if not arrival.came == arrival.found.size == end.integer("size"):
                raise OperationError("wrong_size", f"{arrival.came} bytes came, {arrival.found.size} were to come")
            if end.text("digest") != hasher.hexdigest():
                raise OperationError("wrong_digest")
            await self.result()
        return arrival

    async def _data(self, note: Callable[[Chunks], object] = lambda _: None) -> Chunks:
        try:
            async with asyncio.timeout(DATA_TIMEOUT):
                chunks = await self.receive_data()
        except TimeoutError:
            raise OperationError("timeout", f"no data within {DATA_TIMEOUT:g} s") from None
        note(chunks)
        return chunks

    async def _size_of_partial(self, source: Source, name: str) -> int:
        """Return how many bytes the server has of a put of this file that broke off."""
        async with self.operation("stat", name=name, **_described(source)):
            return (await self.result()).integer("partial", default=0, most=source.size)

    async def _send(self, source: Source, name: str, offset: int, manner: Manner) -> str:
        """Send a file from `offset` on, and return its digest."""
        await offload.run(source.hash, 0, offset)
        proof = source.digest if offset else ""
        asked = {"digest": manner.digest, "replace": manner.replace, "parents": manner.parents}
        async with self.operation("put", name=name, offset=offset, proof=proof, **asked, **_described(source)) as opened:
            _check_offset(opened, offset)
            digest, result = await hearing.heard(self, functools.partial(self._send_blocks, source, offset, manner))
            if result.text("digest", default=digest) != digest:
                raise OperationError("wrong_digest")
        return digest

    async def _send_blocks(self, source: Source, offset: int, manner: Manner, check: hearing.Check) -> str:
        pace = _Pace(manner.progress, source.size)

        def note(done: int) -> None:
            check()
            pace.note(done)

        try:
            await transfer.send(self, source, offset, self._step(manner), note)
            digest = await offload.run(source.finish)
        except OperationError as error:  # the connection's own are others
            raise local.blamed(source.name, error) from error
        note(source.size)
        await self.send_end(source.size, digest)
        return digest

    def _step(self, manner: Manner) -> int:
        return min(manner.block or transfer.BLOCK_SIZE, self.max_data)


@contextlib.asynccontextmanager
async def _closing(thing: Closable) -> AsyncIterator[Closable]:
    try:
        yield thing
    finally:
        await offload.run(thing.close)


async def _bounded(entries: AsyncIterator[Entry], name: str) -> AsyncIterator[Entry]:
    count = 0
    async for entry in entries:
        count += 1
        if count > MOST_ENTRIES:
            raise OperationError("too_large", f"{name}: more than {MOST_ENTRIES} entries")
        yield entry


class connect(session.connect):  # noqa: N801  it is called like a function
    """Connect to a file server: `async with connect(...) as client`; otherwise as `session.connect`."""

    session_class = FilesClient

    def __await__(self) -> Generator[Any, None, FilesClient]:
        return super().__await__()  # type: ignore[return-value]

    async def __aenter__(self) -> FilesClient:
        return await super().__aenter__()  # type: ignore[return-value]


class _Pace:
    """Calls `progress` not oftener than anybody can see, and at the end."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._next = 0.0

    def note(self, done: int) -> None:
        if self._progress is not None and (done == self._total or time.monotonic() >= self._next):
            self._progress(done, self._total)
            self._next = time.monotonic() + PROGRESS_SECONDS


class _Arrival:
    """A file that comes, and how much of it has come."""

    def __init__(self, found: Entry, hasher: digests.Hasher, offset: int, progress: Progress | None) -> None:
        self.found = found
        self.hasher = hasher
        self.came = offset
        self._pace = _Pace(progress, found.size)
        self._pace.note(offset)

    def note(self, chunks: Chunks) -> None:
        """Take note of what came; raise OperationError if it is too much, which would fill the disk."""
        self.came += sum(map(len, chunks))
        if self.came > self.found.size:
            raise OperationError("wrong_size", f"more than the {self.found.size} bytes came that were to come")
        if chunks:
            self._pace.note(self.came)


def _entry(fields: Fields) -> Entry:
    return Entry(
        name=fields.text("name"),
        kind=fields.text("kind", most=16),
        size=fields.integer("size"),
        modified=fields.integer("modified", least=-messages.MAX_INTEGER),
        mode=fields.integer("mode", most=0o777),
        digest=fields.text("digest", default=""),
    )


def _described(source: Source) -> dict[str, int]:
    return {"size": source.size, "modified": wire_time(source.modified), "mode": source.mode}


def _check_offset(opened: Fields, offset: int) -> None:
    if opened.integer("offset", default=0) != offset:
        raise OperationError("bad_message", "the server does not begin where it was asked to")
