"""What a person sees of each event."""

from __future__ import annotations

import re
import time

import pytest

from fastframe.servers import chat_screen
from fastframe.servers.chat_events import FIELDS, Event
from fastframe.servers.chat_screen import Screen, sentence

NOON = 1_700_000_000.0  # 22:13 UTC on 14 November 2023


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(chat_screen.time, "time", lambda: NOON)
    yield
    monkeypatch.undo()
    time.tzset()


def terminal(width=80, *, colours=False):
    return Screen(lambda: width, colours=colours)


SENTENCES = {
    "joined": (Event("joined", name="bob"), "bob joined"),
    "left": (Event("left", name="bob", reason="left"), "bob left"),
    "lost": (Event("left", name="bob", reason="lost"), "bob left (connection lost)"),
    "a new reason": (Event("left", name="bob", reason="\x1b"), "bob left (\\x1b)"),
    "topic": (Event("topic", name="bob", topic="rain\n"), "bob set the topic: rain\\n"),
    "no topic": (Event("topic", name="bob"), "bob removed the topic"),
    "who": (Event("who", count=2, members=("ann", "b\u202eb")), "2 here: ann, b\\u202eb"),
    "who of many": (Event("who", count=5000, members=("ann",)), "5000 here: ann"),
    "entered": (Event("entered", room="lobby", name="ann", count=3), "in lobby as ann, 3 here"),
    "entered, topic": (Event("entered", room="lobby", name="ann", count=1, topic="x"), "in lobby as ann, 1 here; the topic: x"),
    "back": (Event("back", room="lobby", missed=2), "back in lobby: 2 events came meanwhile"),
    "back, one": (Event("back", room="lobby", missed=1), "back in lobby: 1 event came meanwhile"),
    "back, nothing": (Event("back", room="lobby", missed=0), "back in lobby: nothing came meanwhile"),
    "back, anew": (Event("back", room="lobby"), "back in lobby: what came meanwhile is not known"),
    "gap": (Event("gap", missed=5), "5 events missing here: not kept any more"),
    "gap, anew": (Event("gap"), "the room began anew"),
    "connection lost": (Event("lost", reason="no answer"), "the connection is lost (no answer); trying to come back"),
    "refused": (Event("refused", code="busy", message="no \x1b"), "refused: no \\x1b"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_sentences(case):
    event, text = SENTENCES[case]
    assert sentence(event) == text
    assert terminal().text([event]).removeprefix("--- ").endswith(f"22:13 * {text}\n")


def test_every_type_has_a_line_but_what_is_unknown():
    for kind in FIELDS:
        assert bool(terminal().text([Event(kind)])) == (kind != "unknown")


def test_a_text_and_its_time():
    said = Event("said", time=NOON, name="ann", text="hi\x1b")
    assert terminal().text([said]) == "22:13 <ann> hi\\x1b\n"
    assert Screen(None, colours=False).text([said, said]) == "2023-11-14 22:13:20 <ann> hi\\x1b\n" * 2


def test_long_texts_are_indented_as_wide_as_the_terminal_is_then():
    widths = iter([30, 40])
    screen = Screen(lambda: next(widths), colours=False)
    said = Event("said", time=NOON, name="ann", text="word " * 8)
    assert screen.text([said, said]) == (
        "22:13 <ann> word word word \n      word word word word word\n"
        "22:13 <ann> word word word word word \n      word word word \n"
    )
    assert Screen(None, colours=False).text([said]).count("\n") == 1


def test_days_between():
    day = 24 * 3600
    events = [Event("said", time=NOON - day, name="a", text=text) for text in "xy"] + [
        Event("said", time=NOON, name="a", text="z")
    ]
    assert terminal().text(events) == (
        "--- Monday, 13 November 2023 ---\n22:13 <a> x\n22:13 <a> y\n--- Tuesday, 14 November 2023 ---\n22:13 <a> z\n"
    )


def test_the_first_and_the_last_moment_there_are():
    for moment in (0.001, 253_402_300_799):
        assert "<a>" in terminal().text([Event("said", time=moment, name="a")])


def test_a_name_has_one_colour():
    screen = terminal(colours=True)
    styles = {
        re.search(r"\x1b\[([0-9;]+)m\uff21nn|\x1b\[([0-9;]+)mann", screen.text([event])).group(0).partition("m")[0]
        for event in (
            Event("said", time=NOON, name="ann", text="x"),
            Event("joined", name="ann"),
            Event("said", name="\uff21nn", text=""),
            Event("who", members=("bob", "ann")),
        )
    }
    assert len(styles) == 1
    assert len({chat_screen.name_style(f"{number}") for number in range(100)}) == len(chat_screen.NAME_STYLES)


def test_without_colours_there_is_no_escape_sequence():
    events = [event for event, _ in SENTENCES.values()] + [Event("said", time=1.5, name="ann", text="\x1b")]
    assert "\x1b" not in terminal().text(events) + terminal().remark("x")
    assert "\x1b[0m" in terminal(colours=True).text(events)


def test_remarks_are_lines_with_an_indent():
    assert terminal(20).remark("one two three four five\nsix") == "  one two three four\n      five\n  six\n"


@pytest.mark.parametrize(
    ("is_terminal", "variables", "wants"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
    ids=str,
)
def test_who_wants_colours(monkeypatch, is_terminal, variables, wants):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert chat_screen.wants_colours(is_terminal=is_terminal) is wants
