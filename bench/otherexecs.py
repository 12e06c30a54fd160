"""Both ends of what runs commands from another process than the one that asks: ours, SSH, and two that call Python there.

    python -m fastframe.bench.otherexecs client WAY TARGET AT_ONCE
    python -m fastframe.bench.otherexecs serve asyncssh|rpyc

A server prints `listening on 127.0.0.1:PORT`. What a client's TARGET is, its adapter says.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from .execends import BLOCK, LOCAL, AsyncRun, Command, Outcome, Run, Tasks, Threads, main, pipes
from .transferends import HOST, USER, say_where

SSH: Final = "/usr/bin/ssh"
COMMAND_LOOP: Final = """\
import subprocess
for command in channel:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    channel.send((done.returncode, done.stdout, done.stderr))
"""

# OpenSSH


@contextlib.contextmanager
def openssh(control: str) -> Iterator[Run]:
    """OpenSSH's ssh, started anew for each command by os.posix_spawn, beside a master whose control socket is the target."""
    with pipes("") as local:
        yield lambda command: local([SSH, "-F", "none", "-S", control, HOST, shlex.join(command)])


# asyncssh


def serve_asyncssh() -> None:
    asyncio.run(asyncssh_server())


async def asyncssh_server() -> None:
    """Asyncssh's server as it comes, without authentication; a command is a subprocess.Popen whose streams are redirected."""
    asyncssh = importlib.import_module("asyncssh")

    class Anybody(asyncssh.SSHServer):  # type: ignore[misc, name-defined]  # a class of a module imported by name
        def begin_auth(self, username: str) -> bool:  # noqa: ARG002
            return False

    async def execute(process: Any) -> None:
        """Do as the documentation's example of redirection, but lose no stderr behind the end of stdout, nor the status."""
        pipe = subprocess.PIPE
        command = shlex.split(process.command)
        local = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: ASYNC220  as the example does
        await process.redirect(stdin=local.stdin, stdout=local.stdout, stderr=local.stderr, send_eof=False)
        await process.stdout.drain()
        await process.stderr.drain()
        process.exit(local.wait())

    listener = await asyncssh.listen(
        HOST,
        0,
        server_factory=Anybody,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=execute,
        encoding=None,
    )
    say_where(listener.get_port())
    await listener.wait_closed()


@contextlib.asynccontextmanager
async def asyncssh_session(port: str, at_once: int) -> AsyncIterator[list[AsyncRun]]:
    """Asyncssh at both ends, a session for each command on one connection to the port."""
    asyncssh = importlib.import_module("asyncssh")
    options = {"known_hosts": None, "client_keys": None, "config": None, "agent_path": None, "username": USER}

    async with asyncssh.connect(HOST, int(port), **options) as connection:

        async def run(command: Command) -> Outcome:
            async with connection.create_process(shlex.join(command), encoding=None) as process:
                sizes = [await size_of(process.stdout), await size_of(process.stderr)]
                await process.wait()
                return Outcome(process.exit_status, *sizes)

        yield [run] * at_once


async def size_of(stream: Any) -> int:
    size = 0
    while some := await stream.read(BLOCK):
        size += len(some)
    return size


# ours


@contextlib.asynccontextmanager
async def fastframe(target: str, at_once: int) -> AsyncIterator[list[AsyncRun]]:
    """Our client in Python, with a connection for each task; the target is PORT:FILE, a file with a token."""
    exec_client = importlib.import_module("fastframe.servers.exec_client")
    port, _, tokens = target.partition(":")
    token = token_of(tokens)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(exec_client.connect(HOST, int(port), token=token)) for _ in range(at_once)]
        yield [functools.partial(run_by, client) for client in clients]


def token_of(path: str) -> tuple[str, str]:
    key, token = Path(path).read_text().split()
    return key, token


async def run_by(client: Any, command: Command) -> Outcome:
    sizes = {"stdout": 0, "stderr": 0}
    async with client.start(Path(command[0]).name, *command[1:]) as running:
        while pieces := await running.read():
            for stream, data in pieces:
                sizes[stream] += len(data)
        return Outcome(running.result.returncode, **sizes)


# those that call Python


@contextlib.contextmanager
def execnet(_: str) -> Iterator[Run]:
    """A gateway of execnet for each thread, which is a Python on two pipes; a loop there gives commands to subprocess.run."""
    group = importlib.import_module("execnet").Group()
    channel = group.makegateway("popen").remote_exec(COMMAND_LOOP)

    def run(command: Command) -> Outcome:
        channel.send(command)
        status, out, err = channel.receive()
        return Outcome(status, len(out), len(err))

    try:
        yield run
    finally:
        group.terminate(timeout=1.0)


def serve_rpyc() -> None:
    """The threaded server of rpyc in its classic mode: whoever connects uses the modules there."""
    core, servers = importlib.import_module("rpyc.core"), importlib.import_module("rpyc.utils.server")
    server = servers.ThreadedServer(core.SlaveService, hostname=HOST, port=0)
    say_where(server.port)
    server.start()


@contextlib.contextmanager
def rpyc(port: str) -> Iterator[Run]:
    """The classic mode of rpyc, with a connection to the port for each thread: subprocess.run of the server's modules."""
    classic = importlib.import_module("rpyc.utils.classic")
    with contextlib.closing(classic.connect(HOST, int(port))) as connection:
        remote_run = connection.modules.subprocess.run

        def run(command: Command) -> Outcome:
            # a tuple goes there by value, a list would be asked for its items one by one
            done = remote_run(tuple(command), stdin=subprocess.DEVNULL, capture_output=True)
            return Outcome(done.returncode, len(done.stdout), len(done.stderr))

        yield run


WAYS: Final[dict[str, Threads | Tasks]] = {
    **LOCAL,
    "execnet": Threads(execnet),
    "rpyc": Threads(rpyc),
    "asyncssh": Tasks(asyncssh_session),
    "openssh": Threads(openssh),
    "fastframe": Tasks(fastframe),
}
SERVERS: Final[dict[str, Callable[[], None]]] = {"asyncssh": serve_asyncssh, "rpyc": serve_rpyc}


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "serve":
        SERVERS[rest[0]]()
    else:
        main(rest, WAYS)
