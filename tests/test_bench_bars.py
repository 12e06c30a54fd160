"""The bars: which cells they look at, what they say, and that a report without a contender has none for it."""

import pytest

from fastframe.bench import bars

NAMES = {"limit": "limit", "limit by chunk": "limit", "compiled": "ours", "pure": "ours", "fast": "compiled", "slow": "python"}


def decode_row(contender, payload, chunk, **ratio):
    ratios = {name.replace("_", " "): {"lower": 0, "median": value, "upper": 9} for name, value in ratio.items()}
    return {"contender": contender, "payload": payload, "chunk": chunk, "ratio": ratios}


def report(**tables):
    return {"contenders": NAMES, "decode": [], "batch": [], "encode": [], "linear": [], **tables}


def judged(**tables):
    return {verdict["bar"]: verdict for verdict in bars.verdicts(report(**tables))}


def test_nothing_measured_is_nothing_judged():
    assert bars.verdicts(report()) == []


def test_decode_has_a_bar_for_the_median_and_one_for_the_worst():
    rows = [decode_row("compiled", 16, 1024, limit=ratio, slow=0.5, fast=0.8) for ratio in (1.0, 1.05)]
    rows[1]["payload"] = 64
    verdict = judged(decode=rows)["compiled decode, times the limit"]
    assert verdict["at_most"] == {"median": 1.1, "worst": 1.25}
    assert verdict["reached"] == {"median": pytest.approx(1.025), "worst": 1.05}
    assert verdict["worst_cell"] == "64 B in chunks of 1 KiB"
    assert verdict["cells"] == 2
    assert verdict["passed"]
    assert verdict["over"] == {}


def test_a_median_over_its_bar_is_missed_even_if_no_cell_is_over_the_worst():
    verdict = judged(decode=[decode_row("compiled", 16, 1024, limit=1.2, fast=1)])["compiled decode, times the limit"]
    assert not verdict["passed"]
    assert verdict["over"] == {}


def test_limit_by_chunk_counts_where_it_takes_part():
    rows = [
        decode_row("compiled", 16, 1024, limit=1.0, fast=1),
        decode_row("compiled", 4096, 1024, limit=3.0, limit_by_chunk=1.2, fast=1),
    ]
    verdicts = judged(decode=rows)
    assert verdicts["compiled decode, times the limit"]["over"] == {"4 KiB in chunks of 1 KiB": 3.0}
    assert verdicts["compiled decode, times the limit called by chunk"]["reached"] == {"median": 1.1, "worst": 1.2}


def test_the_best_peer_is_the_one_that_leaves_the_highest_ratio():
    rows = [decode_row("compiled", 16, 1024, fast=0.9, slow=0.1), decode_row("pure", 16, 1024, fast=9, slow=1.1)]
    verdicts = judged(decode=rows)
    assert verdicts["compiled decode, times the best peer"]["reached"]["worst"] == 0.9
    pure = verdicts["pure decode, times the best pure-Python peer"]
    assert pure["over"] == {"16 B in chunks of 1 KiB": 1.1}
    assert not pure["passed"]


def test_batches_have_another_bar_under_64_bytes():
    rows = [decode_row("compiled", payload, 1024, walk=2) for payload in (16, 64)]
    verdicts = judged(batch=rows)
    assert verdicts["compiled feed_batch, times the walk, under 64 B"]["passed"]
    assert verdicts["compiled feed_batch, times the walk, from 64 B"]["over"] == {"64 B in chunks of 1 KiB": 2}


def test_encode_bars_by_batch_and_size():
    cells = [(1, 16), (64, 16), (64, 64), (64, 256), (64, 1024)]
    rows = [{"contender": "compiled", "payload": n, "batch": b, "ratio": {"limit": {"median": 1.3}}} for b, n in cells]
    verdicts = judged(encode=rows)
    assert {name: (verdict["cells"], verdict["passed"]) for name, verdict in verdicts.items()} == {
        "compiled encode, times the limit": (1, False),
        "compiled encode_many of 64, 64 B to 1 KiB, times the limit": (2, True),
        "compiled encode_many of 64, from 1 KiB, times the limit": (1, False),
    }


