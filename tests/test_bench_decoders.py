"""Decoders that are held: each gives back what it is fed, and the bytes that it keeps are found."""

import sys

import pytest

from fastframe.bench import decoders
from fastframe.bench.decoders import DECODERS, Decoding
from fastframe.bench.entry import BenchError
from fastframe.bench.workloads import FORMAT

MAKERS = pytest.mark.parametrize("name", DECODERS)


@MAKERS
def test_payloads_go_through_and_a_header_announces_16_mib(name):
    decoding = DECODERS[name]
    make, decode = decoding.start()
    decoders.try_out(decoding, make(), decode)
    payload = bytes(FORMAT.max_payload_length)
    assert decoding.wire([payload]).startswith(decoding.header + payload[:8])


class Hoard:
    """Decode nothing, and keep 100,000 bytes of one's own for every 64 KiB that come."""

    def __init__(self):
        self.kept = []

    def decode(self, chunk):
        if len(chunk) > 60_000:
            self.kept.append(bytearray(b"x" * 100_000))
        return []


def test_what_decoders_keep_is_found(monkeypatch):
    monkeypatch.setattr(decoders, "try_out", lambda *_: None)
    hoarding = Decoding("python", "", lambda: (Hoard, Hoard.decode))
    large, later = decoders.hold(hoarding, 20, large=True)
    assert 16 * 90_000 < large / 20 < 16 * 110_000  # this process may have had room for some
    assert large / 20 == pytest.approx(later / 20, rel=0.02)
    idle = decoders.hold(hoarding, 5000, large=False)[0]
    assert abs(idle / 5000) < 400


def test_one_that_gives_something_else_is_found():
    decoding = DECODERS["compiled"]
    with pytest.raises(BenchError, match="it does not give the payloads that went in"):
        decoders.try_out(decoding, None, lambda _decoder, _chunk: [])
    make, decode = decoding.start()
    hasty = decoding._replace(header=decoding.wire([b""]))
    with pytest.raises(BenchError, match="it gives payloads that have not come"):
        decoders.try_out(hasty, make(), decode)


def test_a_row_for_each_state_and_who_fails_is_left_out(monkeypatch):
    def held(name, count):
        if name == "pure":
            raise BenchError("not here")
        return [1.0, 2.0, 3.0, 4.0, 5.0]

    monkeypatch.setattr(decoders, "held", held)
    left_out = []
    rows = decoders.rows(["compiled", "pure", "picows"], 5000, 2, left_out)
    assert left_out == ["pure: not here"]
    assert [row["count"] for row in rows] == [5000] * 3 + [200] * 2 + [300] * 3 + [200] * 2
    assert [row["bytes"]["median"] for row in rows[:5]] == [1, 2, 3, 4, 5]
    assert rows[3]["state"] == "after 1 MiB"


def test_a_process_for_each_tells_what_it_found_or_why_not():
    each = decoders.held("compiled", 3000)
    assert len(each) == len(decoders.STATES)
    assert 100 < each[0] < 2000
    with pytest.raises(BenchError, match="nobody"):
        decoders.in_a_process("nobody", 1, large=False)


def test_who_is_not_installed_says_so_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(SystemExit, match=r"^msgpack is not installed; "):
        decoders.main(["msgpack", "1", "small"])
