"""Who competes in the exec benchmark: what runs a command, from the same process or another, and how it is set up.

Each is set up as its own documentation advises, and says so in its `does`. Only OpenSSH and ours ask for a proof of who it is,
and SSH encrypts besides. None but ours limits what the command may do.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple, Protocol

from .entry import BenchError, choose, installed
from .execends import Answer, Job
from .othertransfers import SSH_OPTIONS, program, sshd
from .pairs import READY, exchange, hear, talking
from .processes import serving

# "base": what they are compared with. "local": the command is the client's own child. "ours": this project's server.
Kind = Literal["base", "local", "ours", "remote"]
Environment = Mapping[str, str]
TOKEN: Final = "bench " + "b" * 32 + "\n"  # ours lets nobody in without one
LIST: Final = """\
[commands.true]
program = "/bin/true"
{0}
[commands.head]
program = "/usr/bin/head"
arguments = "any"
{0}
"""
ENDS: Final = [sys.executable, "-m", "fastframe.bench.otherexecs"]


class Runs(Protocol):
    """A contender that has been started. `do` raises `BenchError` if a command is not run as it should be, in one line."""

    def do(self, job: Job, /) -> Answer: ...


class Client:
    """A process that does one job after the other."""

    def __init__(self, process: subprocess.Popen[bytes], complaints: IO[str]) -> None:
        self.process = process
        self.complaints = complaints

    def do(self, job: Job) -> Answer:
        answer: dict[str, Any] = json.loads(exchange(self.process, json.dumps(job), "{", self.complaints))
        if "error" in answer:
            raise BenchError(answer["error"])
        return Answer(**answer)


class Crew:
    """Processes of which each runs one command at a time: several at once are not held up by one interpreter's lock."""

    def __init__(self, members: list[Client]) -> None:
        self.members = members

    def do(self, job: Job) -> Answer:
        alone = job._replace(at_once=1)
        with ThreadPoolExecutor(job.at_once) as pool:
            answers = list(pool.map(lambda member: member.do(alone), self.members[: job.at_once]))
        return Answer(max(answer.ns for answer in answers), [ns for answer in answers for ns in answer.runs])


Start = Callable[[int, Environment], AbstractContextManager[Runs]]


class Contender(NamedTuple):
    """`start` runs it, with as many connections as it needs for so many commands at once, or raises `LeftOutError`.

    `does` says in a line what it does.
    """

    kind: Kind
    start: Start
    does: str
    prints: bool = False  # much: the others would keep it all in memory


@contextlib.contextmanager
def client(way: str, target: str, at_once: int, environment: Environment) -> Iterator[Client]:
    with talking([*ENDS, "client", way, target, str(at_once)], environment) as (process, complaints):
        hear(process, READY, complaints)
        yield Client(process, complaints)


def crew(way: str) -> Start:
    @contextlib.contextmanager
    def start(at_once: int, environment: Environment) -> Iterator[Crew]:
        with contextlib.ExitStack() as stack:
            yield Crew([stack.enter_context(client(way, "", 1, environment)) for _ in range(at_once)])

    return start


def local(way: str) -> Start:
    return lambda at_once, environment: client(way, "", at_once, environment)


def execnet(at_once: int, environment: Environment) -> AbstractContextManager[Runs]:
    installed("execnet", ENDS)
    return client("execnet", "", at_once, environment)


def remote(way: str) -> Start:
    @contextlib.contextmanager
    def start(at_once: int, environment: Environment) -> Iterator[Client]:
        command = installed(way, [*ENDS, "serve", way])
        with serving(command, environment) as server, client(way, str(server.port), at_once, environment) as each:
            yield each

    return start


@contextlib.contextmanager
def openssh(at_once: int, environment: Environment) -> Iterator[Client]:
    """Run sshd, and a master that is connected to it."""
    with tempfile.TemporaryDirectory(prefix="fastframe-bench-") as folder:
        key, control = f"{folder}/key", f"{folder}/control"
        subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        with sshd(folder, f"SetEnv HOME={folder}") as (_, port):  # no .bashrc of whoever runs this: one took 170 ms
            options = [word for option in (f"IdentityFile={key}", *SSH_OPTIONS, *READY_OPTIONS) for word in ("-o", option)]
            address = f"{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1"
            master = [program("ssh"), "-F", "none", *options, "-p", str(port), "-M", "-S", control, "-N", address]
            with talking(master, environment) as (process, complaints):
                hear(process, READY, complaints)
                with client("openssh", control, at_once, environment) as each:
                    yield each


