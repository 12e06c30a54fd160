"""The programs in C, Go and Rust: compiled outside the tree, once, and missing in one line."""

import os
import stat
import subprocess

import pytest

from fastframe.bench import native
from fastframe.bench.entry import LeftOutError


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastframe-bench"


def test_a_program_is_compiled_once_into_the_cache(own_cache, monkeypatch):
    program = native.c_program("client")
    assert list(own_cache.iterdir()) == [program]
    assert subprocess.run([program], stderr=subprocess.PIPE, check=False).stderr.startswith(b"usage: client ")
    monkeypatch.setattr(native, "run", lambda *_: pytest.fail("it is compiled again"))
    assert native.c_program("client") == program


def test_nothing_is_written_beside_the_sources(own_cache):
    before = sorted(native.SOURCES.rglob("*"))
    native.c_program("echo")
    assert sorted(native.SOURCES.rglob("*")) == before


def test_other_sources_or_another_compiler_make_another_program(own_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    (tmp_path / "echo.c").write_text("int main(void) { return 0; }")
    programs = {native.c_program("echo")}
    (tmp_path / "echo.c").write_text("int main(void) { return 1; }")
    programs.add(native.c_program("echo"))
    monkeypatch.setenv("CC", "cc -O1")
    programs.add(native.c_program("echo"))
    assert programs == set(own_cache.iterdir())
    assert len(programs) == 3


@pytest.mark.parametrize(
    ("program", "names"),
    [(lambda: native.c_program("echo"), "cc or gcc or clang"), (native.go_program, "go"), (native.tokio_program, "cargo")],
)
def test_without_a_compiler_it_is_left_out_in_one_line(own_cache, monkeypatch, tmp_path, program, names):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(LeftOutError, match=f"^there is no {names} here to compile it$"):
        program()


def test_a_compiler_that_fails_is_quoted_in_one_line(own_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    (tmp_path / "echo.c").write_text("int main(void) { return nonsense; }\n")
    with pytest.raises(LeftOutError, match=r"cannot compile it: echo\.c:1:.*error: .*nonsense") as caught:
        native.c_program("echo")
    assert "\n" not in str(caught.value)
    assert list(own_cache.iterdir()) == []


def test_a_compiler_that_cannot_be_started_or_a_cache_that_cannot_be_written(own_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    with pytest.raises(LeftOutError, match=r"cannot be compiled: .*none"):
        native.c_program("echo")
    monkeypatch.delenv("CC")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LeftOutError, match=r"cannot be compiled: .*file"):
        native.c_program("echo")


@pytest.mark.parametrize("packaged", [True, False])
def test_cargo_takes_debians_crates_where_they_are(own_cache, monkeypatch, tmp_path, packaged):
    crates = tmp_path / "crates"
    (crates / "tokio-util-0.7.3" if packaged else crates).mkdir(parents=True)
    monkeypatch.setattr(native, "DEBIAN_CRATES", crates)
    cargo = tmp_path / "cargo"
    cargo.write_text(
        '#!/bin/sh\nmkdir -p target/release; echo "$@" > target/release/tokio-echo; ls >> target/release/tokio-echo\n'
    )
    cargo.chmod(cargo.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    command, *files = native.tokio_program().read_text().splitlines()
    assert (f'source.debian.directory="{crates}"' in command, "--offline" in command) == (packaged, packaged)
    assert files == ["Cargo.toml", "src", "target"]
