"""`fastframe demo`: a real file through an echo server, whole and checked; then frame size by frame size, three ways.

First the whole file goes through `fastframe serve echo` in frames of 64 KiB. Then, for the compiled codec, the pure one and
`readexactly` by hand, as much of it as a moment allows, in frames of 64 B to 1 MiB. Everything that comes back is compared with
what was sent: a wrong byte, or a border in the wrong place, ends the demo with status 1. At last a command of `fastframe serve
exec` hashes the file, in its sandbox.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fastframe import __version__

from . import pictures, report, sweep
from .entry import LeftOutError

SIZES: Final = (64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
WHOLE_SIZE: Final = 64 << 10
CELL_SECONDS: Final = 0.8  # for one way and size, so that all of them take half a minute
PICTURE: Final = "fastframe-demo.png"

Progress = Callable[[str, float], None]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastframe demo",
        description="Send a real file through an echo server, check what comes back, and show what the frame size does.",
        epilog="example: fastframe demo --file /usr/bin/python3 --png throughput.png",
    )
    parser.add_argument("--file", metavar="PATH", help="what to send (default: a tar of this Python's standard library)")
    parser.add_argument("--png", metavar="PATH", default=PICTURE, help="where the picture goes (default: %(default)s)")
    parser.add_argument("--json", metavar="PATH", help="also write the figures there")
    options = parser.parse_args(argv)
    try:
        with contextlib.ExitStack() as stack:
            path = options.file or stack.enter_context(standard_library_tar())
            if os.path.isdir(path):
                return _fail(f"{path} is a directory: name a file")
            if os.path.getsize(path) == 0:
                return _fail(f"{path} is empty: there is nothing to send")
            rates = run(path)
            _say(command(path))
    except (OSError, ValueError) as error:
        return _fail(str(error))
    note = f"fastframe {__version__}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, loopback"
    report.print_rates(rates, "Through an echo server and back, by frame size")
    print(f"{note}\n* the first part of the file, as much as goes in {CELL_SECONDS:g} s")
    if options.json:
        figures = {way: [asdict(rate) for rate in series] for way, series in rates.items()}
        try:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump({"note": note, "rates": figures}, file, indent=1)
        except OSError as error:
            return _fail(f"cannot write the figures: {error}")
    try:
        pictures.draw_rates(rates, Path(options.png), "Through an echo server and back, by frame size", note)
        _say(f"picture: {options.png}")
    except ModuleNotFoundError:
        _say("no picture: matplotlib is not installed (pip install 'fastframe[demo]')")
    except OSError as error:
        return _fail(f"cannot write the picture: {error}")
    return 0


def command(path: str) -> str:
    """Have a command run on the file by an exec server; return what to tell of it. Raise ValueError if that goes wrong."""
    if sys.platform != "linux":
        return "no command was run: fastframe serve exec needs Linux"
    from . import democommand  # noqa: PLC0415  its modules are for Linux

    try:
        return democommand.run(path)
    except LeftOutError as error:
        return f"no command was run: {error}"


def run(path: str) -> dict[str, list[report.Rate]]:
    """Send the file, then parts of it each way; return the rates by way. Raise ValueError if anything comes back wrong."""
    ways = ["compiled", "pure", "readexactly"]
    if importlib.util.find_spec("fastframe._codec_c") is None:
        ways.remove("compiled")
        _say("the compiled codec is not here (no C compiler when fastframe was installed?): this is the pure one")
    total = os.path.getsize(path)
    rates: dict[str, list[report.Rate]] = {}
    with progress_bar() as progress:
        with sweep.server(ways[0]) as address:
            label = f"{total / 1e6:.0f} MB in frames of {report.size_text(WHOLE_SIZE)}, {ways[0]}"
            for event in sweep.transfers(ways[0], address, path, [WHOLE_SIZE], seconds=float("inf")):
                progress(label, event.received / total)
        _say(f"{total} bytes came back through {address}, {event.total / event.seconds / 1e6:.0f} MB/s, sha256 right")
        for way in ways:
            with sweep.server(way) as address:
                rates[way] = [
                    report.Rate(
                        size=event.size,
                        megabytes_per_second=event.total / event.seconds / 1e6,
                        frames_per_second=event.frames / event.seconds,
                        whole=event.total == total,
                    )
                    for event in sweep.transfers(way, address, path, SIZES, CELL_SECONDS)
                    if _follow(progress, way, event)
                ]
    return rates


def _follow(progress: Progress, way: str, event: sweep.Event) -> bool:
    """Show an event of a sweep; tell whether it concludes a frame size."""
    progress(
        f"{way}, frames of {report.size_text(event.size)}",
        (SIZES.index(event.size) + event.received / event.total) / len(SIZES),
    )
    return event.problem is not None


@contextlib.contextmanager
def standard_library_tar() -> Iterator[str]:
    """Make a tar of the running Python's standard library, some tens of MB, and remove it afterwards."""
    library = sysconfig.get_path("stdlib")

    def keep(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = os.path.basename(entry.name)
        return None if name in ("site-packages", "dist-packages", "__pycache__") or name.startswith("config-") else entry

    with tempfile.TemporaryDirectory(prefix="fastframe-demo-") as folder:
        path = os.path.join(folder, "stdlib.tar")
        with tarfile.open(path, "w") as tar:
            tar.add(library, arcname="stdlib", filter=keep)
        yield path


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """Yield what shows a label and a fraction on stderr: as a bar on a terminal that has rich, else a line for each label."""
    if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console  # noqa: PLC0415  an extra
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (
            TextColumn("{task.description:<40}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=1.0)
            yield lambda label, fraction: bar.update(task, description=label, completed=fraction)
        return
    last = ""

    def show(label: str, fraction: float) -> None:  # noqa: ARG001
        nonlocal last
        if label != last:
            last = label
            _say(label)

    yield show


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _fail(reason: str) -> int:
    _say(f"fastframe: {reason}")
    return 1
