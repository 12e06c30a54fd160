r"""The allow-list of the exec server: which commands there are, for whom, with which arguments, and what they may take.

    uids = [1000]                       # who may connect over a Unix socket without a token
    [commands.logs]                     # a permit: what clients call it, and what runs
    program = "/usr/bin/tail"
    arguments = [['-n', '[0-9]{1,4}', '(app|db)\.log']]
    directory = "/var/log/app"
    read = ["."]

A client names a permit and gives arguments; the program, its directory and its limits are the list's. docs/exec.md has every
key. Arguments are matched whole, by position, by ASCII rules, and are never seen by a shell unless the list names one.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from . import arguments
from .errors import OperationError, about
from .settings import Table, read_settings
from .shells import is_free_shell, is_loader_variable

if TYPE_CHECKING:
    from .messages import Fields

EXAMPLE: Final = Path(__file__).with_name("exec-example.toml")  # one that runs on any Debian
NAME: Final = re.compile(r"[A-Za-z0-9_][\w.-]{0,63}", re.ASCII)
VARIABLE: Final = re.compile(r"[A-Za-z_]\w{0,127}", re.ASCII)
USER: Final = re.compile(r"[\w.@-]{1,64}|uid:\d{1,10}|certificate:.+", re.ASCII)  # what `ServerSession.user` can be
REPEAT: Final = "..."  # behind a pattern: any number of arguments that it matches
ANY: Final = "any"
PATH: Final = "/usr/local/bin:/usr/bin:/bin"

# OPEN has 64 KiB of JSON, with the other fields; the kernel takes 128 KiB for one string (execve(2)).
MOST_BYTES: Final = 60 * 1024  # of all arguments, each with its NUL
LONGEST_MATCHED: Final = 4096  # characters: patterns with two repeats take the square of it, and the event loop waits
LONGEST_VALUE: Final = 4096  # characters of a variable: a path, as long as one can be
MOST_PROCESSES: Final = 1 << 16
MOST_OPEN_FILES: Final = 1 << 20  # fs.nr_open, as Linux has it
LEAST_OPEN_FILES: Final = 32  # what the process that starts the command has open itself, and a few
MOST_AT_ONCE: Final = 1024
LARGEST_UID: Final = (1 << 32) - 2  # the one above means "none" (chown(2))


@dataclass(frozen=True)
class Limits:
    """What a command may take, with all the processes that it starts, before it is ended."""

    timeout: float = 60.0  # seconds from start to end
    grace: float = 2.0  # seconds from SIGTERM to SIGKILL
    cpu: int = 60  # seconds of processor time
    memory: int = 1 << 30  # bytes in memory
    file_size: int = 1 << 30  # bytes of any file that it writes
    processes: int = 64  # at once
    open_files: int = 256  # of each process
    output: int | None = None  # bytes of stdout and stderr together


@dataclass(frozen=True)
class Sandbox:
    """What a command may reach besides the system's programs and libraries: absolute paths, and whether the network."""

    read: tuple[str, ...] = ()  # and execute; the program is among them
    write: tuple[str, ...] = ()  # and read
    network: bool = False
    report_opens: bool = True  # name refused reads and writes in the result, which costs a stop at each open


@dataclass(frozen=True)
class Form:
    """One way to give arguments: a pattern for each, the last one repeated any number of times if `repeats`."""

    patterns: tuple[re.Pattern[str], ...]
    repeats: bool = False

    def fits(self, given: Sequence[str]) -> bool:
        single = len(self.patterns) - self.repeats
        if len(given) < single or (len(given) > single and not self.repeats):
            return False
        patterns = self.patterns[:single] + self.patterns[single:] * (len(given) - single)
        return all(pattern.fullmatch(argument) for pattern, argument in zip(patterns, given, strict=True))


NO_ARGUMENTS: Final = (Form(()),)


