"""What explains the knees is measured: nothing here is timed, but each figure is there and can be true."""

import contextlib
import socket

import pytest

from fastframe.bench import knees
from fastframe.bench.kneetables import facts_table

KIB = 1 << 10


@pytest.fixture(autouse=True)
def few_of_everything(monkeypatch):
    for name, value in (("REPETITIONS", 1), ("READS", 20), ("COPIED", (4 * KIB, 16 * KIB)), ("COPIED_A_TURN", 64 * KIB)):
        monkeypatch.setattr(knees, name, value)
    monkeypatch.setattr(knees, "RECEIVED", (64, 64 * KIB))
    monkeypatch.setattr(knees, "FLOOD", 1 << 20)
    monkeypatch.setattr(knees, "WARM", 0)


def test_all_facts_are_shown_with_their_units():
    facts = knees.measured_facts()
    _, heads, rows = facts_table({"facts": facts})
    shown = dict(rows)
    assert heads == ["", "here"]
    assert shown["a recv of 1 B from TCP"].endswith(" us")
    assert "GB/s" in shown["a recv of 64 KiB"]
    assert shown["copying 16 KiB"].endswith(" GB/s")
    assert "the same through asyncio: a turn of the loop for each read" in shown
    assert {"two small writes until they are answered, Nagle", "two small writes until they are answered, TCP_NODELAY"} <= set(
        shown
    )
    assert all(spread["median"] > 0 for spread in (*facts["read_ns"].values(), *facts["copy_gb_s"].values()))
    assert facts["socket"]["flood"]["most"] <= 1 << 20


def test_a_loop_reads_as_many_bytes_as_were_sent_one_at_a_time_each_turn():
    with knees.one_by_one_on("asyncio") as turn:
        for _ in range(3):
            turn()


def test_a_block_that_is_mapped_anew_costs_page_faults():
    fresh = knees.fresh_memory()
    assert fresh["mapped anew"]["faults"] > fresh["kept"]["faults"]  # how many depends on the size of the kernel's folios


def test_a_flood_is_all_read():
    with knees.connected() as (sender, receiver):
        assert sum(knees.flood(sender, receiver)) == 1 << 20


def test_caches_are_those_that_hold_data(monkeypatch, tmp_path):
    for index, (level, kind, size) in enumerate((("1", "Data", "32K"), ("1", "Instruction", "64K"), ("2", "Unified", "512K"))):
        (tmp_path / f"index{index}").mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (tmp_path / f"index{index}" / name).write_text(text + "\n")
    monkeypatch.setattr(knees, "CACHES", tmp_path)
    assert knees.caches() == {"L1": 32 * KIB, "L2": 512 * KIB}
    monkeypatch.setattr(knees, "CACHES", tmp_path / "none")
    assert knees.caches() == {}


@pytest.mark.parametrize("nodelay", [0, 1])
def test_two_writes_are_sent_with_nagles_algorithm_or_without(nodelay, monkeypatch):
    seen = []

    @contextlib.contextmanager
    def watched():
        with before() as (client, server):
            yield client, server
            seen.append(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    before = knees.connected
    monkeypatch.setattr(knees, "connected", watched)
    with knees.asking(nodelay) as turn:
        assert turn() > 0
    assert [bool(option) for option in seen] == [bool(nodelay)]
