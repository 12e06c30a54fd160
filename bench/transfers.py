"""Who competes in the transfer benchmark: what carries a file between a server and a client, and how it is set up.

Each is set up as its own documentation advises, and says so in its `does`. The plain ones check nothing but the size; TCP
does. SFTP is encrypted and authenticated, which FTP and ours are not here: it is there since it is what people use.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final, Literal, NamedTuple

from fastframe.servers import digests

from .entry import choose
from .othertransfers import openssh, socat
from .pairs import Direction, Folders, Pair, Runs, Sink, python_client
from .processes import serving

# "base": what all are compared with. "native": C. "ours": this project's server and client. "python": its peers.
Kind = Literal["base", "native", "ours", "python"]
Environment = Mapping[str, str]
Ways = tuple[tuple[Direction, Sink], ...]

TO_FILES: Final[Ways] = (("get", "file"), ("put", "file"))
BUT_PUT_AND_FORGET: Final[Ways] = (*TO_FILES, ("get", "null"))  # for a server that has nowhere but its folder to put it
ANYHOW: Final[Ways] = (*BUT_PUT_AND_FORGET, ("put", "null"))
MAX_PAYLOAD: Final = "8MiB"  # ours takes 1 MiB unless told; the longest chunk here is 4 MiB
DIGESTS: Final = ("none", "md5", "sha256", "blake3", "xxh3")


class Contender(NamedTuple):
    """`start` runs it, or raises `LeftOutError`; `does` says in a line what it does.

    `ways`: what it can do. `chunked`: it is told how large chunks are.
    """

    kind: Kind
    start: Callable[[Folders, Environment], AbstractContextManager[Runs]]
    does: str
    ways: Ways = TO_FILES
    chunked: bool = False
    digests: tuple[str, ...] = ("none",)


def in_python(way: str) -> Callable[[Folders, Environment], AbstractContextManager[Runs]]:
    return lambda folders, environment: pair(
        [sys.executable, "-m", "fastframe.bench.transferends", "serve", way, str(folders.served)], way, folders, environment
    )


def ours(folders: Folders, environment: Environment) -> AbstractContextManager[Runs]:
    command = [sys.executable, "-m", "fastframe", "serve", "files", "--root", str(folders.served), "--write", "--port", "0"]
    return pair([*command, "--max-payload", MAX_PAYLOAD], "fastframe", folders, environment)


@contextlib.contextmanager
def pair(command: list[str], way: str, folders: Folders, environment: Environment) -> Iterator[Runs]:
    with serving(command, environment) as server, python_client(way, server.port, folders.own, environment) as client:
        yield Pair(server.process.pid, client)


# The first is the one that all are compared with.
CONTENDERS: Final[dict[str, Contender]] = {
    "sendfile": Contender(
        "base",
        in_python("sendfile"),
        "a loop of os.sendfile at one end, of recv_into the same 1 MiB and an unbuffered write at the other",
        ANYHOW,
    ),
    "socat": Contender(
        "native",
        lambda folders, _: socat(folders),
        "socat -u -b 1048576 at each end, read and write of 1 MiB; it carries one file, so that two new ones have to start"
        " for each transfer, which takes some milliseconds of it",
        ANYHOW,
    ),
    "loop": Contender(
        "python",
        in_python("loop"),
        "what one writes first: read and sendall in a loop at one end, recv and an unbuffered write at the other, a chunk each",
        ANYHOW,
        chunked=True,
    ),
    "pyftpdlib": Contender(
        "python",
        in_python("pyftpdlib"),
        "FTP, not encrypted: its FTPServer as it comes, with sendfile and buffers of 64 KiB; the standard library's ftplib with"
        " blocks of 1 MiB, where it comes with 8 KiB",
        BUT_PUT_AND_FORGET,
    ),
    "asyncssh": Contender(
        "python",
        in_python("asyncssh"),
        "SFTP, its server and client as they come: the cipher first in its list, chacha20-poly1305; requests of up to 4 MiB, at"
        " least 16 outstanding; window 2 MiB, SSH packets of 32 KiB; no compression",
    ),
    "openssh": Contender(
        "native",
        lambda folders, _: openssh(folders),
        "SFTP, its sshd and sftp as they come: the cipher first in their list, chacha20-poly1305; requests of 32 KiB, 64"
        " outstanding; no compression; scp does the same",
    ),
    "fastframe": Contender(
        "ours",
        ours,
        f"fastframe serve files --write --max-payload {MAX_PAYLOAD}, and its client in Python; chunks of its own choice"
        " unless told; the copy was compared, synced and renamed before it is said to be there",
        BUT_PUT_AND_FORGET,
        chunked=True,
        digests=DIGESTS,
    ),
}


def chosen(parts: list[str]) -> dict[str, Contender]:
    """Return whom `parts` name and the one to compare with, all without any; raise ValueError for a part that names nobody."""
    return choose(CONTENDERS, parts)


def missing_digests(names: list[str]) -> Iterator[str]:
    """Yield why a digest of ours cannot take part, a line each."""
    for name in names:
        for digest in CONTENDERS[name].digests:
            if digest not in digests.available():
                yield f"{name} {digest}: its package is not installed; the extra `servers` brings it"


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of what `names` run on, as far as they can be asked."""
    found: dict[str, str] = {}
    for package in ("asyncssh", "pyftpdlib"):
        if package in names:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(package)
    for name, command in (("socat", ["socat", "-V"]), ("openssh", ["ssh", "-V"])):
        if name in names and shutil.which(command[0]):
            said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
            found[name] = next((line for line in said.splitlines() if "version" in line or "OpenSSH" in line), "").strip()
    return found