@dataclass(frozen=True)
class Permit:
    """One entry of the list."""

    name: str
    program: str  # absolute
    directory: str = "/"  # in which it runs
    umask: int = 0o077
    at_once: int = 16
    forms: tuple[Form, ...] | None = NO_ARGUMENTS  # None: any arguments
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)  # set by the list
    accepted: frozenset[str] = frozenset()  # names of variables that a client may set
    users: frozenset[str] | None = None  # None: everybody who is let in
    limits: Limits = Limits()
    sandbox: Sandbox | None = Sandbox()

    def fits(self, given: Sequence[str]) -> bool:
        """Tell whether one of the forms has these arguments."""
        return self.forms is None or any(form.fits(given) for form in self.forms)

    def argv(self, given: Sequence[str]) -> list[str]:
        """Return program and arguments, if the list allows these.

        Raise OperationError: bad_request for what no program can be given, too_large, not_allowed.
        """
        if (size := sum(map(_size, given))) > MOST_BYTES:
            raise OperationError("too_large", f"{size} bytes of arguments, and {MOST_BYTES} may be")
        if self.forms is not None and any(len(argument) > LONGEST_MATCHED for argument in given):
            raise OperationError("too_large", f"an argument has more than {LONGEST_MATCHED} characters")
        if not self.fits(given):
            raise OperationError("not_allowed", f"{self.name}: the server's list does not allow these arguments")
        return [self.program, *given]

    def variables(self, given: Fields) -> dict[str, str]:
        """Return the whole environment of the command: what every command has, the list's, then the client's.

        Raise OperationError: not_allowed for a name that the list does not accept, bad_request, too_large.
        """
        for name in given:
            if name not in self.accepted:
                raise about(name or "''", "not_allowed")
            _size(given.text(name, most=MOST_BYTES))
            if len(given[name]) > LONGEST_VALUE:
                raise OperationError("too_large", f"{name}: its value has more than {LONGEST_VALUE} characters")
        return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": self.directory, **self.environment, **given}


@dataclass(frozen=True)
class Permits:
    """The whole list. `uids`: the users of this machine who may connect over a Unix socket where no tokens are asked for."""

    commands: Mapping[str, Permit] = field(hash=False)
    uids: frozenset[int] = frozenset()

    def find(self, name: str, user: str) -> Permit:
        """Return the permit of that name for a client (`ServerSession.user`).

        Raise OperationError (not_allowed), the same one whether the name is unknown or for others only.
        """
        if not user or (user.startswith("uid:") and int(user.removeprefix("uid:")) not in self.uids):
            raise OperationError("not_allowed", "this server is not for you")
        permit = self.commands.get(name)
        if permit is None or (permit.users is not None and user not in permit.users):
            raise about(name or "''", "not_allowed")
        return permit


def read_permits(path: str) -> Permits:
    """Return the list that a file holds; raise UsageError, one line, for the first thing that is wrong with it."""
    table = read_settings(path)
    uids = table.items("uids", int)
    if not all(0 <= uid <= LARGEST_UID for uid in uids):
        table.refuse("uids", f"a user's number is from 0 to {LARGEST_UID}")
    defaults = table.table("defaults")
    limits = _limits(defaults, Limits())
    defaults.end()
    commands = {name: _permit(table, name, entry, limits) for name, entry in table.tables("commands").items()}
    table.end()
    if not commands:
        table.refuse("commands", "there is no [commands.NAME], so nothing could be run")
    named = {user for permit in commands.values() for user in permit.users or () if user.startswith("uid:")}
    uids += [int(user.removeprefix("uid:")) for user in named]
    return Permits(MappingProxyType(commands), frozenset({*uids, os.geteuid(), 0}))


def _permit(parent: Table, name: str, table: Table, limits: Limits) -> Permit:
    if NAME.fullmatch(name) is None:
        parent.refuse("commands", f"{name!r} is no name of 1 to 64 letters, digits, _, . and -")
    program = _program(table)
    directory = _path(table, "directory", table.text("directory", "/"))
    if not os.path.isdir(directory):
        table.refuse("directory", f"{directory} is no directory")
    permit = Permit(
        name=name,
        program=program,
        directory=directory,
        umask=table.parsed("umask", arguments.file_mode, 0o077),
        at_once=table.whole("at_once", 16, 1, MOST_AT_ONCE),
        forms=_forms(table),
        environment=_environment(table),
        accepted=_accepted(table),
        users=_users(table),
        limits=_limits(table, limits),
        sandbox=_sandbox(table, program, directory),
    )
    _check_shell(table, permit)
    table.end()
    return permit


def _program(table: Table) -> str:
    program = _path(table, "program", table.text("program"))
    try:
        mode = os.stat(program).st_mode
    except OSError as error:
        table.refuse("program", f"{program}: {error.strerror}")
    if not stat.S_ISREG(mode) or not os.access(program, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        table.refuse("program", f"{program} is no file that the server's user may execute")
    if mode & stat.S_IWOTH:
        table.refuse("program", f"{program} can be written by everybody")
    return program


def _path(table: Table, key: str, path: str) -> str:
    if not os.path.isabs(path):
        table.refuse(key, f"{path!r} is not an absolute path")
    return path


def _forms(table: Table) -> tuple[Form, ...] | None:
    if "arguments" not in table:
        return NO_ARGUMENTS
    given = table.union("arguments", str, list)
    if given == ANY:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(form, list) for form in given):
        table.refuse("arguments", f'it is neither "{ANY}" nor a list of forms, which are lists of patterns: [["-l", ".+"]]')
    return tuple(_form(table, form) for form in given)


