"""Run 10,000 commands on a real server, and hold an endless one for a minute; look at what is left, and what it takes.

    python tests/many_commands.py [--commands 10000] [--pause 60]

Commands that exit, are killed, write, leave processes behind, are cancelled, and whose client goes, over four connections at
once; then no more descriptors than before may be open in server, nursery and keepers, nothing of a command may live, and the
server may not have grown by more than 4 MiB. Then a command that writes without end, whose reader pauses: the server may not
grow by more than 4 MiB, and the command has to stand still. Ends with status 1 if something was not so. Takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import operator
import os
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from serving import FASTFRAME, Serving, serving

from fastframe.servers import exec_client
from fastframe.servers.errors import OperationError

MOST_GROWTH = 4 << 20  # bytes
AT_ONCE = 4
WARM_UP = 400  # commands, until what is kept for the next ones is there
SETTLE_SECONDS = 3.0  # for what clients left to be ended: a grace of one second, and more
MARK = "86399.5"  # seconds that left processes sleep, by which they are known
LIST = """
[commands.sh]
program = "/bin/sh"
arguments = "any"
shell = true
grace = 1
at_once = 64

[commands.plain]
program = "/bin/sh"
arguments = "any"
shell = true
sandbox = false
at_once = 64

[commands.yes]
program = "/usr/bin/yes"
timeout = 3600
"""
SCRIPTS = {
    "exit": "exit 3",
    "kill": "kill -9 $$",
    "write": "head -c 300000 /dev/zero; echo done >&2",
    "leave": f"setsid sleep {MARK} & (sleep {MARK} &)",
    "cancel": f"trap '' TERM; sleep {MARK}",
    "go": f"sleep {MARK}",
}


async def one(client: exec_client.ExecClient, kind: str) -> bool:
    """Run one command; tell whether the connection can be used again."""
    name = random.choice(("sh", "plain"))
    if kind == "go":
        running = asyncio.create_task(client.run(name, "-c", SCRIPTS[kind]))
        await asyncio.sleep(random.random() * 0.02)
        running.cancel()
        await asyncio.wait((running,))
        return False
    if kind == "cancel":
        async with client.start(name, "-c", SCRIPTS[kind]) as command:
            await command.cancel()
            result = await command.wait()
        assert result.reason == "cancelled", result
        return True
    done = await client.run(name, "-c", SCRIPTS[kind])
    result = done.result
    assert (result.status, result.signal) == {"exit": (3, None), "kill": (None, "KILL")}.get(kind, (0, None)), result
    assert (len(done.stdout), done.stderr) == ((300_000, b"done\n") if kind == "write" else (0, b""))
    return True


async def many(path: str, count: int) -> None:
    """Run so many commands, of all kinds, those that take a while seldom."""
    kinds = random.choices(list(SCRIPTS), (50, 20, 20, 1, 1, 8), k=count)

    async def work() -> None:
        client = None
        while kinds:
            client = client or await exec_client.connect(path=path)
            if not await one(client, kinds.pop()):
                client = None
        if client is not None:
            await client.close()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def held(path: str, server: Serving, seconds: float) -> tuple[int, bool]:
    """Let an endless command wait for its reader; return by how much the server grew, and whether the command stood still."""
    before = server.memory()
    async with exec_client.connect(path=path) as client, client.start("yes") as command:
        await command.read()
        await asyncio.sleep(1)
        written = [written_by("/usr/bin/yes")]
        await asyncio.sleep(seconds)
        written.append(written_by("/usr/bin/yes"))
        growth = server.memory() - before
        with contextlib.suppress(OperationError):
            await command.cancel()
            await command.wait()
    return growth, written[0] == written[1] > 0


def written_by(program: str) -> int:
    """Return how many bytes the processes of a program have written."""
    total = 0
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe") == program:
                found = re.search(r"^wchar: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
                total += int(found[1]) if found else 0
    return total


def tree(pid: int) -> list[int]:
    """Return a process and its descendants: a server, its nursery, the keepers, and what they keep."""
    children = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]
    return [pid, *(found for child in children for found in tree(child))]


def descriptors(pids: list[int]) -> list[int]:
    """Return how many descriptors server and nursery have open, without one for each keeper, and the keeper that has most."""
    server, nursery, *keepers = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
    return [server - len(keepers), nursery, max(keepers)]


def left() -> int:
    """Return how many processes of commands there are."""
    count = 0
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            count += MARK.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return count


def measure(server: Serving, path: str, options: argparse.Namespace) -> list[str]:
    """Return what was not as it should be."""
    wrong = []
    asyncio.run(many(path, WARM_UP))
    time.sleep(SETTLE_SECONDS)
    before, small = descriptors(tree(server.process.pid)), server.memory()
    began = time.monotonic()
    asyncio.run(many(path, options.commands))
    seconds = time.monotonic() - began
    time.sleep(SETTLE_SECONDS)
    after, growth = descriptors(tree(server.process.pid)), server.memory() - small
    print(
        f"{options.commands} commands in {seconds:.0f} s; descriptors {before} before, {after} after; {growth >> 10} KiB more"
    )
    if any(map(operator.gt, after, before)) or left() or growth > MOST_GROWTH:
        wrong.append(f"something is left: {left()} processes, {growth} bytes, {after} descriptors")
    growth, stands = asyncio.run(held(path, server, options.pause))
    print(
        f"endless output, a reader that paused {options.pause:g} s: {growth >> 10} KiB more; the command stood still: {stands}"
    )
    if growth > MOST_GROWTH or not stands:
        wrong.append("endless output is not held")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, default=10_000)
    parser.add_argument("--pause", type=float, default=60.0, help="seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+") as log:
        config = Path(folder, "exec.toml")
        config.write_text(LIST)
        config.chmod(0o600)
        command = [*FASTFRAME, "serve", "exec", *(["--allow-root"] if os.geteuid() == 0 else [])]
        with serving("--config", config, "--unix", f"{folder}/socket", command=command, log=log) as server:
            wrong = measure(server, f"{folder}/socket", options)
            status, _, _ = server.end()
        log.seek(0)
        if status or "Traceback" in log.read():
            wrong.append(f"the server ended with status {status}, or had something to complain of")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
