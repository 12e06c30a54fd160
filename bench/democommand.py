"""The demo's command: a server with the example allow-list, and the demo's file through one of its commands, in its sandbox."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from fastframe.servers import permits

from .execs import private
from .processes import serving

FASTFRAME: Final = [sys.executable, "-m", "fastframe"]
COMMAND: Final = "sha256"  # of the example: prints the digest of its stdin


def run(path: str) -> str:
    """Run the command on a file through a server in another process; return what to tell of it.

    Raise ValueError if what comes back is wrong, `LeftOutError` if the server does not start.
    """
    with tempfile.TemporaryDirectory(prefix="fastframe-demo-") as folder:
        config = private(Path(folder, "exec.toml"), permits.EXAMPLE.read_text(encoding="utf-8"))
        tokens = private(Path(folder, "tokens"), f"demo {secrets.token_hex(32)}\n")
        serve = [*FASTFRAME, "serve", "exec", "--port", "0", "--config", config, "--tokens", tokens]
        serve += ["--allow-root"] if os.geteuid() == 0 else []
        with serving(serve, os.environ) as server, open(path, "rb") as file:
            address = f"127.0.0.1:{server.port}"
            client = [*FASTFRAME, "exec", address, "--token", tokens, "--json", "--", COMMAND]
            done = subprocess.run(client, stdin=file, capture_output=True, check=False)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest().encode()
    if done.returncode or done.stdout.split()[:1] != [digest]:
        raise ValueError(f"{COMMAND} at {address} did not do what it should: {done.stderr.decode(errors='replace').strip()}")
    result = json.loads(done.stderr.splitlines()[-1])
    rate = result["stdin"] / result["seconds"] / 1e6
    return f"{COMMAND} ran in its sandbox at {address}: {result['stdin']} bytes in, {rate:.0f} MB/s, status 0, the right digest"
