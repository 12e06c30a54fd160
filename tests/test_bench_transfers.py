"""Each contender carries a small file each way that it can, as it comes and in chunks, and says so when it cannot."""

import contextlib
import subprocess
import sys

import pytest

from fastframe.bench import othertransfers, transferfiles, transfers
from fastframe.bench.entry import BenchError, LeftOutError
from fastframe.bench.pairs import Job

pytestmark = pytest.mark.contenders

SIZE = (1 << 20) + 12_345


@pytest.fixture
def folders(tmp_path):
    return transferfiles.make_files(tmp_path, {"source": SIZE})


def started(name, folders, stack):
    try:
        return stack.enter_context(transfers.CONTENDERS[name].start(folders, {}))
    except LeftOutError as error:
        pytest.skip(f"{name}: {error}")


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("name", transfers.CONTENDERS)
def test_a_contender_carries_a_file_each_way_that_it_can(name, folders, stack):
    contender = transfers.CONTENDERS[name]
    runner = started(name, folders, stack)
    for direction, sink in contender.ways:
        for chunk in (4096, 1 << 20) if contender.chunked else (0,):
            transferfiles.clear(folders)
            job = Job(direction, sink, "source", SIZE, chunk)
            turn = runner.run(job)
            if sink == "file":
                transferfiles.check(folders, job, thoroughly=True)
            else:
                assert not folders.copy(job).exists()
            assert 0 < turn.ns < 30e9
            assert turn.server.cpu_ns > 0
            assert turn.client.cpu_ns > 0


@pytest.mark.parametrize("name", transfers.CONTENDERS)
def test_a_file_that_is_not_there_is_an_error_in_one_line(name, folders, stack):
    runner = started(name, folders, stack)
    folders.own.joinpath("source").unlink()
    with pytest.raises(BenchError) as caught:
        runner.run(Job("put", "file", "source", SIZE, 4096))
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value)


def test_a_program_that_is_not_here_is_left_out(folders, monkeypatch):
    monkeypatch.setattr(othertransfers.shutil, "which", lambda name, **_: None)
    for name, reason in (("socat", "there is no socat here"), ("openssh", "there is no ssh-keygen here")):
        with pytest.raises(LeftOutError, match=reason), transfers.CONTENDERS[name].start(folders, {}):
            pass


@pytest.mark.parametrize("name", ["pyftpdlib", "asyncssh"])
def test_a_package_that_is_not_installed_is_left_out(name, folders, tmp_path):
    tmp_path.joinpath("hidden", name).mkdir(parents=True)
    tmp_path.joinpath("hidden", name, "__init__.py").write_text(f"raise ModuleNotFoundError('no module named {name}')")
    environment = {"PYTHONPATH": f"{tmp_path / 'hidden'}:{':'.join(filter(None, sys.path))}"}
    with pytest.raises(LeftOutError, match=f"no module named {name}"), transfers.CONTENDERS[name].start(folders, environment):
        pass


def test_sshd_that_does_not_start_is_left_out(folders, monkeypatch):
    try:
        othertransfers.program("sshd")
        othertransfers.program("ssh-keygen")
    except LeftOutError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(othertransfers, "SSHD_CONFIG", "Nonsense {port} {folder}")
    with pytest.raises(LeftOutError, match=r"sshd: .*Nonsense"), transfers.CONTENDERS["openssh"].start(folders, {}):
        pass


def test_the_base_is_always_chosen():
    assert list(transfers.chosen([])) == list(transfers.CONTENDERS)
    assert list(transfers.chosen(["socat"])) == ["sendfile", "socat"]
    with pytest.raises(ValueError, match="there is no 'nobody'; there are sendfile"):
        transfers.chosen(["nobody"])


def test_a_digest_whose_package_is_missing_is_left_out(monkeypatch):
    assert list(transfers.missing_digests(["sendfile", "fastframe"])) == []
    monkeypatch.setattr(transfers.digests, "available", lambda: ("sha256", "md5", "none", "xxh3"))
    (reason,) = transfers.missing_digests(["sendfile", "fastframe"])
    assert reason.startswith("fastframe blake3: its package is not installed")


def test_versions_are_of_those_who_take_part(monkeypatch):
    assert transfers.versions([]) == {}
    said = subprocess.CompletedProcess([], 0, "first line\nsocat version 1.2\n")
    monkeypatch.setattr(transfers.shutil, "which", lambda name: name)
    monkeypatch.setattr(transfers.subprocess, "run", lambda *_, **__: said)
    assert transfers.versions(["sendfile", "socat"]) == {"socat": "socat version 1.2"}
