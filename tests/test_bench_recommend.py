"""`fastframe bench recommend`: which sizes are read off sweeps whose figures are known."""

import json

import pytest

from fastframe.bench import recommend
from fastframe.bench.command import write_json
from fastframe.bench.family import new_report

KIB, MIB = 1 << 10, 1 << 20


def spread(median):
    return {"lower": median, "median": median, "upper": median}


def row(contender, payload, median, **more):
    return {"contender": contender, "payload": payload, "ns": spread(median), "ratio": spread(1.0), **more}


READ_COSTS = {4 * KIB: 400.0, 64 * KIB: 103.0, 256 * KIB: 101.0, 4 * MIB: 100.0}
BULK_NS = {64 * KIB: 3.0, MIB: 1.02, 4 * MIB: 1.0}  # both ends, for a byte
LOADS = (1, 10)  # what else the machine did in one turn or another: only ratios are what they should be


def sweep():
    report = new_report("chunks", quick=True, settings={})
    echo = [
        row("blocking", payload, LOADS[read > 64 * KIB] * cost * payload, read=read) | {"ratio": spread(cost)}
        for payload in (64, MIB)
        for read, cost in READ_COSTS.items()
    ]
    for loop, factor in (("asyncio", 1.0), ("uvloop", 0.5)):  # they lend 256 KiB at most, and say nothing of more
        for payload in (64, MIB):
            echo += [row(f"callback/{loop}", payload, factor * payload, read=read) for read in (64 * KIB, 256 * KIB)]
    transfer = [
        row("feed", payload, payload * 2.0, read=read, **ends(payload * ns)) | {"receiver_ratio": spread(cost)}
        for payload, ns in BULK_NS.items()
        for read, cost in READ_COSTS.items()
    ]
    batch = [
        row("send_many", 64, 1.0, read=0, batch=batch, **ends(ns)) for batch, ns in ((1, 9000.0), (64, 109.0), (1024, 100.0))
    ]
    return report | {"decode": [], "echo": echo, "transfer": transfer, "batch": batch}


def ends(both):
    return {"sender_ns": spread(both / 4), "receiver_ns": spread(both * 3 / 4)}


def advice(report):
    return {each.what: each for each in recommend.advices(report)}


def test_the_smallest_read_that_is_nearly_the_best_is_recommended_with_what_others_cost():
    found = advice(sweep())["receiving"]
    assert (found.value, found.text) == (64 * KIB, "64 KiB a read")
    assert found.reason == (
        "it is within 5 % of the best over all sizes of frames; 4 KiB takes 288 % longer,"
        " 4 MiB takes 3 % less and 64 times the memory; our fronts read 256 KiB"
    )


def test_the_smallest_frame_that_is_nearly_the_fastest_is_recommended():
    found = advice(sweep())["frames of bulk data"]
    assert found.value == MIB
    assert found.reason == (
        "both ends take 1.1 s of processor a GiB; 64 KiB takes 194 % longer, 4 MiB takes 2 % less and 4 times the memory;"
        " 0.50 GB/s"
    )


def test_as_much_should_be_outstanding_as_a_server_likes_to_read():
    found = advice(sweep())["small requests"]
    assert (found.value, found.text) == (64 * KIB, "64 KiB outstanding, 963 of 64 B")
    assert "0.24 us of the server if it reads so much at once, 25.60 if 4 KiB" in found.reason


def test_the_fewest_frames_in_a_call_that_are_nearly_the_fastest_are_recommended():
    found = advice(sweep())["frames of 64 B"]
    assert (found.value, found.text) == (64, "64 in a call of send_many (4 KiB)")
    assert found.reason == "both ends take 0.11 us of processor a frame; sent one by one 9.00, 1024 in a call take 8 % less"


def test_uvloop_is_recommended_where_a_server_takes_less_on_it():
    report = sweep()
    assert advice(report)["loop"].value == "uvloop"
    assert "0.50 times the processor time" in advice(report)["loop"].reason
    for each in report["echo"]:
        if "uvloop" in each["contender"]:
            each["ns"] = spread(0.97 * each["payload"])
    assert advice(report)["loop"].value == "asyncio"
    report["echo"] = [each for each in report["echo"] if "uvloop" not in each["contender"]]
    assert "loop" not in advice(report)


def test_what_was_not_measured_is_left_out():
    report = sweep() | {"echo": [], "transfer": []}
    assert list(advice(report)) == ["frames of 64 B"]


def test_a_saved_sweep_is_read_and_told_to_people_and_to_programs(tmp_path, capsys):
    path = tmp_path / "chunks.json"
    write_json(path, [new_report("echo", quick=True, settings={}), sweep()])
    assert recommend.main(["--from", str(path)]) == 0
    assert "receiving:                64 KiB a read\n    it is within" in capsys.readouterr().out
    assert recommend.main(["--from", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recommend"][0]["value"] == 64 * KIB
    assert found["machine"]["cores"]


def test_what_cannot_be_told_is_a_failure_in_one_line(tmp_path, capsys):
    other, empty, none = tmp_path / "other.json", tmp_path / "empty.json", tmp_path / "none.json"
    write_json(other, [new_report("echo", quick=True, settings={})])
    write_json(empty, [sweep() | {"echo": [], "transfer": [], "batch": []}])
    for path, reason in ((other, "has no sweep"), (empty, "nothing was measured"), (none, "No such file")):
        assert recommend.main(["--from", str(path)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("fastframe bench recommend: ")
        assert reason in line


def test_without_a_file_a_short_sweep_is_made(monkeypatch, capsys):
    asked = []

    def measured(family, args):
        asked.append((family.name, args.quick, args.sweeps, args.reads[-1]))
        return sweep()

    monkeypatch.setattr(recommend.command, "measured", measured)
    assert recommend.main([]) == 0
    assert asked == [("chunks", True, ["echo", "transfer", "batch"], 4 * MIB)]


def test_what_is_asked_wrongly_gets_status_2():
    with pytest.raises(SystemExit) as caught:
        recommend.main(["--nothing"])
    assert caught.value.code == 2
