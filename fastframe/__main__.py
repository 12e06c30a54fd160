"""The `fastframe` command: hands each word to what does it, which is imported only then."""

from __future__ import annotations

import errno
import importlib
import os
import sys

from fastframe import IMPLEMENTATION, __version__

COMMANDS = {
    "demo": ("fastframe.bench.demo", "main", "send a real file through an echo server; a table and a picture by chunk size"),
    "demo sticky": ("fastframe.bench.sticky", "main", "what sticks together without frames, on live sockets, and four cures"),
    "serve echo": ("fastframe.servers.echo", "serve_main", "answer each frame with itself"),
    "echo": ("fastframe.servers.echo", "client_main", "send texts as frames to an echo server, print the answers"),
    "serve exec": ("fastframe.servers.exec", "serve_main", "run the commands that a list permits"),
    "exec": ("fastframe.servers.exec_command", "exec_main", "run a command on an exec server, as if it ran here"),
    "serve files": ("fastframe.servers.files", "serve_main", "serve the files beneath a directory"),
    "get": ("fastframe.servers.files_commands", "get_main", "fetch a file or a directory from a file server"),
    "put": ("fastframe.servers.files_commands", "put_main", "send a file or a directory to a file server"),
    "ls": ("fastframe.servers.files_commands", "ls_main", "list a directory of a file server"),
    "stat": ("fastframe.servers.files_commands", "stat_main", "tell what a name at a file server is, and its digest"),
    "serve chat": ("fastframe.servers.chat", "serve_main", "keep chat rooms"),
    "chat": ("fastframe.servers.chat_command", "chat_main", "be in a room of a chat server"),
    "serve tutorial": ("fastframe.servers.tutorial", "serve_main", "the programs of the socket tutorials, without their bugs"),
    "tutorial": ("fastframe.servers.tutorial", "client_main", "the clients of these programs"),
    "bench": ("fastframe.bench.families", "main", "all benchmarks, beside their peers, into one report"),
    "bench compare": ("fastframe.bench.compare", "main", "what got slower from one run of the benchmarks to another"),
    "bench report": (
        "fastframe.bench.redraw",
        "main",
        "tables, page and pictures again, of what a run of the benchmarks wrote",
    ),
    "bench codec": ("fastframe.bench.codec", "main", "time the codec beside the physical limit and its peers"),
    "bench echo": ("fastframe.bench.echo", "main", "what an echo costs a server, beside its peers and one in C"),
    "bench chunks": ("fastframe.bench.chunks", "main", "what chunk size does: frames and reads from 64 B to 4 MiB, and why"),
    "bench recommend": ("fastframe.bench.recommend", "main", "the sizes to use on this machine"),
    "bench transfer": ("fastframe.bench.transfer", "main", "how fast a file gets through, by chunk size and digest"),
    "bench exec": ("fastframe.bench.exec", "main", "what it costs to run a command, beside subprocess, asyncio and SSH"),
    "bench chat": (
        "fastframe.bench.chat",
        "main",
        "what it costs to tell a room what one says, beside websockets and a loop in C",
    ),
    "bench memory": ("fastframe.bench.memory", "main", "what idle decoders and 10,000 idle connections take"),
    "bench startup": ("fastframe.bench.startup", "main", "what it costs to import fastframe and to start its command"),
    "bench udp": ("fastframe.bench.udp", "main", "time the echo of datagrams beside a server in C and the standard library's"),
}

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # what is printed goes to a file, and there is no room for it


def usage() -> str:
    commands = "\n".join(f"  fastframe {name:<18} {summary}" for name, (_, _, summary) in COMMANDS.items())
    return f"usage: fastframe COMMAND [OPTION ...]\n\n{commands}\n\nfastframe COMMAND --help tells more, with an example."


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` names; return its exit status: 0, 1 if it failed, 2 if it was asked wrongly."""
    _open_missing_streams()
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # nobody reads what is printed: `fastframe ... | head`
        _print_no_more()
        return 1
    except OSError as error:
        if error.errno not in FULL:
            raise
        _print_no_more()
        print(f"fastframe: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fastframe: interrupted", file=sys.stderr)
        return 130


def _print_no_more() -> None:
    """Have what waits to be printed go to /dev/null, or Python would fail with it once more in the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_missing_streams() -> None:
    """Put /dev/null in the place of standard streams that are closed, so that no socket gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _run(argv: list[str]) -> int:
    if argv[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if argv == ["--version"]:
        print(f"fastframe {__version__} ({IMPLEMENTATION} codec, Python {sys.version.split()[0]})")
        return 0
    for words in (2, 1):
        if (command := " ".join(argv[:words])) in COMMANDS:
            module, function, _ = COMMANDS[command]
            status: int = getattr(importlib.import_module(module), function)(argv[words:])
            return status
    print(usage(), file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
