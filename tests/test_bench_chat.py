"""`fastframe bench chat` as a user runs it, with few members; what it makes of turns, and says of them."""

import contextlib
import json
import sys
from types import SimpleNamespace

import pytest

from fastframe.bench import chat, chats, connections, otherchats
from fastframe.bench.chat import Started, Turn
from fastframe.bench.chats import Heard
from fastframe.bench.entry import BenchError, LeftOutError

MS = 1_000_000


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(chat, "QUICK_SECONDS", 0.05)
    monkeypatch.setattr(chat, "WARM_SECONDS", 0.05)
    monkeypatch.setattr(chat, "LONGEST", 0.5)
    monkeypatch.setattr(chats, "QUIET", 0.1)


TINY = ["--quick", "--turns", "2", "--members", "5"]


@pytest.mark.contenders
def test_everybody_takes_turns_and_the_report_has_it_all(short, tmp_path, capsys):
    path, document = tmp_path / "chat.json", tmp_path / "chat.md"
    assert chat.main([*TINY, "--json", str(path), "--markdown", str(document)]) == 0
    report = json.loads(path.read_text())
    everybody = list(otherchats.CONTENDERS)
    assert report["left_out"] == []
    assert [row["contender"] for row in report["chat"] if row["table"] == "talk"] == everybody
    assert [row["contender"] for row in report["chat"] if row["table"] == "slow"] == ["fastframe/asyncio"]
    for row in report["chat"][: len(everybody)]:
        assert 100 < row["rate"]["median"] < 1000
        assert 0 < row["median"]["median"] <= row["slow"]["median"] <= row["slowest"]["median"]
        assert row["cpu_ns"]["median"] > 0
        assert row["memory"] > 0
    assert report["versions"].keys() == {"uvloop", "websockets"}
    assert "500 deliveries/s, times the time" in capsys.readouterr().out
    assert "## What a delivery takes" in document.read_text()


@pytest.mark.contenders
def test_the_most_is_found(short, monkeypatch, tmp_path):
    monkeypatch.setattr(chat, "STEP", 50)
    path = tmp_path / "chat.json"
    assert chat.main([*TINY, "--turns", "1", "--most", "--only", "c", "--json", str(path)]) == 0
    (row,) = json.loads(path.read_text())["chat"]
    assert (row["table"], row["contender"]) == ("most", "c")
    assert row["rate"]["median"] >= 500


@pytest.mark.contenders
def test_a_slow_member_is_cut_and_nobody_else_notices(tmp_path):
    path = tmp_path / "chat.json"
    assert chat.main([*TINY, "--rate", "1000", "--only", "fastframe/asyncio", "--json", str(path)]) == 0
    (row,) = (row for row in json.loads(path.read_text())["chat"] if row["table"] == "slow")
    assert len(row["cut"]) == row["members"] == chat.SLOW
    assert 1 < min(row["cut"]) <= max(row["cut"]) < 10


class Silent:
    """A crowd at a server that fails, or takes so many nanoseconds for each of two deliveries."""

    def __init__(self, error=None, ns=1):
        self.error = error
        self.ns = ns
        self.closed = False

    def talk(self, rate, seconds, over):
        if self.error:
            raise BenchError(self.error)
        return Heard(1, self.ns, [self.ns, self.ns])

    def close(self):
        self.closed = True


def started(crowd):
    return Started(SimpleNamespace(cpu_ns=iter(range(100)).__next__, memory=lambda: 1 << 20), crowd, 2048.0)


def rows_of(crowds, turns=2):
    left_out = []
    args = SimpleNamespace(members=2, rate=10, turns=turns, seconds=1, quick=False)
    return chat.talk_rows({name: started(crowd) for name, crowd in crowds.items()}, args, left_out), left_out


def test_who_fails_is_left_out_with_the_reason():
    failing = Silent("m1 was cut")
    rows, left_out = rows_of({"c": Silent(), "streams/asyncio": failing})
    assert [row["contender"] for row in rows] == ["c"]
    assert left_out == ["streams/asyncio: m1 was cut"]
    assert failing.closed


@pytest.mark.parametrize("name", ["c", "fastframe/asyncio"])
def test_a_failure_of_ours_or_of_the_base_is_a_failure(name):
    with pytest.raises(BenchError, match=f"{name}: m1 was cut"):
        rows_of({"c": Silent(), name: Silent("m1 was cut")})


def test_what_is_not_installed_is_left_out(monkeypatch, capsys):
    def missing():
        raise LeftOutError("websockets is not installed")

    peer = otherchats.CONTENDERS["websockets/asyncio"]._replace(command=missing)
    monkeypatch.setitem(otherchats.CONTENDERS, "websockets/asyncio", peer)
    left_out = []
    monkeypatch.setattr(chat, "chosen", lambda _: {"websockets/asyncio": peer})
    with contextlib.ExitStack() as stack:
        assert chat.start_all(SimpleNamespace(only=[], members=1), None, left_out, stack) == {}
    assert left_out == ["websockets/asyncio: websockets is not installed"]


