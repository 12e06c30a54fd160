"""The sandbox of a command: what it may not do, whoever it runs as; no privileges are needed to have it.

In go the files and directories that a command may read or write, and whether it may use the network. One thread of a process
enters, for good; everything that this thread starts from then on is inside, and the process's other threads stay outside.
Inside there are no capabilities and no way to gain any, Landlock refuses what is not granted, and a filter of system calls
refuses what Landlock knows nothing of.

The filter also shows attempts to those outside: `answer` says what was refused, so that a user reads "denied: network" and
not only a program's own confused message. Naming is all that it does, with one exception: chmod, which Landlock knows nothing
of, it does for the command, where the command may write. What allows or refuses all else that is done to files is Landlock.

Linux only, and each part only where the kernel has it: `active` says which those are.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import threading
from collections.abc import Iterable
from typing import Final

from . import landlock, libc, memory, seccomp
from .attempts import Grants

# What programs need to start, and nothing that is private to a machine: no /etc as a whole, no home, no /tmp. Links need no
# grant, only what they lead to: /etc/alternatives is of no use to them.
SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),  # some are links into /usr, some not
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/locale.alias", "/etc/nsswitch.conf"),
    # Certificates of authorities, which are public, and OpenSSL's settings, without which it does not even load; no keys.
    *(
        "/etc/ssl/certs",
        "/etc/ssl/openssl.cnf",
        "/etc/pki/tls/certs",
        "/etc/pki/tls/openssl.cnf",
        "/etc/pki/ca-trust/extracted",
    ),
    "/etc/crypto-policies",
    "/proc",  # inside of Landlock only names and numbers of other processes are readable there, no environment and no memory
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"),
)
NETWORK: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols")
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 38, 39, 47
_CLEAR_ALL: Final = 4  # PR_CAP_AMBIENT_CLEAR_ALL
# Version 3, this thread; effective, permitted, inheritable.
_NO_CAPABILITIES: Final = (struct.pack("Ii", 0x20080522, 0), bytes(24))


def active() -> list[str]:
    """Say what of all this the running system has, in words for a log: nothing but on Linux."""
    if sys.platform != "linux":
        return []
    abi = landlock.version()
    parts = {
        "no-new-privs": libc.LIBRARY.prctl(_PR_GET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (0, 0, 0, 0))) >= 0,
        f"landlock {abi}": abi > 0,
        "seccomp": seccomp.available(),
    }
    return [name for name, there in parts.items() if there]


class Confinement:
    """What one command may do. Make it in one thread, `enter` it in another, and `answer` in the first.

    The thread that is inside has nothing to do but os.posix_spawn, and asks for no file to be opened in the child
    (POSIX_SPAWN_OPEN): posix_spawn holds the interpreter until the program runs, and whoever is to answer needs it. What Python
    opens there, as a finaliser may that happens to run, lets go of the interpreter, and can be answered.
    """

    def __init__(self, read: Iterable[str], write: Iterable[str], network: bool, report_opens: bool = True) -> None:
        """Allow to read, list and execute what is at or below `read` and SYSTEM, and everything at or below `write`.

        `report_opens`: have files named that were refused, at a price for each that is opened. Raise OSError with the path if
        one of `read` and `write` cannot be opened.
        """
        self.listener = -1
        self._network = network
        self._landlocked = landlock.version() > 0
        self._ruleset = landlock.create(network) if self._landlocked else -1
        self._report = report_opens and self._landlocked
        self._grants = Grants()
        if self._ruleset >= 0:
            try:
                self._grant(read, write)
            except BaseException:
                self.close()
                raise

    def _grant(self, read: Iterable[str], write: Iterable[str]) -> None:
        system = SYSTEM + NETWORK if self._network else SYSTEM
        wanted = ((write, landlock.WRITE), (read, landlock.READ))
        for paths, rights in wanted:
            for path in paths:
                self._grants.add(landlock.grant(self._ruleset, path, rights), rights)
        for paths, rights in ((system, landlock.READ), (DEVICES, landlock.DEVICE)):
            for path in landlock.grant_what_exists(self._ruleset, paths, rights):
                self._grants.add(path, rights)

    def enter(self) -> None:
        """Confine the calling thread, and what it starts, for good; `listener` is to be polled from now on. Raise OSError.

        The whole process can no longer be traced, nor dump its memory: the thread is in reach of what it starts. Nor does the
        process give memory back, see `memory.hold`.
        """
        memory.hold()
        libc.prctl(_PR_SET_DUMPABLE, 0)
        libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
        libc.checked(libc.LIBRARY.capset(*_NO_CAPABILITIES))
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if self._ruleset >= 0:
            landlock.restrict(self._ruleset)
            os.close(self._ruleset)
            self._ruleset = -1
        if seccomp.available():
            self._filter()

    def _filter(self) -> None:
        keeper = os.getpid(), threading.get_native_id()

        def install(listen: bool) -> int:
            wanted = seccomp.program(
                network=self._network, files=self._report, modes=self._landlocked, listen=listen, keeper=keeper
            )
            return seccomp.install(wanted, listen=listen)

        try:
            self.listener = install(listen=True)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            install(listen=False)  # nothing is named then, and chmod is not looked at

    def answer(self) -> str:
        """Answer what `listener` is readable for: return "network", "read" or "write" if it is refused, "" if not.

        It does not block, and raises nothing that a process inside could cause. A file that does not exist is no refusal. Once
        `listener` hangs up, the thread and all that it started have ended.
        """
        attempt = seccomp.receive(self.listener)
        if attempt is None:
            return ""
        if attempt.call == "socket":
            seccomp.refuse(self.listener, attempt, errno.EACCES)
            return "network"
        if attempt.call in seccomp.MODES:
            error, denied = self._grants.change_mode(attempt)
            seccomp.refuse(self.listener, attempt, error)
            return denied
        denied = ""
        try:
            denied = self._grants.refuses(attempt)
            if denied and not seccomp.waits(self.listener, attempt):
                denied = ""  # what was read may have been another process's
        except (OSError, ValueError):
            pass  # gone, or nonsense, which the kernel will say itself
        finally:
            seccomp.let_pass(self.listener, attempt)
        return denied

    @property
    def refused(self) -> str:
        """The file or directory of the last "read" or "write" that `answer` returned, as the kernel calls it."""
        return os.fsdecode(self._grants.refused)

    def close(self) -> None:
        """Give the descriptors back; what then waits for an answer fails with ENOSYS."""
        for descriptor in (self._ruleset, self.listener):
            if descriptor >= 0:
                os.close(descriptor)
        self._ruleset = self.listener = -1
