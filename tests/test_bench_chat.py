"""`fastframe bench chat` as a user runs it, with few members; what it makes of turns, and says of them."""

import contextlib
import sys
from types import SimpleNamespace

import pytest

from fastframe.bench import chat, chats, connections, otherchats
from fastframe.bench.chat import Setup, Started, Turn
from fastframe.bench.chats import Heard
from fastframe.bench.command import parse, read_json
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
    path = tmp_path / "chat.json"
    assert chat.main([*TINY, "--json", str(path), "--markdown", str(tmp_path)]) == 0
    (report,) = read_json(path)
    everybody = list(otherchats.CONTENDERS)
    assert report["left_out"] == []
    assert [row["contender"] for row in report["chat"] if row["table"] == "talk"] == everybody
    assert [row["contender"] for row in report["chat"] if row["table"] == "slow"] == ["fastframe/asyncio"]
    for row in report["chat"][: len(everybody)]:
        assert 0 < row["rate"]["median"] < 1000
        assert 0 < row["median"]["median"] <= row["slow"]["median"] <= row["slowest"]["median"]
        assert row["cpu_ns"]["median"] > 0
        assert row["memory"] > 0
    assert report["versions"].keys() == {"uvloop", "websockets"}
    assert "500 deliveries/s, times the time" in capsys.readouterr().out
    page = (tmp_path / "benchmarks-chat.md").read_text()
    assert "## What a delivery takes" in page
    assert "| *fastframe/uvloop* | `fastframe serve chat --loop uvloop`" in page


@pytest.mark.contenders
def test_the_most_is_found(short, monkeypatch, tmp_path):
    # The loop in C tears frames of several speakers apart once it has more to do than it can.
    monkeypatch.setattr(chat, "holds", lambda _, rate: rate <= 100)
    path = tmp_path / "chat.json"
    assert chat.main([*TINY, "--turns", "1", "--most", "--only", "c", "--json", str(path)]) == 0
    ((row,),) = (report["chat"] for report in read_json(path))
    assert (row["table"], row["contender"]) == ("most", "c")
    assert row["rate"]["median"] == 500


@pytest.mark.contenders
def test_a_slow_member_is_cut_and_nobody_else_notices(tmp_path):
    path = tmp_path / "chat.json"
    assert chat.main([*TINY, "--rate", "250", "--only", "fastframe/asyncio", "--json", str(path)]) == 0
    (report,) = read_json(path)
    (row,) = (row for row in report["chat"] if row["table"] == "slow")
    assert len(row["cut"]) == row["members"] == chat.SLOW
    assert 1 < min(row["cut"]) <= max(row["cut"]) < chat.LONGEST


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

    def join(self, count):
        return []

    slow_down = dismiss_slow = all_cut = lambda *_: None
    cut = ()


SETUP = Setup(members=2, rate=10, turns=2, seconds=1, quick=False, left_out=[])


def started(crowd):
    return Started(SimpleNamespace(cpu_ns=iter(range(100)).__next__, memory=lambda: 1 << 20), crowd, 2048.0)


def rows_of(crowds, turns=2):
    setup = SETUP._replace(turns=turns, left_out=[])
    return chat.talk_rows({name: started(crowd) for name, crowd in crowds.items()}, setup), setup.left_out


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
    setup = SETUP._replace(left_out=[])
    monkeypatch.setattr(chat, "chosen", lambda _: {"websockets/asyncio": peer})
    with contextlib.ExitStack() as stack:
        assert chat.start_all([], setup, None, stack) == {}
    assert setup.left_out == ["websockets/asyncio: websockets is not installed"]


def test_without_trustme_tls_alone_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "trustme", None)
    setup = SETUP._replace(left_out=[])
    monkeypatch.setattr(chat, "chosen", lambda _: {"fastframe/tls": otherchats.CONTENDERS["fastframe/tls"]})
    with contextlib.ExitStack() as stack:
        assert chat.start_all([], setup, None, stack) == {}
    assert setup.left_out == ["fastframe/tls: trustme, which makes the certificate, is not installed"]


def test_figures_of_turns():
    rows, _ = rows_of({"c": Silent(ns=10 * MS), "fastframe/asyncio": Silent(ns=200 * MS)})
    assert rows[1]["rate"]["median"] == 10  # two deliveries in 200 ms
    assert rows[1]["late"]["median"] == 2  # ten texts a second were to be said
    assert rows[1]["slow"]["median"] == 200 * MS
    assert rows[1]["ratio"]["c"]["median"] == 1


def test_others_are_asked_about_slow_members_once():
    crowds = {name: Silent() for name in ("c", "fastframe/asyncio", "fastframe/uvloop", "streams/asyncio", "streams/uvloop")}
    asked = chat.slow_rows({name: started(crowd) for name, crowd in crowds.items()}, SETUP)
    assert [row["contender"] for row in asked] == ["c", "fastframe/asyncio", "fastframe/uvloop", "streams/asyncio"]
    assert [row["slowest"] for row in asked] == [1] * 4
    quick = chat.slow_rows({name: started(crowd) for name, crowd in crowds.items()}, SETUP._replace(quick=True))
    assert [row["contender"] for row in quick] == ["fastframe/asyncio"]


def test_the_most_of_each_turn_begins_where_the_last_one_ended():
    rates = []

    class Limited(Silent):
        def talk(self, rate, seconds, over):
            rates.append(rate)
            return Heard(2, 2 * round(1e9 / rate), [MS] * 4) if rate <= 130 else Heard(2, 10**12, [10**12])

    (row,) = chat.most_rows({"c": started(Limited())}, SETUP._replace(rate=100))
    assert rates == [100, 125, 156.25, 156.25, 125, 156.25, 156.25]
    assert row["rate"]["median"] == 250
    assert row["server_busy"]["median"] > 0


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
    err = capsys.readouterr().err
    assert "fastframe bench chat: no process may open" in err
    assert "a smaller --members" in err


@pytest.mark.parametrize("arguments", [["--only", "nobody"], ["--members", "0"], ["--rate", "x"]])
def test_what_is_asked_wrongly_gets_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        chat.main(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_quick_is_smaller():
    quick, full = (chat.setup_for(parse(chat.FAMILY, arguments)) for arguments in (["--quick"], []))
    assert quick.members < full.members
    assert quick.turns < full.turns
    assert quick.seconds < full.seconds
