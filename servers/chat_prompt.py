"""The prompt of `fastframe chat` at a terminal: what is typed stands below what comes, and neither tears the other.

prompt_toolkit draws the prompt, and one prompt lasts from the beginning to the end, so that no key is echoed in between. What
comes is written where the prompt is, which is taken away before and drawn again behind it. prompt_toolkit's own way to do that
(`run_in_terminal`, `patch_stdout`) gives the terminal back meanwhile, which then echoes keys into the text.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from .chat_screen import Screen, wants_colours

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from .chat_events import Event

FRAME_SECONDS: Final = 1 / 30  # from one drawing to the next, however much comes
EVENTS_PER_FRAME: Final = 100  # each takes 0.3 ms to be drawn, and keys shall not wait longer than a frame


def is_installed() -> bool:
    return importlib.util.find_spec("prompt_toolkit") is not None


class Prompt:
    """A terminal with a prompt. `status` tells what stands in it, `words` what Tab may make of the text before the cursor."""

    def __init__(self, status: Callable[[], str], words: Callable[[str], Iterable[str]]) -> None:
        self.has_commands = True
        self.failures = 0  # they were seen
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._session = _session(status, words, self._lines.put_nowait)
        self._output = self._session.output
        self._screen = Screen(lambda: self._output.get_size().columns, colours=wants_colours(is_terminal=True))

    async def lines(self) -> AsyncIterator[str]:
        """Yield each line that is typed, until Ctrl-C or Ctrl-D."""
        typing = asyncio.create_task(self._type())
        try:
            while (line := await self._lines.get()) is not None:
                yield line
                self._session.app.invalidate()  # what was done with it may have changed the status
            await typing
        finally:
            typing.cancel()
            await asyncio.wait((typing,))

    async def show(self, events: list[Event]) -> None:
        for start in range(0, len(events), EVENTS_PER_FRAME):
            self._write(self._screen.text(events[start : start + EVENTS_PER_FRAME]))
            await asyncio.sleep(FRAME_SECONDS)

    async def tell(self, text: str) -> None:
        self._write(self._screen.remark(text))

    async def _type(self) -> None:
        try:
            await self._session.prompt_async(handle_sigint=False)
        except EOFError:
            pass
        finally:
            self._lines.put_nowait(None)

    def _write(self, text: str) -> None:
        app = self._session.app
        if app.is_running:
            app.renderer.erase()
        self._output.write_raw(text.replace("\n", "\r\n"))
        self._output.flush()
        if app.is_running:
            app.invalidate()


def _session(
    status: Callable[[], str], words: Callable[[str], Iterable[str]], take: Callable[[str], None]
) -> PromptSession[str]:
    from prompt_toolkit import PromptSession  # noqa: PLC0415  an extra
    from prompt_toolkit.output import create_output  # noqa: PLC0415
    from prompt_toolkit.shortcuts import CompleteStyle  # noqa: PLC0415

    output: Any = create_output()
    output.enable_cpr = False  # nothing here needs the cursor's place, and a terminal that does not tell it is complained of
    return PromptSession(
        status,
        output=output,
        key_bindings=_keys(take),
        completer=_completer(words),
        complete_while_typing=False,
        complete_style=CompleteStyle.READLINE_LIKE,
        reserve_space_for_menu=0,
        erase_when_done=True,
        enable_suspend=True,
        interrupt_exception=EOFError,
    )


def _keys(take: Callable[[str], None]) -> Any:
    from prompt_toolkit.filters import is_searching  # noqa: PLC0415
    from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415

    keys = KeyBindings()

    @keys.add("enter", filter=~is_searching)  # Ctrl-R: there it takes what was found
    def _(event: Any) -> None:
        buffer = event.current_buffer
        lines = [line for line in buffer.text.split("\n") if line]
        for line in lines:  # several were pasted, and what is pasted does not command
            take(f"/{line}" if len(lines) > 1 and line.startswith("/") else line)
        buffer.reset(append_to_history=True)

    return keys


def _completer(words: Callable[[str], Iterable[str]]) -> Any:
    from prompt_toolkit.completion import Completer, Completion  # noqa: PLC0415

    class WordCompleter(Completer):
        def get_completions(self, document: Any, complete_event: Any) -> Iterable[Completion]:  # noqa: ARG002
            text = document.text_before_cursor
            return [Completion(word, -len(text)) for word in words(text)]

    return WordCompleter()
