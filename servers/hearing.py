"""A client that sends for long, and hears meanwhile that its server wants no more: its disk is full, or it is ending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastframe import FrameError

from .errors import OperationError

if TYPE_CHECKING:
    from .messages import Fields
    from .session import ClientSession

STOP_SECONDS: Final = 5.0  # for the block that is being sent when the server has spoken, and for what it has said to come

T = TypeVar("T")
Check = Callable[[], None]


class _Spoken(Exception):  # noqa: N818  no error: it ends the sending
    pass


async def heard(session: ClientSession, send: Callable[[Check], Coroutine[Any, Any, T]]) -> tuple[T, Fields]:
    """Send, and return what `send` returns and what the RESULT says; raise the ERROR with which the server ends it early.

    `send` has to call what it is given before each message: that ends it when the server has spoken.
    """
    answer = asyncio.create_task(session.result())

    def check() -> None:
        if answer.done():
            raise _Spoken

    sending = asyncio.create_task(send(check))
    try:
        await asyncio.wait((answer, sending), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((sending,), timeout=STOP_SECONDS)
        if not sending.done():  # the server has spoken, and does not even read what was sent before
            session.stream.abort()
        return await sending, await answer
    except _Spoken:
        await answer
        raise OperationError("bad_message", "the server had its result before it had everything") from None
    except (OSError, FrameError):  # the connection is lost: perhaps the server has said why
        await asyncio.wait((answer,), timeout=STOP_SECONDS)
        if answer.done() and isinstance(answer.exception(), OperationError):
            await answer
        raise
    finally:
        await _ended(sending, answer)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # or asyncio says that nobody asked
