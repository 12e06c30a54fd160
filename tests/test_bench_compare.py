"""What got slower: ratios rather than values, beyond the quartiles and the threshold; and what cannot be compared."""

import json

import pytest

from fastframe.bench import compare
from fastframe.bench.command import write_json
from fastframe.bench.family import Figure
from fastframe.bench.measure import Spread


def figure(median, ratio=None, better="less", width=0.01, contender="own"):
    def around(value):
        return Spread(value * (1 - width), value, value * (1 + width))

    return Figure("a cell", "ns", around(median), around(ratio) if ratio else None, contender, better)


@pytest.mark.parametrize(
    ("before", "after", "times", "verdict"),
    [
        (figure(100), figure(104), 1.04, "the same"),  # under the threshold
        (figure(100), figure(106), 1.06, "slower"),
        (figure(100), figure(90), 0.9, "faster"),
        (figure(100, width=0.1), figure(115, width=0.1), 1.15, "the same"),  # quartiles overlap
        (figure(100, 2.0), figure(300, 2.0), 1, "the same"),  # the base became slower, too
        (figure(100, 2.0), figure(100, 3.0), 1.5, "slower"),
        (figure(100, 2.0), figure(300), 3, "slower"),  # only one has a ratio
        (figure(100, better="more"), figure(50, better="more"), 2, "slower"),
        (figure(100, better="more"), figure(200, better="more"), 0.5, "faster"),
        (figure(0), figure(0), 1, "the same"),
    ],
)
def test_a_change(before, after, times, verdict):
    found = compare.change("echo", before, after, {})
    assert found.times == pytest.approx(times)
    assert compare.judged(found, 1.05) == verdict


def test_what_changes_by_itself_is_noise():
    def changed(contender, times):
        return compare.change("echo", figure(100, contender=contender), figure(100 * times, contender=contender), {})

    kinds = {"c": "native", "own": "ours"}
    controls = [changed("c", 1 + at / 100) for at in range(-10, 11)]
    assert compare.noise_of([*controls, changed("own", 2.0)], kinds, 1.05) == pytest.approx(1 / 0.91, abs=0.01)
    assert compare.noise_of(controls[:9], kinds, 1.05) == 1.05  # too few to tell
    assert compare.noise_of([changed("c", 1.0)] * 20, kinds, 1.05) == 1.05


def test_without_others_noise_is_how_all_scatter():
    def changed(times):
        return compare.change("echo", figure(100), figure(100 * times), {})

    scattered = [changed(1.5 * times) for times in (0.8, 0.85, 0.9, 0.95, 1, 1, 1.05, 1.1, 1.15, 1.2)]
    noise = compare.noise_of(scattered, {}, 1.05)
    assert noise == pytest.approx(1.34, abs=0.01)
    assert compare.judged(changed(1.5), noise) == "slower"  # though all have become so
    assert compare.noise_of([*[changed(1)] * 10, *[changed(3)] * 9], {}, 1.05) == 1.05


def test_a_base_of_ours_is_compared_by_its_values():
    kinds = {"c": "native", "own": "ours"}

    def changed(contender):
        before, after = (Figure("a cell", "ns", Spread(ns, ns, ns), Spread(1, 1, 1), contender) for ns in (100, 300))
        return compare.change("echo", before, after, kinds)

    assert (changed("own").times, changed("own").paired) == (3, False)
    assert (changed("c").times, changed("c").paired) == (1, True)  # the machine got slower
    assert compare.noise_of([changed("c")] * 10 + [compare.change("echo", figure(1, 2), figure(1, 3), {})], kinds, 1.05) == 1.05


def report(us=1.0, ratio=1.5, quick=False, window=64, **machine):
    spread = {"lower": us * 990, "median": us * 1000, "upper": us * 1010}
    row = {
        "payload": 64, "window": window, "contender": "callback/asyncio", "cpu_ns": spread, "latency_ns": None,
        "ratio": {"c": {"lower": ratio, "median": ratio, "upper": ratio}},
    }  # fmt: skip
    return {
        "benchmark": "echo", "quick": quick, "versions": {}, "settings": {},
        "machine": {"cpu": "one", "date": str(us), **machine},
        "contenders": {"c": "native", "callback/asyncio": "ours"}, "echo": [row],
    }  # fmt: skip


@pytest.fixture
def compared(tmp_path, capsys):
    def run(before, after, *options):
        for name, reports in (("before", before), ("after", after)):
            write_json(tmp_path / name, reports)
        assert compare.main([str(tmp_path / "before"), str(tmp_path / "after"), *options]) == 0
        return capsys.readouterr().out

    return run


def test_two_files(compared):
    assert "1 figures: 0 slower, 0 faster, 1 the same; the median of all values is 3.00 times" in compared(
        [report()], [report(3.0)]
    )
    out = compared([report()], [report(ratio=1.8)])
    assert "slower" in out
    assert "echo: 64 B, window 64, callback/asyncio" in out
    assert "1.20x  ratio" in out
    assert "the same" in compared([report()], [report()], "--all").splitlines()[1]
    assert "slower\n" not in compared([report()], [report(ratio=1.8)], "--threshold", "25")


def test_what_is_different_is_said_once(compared):
    out = compared([report(cores=2)], [report(quick=True, cores=4, python="3.13")])
    assert "echo: one of the two was measured with --quick" in out
    assert "cores was 2, is 4" in out
    assert "python was not there, is 3.13" in out
    assert "date" not in out


def test_what_only_one_has_is_said(compared):
    out = compared([report()], [report(window=1)])
    assert "only before: 1, such as echo: 64 B, window 64, callback/asyncio" in out
    assert "only after: 1, such as echo: 64 B, window 1, callback/asyncio" in out
    assert out.splitlines()[-1].startswith("0 figures")


def test_json_has_it_all(compared):
    found = json.loads(compared([report()], [report(ratio=1.8)], "--json"))
    (change,) = found["changes"]
    assert change["verdict"] == "slower"
    assert change["of"] == "ratio"
    assert change["times"] == pytest.approx(1.2)
    assert (found["only_before"], found["only_after"], found["different"]) == ([], [], [])


def test_what_cannot_be_compared_is_a_failure(tmp_path, capsys):
    good, other = tmp_path / "good", tmp_path / "other"
    write_json(good, [report()])
    for content in (
        "",
        "[]",
        "{}",
        '{"fastframe_bench": 1}',
        '{"fastframe_bench": 0, "reports": []}',
        '{"fastframe_bench": 1, "reports": []}',
    ):
        other.write_text(content)
        assert compare.main([str(good), str(other)]) == 1
        assert capsys.readouterr().err.startswith("fastframe bench compare: ")
    assert compare.main([str(good), str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["x", "-1", "nan", "1e9"])
def test_a_threshold_is_a_number_of_percent(threshold, capsys):
    with pytest.raises(SystemExit) as caught:
        compare.main(["a", "b", "--threshold", threshold])
    assert caught.value.code == 2
