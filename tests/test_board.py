import os
import time

import pytest

from fastframe.servers import board


def worker(state="accepting", age=0.0, **more):
    return {"state": state, "beat": time.monotonic() - age, **more}


def test_a_report_is_read_as_it_was_written():
    made = board.Board(2)
    report = {"state": "accepting", "beat": 1.5, "counters": {"accepted": 7}, "addresses": ["unix:\udc80"]}
    made.write(2, report)
    assert (made.read(0), made.read(1), made.read(2)) == ({}, {}, report)
    made.write(2, {"state": "gone"})
    assert made.read(2) == {"state": "gone"}


def test_what_a_forked_process_writes_is_seen():
    made = board.Board(1)
    pid = os.fork()
    if not pid:
        made.write(1, {"pid": os.getpid()})
        os._exit(0)
    os.waitpid(pid, 0)
    assert made.read(1) == {"pid": pid}


def test_a_report_that_is_being_written_is_not_taken_for_one():
    made = board.Board(1)
    assert made.read(1) == {}
    made.write(1, {"state": "accepting"})
    assert made.read(1) == {"state": "accepting"}
    made._memory[board.SLOT_SIZE + 10] ^= 1
    assert made.read(1) == {"state": "accepting"}
    made._memory[board.SLOT_SIZE : board.SLOT_SIZE + 4] = b"\xff" * 4
    assert made.read(1) == {"state": "accepting"}


def test_readers_never_see_half_of_a_report():
    made = board.Board(1)
    made.write(1, {"text": ""})
    pid = os.fork()
    if not pid:
        for number in range(5_000):
            made.write(1, {"text": chr(97 + number % 26) * (number % 5000)})
        os._exit(0)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert len(set(made.read(1)["text"])) <= 1


def test_a_report_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        board.Board(1).write(1, {"text": "x" * board.SLOT_SIZE})


def test_a_server_is_ready_while_a_worker_accepts_and_nobody_told_it_to_end():
    made = board.Board(2)
    assert not made.is_ready()
    made.write(1, worker("gone"))
    made.write(2, worker())
    assert made.is_ready()
    made.write(0, {"stopping": True})
    assert not made.is_ready()
    made.write(0, {"stopping": False})
    made.write(2, worker("draining"))
    assert not made.is_ready()


@pytest.mark.parametrize("state", ["accepting", "draining"])
def test_a_worker_without_a_beat_is_stuck(state):
    made = board.Board(3)
    late = board.STUCK_SECONDS + 1
    made.write(1, worker(state, late))
    made.write(2, worker(state))
    made.write(3, worker("gone", late))
    assert list(made.stuck()) == [1]
    assert made.stuck()[1] == pytest.approx(late, abs=0.5)