def _form(table: Table, given: list[object]) -> Form:
    repeats = given[-1:] == [REPEAT]
    texts = given[:-1] if repeats else given
    if (repeats and not texts) or REPEAT in texts:
        table.refuse("arguments", f"{REPEAT!r} stands behind the last pattern of a form, or nowhere")
    return Form(tuple(_pattern(table, text) for text in texts), repeats)


def _pattern(table: Table, text: object) -> re.Pattern[str]:
    if not isinstance(text, str):
        table.refuse("arguments", f"{text!r} is not a string")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # `re` warns of what will mean something else one day
            return re.compile(text, re.ASCII)
    except (re.error, ValueError, OverflowError, RecursionError, Warning) as error:
        table.refuse("arguments", f"{text!r} is no pattern: {error}")


def _environment(table: Table) -> Mapping[str, str]:
    environment = table.strings("environment")
    _check_variables(table, "environment", environment)
    return MappingProxyType(environment)


def _accepted(table: Table) -> frozenset[str]:
    names: list[str] = table.items("accept_environment", str)
    _check_variables(table, "accept_environment", names)
    for name in filter(is_loader_variable, names):
        table.refuse("accept_environment", f"{name} would make any program do anything")
    return frozenset(names)


def _check_variables(table: Table, key: str, names: Sequence[str] | Mapping[str, str]) -> None:
    for name in names:
        if VARIABLE.fullmatch(name) is None:
            table.refuse(key, f"{name!r} is no name of a variable")


def _users(table: Table) -> frozenset[str] | None:
    if "users" not in table:
        return None
    users: list[str] = table.items("users", str)
    if not users:
        table.refuse("users", "nobody could run it")
    for user in users:
        if USER.fullmatch(user) is None:
            table.refuse("users", f'{user!r} is neither a key, nor "certificate:NAME", nor "uid:NUMBER"')
    return frozenset(users)


def _limits(table: Table, defaults: Limits) -> Limits:
    longest = arguments.LONGEST_WAIT
    return Limits(
        timeout=table.number("timeout", defaults.timeout, 0.001, longest),
        grace=table.number("grace", defaults.grace, 0, longest),
        cpu=table.whole("cpu", defaults.cpu, 1, longest),
        memory=table.size("memory", defaults.memory),
        file_size=table.size("file_size", defaults.file_size),
        processes=table.whole("processes", defaults.processes, 1, MOST_PROCESSES),
        open_files=table.whole("open_files", defaults.open_files, LEAST_OPEN_FILES, MOST_OPEN_FILES),
        output=table.size("output", defaults.output),
    )


def _sandbox(table: Table, program: str, directory: str) -> Sandbox | None:
    if not table.flag("sandbox", True):
        for key in ("read", "write", "network", "report_opens"):
            if key in table:
                table.refuse(key, "it is for a sandbox, and this entry has none")
        return None
    return Sandbox(
        read=(program, *_paths(table, "read", directory)),
        write=_paths(table, "write", directory),
        network=table.flag("network", False),
        report_opens=table.flag("report_opens", True),
    )


def _paths(table: Table, key: str, directory: str) -> tuple[str, ...]:
    paths = [directory if path == "." else _path(table, key, path) for path in table.items(key, str)]
    for path in paths:
        if not os.path.exists(path):
            table.refuse(key, f"there is no {path}")
    return tuple(paths)


def _check_shell(table: Table, permit: Permit) -> None:
    """Refuse a program that runs whatever a client says, unless the entry says that it is meant to."""
    if not table.flag("shell", False) and is_free_shell(permit.program, permit.fits):
        table.refuse("program", f"{permit.program} would run whatever a client says: narrow `arguments`, or say shell = true")


def _size(text: str) -> int:
    """Return the bytes that a string takes for the kernel; raise OperationError for what cannot be one."""
    if "\0" in text:
        raise OperationError("bad_request", "a NUL cannot be in an argument or a variable")
    try:
        return len(text.encode()) + 1
    except UnicodeEncodeError:
        raise OperationError("bad_request", "a lone surrogate is no text") from None
