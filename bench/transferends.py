"""Servers and clients in Python that carry a file: `python -m fastframe.bench.transferends serve|client WAY ...`.

Each function that sends or receives says what it does, and configured how.

A server prints `listening on 127.0.0.1:PORT`. A client says `ready`, reads jobs, a line of JSON each, and answers each with
how long it took. It connects anew for each, before the clock runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import importlib
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from .pairs import READY, RECEIVED, Folders, Job

HOST: Final = "127.0.0.1"
BLOCK: Final = 1 << 20
HEAD: Final = 512  # bytes that announce a job, filled up with spaces
DONE: Final = b"!"
PATIENCE: Final = 60.0  # seconds without a byte
USER: Final = "bench"


def main(argv: list[str]) -> None:
    role, way, *rest = argv
    if role == "serve":
        SERVERS[way](Path(rest[0]))
    else:
        for module in PACKAGES.get(way, ()):
            importlib.import_module(module)
        print(READY, flush=True)
        answer_jobs(CLIENTS[way], int(rest[0]), Path(rest[1]))


def say_where(port: int) -> None:
    print(f"listening on {HOST}:{port}", flush=True)


def answer_jobs(transfer: Callable[[int, Folders, Job], int], port: int, own: Path) -> None:
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"ns": transfer(port, Folders(own, own), Job(*json.loads(line)))}
        except Exception as error:  # whatever it is, the bench says it
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        print(json.dumps(answer), flush=True)


# the limit, and the loop


def serve_plainly(served: Path, send: Any, receive: Any) -> None:
    with socket.create_server((HOST, 0)) as listener:
        say_where(listener.getsockname()[1])
        while True:
            connection = listener.accept()[0]
            with connection, contextlib.suppress(OSError):  # a client that has gone: the next one may stay
                connection.settimeout(PATIENCE)
                job = Job(*json.loads(connection.recv(HEAD, socket.MSG_WAITALL)))
                if job.direction == "get":
                    send(connection, served / job.name, job)
                else:
                    receive(connection, served / RECEIVED, job)
                    connection.sendall(DONE)


def transfer_plainly(port: int, folders: Folders, job: Job, send: Any, receive: Any) -> int:
    with socket.create_connection((HOST, port), PATIENCE) as connection:
        start = time.perf_counter_ns()
        connection.sendall(json.dumps(job).encode().ljust(HEAD))
        if job.direction == "get":
            receive(connection, folders.copy(job), job)
        else:
            send(connection, folders.source(job), job)
            if connection.recv(1) != DONE:
                raise ConnectionError("the server has not received it all")
        return time.perf_counter_ns() - start


def send_file(connection: socket.socket, path: Path, job: Job) -> None:
    """`os.sendfile` until all is sent: nothing is done that need not be."""
    with path.open("rb") as file:
        sent = 0
        connection.settimeout(None)  # a socket with a timeout does not block, and os.sendfile does not wait by itself
        while sent < job.size:
            sent += os.sendfile(connection.fileno(), file.fileno(), sent, job.size - sent)


def send_chunks(connection: socket.socket, path: Path, job: Job) -> None:
    """What one writes first: read a chunk, `sendall` it."""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(job.chunk):
            connection.sendall(chunk)


def receive_into(connection: socket.socket, path: Path, job: Job) -> None:
    """`recv_into` the same 1 MiB, and write what came."""
    view = memoryview(bytearray(BLOCK))
    left = job.size
    with sink(path, job) as file:
        while left:
            left -= (received := some(connection.recv_into(view, min(left, BLOCK))))
            if file:
                file.write(view[:received])


def receive_chunks(connection: socket.socket, path: Path, job: Job) -> None:
    """What one writes first: `recv` a chunk, write it."""
    left = job.size
    with sink(path, job) as file:
        while left:
            chunk = connection.recv(min(left, job.chunk))
            left -= some(len(chunk))
            if file:
                file.write(chunk)


@contextlib.contextmanager
def sink(path: Path, job: Job) -> Iterator[BinaryIO | None]:
    """Yield the file to write to, or None to forget what comes."""
    if job.sink == "null":
        yield None
        return
    with path.open("wb", buffering=0) as file:
        yield file


def some(received: int) -> int:
    if not received:
        raise ConnectionError("the other end has hung up")
    return received


# FTP


def serve_ftp(served: Path) -> None:
    """FTP by pyftpdlib's server as it comes: sendfile, buffers of 64 KiB, one process with one loop."""
    authorizers, handlers, servers = (importlib.import_module(f"pyftpdlib.{n}") for n in ("authorizers", "handlers", "servers"))
    logging.basicConfig(level=logging.WARNING)  # it writes a line for each transfer
    authorizer = authorizers.DummyAuthorizer()
    authorizer.add_user(USER, USER, str(served), perm="elrw")
    handler = type("Handler", (handlers.FTPHandler,), {"authorizer": authorizer})
    server = servers.FTPServer((HOST, 0), handler)
    say_where(server.socket.getsockname()[1])
    server.serve_forever()


