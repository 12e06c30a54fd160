"""Each contender runs commands alone, several at once, and one that prints, and says so when one is not as it should be."""

import contextlib

import pytest

from fastframe.bench import execs, othertransfers
from fastframe.bench.entry import BenchError, LeftOutError
from fastframe.bench.execends import Job

pytestmark = pytest.mark.contenders


@contextlib.contextmanager
def started(name, at_once=1, environment=()):
    with contextlib.ExitStack() as stack:
        try:
            runner = stack.enter_context(execs.CONTENDERS[name].start(at_once, dict(environment)))
        except LeftOutError as error:
            pytest.skip(f"{name}: {error}")
        yield runner


@pytest.mark.parametrize("name", execs.CONTENDERS)
def test_a_contender_does_each_job(name):
    with started(name, 2) as runner:
        alone = runner.do(Job(0.01))
        assert 0 < sum(alone.runs) <= alone.ns < 30e9
        together = runner.do(Job(0.01, 2))
        assert len(together.runs) >= 2
        assert together.ns >= max(together.runs)
        if execs.CONTENDERS[name].prints:
            assert len(runner.do(Job(size=300_001)).runs) == 1


@pytest.mark.parametrize("name", execs.CONTENDERS)
def test_a_program_that_fails_is_an_error_and_the_next_job_is_done(name):
    with started(name) as runner:
        with pytest.raises(BenchError, match=r"ValueError: Outcome\(status=1, stdout=0, stderr=\d+\)") as caught:
            runner.do(Job(size="three"))
        assert ("stderr=0" in str(caught.value)) == (name == "posix_spawn")
        assert len(runner.do(Job()).runs) == 1


def test_a_package_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(execs.importlib.util, "find_spec", lambda name: None)
    for name in ("execnet", "rpyc", "asyncssh"):
        with pytest.raises(LeftOutError, match=f"{name} is not installed"), execs.CONTENDERS[name].start(1, {}):
            pass


def test_a_program_that_is_not_here_is_left_out(monkeypatch):
    monkeypatch.setattr(othertransfers.shutil, "which", lambda name, **_: None)
    with pytest.raises(LeftOutError, match="there is no ssh-keygen here"), execs.CONTENDERS["openssh"].start(1, {}):
        pass


def test_ours_is_left_out_where_it_does_not_start():
    nowhere = {"PYTHONPATH": "/nowhere", "PYTHONSAFEPATH": "1"}
    with pytest.raises(LeftOutError), execs.CONTENDERS["fastframe/plain"].start(1, nowhere | {"PYTHONHOME": "/nowhere"}):
        pass


def test_the_base_is_always_chosen():
    assert list(execs.chosen([])) == list(execs.CONTENDERS)
    assert list(execs.chosen(["openssh"])) == ["posix_spawn", "openssh"]
    with pytest.raises(ValueError, match="there is no 'nobody'; there are posix_spawn"):
        execs.chosen(["nobody"])


def test_versions_are_of_those_who_take_part():
    assert execs.versions(["posix_spawn"]) == {}
    assert set(execs.versions(["asyncssh", "execnet"])) <= {"asyncssh", "execnet"}
