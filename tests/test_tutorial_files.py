"""What download and upload share: progress that is seen, and errors that no wire tells."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest
from threaded import scripted

from fastframe.servers import arguments, tutorial_files
from fastframe.servers.errors import OperationError


def test_progress_is_shown_now_and_then_and_at_the_end(monkeypatch):
    now, shown = [100.0], []
    monkeypatch.setattr(tutorial_files.time, "monotonic", lambda: now[0])
    note = tutorial_files._now_and_then(lambda *counts: shown.append(counts))
    for done in range(11):
        note(done, 10)
        now[0] += tutorial_files.PROGRESS_SECONDS / 4
    assert shown == [(0, 10), (4, 10), (8, 10), (10, 10)]
    tutorial_files._now_and_then(None)(1, 1)


def test_what_the_wire_cannot_tell_is_logged_and_cuts(caplog):
    stream = SimpleNamespace(peername="127.0.0.1:40000")
    with pytest.raises(ConnectionAbortedError), tutorial_files.cutting(stream, "upload"):
        raise OperationError("disk_full")
    assert [record.fields["code"] for record in caplog.records] == ["disk_full"]


def test_what_a_transfer_says_steers_no_terminal(capfd):
    def work(connection, note):
        raise OperationError("bad_message", "\x1b[2J")

    with scripted(lambda connection: None) as address:
        options = argparse.Namespace(address=arguments.address(address), timeout=1.0, quiet=False)
        assert tutorial_files.transfer(options, "name", work) == 1
    assert capfd.readouterr().err == "fastframe: \\x1b[2J (bad_message)\n"
