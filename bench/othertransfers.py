"""Programs that others wrote, made to carry one file after the other: socat, and OpenSSH's sshd and sftp.

socat carries one file and ends, so a transfer is two new ones on a connection that stands: 2 to 4 ms of the figure are their
start. sftp stays, and takes commands. sshd has a port, a key and a configuration of its own.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from .accounts import Use, peak
from .entry import BenchError, LeftOutError
from .pairs import PATIENCE, Folders, Job, Pair, Runs, Turn, exchange, talking
from .processes import ending

LOOK_SECONDS: Final = 0.01  # between two looks at the memory of a socat, which takes all that it needs at its start
SBIN: Final = ("/usr/sbin", "/usr/local/sbin", "/sbin")  # where sshd is, and where a user's PATH does not go
SSHD_CONFIG: Final = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""
SSH_OPTIONS: Final = ("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
READY: Final = "Server listening on "


def program(name: str) -> str:
    """Return the path of a program, or raise `LeftOutError`."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *SBIN]))
    if path is None:
        raise LeftOutError(f"there is no {name} here")
    return path


# socat


@contextlib.contextmanager
def socat(folders: Folders) -> Iterator[Runs]:
    """Two new `socat -u -b 1048576` for each transfer, one at each end."""
    yield Socat([program("socat"), "-u", "-b", str(1 << 20)], folders)


class Socat:
    def __init__(self, command: list[str], folders: Folders) -> None:
        self.command = command
        self.folders = folders

    def run(self, job: Job) -> Turn:
        copy = os.devnull if job.sink == "null" else self.folders.copy(job)
        with contextlib.ExitStack() as stack:
            start = time.perf_counter_ns()
            receiving, sending = connected()
            receiver = self.start(stack, receiving, f"FD:{receiving.fileno()}", f"OPEN:{copy},creat,trunc,wronly")
            sender = self.start(stack, sending, f"OPEN:{self.folders.source(job)},rdonly", f"FD:{sending.fileno()}")
            peaks = watch([sender, receiver])
            ns = time.perf_counter_ns() - start
            uses = [Use(spent, most, most) for spent, most in zip(map(ended, (sender, receiver)), peaks, strict=True)]
        server, client = uses if job.direction == "get" else reversed(uses)
        return Turn(ns, server, client)

    def start(self, stack: contextlib.ExitStack, connection: socket.socket, source: str, sink: str) -> subprocess.Popen[bytes]:
        with connection:
            process = subprocess.Popen([*self.command, source, sink], stderr=subprocess.PIPE, pass_fds=[connection.fileno()])
        stack.enter_context(process)
        stack.enter_context(ending(process))
        return process


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


def watch(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    """Wait until all have ended, and leave them to be waited for; return the most memory that was seen of each."""
    peaks = [0] * len(processes)
    running = [os.pidfd_open(process.pid) for process in processes]
    end = time.monotonic() + PATIENCE
    try:
        while running:
            for fd in select.select(running, [], [], LOOK_SECONDS)[0]:
                running.remove(fd)
                os.close(fd)
            peaks = [max(most, peak(process.pid)) for most, process in zip(peaks, processes, strict=True)]
            if time.monotonic() > end:
                raise BenchError(f"not done after {PATIENCE:g} s")
    finally:
        for fd in running:
            os.close(fd)
    return peaks


def ended(process: subprocess.Popen[bytes]) -> int:
    """Return the nanoseconds on the processor of one that has ended; raise `BenchError` if it failed."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        assert process.stderr is not None
        raise BenchError((process.stderr.read().decode().strip().splitlines() or [f"status {process.returncode}"])[-1])
    return round((usage.ru_utime + usage.ru_stime) * 1e9)


# OpenSSH


@contextlib.contextmanager
def openssh(folders: Folders) -> Iterator[Runs]:
    """Run sshd with a key of its own, and one sftp that is connected to it, both as they come."""
    with tempfile.TemporaryDirectory(prefix="fastframe-bench-") as folder:
        key = f"{folder}/key"
        command = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key]
        subprocess.run(command, check=True)
        with sshd(folder) as (server, port):
            options = [word for option in (f"IdentityFile={key}", *SSH_OPTIONS) for word in ("-o", option)]
            address = f"{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1"
            batch = [program("sftp"), "-q", "-F", "none", *options, "-P", str(port), "-b", "-", address]
            with talking(batch, {}) as (process, complaints):
                yield Pair(server, Sftp(process, complaints, folders))


@contextlib.contextmanager
def sshd(folder: str, *settings: str) -> Iterator[tuple[int, int]]:
    """Run sshd with lines of configuration besides ours; yield the number of its process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]  # free now; it cannot choose one itself
    config = Path(folder, "config")
    config.write_text("\n".join([SSHD_CONFIG.format(port=port, folder=folder), *settings]) + "\n")
    command = [program("sshd"), "-D", "-e", "-f", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, ending(process):
        assert process.stderr is not None
        line = process.stderr.readline()
        if not line.startswith(READY):
            raise LeftOutError(f"sshd: {line.strip()}")
        yield process.pid, port


class Sftp:
    """OpenSSH's sftp, which takes commands; it says where it is when the one before is done."""

    def __init__(self, process: subprocess.Popen[bytes], complaints: IO[str], folders: Folders) -> None:
        self.process = process
        self.pid = process.pid
        self.complaints = complaints
        self.folders = folders

    def transfer(self, job: Job) -> int:
        source, copy = self.folders.source(job), self.folders.copy(job)
        start = time.perf_counter_ns()
        command = f'{job.direction} "{source}" "{copy}"\nlpwd'
        exchange(self.process, command, "Local working directory", self.complaints)
        return time.perf_counter_ns() - start
