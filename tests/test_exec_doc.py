"""docs/exec.md is true where it speaks of the list: its keys, defaults and examples are read as the server reads them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from fastframe.servers import permits
from fastframe.servers.permits import Limits, Sandbox, read_permits

PAGE = (Path(__file__).parent.parent / "docs/exec.md").read_text()
ROWS = dict(
    re.findall(r"^\| `(\w+)` \|.*\| (.*?) ?\|$", PAGE.partition("The keys of an entry:")[2].partition("###")[0], re.MULTILINE)
)
FORMS = re.findall(r"^\| `(\[.*?\]|\"any\")` \|", PAGE, re.MULTILINE)
SNIPPET = re.search("```toml\n(.*?)```", PAGE, re.DOTALL)[1]


def read(tmp_path, text):
    file = tmp_path / "exec.toml"
    file.write_text(text)
    file.chmod(0o600)
    return read_permits(str(file))


def permit(tmp_path, text):
    return read(tmp_path, f'[commands.it]\nprogram = "/bin/cat"\n{text}').find("it", "alice")


def test_every_key_is_described():
    own = {
        "program",
        "arguments",
        "shell",
        "environment",
        "accept_environment",
        "directory",
        "umask",
        "users",
        "at_once",
        "sandbox",
    }
    assert set(ROWS) == own | {field.name for kind in (Sandbox, Limits) for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("key", [key for key, default in ROWS.items() if default.startswith("`")])
def test_the_defaults_are_those_of_the_server(tmp_path, key):
    value = {"sandbox": "true"}.get(key, ROWS[key].strip("`"))
    assert permit(tmp_path, f"{key} = {value}") == permit(tmp_path, "")


def test_most_keys_have_a_default_that_is_told():
    assert {key for key, default in ROWS.items() if not default.startswith("`")} == {"program", "arguments", "users", "output"}


@pytest.mark.parametrize("forms", FORMS)
def test_the_forms_are_right(tmp_path, forms):
    assert permit(tmp_path, f"arguments = {forms}").name == "it"


def test_there_are_forms_at_all():
    assert len(FORMS) == 4


def test_the_list_is_right(tmp_path):
    found = read(tmp_path, SNIPPET)
    assert found.find("tail", "alice").argv(["-n", "10", "--", "app.log"])
    assert found.uids >= {1000}


def test_the_pattern_that_does_not_take_for_ever_is_one(tmp_path):
    pattern = re.search(r"`(\(\?>.*?)` does not\.", PAGE)[1]
    assert not permit(tmp_path, f"arguments = [['{pattern}']]").fits(["a" * 4000 + "b"])


def test_limits_are_told():
    assert f"{permits.MOST_BYTES >> 10} KiB" in PAGE
    assert f"{permits.LONGEST_MATCHED:,} characters" in PAGE
    assert permits.PATH in PAGE
