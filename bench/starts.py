"""Who competes in the start-up benchmark: programs of a few words, and how one of them is run once.

Each is a fresh process, `python -P -S -c CODE`. -S leaves out the files in site-packages that run at every start: those of an
editable installation import half of what is measured here, and would hide it. Packages are found through PYTHONPATH instead.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastframe

from .entry import BenchError

BASE: Final = "python"
FLAGS: Final = ("-P", "-S")
COMMAND: Final = "import sys; sys.argv[1:] = {!r}; from fastframe.__main__ import main; main()"  # as the installed script does
FACTS: Final = "\nimport sys; print('modules:', len(sys.modules)); print(open('/proc/self/status').read())"
UNWANTED: Final = ("PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONMALLOC", "FASTFRAME_IMPLEMENTATION")
ASYNCIO_SERVER: Final = """
import asyncio

async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    print("listening on", server.sockets[0].getsockname())
    await server.serve_forever()

asyncio.run(main())
"""


class Start(NamedTuple):
    """A contender: a program, which ends by itself unless it `says` that it is up."""

    kind: str
    does: str
    code: str
    says: str = ""
    codec: str = ""  # what FASTFRAME_IMPLEMENTATION is


def importing(module: str, kind: str, more: str = "", codec: str = "") -> Start:
    return Start(kind, f"import {module}{more}", f"import {module}", codec=codec)


IMPORTS: Final[dict[str, Start]] = {
    BASE: Start("base", "the interpreter, which imports nothing more", "pass"),
    "socket": importing("socket", "python", ": what anybody needs who has a connection"),
    "asyncio": importing("asyncio", "python", ": what anybody needs who has a loop"),
    "fastframe/compiled": importing("fastframe", "ours", ", the compiled codec", "cython"),
    "fastframe/pure": importing("fastframe", "ours", ", the codec in pure Python", "python"),
    "fastframe.sync": importing("fastframe.sync", "ours", ", and so fastframe and socket"),
    "fastframe.aio": importing("fastframe.aio", "ours", ", and so fastframe and asyncio"),
    "msgpack": importing("msgpack", "compiled"),
    "hiredis": importing("hiredis", "compiled"),
    "protobuf": importing("google.protobuf.wrappers_pb2", "compiled", ": a generated module, as every program has one"),
    "picows": importing("picows", "compiled", ", and so asyncio"),
    "websockets": importing("websockets.asyncio.server", "python", ", and so asyncio"),
    "twisted": importing("twisted.protocols.basic", "python", ": Int32StringReceiver, and no reactor"),
}
PROGRAMS: Final[dict[str, Start]] = {
    "fastframe --version": Start("ours", "the command that tells its version", COMMAND.format(["--version"])),
    "fastframe serve echo": Start(
        "ours", "the command, until it listens", COMMAND.format(["serve", "echo", "--port", "0"]), "listening on"
    ),
    "asyncio server": Start("python", "asyncio.start_server, ten lines, until it listens", ASYNCIO_SERVER, "listening on"),
    "http.server": Start(
        "python",
        "the standard library's, until it listens",
        "import http.server as s; s.test(port=0, bind='127.0.0.1')",
        "Serving",
    ),
}
STARTS: Final = IMPORTS | PROGRAMS


class Took(NamedTuple):
    """What a run took, in nanoseconds: of the processor, and until the program had ended or was up."""

    processor: float
    wall: float


def run_once(start: Start) -> Took:
    """Run a program; raise `BenchError` if it fails."""
    began = time.perf_counter_ns()
    process = popen(start, start.code, subprocess.DEVNULL)
    with process:
        up = not start.says or heard(process, start.says)
        heard_at = time.perf_counter_ns()
        if start.says:
            os.kill(process.pid, signal.SIGKILL)  # `Popen.kill` would wait for it, and nobody would know what it took
        _, status, usage = os.wait4(process.pid, 0)
        ended_at = time.perf_counter_ns()
        process.returncode = os.waitstatus_to_exitcode(status)  # nobody is there to wait for any more
    if not up or (process.returncode and not start.says):
        raise BenchError(f"it ended with status {process.returncode}")
    return Took((usage.ru_utime + usage.ru_stime) * 1e9, (heard_at if start.says else ended_at) - began)


def facts(start: Start) -> dict[str, Any]:
    """Run a program; return how many modules it has in the end, if it has one, and the most memory it used, in bytes.

    The memory is what the program tells of itself: what wait4 says of a child counts what its parent had.
    """
    process = popen(start, start.code if start.says else start.code + FACTS, subprocess.PIPE)
    with process:
        up = not start.says or heard(process, start.says)
        told = Path(f"/proc/{process.pid}/status").read_text() if start.says and up else ""
        if start.says:
            process.kill()
        said, complaints = process.communicate()
    if not up or (process.returncode and not start.says):
        reason = (complaints.strip().splitlines() or [f"it ended with status {process.returncode}"])[-1]
        raise BenchError(reason.replace("ModuleNotFoundError", "it is not installed"))
    modules, peak = (re.search(rf"^{name}:\s+(\d+)", said + told, re.MULTILINE) for name in ("modules", "VmHWM"))
    return {"modules": int(modules[1]) if modules else None, "peak": int(peak[1]) << 10 if peak else None}


def popen(start: Start, code: str, complaints: int) -> subprocess.Popen[str]:
    command = [sys.executable, *FLAGS, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment(start))


def environment(start: Start) -> dict[str, str]:
    """Return what is around a program: this process's, with its packages, and nothing that would make it another one."""
    root = str(Path(fastframe.__file__).parent.parent)
    packages = [entry for entry in sys.path if Path(entry).name.endswith("-packages")]
    found = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    found |= {"PYTHONPATH": os.pathsep.join((root, *packages)), "PYTHONUNBUFFERED": "1"}
    return found | ({"FASTFRAME_IMPLEMENTATION": start.codec} if start.codec else {})


def heard(process: subprocess.Popen[str], words: str) -> bool:
    """Tell whether a program comes to say a line that begins so."""
    assert process.stdout is not None
    return any(line.startswith(words) for line in process.stdout)
