"""Who competes: names, versions, and WebSocket's frames on both ways."""

import importlib.metadata
import socket

import pytest

from fastframe.bench import echoes, entry
from fastframe.bench.entry import LeftOutError


def test_a_part_of_a_name_means_all_that_begin_with_it():
    assert list(echoes.chosen([])) == list(echoes.ECHOES)
    assert list(echoes.chosen(["callback"])) == ["callback/asyncio", "callback/uvloop", "callback/aiofastnet"]
    assert list(echoes.chosen(["sync", "c"])) == ["c", "sync"]
    with pytest.raises(ValueError, match="there is no 'call'; there are c, go"):
        echoes.chosen(["c", "call"])


def test_a_client_masks_its_payloads():
    frame = echoes.masked_wire([b"abcdef", b""])
    assert frame[:2] == b"\x82\x86"
    assert echoes.masked(frame[6:12]) == b"abcdef"
    assert frame[2:6] == echoes.MASK
    assert frame[12:] == b"\x82\x80" + echoes.MASK


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"HTTP/1.1 101 "])
def test_an_upgrade_that_is_refused_or_cut_off_is_an_error(answer):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError, match="the WebSocket was refused"):
            echoes.upgrade(ours)


def test_who_is_not_installed_is_left_out_with_the_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(entry.importlib.util, "find_spec", lambda name: None if name == "uvloop" else name)
    with pytest.raises(LeftOutError, match=r"^uvloop is not installed; the extra `bench` brings it$"):
        echoes.ECHOES["callback/uvloop"].command()
    assert echoes.ECHOES["twisted"].command()[-1] == "twisted"


def test_versions_are_those_of_who_takes_part():
    found = echoes.versions(["c", "callback/uvloop", "twisted"])
    assert found["uvloop"] == importlib.metadata.version("uvloop")
    assert set(found) == {"cc", "twisted", "uvloop"}


def test_what_is_not_installed_has_no_version(monkeypatch):
    def version(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(echoes.shutil, "which", lambda _: None)
    assert echoes.versions(["c", "callback/uvloop"]) == {}