def test_twice_the_bytes():
    rows = [{"contender": "pure", "shape": "tiny", "way": way, "ratio": {"half": {"median": 2.1}}} for way in ("feed", "x")]
    (verdict,) = bars.verdicts(report(linear=rows))
    assert verdict["passed"]
    assert verdict["cells"] == 2


def test_without_the_limit_there_is_no_bar_against_it():
    verdicts = judged(decode=[decode_row("compiled", 16, 1024, pure=0.1, fast=1)])
    assert list(verdicts) == ["compiled decode, times the best peer"]


def test_the_callback_way_is_held_against_c_and_go_in_every_cell():
    rows = [
        {**decode_row("callback/uvloop", payload, 0, c=c, go=0.9), "window": 64} for payload, c in ((64, 1.2), (1 << 20, 1.4))
    ]
    rows += [{**decode_row("go", 64, 0, c=2), "window": 64}, {**decode_row("stream/uvloop", 64, 0, c=9, go=9), "window": 64}]
    names = {"c": "native", "go": "native", "callback/uvloop": "ours", "stream/uvloop": "ours"}
    report = {"benchmark": "echo", "machine": {"implementation": "cython"}, "contenders": names, "echo": rows}
    against_c, against_go = bars.echo_verdicts(report)
    assert against_c["bar"] == "callback/uvloop, times C"
    assert against_c["over"] == {"1 MiB, window 64": 1.4}
    assert against_go["passed"]
    for row in rows:
        row["ratio"].pop("c", None)
    assert [verdict["bar"] for verdict in bars.echo_verdicts(report)] == ["callback/uvloop, times Go"]
    assert bars.echo_verdicts(report | {"machine": {"implementation": "python"}}) == []


@pytest.mark.parametrize(
    ("family", "implementation", "said"),
    [("echo", "python", True), ("echo", "cython", False), ("memory", "python", False), ("chat", None, False)],
)
def test_the_echo_of_the_pure_codec_is_not_judged_and_that_is_said(family, implementation, said):
    reason = bars.not_judged({"benchmark": family, "machine": {"implementation": implementation}})
    assert reason == ("the bars are the compiled codec's: the pure one is held to none" if said else "")


@pytest.mark.parametrize(("tls", "count"), [("no", 2), ("yes", 1)])
def test_idle_connections_have_a_bar_for_memory_unless_there_is_tls(tls, count):
    rows = [
        {"contender": name, "bytes": {"median": size}, "slow": {"ratio": {"median": ratio}}}
        for name, size, ratio in (("callback/uvloop", 4096, 1.3), ("stream/uvloop", 5120, 1.0), ("c", 9999, 9))
    ]
    names = {"c": "native", "callback/uvloop": "ours", "stream/uvloop": "ours"}
    verdicts = bars.connection_verdicts({"contenders": names, "connections": rows, "settings": {"tls": tls}})
    assert [verdict["over"] for verdict in verdicts] == [{"stream/uvloop": 5.0}, {"callback/uvloop": 1.3}][-count:]


def test_commands_have_a_bar_for_how_many_there_are_a_second_and_another_in_the_sandbox():
    rows = [
        {"table": table, "contender": name, "at_once": 8, "ns": {"median": ns}}
        for table, name, ns in (
            ("one", "fastframe/plain", 9e6),
            ("several", "pipes", 9e6),
            ("several", "fastframe/plain", 1.6e6),
            ("several", "fastframe/sandbox", 3.4e6),
        )
    ]
    plain, sandbox = bars.exec_verdicts({"exec": rows})
    assert plain["bar"] == "fastframe/plain, ms a command (600/s)"
    assert plain["reached"]["worst"] == 1.6
    assert plain["passed"]
    assert sandbox["over"] == {"8 at once": 3.4}
    assert not sandbox["passed"]
    assert bars.exec_verdicts({"exec": rows[:2]}) == []
