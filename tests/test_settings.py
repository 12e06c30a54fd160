"""Settings files: who may write them, and that nothing in them is overlooked, of another type, or out of its bounds."""

from __future__ import annotations

import os

import pytest

from fastframe.servers import settings
from fastframe.servers.arguments import UsageError, file_mode
from fastframe.servers.settings import Table, read_settings


def settings_file(tmp_path, text, mode=0o644):
    file = tmp_path / "settings.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(mode)
    return str(file)


def table(**values):
    return Table(values, "it.toml")


def test_a_file_is_a_table_with_tables_below(tmp_path):
    top = read_settings(settings_file(tmp_path, 'a = 1\n[b]\nc = "d"\n[e.f]\n[e.g]\nh = true\n'))
    below, several = top.table("b"), top.tables("e")
    assert (top.whole("a", 0, 0, 9), below.text("c"), several["g"].flag("h", default=False)) == (1, "d", True)
    for each in (top, below, *several.values()):
        each.end()


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o620, 0o602])
def test_a_file_that_others_can_write_is_refused(tmp_path, mode):
    with pytest.raises(UsageError, match="chmod go-w"):
        read_settings(settings_file(tmp_path, "a = 1", mode))


def test_a_file_of_somebody_else_is_refused_and_roots_is_not(tmp_path, monkeypatch):
    path = settings_file(tmp_path, "a = 1")
    owner = os.stat(path).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        assert "a" in read_settings(path)
    else:
        with pytest.raises(UsageError, match="belongs to another user"):
            read_settings(path)
    if os.getuid() == 0:
        os.chown(path, 4711, -1)
        with pytest.raises(UsageError, match="belongs to another user"):
            read_settings(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\xff", "not UTF-8"),
        ("a = ", "no TOML"),
        ("a = 1\na = 2", "no TOML"),
        ("a = " + "[" * 100_000, "no TOML"),
        ("#" * (settings.LONGEST_FILE + 1), "longer than"),
    ],
)
def test_what_is_no_settings_file_is_refused_in_a_line(tmp_path, text, reason):
    path = settings_file(tmp_path, text)
    with pytest.raises(UsageError, match=reason) as caught:
        read_settings(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*missing\.toml: No such file"):
        read_settings(str(tmp_path / "missing.toml"))


@pytest.mark.parametrize(
    ("ask", "value"),
    [
        (lambda it: it.text("key"), 1),
        (lambda it: it.text("key"), "a\0b"),
        (lambda it: it.flag("key", default=False), 1),
        (lambda it: it.flag("key", default=False), "true"),
        (lambda it: it.whole("key", 1, 0, 9), True),
        (lambda it: it.whole("key", 1, 0, 9), 1.0),
        (lambda it: it.whole("key", 1, 0, 9), 10),
        (lambda it: it.whole("key", 1, 0, 9), -1),
        (lambda it: it.number("key", 1, 0, 9), True),
        (lambda it: it.number("key", 1, 0, 9), float("nan")),
        (lambda it: it.number("key", 1, 0, 9), float("inf")),
        (lambda it: it.number("key", 1, 0, 9), "1"),
        (lambda it: it.size("key", 1), 0),
        (lambda it: it.size("key", 1), -1),
        (lambda it: it.size("key", 1), True),
        (lambda it: it.size("key", 1), 1.5),
        (lambda it: it.size("key", 1), "1GB"),
        (lambda it: it.parsed("key", file_mode), 77),
        (lambda it: it.parsed("key", file_mode), "999"),
        (lambda it: it.items("key", str), "a"),
        (lambda it: it.items("key", str), ["a", 1]),
        (lambda it: it.items("key", str), ["a\0"]),
        (lambda it: it.items("key", int), [True]),
        (lambda it: it.union("key", str, list), 1),
        (lambda it: it.table("key"), []),
        (lambda it: it.tables("key"), {"a": 1}),
        (lambda it: it.strings("key"), {"a": 1}),
        (lambda it: it.strings("key"), ["a"]),
        (lambda it: it.strings("key"), 1),
    ],
)
def test_a_value_of_another_type_or_out_of_bounds_is_refused_by_its_key(ask, value):
    with pytest.raises(UsageError, match=r"^it\.toml.*key") as caught:
        ask(table(key=value))
    assert "\n" not in str(caught.value)


def test_what_is_right_is_returned():
    it = table(text="a", flag=True, whole=9, number=1, size="2KiB", bytes=7, mode="077", items=["a"], strings={"a": "b"})
    assert (it.text("text"), it.flag("flag", default=False), it.whole("whole", 1, 0, 9)) == ("a", True, 9)
    assert (it.number("number", 2, 0, 9), it.size("size", 1), it.size("bytes", None)) == (1.0, 2048, 7)
    assert (it.parsed("mode", file_mode), it.items("items", str), it.strings("strings")) == (0o77, ["a"], {"a": "b"})
    it.end()


def test_what_is_not_there_has_its_default_or_is_missing():
    it = table()
    assert (it.text("a", "b"), it.flag("a", default=True), it.whole("a", 1, 0, 9), it.number("a", 2, 0, 9)) == ("b", True, 1, 2)
    assert (it.size("a", None), it.parsed("a", file_mode, 0o77), it.items("a", str), it.strings("a"), it.tables("a")) == (
        None,
        0o77,
        [],
        {},
        {},
    )
    with pytest.raises(UsageError, match=r"^it\.toml: a: it is missing"):
        it.text("a")


def test_what_nobody_took_is_refused():
    it = table(known=1, **{"unkn\nown": 2})
    it.whole("known", 0, 0, 9)
    with pytest.raises(UsageError, match=r"^it\.toml: there is no key 'unkn\\nown'$"):
        it.end()


def test_a_key_does_not_break_the_line():
    with pytest.raises(UsageError) as caught:
        table(key={"a\nb": 1}).strings("key")
    assert str(caught.value) == "it.toml, [key]: 'a\\nb': 1 is not a string"
