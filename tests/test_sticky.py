"""`fastframe demo sticky`: what it shows is what the sockets did, the same each time, and docs/sticky.md prints it."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastframe.bench import sticky, sticky_cures, sticky_scenes, sticky_stage, sticky_wire
from fastframe.bench.sticky_scenes import SCENES, play
from fastframe.bench.sticky_wire import BORDER, CUT, SEAM, Call, Remark, Ruler

DOC = (Path(__file__).parent.parent / "docs/sticky.md").read_text(encoding="utf-8")
LINUX = sys.platform == "linux"


def calls(name):
    return [entry for entry in play(name).log if isinstance(entry, Call)]


def received(name, who="server"):
    return [call.data for call in calls(name) if call.who == who and not call.sends]


def said(name):
    return " ".join(entry.text for entry in play(name).log if isinstance(entry, Remark) and not entry.code)


@pytest.fixture(autouse=True)
def _no_colours_asked_for(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def printed(capsys, *arguments):
    assert sticky.main(list(arguments)) == 0
    return capsys.readouterr().out


def test_the_sender_lets_three_messages_arrive_as_one():
    assert received("sender") == [b"hello11 o'clockbye"] * 2


def test_the_receiver_gets_three_chunks_none_of_which_is_a_message():
    chunks = received("receiver")
    assert chunks == [b"hello11", b" o'cloc", b"kbye"]
    assert not set(chunks) & set(sticky_scenes.MESSAGES.values())


def test_the_rest_of_an_answer_is_the_next_answer():
    first, second = received("answer", "client")
    assert first + second == b"notes.txt\nplan.txt\nsong.mp3\nMon "
    assert second.startswith(b"xt\nsong")


def test_datagrams_stay_three_and_what_is_cut_off_is_gone():
    assert received("udp") == [b"hello", b"11 o'clock", b"bye", b"11 o'clo", b"bye"]


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("sender", (3, 1, 0, 0)),
        ("ack", (6, 6, 3, 3 * len("ok"))),
        ("size", (9, 9, 3, len("5103") + 3 * len("ok"))),
        ("struct", (3, 6, 0, 3 * 4)),
        ("json", (3, 9, 0, 3 * 4 + len('{"size":5,"crc":"3610a686"}' * 3) + 1)),
        ("fastframe", (1, 1, 0, 3 * 4)),
    ],
)
def test_the_costs_are_what_the_calls_took(name, figures):
    costs = play(name).costs
    assert (costs.sends, costs.recvs, costs.trips, costs.extra) == figures


@pytest.mark.parametrize(
    ("name", "chunk"), [("ack", b"ingbye"), ("size", b"1011 o'clock"), ("struct", b"\5\0\0\0"), ("json", b"lo\0\0")]
)
def test_each_cure_still_fails(name, chunk):
    assert chunk in received(name)[-2:]


def test_fastframe_names_the_other_byte_order_and_the_missing_end():
    text = said("fastframe")
    assert "FrameTooLargeError" in text
    assert "in the other byte order (little-endian) the length would be 5" in text
    assert "IncompleteFrameError: the stream ended after 6 of at least 9 bytes" in text


@pytest.mark.skipif(not LINUX, reason="nobody else counts segments so")
def test_segments_are_counted_with_nagle_and_without():
    assert "They left in 2 TCP segments. B and C waited" in said("sender")
    assert "they left in 3 segments, and met again" in said("sender")


def test_messages_that_were_acknowledged_too_early_are_sent_again(monkeypatch):
    counted = iter([3, 3, 2, 3])
    monkeypatch.setattr(sticky_wire.Tap, "segments", lambda self: next(counted))
    assert received("sender") == [b"hello11 o'clockbye"] * 2
    assert next(counted, None) is None


def test_where_segments_are_not_counted_nothing_is_said_of_them(monkeypatch):
    monkeypatch.setattr(sticky_wire.sys, "platform", "darwin")
    assert "segments" not in said("sender")
    assert received("sender") == [b"hello11 o'clockbye"]


def test_a_kernel_that_tells_less_is_asked_nothing_more(monkeypatch):
    monkeypatch.setattr(sticky_wire, "TCP_INFO_DATA_SEGS_OUT", 1_000)
    assert "segments" not in said("sender")


@given(st.data())
def test_a_ruler_marks_each_border_wherever_the_chunks_end(data):
    lengths = data.draw(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=5))
    ruler, expected = Ruler(), {0: BORDER}
    for number, parts in enumerate(lengths):
        ruler.lay(chr(ord("A") + number), parts)
        for length in parts:
            expected[max(expected) + length] = SEAM
        expected[max(expected)] = BORDER
    total, pos = max(expected), 0
    while pos < total:
        count = data.draw(st.integers(1, total - pos))
        for piece in ruler.measure(bytes(count)):
            assert piece.before == expected.get(pos, CUT)
            pos += len(piece.data)
            assert piece.after == expected.get(pos, CUT)
    assert ruler.left == 0


def test_calls_of_the_cures_get_the_end_and_a_wrong_checksum_told():
    near, far = socket.socketpair()
    with near, far:
        sticky_cures.send_described(near, b"hello")
        far.recv(1)
        near.close()
        with pytest.raises(EOFError):
            sticky_cures.recv_exactly(far, 1000)
    with pytest.raises(ValueError, match="not what was sent"):
        receive_described(sticky_cures.describe(b"hello"), b"jello")


def receive_described(about, message):
    near, far = socket.socketpair()
    with near, far:
        sticky_cures.send_struct(near, about)
        near.sendall(message)
        return sticky_cures.recv_described(far)


def test_a_wait_for_what_does_not_come_ends(monkeypatch):
    monkeypatch.setattr(sticky_wire, "PATIENCE", 0.01)
    with sticky_wire.tcp_pair([]) as (client, server):
        client.announce("A", 5)
        with pytest.raises(TimeoutError, match="5 bytes did not come"):
            server.wait()


# the page


def test_the_page_fits_80_columns_and_has_no_colours_when_piped(capsys):
    lines = printed(capsys).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("\033" in line for line in lines)


def test_letters_stand_below_the_bytes_of_their_messages(capsys):
    lines = printed(capsys, "receiver").splitlines()
    at = next(at for at, line in enumerate(lines) if "~k|bye|" in line)
    assert lines[at + 1].index("B") == lines[at].index("k|")
    assert lines[at + 1].index("C") == lines[at].index("bye")


def test_costs_are_in_a_table_at_the_end(capsys):
    rows = re.findall(r"^  (\w.{19})(?: +\d+){4}  \w", printed(capsys), re.MULTILINE)
    assert [name[:1] for name in rows] == ["n", "1", "2", "3", "4", "5"]
    assert "What three messages took" not in printed(capsys, "udp")


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_messages_have_colours_on_a_terminal_only(no_color, is_coloured):
    reader, terminal = pty.openpty()
    command = [sys.executable, "-m", "fastframe", "demo", "sticky", "receiver"]
    with os.fdopen(reader, "rb", buffering=0) as screen:
        subprocess.run(
            command, stdout=terminal, env=os.environ | {"NO_COLOR": no_color, "TERM": "xterm"}, check=True, timeout=30
        )
        os.close(terminal)
        shown = screen.read(8192)
    assert (b"|\033[30;46mhello\033[0m|\033[30;43m11\033[0m\033[1;31m~\033[0m" in shown) is is_coloured
    assert (b"\033" in shown) is is_coloured


def test_colours_can_be_asked_for_in_a_pipe(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[30;46mhello" in printed(capsys, "receiver")


def test_json_has_every_call_and_its_pieces(capsys):
    scenes = json.loads(printed(capsys, "--json", "receiver", "struct"))
    assert list(scenes) == ["receiver", "struct"]
    chunk = scenes["receiver"]["log"][3]
    assert (chunk["who"], chunk["call"], chunk["bytes"]) == ("server", "recv(7)", 7)
    assert [(piece["letter"], bytes.fromhex(piece["data"]), piece["after"]) for piece in chunk["pieces"]] == [
        ("A", b"hello", BORDER),
        ("B", b"11", CUT),
    ]
    assert scenes["receiver"]["costs"] is None
    assert scenes["struct"]["costs"]["extra"] == 12


def test_a_scene_that_does_not_exist_is_status_2(capsys):
    with pytest.raises(SystemExit) as caught:
        sticky.main(["nothing"])
    assert caught.value.code == 2
    assert "there is no scene 'nothing'" in capsys.readouterr().err


def test_a_machine_without_sockets_is_one_line_and_status_1(capsys, monkeypatch):
    monkeypatch.setattr(sticky_stage, "tcp_pair", lambda log: (_ for _ in ()).throw(OSError("no network")))
    assert sticky.main(["receiver"]) == 1
    assert capsys.readouterr().err == "fastframe: no network\n"


# the documentation


TITLES = [
    *(scene.title for scene in SCENES.values()),
    "What three messages took",
    "  One of these by itself: fastframe demo sticky NAME, which is sender,",
]


@pytest.fixture(scope="module")
def page():
    return "\n".join([*sticky.Page(coloured=False).lines({name: play(name) for name in SCENES}), ""])


def documented(title):
    return re.search(rf"^## {re.escape(title)}\n\n```\n(.*?)```", DOC, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.skipif(not LINUX, reason="what it prints of segments is Linux's")
@pytest.mark.parametrize(("title", "following"), list(itertools.pairwise(TITLES)))
def test_the_documentation_has_what_the_demo_prints(title, following, page):
    shown = f"{title}\n\n{documented(title)}\n{following}"
    lines = zip(shown.splitlines(), page[page.index(title) :].splitlines(), strict=False)
    assert next((pair for pair in lines if pair[0] != pair[1]), None) is None  # a diff of whole pages takes pytest a minute


def test_the_documentation_has_the_legend():
    assert f"```\n{sticky.LEGEND}\n```" in DOC