def test_a_package_that_is_not_here_is_found_missing(monkeypatch):
    monkeypatch.setattr(otherchats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LeftOutError, match="uvloop is not installed"):
        otherchats.CONTENDERS["fastframe/uvloop"].command()
    assert otherchats.CONTENDERS["streams/asyncio"].command()[0] == sys.executable


def test_without_trustme_tls_alone_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "trustme", None)
    left_out = []
    monkeypatch.setattr(chat, "chosen", lambda _: {"fastframe/tls": otherchats.CONTENDERS["fastframe/tls"]})
    with contextlib.ExitStack() as stack:
        assert chat.start_all(SimpleNamespace(only=[], members=1), None, left_out, stack) == {}
    assert left_out == ["fastframe/tls: trustme, which makes the certificate, is not installed"]


def test_figures_of_turns():
    rows, _ = rows_of({"c": Silent(ns=10 * MS), "fastframe/asyncio": Silent(ns=200 * MS)})
    assert rows[1]["rate"]["median"] == 10  # two deliveries in 200 ms
    assert rows[1]["late"]["median"] == 2  # ten texts a second were to be said
    assert rows[1]["slow"]["median"] == 200 * MS
    contenders = {"c": "limit", "fastframe/asyncio": "ours"}
    report = {"chat": rows, "contenders": contenders, "settings": {"members": 2, "texts_a_second": 10}}
    late, slow = chat.chat_verdicts(report)
    assert (late["bar"], late["reached"]["worst"], late["passed"]) == ("20 deliveries/s, times the time", 2, False)
    assert (slow["reached"]["worst"], slow["passed"]) == (200, False)
    ((_, heads, lines),) = chat.tables(report)
    assert len(heads) == len(lines[0]) == len(lines[1])
    assert lines[1][:2] == ["fastframe/asyncio", "10"]


def slow_row(name, cut):
    return {
        "table": "slow",
        "contender": name,
        "members": 2,
        "longest": 15,
        "cut": cut,
        "grown": 1 << 20,
        "slow": MS,
        "slowest": 2 * MS,
    }


@pytest.mark.parametrize(
    ("cut", "text", "passed"), [([4.0, 6.0], "4.0 to 6.0", True), ([4.0], "4.0 to 4.0", False), ([], "not in 15", False)]
)
def test_when_slow_members_are_cut(cut, text, passed):
    contenders = {"fastframe/uvloop": "ours"}
    report = {
        "chat": [slow_row("fastframe/uvloop", cut)],
        "contenders": contenders,
        "settings": {"members": 2, "texts_a_second": 10},
    }
    (verdict,) = chat.chat_verdicts(report)
    assert (verdict["bar"], verdict["passed"]) == ("s until a slow member is cut", passed)
    ((_, heads, (line,)),) = chat.tables(report)
    assert line == ["fastframe/uvloop", f"{len(cut)} of 2", text, "1.0", "2.0", "1.0"]
    assert len(heads) == len(line)


def test_the_most_of_each_turn_begins_where_the_last_one_ended():
    rates = []

    class Limited(Silent):
        def talk(self, rate, seconds, over):
            rates.append(rate)
            return Heard(2, 2 * round(1e9 / rate), [MS] * 4) if rate <= 130 else Heard(2, 10**12, [10**12])

    left_out = []
    args = SimpleNamespace(members=2, rate=100, turns=2, seconds=1)
    (row,) = chat.most_rows({"c": started(Limited())}, args, left_out)
    assert rates == [100, 125, 156.25, 156.25, 125, 156.25, 156.25]
    assert row["rate"]["median"] == 250
    assert row["server_busy"]["median"] > 0
    ((_, heads, (line,)),) = chat.tables({"chat": [row]})
    assert len(heads) == len(line)


@pytest.mark.parametrize(("start", "limit", "found"), [(100, 130, 125), (100, 200, 195.3125), (100, 99, 80), (100, 0, 0)])
def test_the_most_is_sought_from_both_sides(start, limit, found):
    assert chat.most(lambda rate: rate <= limit, start) == found


def test_a_rate_holds_if_everything_comes_and_comes_in_time():
    on_time = Heard(100, 1_000 * MS, [1, 99 * MS])
    assert chat.holds(Turn(on_time, 0, 0), 100)
    assert not chat.holds(Turn(on_time, 0, 0), 200)
    assert not chat.holds(Turn(on_time._replace(latencies=[1, 101 * MS]), 0, 0), 100)


def test_more_files_than_the_kernel_allows_are_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (100, 1000))
    assert chat.main(["--members", "901", "--only", "c"]) == 1
    assert "fastframe bench chat: no process may open" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--only", "nobody"], ["--members", "0"], ["--rate", "x"]])
def test_what_is_asked_wrongly_gets_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        chat.main(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_quick_is_smaller():
    quick, full = chat.parse(["--quick"]), chat.parse([])
    assert quick.members < full.members
    assert quick.turns < full.turns
    assert quick.seconds < full.seconds