def ours(entry: str) -> Start:
    """Run our server with a list of two programs, which have `entry` in their entries."""
    serve = [sys.executable, "-m", "fastframe", "serve", "exec", "--port", "0"]
    serve += ["--allow-root"] if os.geteuid() == 0 else []

    @contextlib.contextmanager
    def start(at_once: int, environment: Environment) -> Iterator[Client]:
        with tempfile.TemporaryDirectory(prefix="fastframe-bench-") as folder, contextlib.ExitStack() as stack:
            config = private(Path(folder, "list.toml"), LIST.format(entry))
            tokens = private(Path(folder, "tokens"), TOKEN)
            server = stack.enter_context(serving([*serve, "--config", config, "--tokens", tokens], environment))
            yield stack.enter_context(client("fastframe", f"{server.port}:{tokens}", at_once, environment))

    return start


def private(path: Path, text: str) -> str:
    path.touch(0o600)
    path.write_text(text)
    return str(path)


READY_OPTIONS: Final = ("PermitLocalCommand=yes", f"LocalCommand=echo {READY}")  # the master says it when its socket is there

# The first is the one that all are compared with.
CONTENDERS: Final[dict[str, Contender]] = {
    "posix_spawn": Contender(
        "base",
        crew("posix_spawn"),
        "os.posix_spawn and waitpid, what is printed goes to /dev/null; a process for each at once",
    ),
    "pipes": Contender(
        "base",
        crew("pipes"),
        "os.posix_spawn with two pipes, which are read to their end, and waitpid; a process for each at once",
        prints=True,
    ),
    "subprocess": Contender("local", local("subprocess"), "subprocess.run with captured output; a thread for each at once"),
    "asyncio": Contender(
        "local",
        local("asyncio"),
        "asyncio.create_subprocess_exec and communicate; asyncio's loop with the child watcher that it comes with,"
        f" {'pidfd' if sys.version_info >= (3, 12) else 'a thread for each child'} in this Python; a task for each at once",
    ),
    "execnet": Contender(
        "remote",
        execnet,
        "its popen gateways, a Python each at two pipes, where a loop calls subprocess.run; a gateway for each at once",
    ),
    "rpyc": Contender(
        "remote",
        remote("rpyc"),
        "its classic mode with the threaded server, without authentication; subprocess.run is called there; a connection for"
        " each at once",
    ),
    "asyncssh": Contender(
        "remote",
        remote("asyncssh"),
        "its SSH server and client as they come, without authentication; the documentation's example of redirection; one"
        " connection, a session for each command",
        prints=True,
    ),
    "openssh": Contender(
        "remote",
        openssh,
        "its sshd as it comes, the login shell without the user's startup files; one ssh as control master, a new one beside it"
        " for each command",
        prints=True,
    ),
    "fastframe/plain": Contender(
        "ours",
        ours("sandbox = false"),
        "fastframe serve exec, an entry with sandbox = false, and its client in Python; a connection for each at once",
        prints=True,
    ),
    "fastframe/sandbox": Contender(
        "ours",
        ours(""),
        "fastframe serve exec, an entry as it comes, in its sandbox, and its client in Python; a connection for each at once",
        prints=True,
    ),
}


def chosen(parts: list[str]) -> dict[str, Contender]:
    """Return whom `parts` name and the one to compare with, all without any; raise ValueError for a part that names nobody."""
    return choose(CONTENDERS, parts)


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of what `names` run on."""
    found: dict[str, str] = {}
    for package in ("execnet", "rpyc", "asyncssh"):
        if package in names:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(package)
    if "openssh" in names:
        found["openssh"] = subprocess.run([program("ssh"), "-V"], stderr=subprocess.PIPE, text=True, check=False).stderr.strip()
    return found
