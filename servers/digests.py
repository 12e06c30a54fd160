"""Digests by name: what both sides compute of a file while it goes by, and compare.

sha256 is what an upload has unless it asks otherwise. blake3 is as safe and faster, xxh3 finds accidents and no forgery; both
are there if their packages are. md5 is there for the tutorials, which have nothing else. `none` leaves the matter to TCP's
checksum, and to TLS.

Every `update` of a large block lets go of the GIL, so two files are hashed on two cores; one file has one thread.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, Self

from .errors import OperationError

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT: Final = "sha256"
BLOCK: Final = 128 * 1024  # bytes: hashed while they are in the cache, and no less than what is read ahead


class Hasher(Protocol):
    """What hashlib's objects have."""

    def update(self, data: Buffer, /) -> object: ...

    def hexdigest(self) -> str: ...

    def copy(self) -> Self: ...


class Nothing:
    """The digest of whoever wants none: always empty."""

    def update(self, data: Buffer, /) -> None:
        pass

    def hexdigest(self) -> str:
        return ""

    def copy(self) -> Self:
        return self


_MAKERS: Final[dict[str, Callable[[], Hasher]]] = {
    "sha256": hashlib.sha256,
    "md5": functools.partial(hashlib.md5, usedforsecurity=False),  # else a system in FIPS mode refuses it
    "none": Nothing,
}
# By package and name in it. blake3 has threads of its own if asked: one upload shall not have all cores.
_PACKAGED: Final = {"blake3": ("blake3", "blake3"), "xxh3": ("xxhash", "xxh3_128")}


def update_from(hasher: Hasher, descriptor: int, start: int, stop: int) -> bool:
    """Hash the bytes of a file from `start` to `stop`; tell whether there are so many. Raise OSError."""
    buffer = memoryview(bytearray(min(BLOCK, max(stop - start, 0))))
    while start < stop:
        count = os.preadv(descriptor, [buffer[: stop - start]], start)
        if not count:
            return False
        hasher.update(buffer[:count])
        start += count
    return True


def available() -> tuple[str, ...]:
    """Return the names that `new` knows here, the default first."""
    packaged = (name for name, (package, _) in _PACKAGED.items() if importlib.util.find_spec(package))
    return (*_MAKERS, *packaged)


def new(name: str) -> Hasher:
    """Return a hasher of nothing so far; raise OperationError (unsupported) for a name that is not `available`."""
    if name in _MAKERS:
        return _MAKERS[name]()
    if name in available():
        package, maker = _PACKAGED[name]
        hasher: Hasher = getattr(importlib.import_module(package), maker)()
        return hasher
    raise OperationError("unsupported", f"no such digest here, but {', '.join(available())}")
