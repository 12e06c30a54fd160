"""What went wrong with an operation, as a peer is told: a code from one list, and a sentence for a person.

The sentence names what the peer named, never a path of the server, and nothing of how the program is made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final

# Every code, with what it tells a client. docs/protocol.md has the same list.
CODES: Final = {
    "bad_message": "the bytes are no message of this protocol, or one that has no place here; the connection ends",
    "bad_request": "the arguments of an operation are missing, of the wrong type, or do not go together",
    "unsupported": "this server does not have that operation, digest or version",
    "unauthenticated": "the credential is unknown or wrong; the connection ends",
    "busy": "somebody else is doing this now, or there is no room for more: try again later",
    "going_away": "the server is ending",
    "cancelled": "the operation was cancelled by the client",
    "timeout": "the operation took longer than it may",
    "too_large": "a size is over the server's limit",
    "bad_name": "the name is empty, too long, absolute, or has a part that no file here may have",
    "outside_root": "the name leads out of what is served",
    "not_found": "there is nothing of that name",
    "not_a_file": "it is no regular file",
    "not_a_directory": "it is no directory",
    "exists": "there is a file of that name, and it was not asked to be replaced",
    "name_taken": "somebody in the room has that name, or one that looks the same",
    "name_conflict": "there is a name that differs only in case or in its Unicode form",
    "read_only": "the server does not take uploads, or its file system is read-only",
    "permission_denied": "the server itself may not do that",
    "disk_full": "the server's disk is full",
    "quota_exceeded": "the server's quota is used up",
    "io_error": "the server's disk failed",
    "changed": "the file changed while it was read",
    "not_same_file": "what is there is not the beginning of that file: start again from its first byte",
    "wrong_size": "the upload is longer or shorter than was said",
    "wrong_digest": "what arrived is not what was sent",
    "not_allowed": "the server's list does not allow that to this client",
    "not_started": "the program could not be started; the server's log has the reason",
    "internal": "the server failed; its log has more",
}
LONGEST_NAME: Final = 255  # characters in an error's text: what a peer sent may be as long as a frame
ERRNOS: Final = {
    errno.ENOENT: "not_found",
    errno.ENXIO: "not_a_file",
    errno.EISDIR: "not_a_file",
    errno.ENOTDIR: "not_a_directory",
    errno.EEXIST: "exists",
    errno.ENOTEMPTY: "exists",
    errno.ENAMETOOLONG: "bad_name",
    errno.EILSEQ: "bad_name",
    errno.EINVAL: "bad_name",
    errno.EXDEV: "outside_root",
    errno.ELOOP: "outside_root",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.EROFS: "read_only",
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "quota_exceeded",
    errno.EFBIG: "too_large",
    errno.EMFILE: "busy",
    errno.ENFILE: "busy",
    errno.EBUSY: "busy",
    errno.EAGAIN: "busy",
    errno.ETXTBSY: "busy",
    errno.EIO: "io_error",
}


class OperationError(Exception):
    """An operation failed: `code` is one of `CODES`, `message` a sentence for a person. Raised on both sides."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message or CODES.get(code, "")

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


def about(name: str, code: str) -> OperationError:
    """Return what a peer is told of what it called `name`."""
    return OperationError(code, f"{_shown(name)}: {CODES[code]}")


def from_oserror(error: OSError, name: str) -> OperationError:
    """Return what a peer is told of an error that came with what it called `name`."""
    return about(name, ERRNOS.get(error.errno or 0, "internal"))


@contextlib.contextmanager
def told(name: str) -> Iterator[None]:
    """Turn an OSError of the body into what the peer is told that asked for `name`."""
    try:
        yield
    except OSError as error:
        raise from_oserror(error, name) from error


def in_words(error: OSError) -> str:
    """Return what the kernel calls an error. asyncio's text has addresses besides, and all errors if it tried several."""
    if isinstance(error, ssl.SSLError | socket.gaierror):
        return error.strerror or str(error)
    numbers = re.findall(r"\[Errno ([0-9]+)\]", str(error)) if error.errno is None else [error.errno]
    return ", ".join(dict.fromkeys(os.strerror(int(number)) for number in numbers)) or str(error)


def _shown(name: str) -> str:
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
    return shown.encode(errors="backslashreplace").decode() or "the root"
