"""Programs that others wrote: how they are found, started, talked to and watched, with small ones of ours in their place."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastframe.bench import othertransfers, transferfiles
from fastframe.bench.entry import BenchError, LeftOutError
from fastframe.bench.pairs import Job

SIZE = 300_001
GET, PUT = Job("get", "file", "source", SIZE), Job("put", "file", "source", SIZE)
LIKE_SOCAT = """
import os, shutil, sys
def opened(address, mode):
    kind, _, rest = address.partition(":")
    return open(int(rest) if kind == "FD" else rest.partition(",")[0], mode)
with opened(sys.argv[1], "rb") as source, opened(sys.argv[2], "wb") as sink:
    shutil.copyfileobj(source, sink)
"""


def python(code):
    return [sys.executable, "-S", "-E", "-c", code]


def ends_with(code):
    return subprocess.Popen(python(code), stderr=subprocess.PIPE)


@pytest.fixture
def folders(tmp_path):
    return transferfiles.make_files(tmp_path, {"source": SIZE})


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return what makes a program of a shell script, to be found where sshd is."""
    monkeypatch.setattr(othertransfers, "SBIN", (str(tmp_path / "sbin"),))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "sbin").mkdir()

    def make(name, script):
        path = tmp_path / "sbin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_a_program_is_found_beside_the_users_path_too(programs):
    with pytest.raises(LeftOutError, match="there is no a-server here"):
        othertransfers.program("a-server")
    path = programs("a-server", "")
    assert othertransfers.program("a-server") == path


def test_two_are_connected_to_each_other():
    one, other = othertransfers.connected()
    with one, other:
        one.sendall(b"there")
        other.shutdown(socket.SHUT_WR)
        assert (other.recv(10), one.recv(10)) == (b"there", b"")


@pytest.mark.parametrize("job", [GET, PUT], ids=["get", "put"])
def test_two_programs_carry_a_file_and_each_end_is_accounted(job, folders):
    busy = "import time\nwhile time.process_time() < 0.3: pass\n"
    sender = 'if sys.argv[1].startswith("OPEN"):\n    ' + busy.replace("\n", "\n    ")
    socat = othertransfers.Socat(python(LIKE_SOCAT + sender), folders)
    turn = socat.run(job)
    transferfiles.check(folders, job, thoroughly=True)
    sending, receiving = (turn.server, turn.client) if job is GET else (turn.client, turn.server)
    assert sending.cpu_ns >= 290e6
    assert receiving.cpu_ns < sending.cpu_ns
    assert turn.ns > 250e6


def test_a_copy_that_nobody_wants_is_not_kept(folders):
    othertransfers.Socat(python(LIKE_SOCAT), folders).run(GET._replace(sink="null"))
    assert not folders.copy(GET).exists()


def test_one_that_fails_is_an_error_with_the_last_that_it_said(folders):
    socat = othertransfers.Socat(python("import sys; sys.exit('first\\nlast')"), folders)
    with pytest.raises(BenchError, match=r"^last$"):
        socat.run(GET)


def test_how_one_has_ended():
    with ends_with("raise SystemExit(3)") as silent, pytest.raises(BenchError, match=r"^status 3$"):
        othertransfers.ended(silent)
    with ends_with("") as well:
        assert othertransfers.ended(well) > 0
    assert well.returncode == 0


def test_who_does_not_end_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(othertransfers, "PATIENCE", 0.02)
    before = len(os.listdir("/proc/self/fd"))
    with ends_with("import time; time.sleep(60)") as process:
        try:
            with pytest.raises(BenchError, match=r"not done after 0\.02 s"):
                othertransfers.watch([process])
        finally:
            process.kill()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_most_memory_of_each_is_seen():
    with ends_with("x = bytearray(40 << 20); import time; time.sleep(0.2)") as large, ends_with("pass") as small:
        most, least = othertransfers.watch([large, small])
    assert most > 40 << 20
    assert most - least > 30 << 20


# OpenSSH


def test_sshd_runs_on_a_port_and_with_settings_of_its_own_and_is_ended(programs, tmp_path):
    programs("sshd", 'echo "Server listening on 127.0.0.1" >&2; exec sleep 60')
    with othertransfers.sshd(str(tmp_path), "MaxSessions 99") as (pid, port):
        assert Path(f"/proc/{pid}").exists()
        lines = Path(tmp_path, "config").read_text().splitlines()
        assert lines[0] == f"ListenAddress 127.0.0.1:{port}"
        assert f"HostKey {tmp_path}/key" in lines
        assert lines[-1] == "MaxSessions 99"
    assert not Path(f"/proc/{pid}").exists()


def test_sshd_that_does_not_listen_is_left_out_with_its_reason(programs, tmp_path):
    programs("sshd", "echo no such setting >&2")
    with pytest.raises(LeftOutError, match=r"^sshd: no such setting$"), othertransfers.sshd(str(tmp_path)):
        pass


@pytest.mark.parametrize("job", [GET, PUT], ids=["get", "put"])
def test_sftp_is_told_what_to_carry_and_says_when_it_has(job, folders, monkeypatch):
    told = []

    def exchange(process, command, last, complaints):
        told.append((command, last))
        time.sleep(0.01)

    monkeypatch.setattr(othertransfers, "exchange", exchange)
    with ends_with("") as process:
        sftp = othertransfers.Sftp(process, None, folders)
        assert sftp.transfer(job) >= 10_000_000
        assert sftp.pid == process.pid
    ((command, last),) = told
    assert command.splitlines() == [f'{job.direction} "{folders.source(job)}" "{folders.copy(job)}"', "lpwd"]
    assert last == "Local working directory"
