"""The limit: what `limit.c` gives, and what is said where it cannot be compiled."""

import importlib.util
import shutil
import sysconfig

import pytest

from fastframe.bench import limit, workloads
from fastframe.bench.entry import LeftOutError


@pytest.fixture(scope="module")
def module():
    if shutil.which((sysconfig.get_config_var("CC") or "none").split()[0]) is None or not importlib.util.find_spec(
        "setuptools"
    ):
        pytest.skip("no C compiler here")
    return limit.load_limit()


def test_limit(module):
    payloads = [b"", b"a", bytes(range(256)) * 300, b""]
    stream = workloads.frame(payloads)
    assert module.decode(stream) == payloads
    assert module.decode(b"") == []
    assert module.walk(stream) == 4
    assert module.walk(b"") == 0
    assert module.encode(payloads[2]) == workloads.frame(payloads[2:3])
    assert module.encode_many(payloads) == stream
    assert module.encode_many([]) == b""


def test_limit_is_compiled_outside_the_tree(module):
    assert not list(limit.LIMIT_SOURCE.parent.glob("*.so"))


def test_without_a_compiler_the_limit_is_left_out_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "gcc"))  # wherever sysconfig says that Python's own was
    with pytest.raises(LeftOutError, match=r"^limit: no C compiler .*gcc") as caught:
        limit.load_limit()
    assert "\n" not in str(caught.value)
