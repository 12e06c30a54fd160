"""docs/concepts.md: every concept has its row, every place that a row names exists, and every example returns what it says."""

from __future__ import annotations

import ast
import builtins
import re
import socket
import sys
import tempfile
from codeop import compile_command
from pathlib import Path

import pytest

from fastframe import __main__, sync
from fastframe.bench import sticky_scenes

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "concepts.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (.*?) \| (.*) \|$", PAGE, re.MULTILINE))
EXAMPLES = {
    f"{title} {number}": code
    for title, section in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
}
CONCEPTS = [
    "AF_INET",
    "AF_INET6",
    "AF_UNIX",
    "stream",
    "datagram",
    "bind",
    "listen and backlog",
    "accept",
    "connect",
    "`connect_ex` and its error number",
    "send against sendall",
    "blocking",
    "non-blocking",
    "timeouts",
    "getpeername",
    "getsockname",
    "SO_REUSEADDR",
    "sticky packets from the sender: coalescing",
    "sticky packets from the receiver: residue",
    "why UDP has none",
    "cure: an ack between sends",
    "cure: the size first",
    "cure: a fixed-length struct header",
    "cure: a header, a JSON description, a body",
    "checksum of what arrived",
    "GBK against UTF-8 output",
]


def anchors(page):
    """Return the places in a page that a link can name, made of its headings as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(code):
    """Run an example statement by statement; what stands behind a call is what it returns, unless that is None, or raises."""
    names, lines = {}, code.splitlines()
    try:
        for node in ast.parse(code).body:
            said = lines[node.end_lineno - 1].partition("  # ")[2].partition("    ")[0].strip()
            if said.startswith("raises "):
                with pytest.raises(getattr(builtins, said.removeprefix("raises "))):
                    execute(node, names)
            elif (result := execute(node, names)) is not None or said == "None":
                assert ast.literal_eval(said) == result
    finally:
        close_all(names.values())


def execute(node, names):
    if isinstance(node, ast.Expr):
        return eval(compile(ast.Expression(node.value), "concepts.md", "eval"), names)
    return exec(compile(ast.Module([node], []), "concepts.md", "exec"), names)


def close_all(things):
    for thing in things:
        if isinstance(thing, sync.FrameSocket):
            thing.abort()
        elif isinstance(thing, socket.socket):
            thing.close()
        elif isinstance(thing, tempfile.TemporaryDirectory):
            thing.cleanup()


def test_every_concept_has_a_row():
    assert [row for row in ROWS if row not in ("concept", "---")] == CONCEPTS


@pytest.mark.parametrize("concept", CONCEPTS)
def test_every_place_that_a_row_names_is_there(concept):
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", ROWS[concept])
    assert links
    for path, anchor in links:
        target = DOCS / (path or "concepts.md")
        assert target.exists()
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def test_every_command_is_there():
    commands = re.findall(r"`fastframe ([^`]*)`", PAGE)
    assert len(commands) > 10
    for command in commands:
        words = command.split()
        assert " ".join(words[:2]) in __main__.COMMANDS or words[0] in __main__.COMMANDS
        if words[:2] == ["demo", "sticky"]:
            assert set(words[2:]) <= set(sticky_scenes.SCENES)


@pytest.mark.skipif(sys.platform != "linux", reason="what a full backlog does is Linux's")
@pytest.mark.parametrize("title", EXAMPLES)
def test_every_example_returns_what_it_says(title):
    run(EXAMPLES[title])


@pytest.mark.parametrize("code", ["1 + 1  # 3", "int('x')  # raises KeyError", "1  # raises ValueError", "1", "1  # one"])
def test_an_example_that_says_something_else_is_found(code):
    with pytest.raises((AssertionError, SyntaxError, ValueError, pytest.fail.Exception)):
        run(code)


def test_every_section_is_named_by_a_row():
    linked = set(re.findall(r"\(#([^)]*)\)", " ".join(ROWS.values())))
    assert linked == anchors(PAGE) - {"socket-concepts-and-where-they-are-shown"}


@pytest.mark.parametrize("title", EXAMPLES)
def test_every_example_can_be_pasted_into_a_prompt(title):
    statement = []
    for line in [*EXAMPLES[title].splitlines(), ""]:
        statement.append(line)
        if compile_command("\n".join(statement)) is not None:  # the body of a loop ends at an empty line
            statement = []
    assert not statement
