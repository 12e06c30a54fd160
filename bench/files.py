"""Files of results: written whole or not at all, since what was there before may be of another hour's measuring.

A file is written beside its place, under a name of its own, and takes the place once it is whole (`os.replace`). It is not
synced: what a power cut takes can be measured again. What is no file, such as a pipe or /dev/stdout, is written to.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file; raise OSError if that cannot be, and leave what was there, as does whatever else interrupts it."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    place = path.resolve()  # of a link, what it leads to
    beside = place.with_name(f".fastframe-{secrets.token_hex(8)}.part")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(place, beside)
        os.replace(beside, place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def against_file(path: Path) -> str:
    """Return what stands against writing a file, nothing if nothing does; raise PermissionError if that may not be known."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return f"{path} is a folder"
    folder = path.resolve().parent
    if not path.exists() or path.is_file():
        if not folder.is_dir():
            return f"there is no folder {folder}"
        if not os.access(folder, os.W_OK):
            return f"nothing may be written into {folder}"
    return f"{path} may not be written" if path.exists() and not os.access(path, os.W_OK) else ""
