"""The demo's command: a file through a command of a server of its own, and what is told if that does not do what it should."""

import os

import pytest

from fastframe.bench import democommand
from fastframe.bench.entry import LeftOutError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(300_000))
    return str(path)


def test_a_command_hashes_the_file(path):
    said = democommand.run(path)
    assert said.startswith("sha256 ran in its sandbox at 127.0.0.1:")
    assert "300000 bytes in" in said
    assert said.endswith("status 0, the right digest")


def test_a_command_that_answers_wrongly_is_an_error(path, monkeypatch):
    monkeypatch.setattr(democommand, "COMMAND", "cat")
    with pytest.raises(ValueError, match=r"cat at 127.0.0.1:[0-9]+ did not do what it should"):
        democommand.run(path)


def test_a_server_that_does_not_start_is_left_out_with_its_reason(path, monkeypatch, tmp_path):
    (tmp_path / "list.toml").write_text("[commands.sha256]\nprogram = '/nowhere'\n")
    monkeypatch.setattr(democommand.permits, "EXAMPLE", tmp_path / "list.toml")
    with pytest.raises(LeftOutError, match="/nowhere"):
        democommand.run(path)
