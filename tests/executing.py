"""The exec server in the same process, with permits that a test makes, and a client at its socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from sessions import PATIENCE, where

from fastframe import aio
from fastframe.servers import exec as server_module
from fastframe.servers import exec_client
from fastframe.servers.permits import Limits, Permit, Permits, Sandbox

if TYPE_CHECKING:
    from fastframe.servers.exec import ExecServer
    from fastframe.servers.exec_client import ExecClient


def permit(program: str, name: str = "it", *, sandbox: Sandbox | bool = True, **fields) -> Permit:
    """Permit a program with any arguments, in a sandbox that grants nothing besides unless told otherwise."""
    if sandbox is True:
        sandbox = Sandbox(read=(program,))
    limits = {key: fields.pop(key) for key in Limits.__dataclass_fields__ if key in fields}
    return Permit(name, program, forms=fields.pop("forms", None), sandbox=sandbox or None, limits=Limits(**limits), **fields)


@contextlib.asynccontextmanager
async def served(*permits: Permit, limits: aio.Limits | None = None, tcp: bool = False, **options) -> AsyncIterator[ExecServer]:
    """Serve these permits on a Unix socket, or with `tcp` on the loopback interface."""
    with contextlib.ExitStack() as undo:
        sockets = aio.bind("127.0.0.1", 0) if tcp else aio.bind(path=undo.enter_context(_path()))
        listed = Permits({permit.name: permit for permit in permits}, frozenset({os.geteuid()}))
        async with await server_module.serve(
            listed, sockets=sockets, ssl=None, limits=limits or aio.Limits(), **options
        ) as server:
            yield server


@contextlib.asynccontextmanager
async def executing(*permits: Permit, **options) -> AsyncIterator[ExecClient]:
    async with served(*permits, **options) as server, exec_client.connect(**where(server)) as client:
        yield client


async def until(ready: Callable[[], object]) -> None:
    """Return when something of another process is so, which nothing here is told of."""
    async with asyncio.timeout(PATIENCE):
        while not ready():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def _path() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        yield f"{directory}/socket"
