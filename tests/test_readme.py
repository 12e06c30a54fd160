"""The README's claims that a test can hold to."""

import ast
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_codec_example_returns_what_it_says():
    *setup, first, second, finish = EXAMPLES[0].strip().splitlines()
    names: dict[str, object] = {}
    exec("\n".join(setup), names)
    for line in (first, second):
        call, _, said = line.partition("#")
        assert eval(call, names) == ast.literal_eval(said.split("]")[0].strip() + "]")
    exec(finish, names)


def test_the_batch_example_returns_what_it_says():
    names: dict[str, object] = {}
    exec(EXAMPLES[0], names)
    (example,) = (text for text in EXAMPLES if "feed_batch" in text)
    setup, made, *shown = [line for line in example.splitlines() if line]
    numpy, pyarrow = pytest.importorskip("numpy"), pytest.importorskip("pyarrow")
    names |= {"numpy": numpy, "pyarrow": pyarrow}
    assert setup == "import numpy, pyarrow"
    names["decoder"] = names["Decoder"](names["fmt"])
    exec(made, names)
    last, total, array, wire = (eval(line.partition("#")[0], names) for line in shown)
    assert last == (b"world", 3)
    assert total == 10
    assert (array.type, array.to_pylist()) == (pyarrow.binary_view(), [b"hello", b"", b"world"])
    assert wire == names["encoder"].encode(b"hello")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_python(example):
    compile(example, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_two_commands_are_there():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && ")]
    assert [command.rpartition("&& ")[2] for command in commands] == [".venv/bin/fastframe demo", ".venv/bin/pytest"]
