import json
import logging
import sys

import pytest

from fastframe.servers import logs

EVIL = 'a\nlevel=error\x1b[2J"\\ \x9b\u202e\x7f'


def record(message="something", *args, level=logging.WARNING, line=1, **extra):
    made = logging.LogRecord("fastframe.servers", level, "file.py", line, message, args, None)
    made.__dict__ |= extra
    return made


def test_a_line_is_keys_and_values():
    made = record("worker ended", fields={"worker": 2, "how": "signal 9", "path": "/run/a"})
    made.created, made.process = 1_700_000_000.25, 17
    assert logs.TextFormatter().format(made) == (
        'time=2023-11-14T22:13:20.250Z level=warning pid=17 event="worker ended" worker=2 how="signal 9" path=/run/a'
    )
    assert json.loads(logs.JsonFormatter().format(made)) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "pid": 17,
        "event": "worker ended",
        "worker": 2,
        "how": "signal 9",
        "path": "/run/a",
    }


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()])
@pytest.mark.parametrize("made", [record("from %s", EVIL), record(fields={"peer": EVIL}), record(EVIL)])
def test_what_a_peer_sent_neither_ends_a_line_nor_steers_a_terminal(formatter, made):
    line = formatter.format(made)
    assert line.isprintable()
    assert "\u202e" not in line
    assert " level=error" not in line


def test_nothing_that_is_escaped_is_lost():
    line = logs.TextFormatter().format(record(fields={"peer": EVIL}))
    quoted = line.partition("peer=")[2]
    assert quoted == '"a\\nlevel=error\\x1b[2J\\"\\\\ \\x9b\\u202e\\x7f"'
    assert json.loads(logs.JsonFormatter().format(record(fields={"peer": EVIL})))["peer"] == EVIL


@pytest.mark.parametrize("value", ["", "a b", "a=b", 'a"b', "a\\b", "a\tb"])
def test_a_value_is_quoted_where_it_has_to_be(value):
    assert f'peer="{logs.escape(value)}"' in logs.TextFormatter().format(record(fields={"peer": value}))


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()])
def test_a_line_has_an_end(formatter):
    assert len(formatter.format(record("x" * 1_000_000))) < 10_000


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()])
def test_an_exception_is_in_the_same_line(formatter):
    try:
        raise ValueError(EVIL)
    except ValueError:
        line = formatter.format(record(exc_info=sys.exc_info()))
    assert "exception" in line
    assert "Traceback" in line
    assert line.isprintable()


def test_other_loggers_are_named():
    made = record()
    made.name = "asyncio"
    assert "logger=asyncio" in logs.TextFormatter().format(made)


def test_a_warning_that_repeats_is_counted_instead(monkeypatch):
    now = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    repeats = logs.RepeatFilter()
    passed = [repeats.filter(record(f"peer {number}")) for number in range(logs.REPEATS + 3)]
    assert passed == [True] * logs.REPEATS + [False] * 3
    assert repeats.filter(record("from elsewhere", line=2))
    now += logs.INTERVAL
    later = record()
    assert repeats.filter(later)
    assert logs.TextFormatter().format(later).endswith(" suppressed=3")


def test_what_is_no_warning_always_passes():
    repeats = logs.RepeatFilter()
    assert all(repeats.filter(record(level=logging.INFO)) for _ in range(100))


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_event_goes_to_stderr_with_its_fields(form, capsys, restored_logging):
    logs.configure(form, "info")
    logs.event(logging.INFO, "started", worker=1)
    logs.event(logging.DEBUG, "not asked for")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert ("event=started worker=1" in line) if form == "text" else (json.loads(line)["worker"] == 1)


def test_events_of_two_places_do_not_suppress_each_other(capsys, restored_logging):
    logs.configure("text", "info")
    for _ in range(logs.REPEATS + 1):
        logs.event(logging.WARNING, "one")
    logs.event(logging.WARNING, "two")
    said = capsys.readouterr().err
    assert (said.count("event=one"), said.count("event=two")) == (logs.REPEATS, 1)


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