def transfer_ftp(port: int, folders: Folders, job: Job) -> int:
    """FTP by the standard library's ftplib with blocks of 1 MiB, binary, passive as it comes."""
    with ftplib.FTP(timeout=PATIENCE) as ftp:  # noqa: S321  that is what it is measured for
        ftp.connect(HOST, port)
        ftp.login(USER, USER)
        start = time.perf_counter_ns()
        if job.direction == "put":
            with folders.source(job).open("rb") as file:
                ftp.storbinary(f"STOR {RECEIVED}", file, BLOCK)
        else:
            with sink(folders.copy(job), job) as file:
                ftp.retrbinary(f"RETR {job.name}", file.write if file else lambda _: None, BLOCK)
        return time.perf_counter_ns() - start


# SFTP


def serve_sftp(served: Path) -> None:
    asyncio.run(sftp_server(served))


async def sftp_server(served: Path) -> None:
    """SFTP by asyncssh's server as it comes, in a folder; nobody has to prove who he is."""
    asyncssh = importlib.import_module("asyncssh")

    class Anybody(asyncssh.SSHServer):  # type: ignore[misc, name-defined]  # a class of a module imported by name
        def begin_auth(self, username: str) -> bool:  # noqa: ARG002
            return False

    listener = await asyncssh.listen(
        HOST,
        0,
        server_factory=Anybody,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(served)),
    )
    say_where(listener.get_port())
    await listener.wait_closed()


def transfer_sftp(port: int, folders: Folders, job: Job) -> int:
    return asyncio.run(sftp_transfer(port, folders, job))


async def sftp_transfer(port: int, folders: Folders, job: Job) -> int:
    """SFTP by asyncssh's client as it comes: no compression, encrypted, as many requests outstanding as it likes."""
    asyncssh = importlib.import_module("asyncssh")
    options = {"known_hosts": None, "client_keys": None, "config": None, "agent_path": None, "username": USER}
    async with asyncssh.connect(HOST, port, **options) as connection, connection.start_sftp_client() as client:
        start = time.perf_counter_ns()
        if job.direction == "get":
            await client.get(job.name, folders.copy(job))
        else:
            await client.put(folders.source(job), RECEIVED)
        return time.perf_counter_ns() - start


# ours


def transfer_ours(port: int, folders: Folders, job: Job) -> int:
    return asyncio.run(our_transfer(port, folders, job))


async def our_transfer(port: int, folders: Folders, job: Job) -> int:
    """Our client in Python, on a connection to `fastframe serve files`; frames as large as it likes unless told."""
    files_client = importlib.import_module("fastframe.servers.files_client")
    options: dict[str, Any] = {"digest": job.digest} | ({"block": job.chunk} if job.chunk else {})
    async with files_client.connect(HOST, port) as client:
        start = time.perf_counter_ns()
        if job.direction == "put":
            await client.put(folders.source(job), RECEIVED, **options)
        elif job.sink == "file":
            await client.get(job.name, folders.copy(job), **options)
        else:
            await client.get_into(job.name, Forgetful(), files_client.Manner(**options))
        return time.perf_counter_ns() - start


class Forgetful:
    """A sink of our client that drops what it gets."""

    def write(self, chunks: list[memoryview]) -> None:
        pass


PACKAGES: Final = {"asyncssh": ("asyncssh",), "fastframe": ("fastframe.servers.files_client",)}  # that clients need
SERVERS: Final[dict[str, Callable[[Path], None]]] = {
    "sendfile": lambda served: serve_plainly(served, send_file, receive_into),
    "loop": lambda served: serve_plainly(served, send_chunks, receive_chunks),
    "pyftpdlib": serve_ftp,
    "asyncssh": serve_sftp,
}
CLIENTS: Final[dict[str, Callable[[int, Folders, Job], int]]] = {
    "sendfile": lambda port, folders, job: transfer_plainly(port, folders, job, send_file, receive_into),
    "loop": lambda port, folders, job: transfer_plainly(port, folders, job, send_chunks, receive_chunks),
    "pyftpdlib": transfer_ftp,
    "asyncssh": transfer_sftp,
    "fastframe": transfer_ours,
}


if __name__ == "__main__":
    main(sys.argv[1:])
