"""What a command shows of files that are on their way, on stderr: a bar on a terminal, a line for each file that is done.

The bar is rich's where that is installed, else one line that is written over. Where stderr is no terminal there is no bar.
Names come from a server or a disk, and are escaped: nothing in them can steer a terminal.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TextIO

from . import logs

BAR_CELLS: Final = 20
NAME_CELLS: Final = 30  # at most, of the bar's line
WINDOW_SECONDS: Final = 5.0  # that a rate is the average of
LEAST_SECONDS: Final = 0.2  # until a rate says anything
UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

Progress = Callable[[int, int], None]  # bytes done, bytes in all


class Display(Protocol):
    """What is shown; one file at a time."""

    def begin(self, name: str) -> Progress | None:
        """Begin to show a file's progress; return what has to be told of it, None if nothing is shown."""

    def say(self, line: str) -> None:
        """Print a line that stays, which has to be escaped, and end the bar of the file before it."""

    def complain(self, line: str) -> None:
        """Print a line that has to be read, whatever else is shown."""


class Lines:
    """Shows what is done, and no progress."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def begin(self, name: str) -> Progress | None:  # noqa: ARG002
        return None

    def say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    complain = say


class Quiet(Lines):
    """Shows nothing but complaints."""

    def say(self, line: str) -> None:
        pass


class Bar:
    """Shows one line that is written over, without any control sequence but the carriage return."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._cells = 0  # that are written on

    def begin(self, name: str) -> Progress | None:
        pace = Pace()
        shown = shorten(logs.escape(name), NAME_CELLS)

        def progress(done: int, total: int) -> None:
            pace.note(done)
            self._write(bar_line(shown, done, total, pace))

        return progress

    def say(self, line: str) -> None:
        self.clear()
        print(line, file=self._stream, flush=True)

    complain = say

    def clear(self) -> None:
        if self._cells:
            self._write("")
            self._stream.write("\r")
            self._stream.flush()

    def _write(self, line: str) -> None:
        line = shorten(line, shutil.get_terminal_size().columns - 1)  # the last cell would begin a new line
        gap = " " * max(0, self._cells - cells(line))
        self._cells = cells(line)
        self._stream.write(f"\r{line}{gap}")
        self._stream.flush()


class RichBar:
    """Shows rich's bar."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars

    def begin(self, name: str) -> Progress | None:
        self.clear()
        pace = Pace()
        task = self._bars.add_task(shorten(logs.escape(name), NAME_CELLS), total=None, state="")

        def progress(done: int, total: int) -> None:
            pace.note(done)
            self._bars.update(task, completed=done, total=total, state=state_text(done, total, pace))

        return progress

    def say(self, line: str) -> None:
        self.clear()
        self._bars.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    complain = say

    def clear(self) -> None:
        for task in self._bars.task_ids:
            self._bars.remove_task(task)


class Pace:
    """How fast bytes come, in the last seconds; what was there at first did not come."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()  # when, and how many there were

    def note(self, done: int) -> None:
        now = time.monotonic()
        self._looks.append((now, done))
        while now - self._looks[0][0] > WINDOW_SECONDS and len(self._looks) > 2:
            self._looks.popleft()

    @property
    def rate(self) -> float:
        """Bytes a second, 0 while that is not known."""
        (start, before), (now, done) = self._looks[0], self._looks[-1]
        return (done - before) / (now - start) if now - start >= LEAST_SECONDS else 0.0


@contextlib.contextmanager
def display(*, quiet: bool = False) -> Iterator[Display]:
    """Return what shows progress on stderr, as long as the body lasts."""
    if quiet:
        yield Quiet(sys.stderr)
    elif not sys.stderr.isatty():
        yield Lines(sys.stderr)
    elif importlib.util.find_spec("rich") is None:
        bar = Bar(sys.stderr)
        try:
            yield bar
        finally:
            bar.clear()
    else:
        with _rich() as bars:
            yield RichBar(bars)


def bar_line(name: str, done: int, total: int, pace: Pace) -> str:
    """Return the line of a bar, as `big.iso  45% [#########           ] 1.1 GiB of 2.4 GiB, 350 MiB/s, 0:03 left`."""
    share = done / total if total else 1.0
    return f"{name} {share:4.0%} [{'#' * int(share * BAR_CELLS):<{BAR_CELLS}}] {state_text(done, total, pace)}"


def state_text(done: int, total: int, pace: Pace) -> str:
    text = f"{size_text(done)} of {size_text(total)}"
    return f"{text}, {size_text(round(pace.rate))}/s, {time_text((total - done) / pace.rate)} left" if pace.rate else text


def size_text(size: int) -> str:
    """Return a number of bytes in three digits or four, as `1.5 MiB`."""
    value, index = float(size), 0
    while round(value, 1) >= 1000 and index < len(UNITS) - 1:
        value /= 1024
        index += 1
    digits = 0 if index == 0 or value >= 99.95 else 1
    return f"{value:.{digits}f} {UNITS[index]}"


def time_text(seconds: float) -> str:
    """Return a time as `0:03`, `12:34` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def cells(text: str) -> int:
    """Return how many cells of a terminal `text` takes, which is escaped."""
    return sum(_cells(character) for character in text)


def shorten(text: str, most: int) -> str:
    """Return `text`, or as much of its end as has room in `most` cells behind an ellipsis."""
    if cells(text) <= most:
        return text
    kept = ""
    for character in reversed(text):
        if cells(kept) + _cells(character) >= most:
            break
        kept = character + kept
    return "…" + kept


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _rich() -> Any:
    from rich.console import Console  # noqa: PLC0415  an extra
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[state]}", markup=False))
    return Progress(*columns, console=Console(stderr=True), transient=True)
