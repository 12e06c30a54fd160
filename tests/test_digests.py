"""Digests by name: the right ones, whatever is installed, and none that keeps other threads waiting."""

from __future__ import annotations

import importlib.util
import sys
import threading

import pytest

from fastframe.servers import digests
from fastframe.servers.errors import OperationError

# Of no bytes and of b"abc": FIPS 180-2, RFC 1321, BLAKE3's test vectors and specification, xxHash's own.
KNOWN = {
    "sha256": (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ),
    "md5": ("d41d8cd98f00b204e9800998ecf8427e", "900150983cd24fb0d6963f7d28e17f72"),
    "blake3": (
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    ),
    "xxh3": ("99aa06d3014798d86001c324468d497f", "06b05ab6733a618578af5f94892f3950"),
    "none": ("", ""),
}
BLOCK = bytes(1 << 20)
BLOCKS = 3000  # 3 GiB: half a second at the least


def test_all_are_there_where_the_extra_is_installed():
    assert set(digests.available()) == set(KNOWN)
    assert digests.available()[0] == digests.DEFAULT == "sha256"


@pytest.mark.parametrize("name", KNOWN)
def test_known_digests(name):
    empty, abc = KNOWN[name]
    hasher = digests.new(name)
    assert hasher.hexdigest() == empty
    hasher.update(b"a")
    hasher.update(memoryview(bytearray(b"bc")))
    assert hasher.hexdigest() == abc


@pytest.mark.parametrize("name", KNOWN)
def test_a_copy_goes_its_own_way(name):
    hasher = digests.new(name)
    hasher.update(b"ab")
    digests_before = hasher.hexdigest()
    copy = hasher.copy()
    copy.update(b"c")
    assert (hasher.hexdigest(), copy.hexdigest()) == (digests_before, KNOWN[name][1])


@pytest.mark.parametrize("name", ["", "SHA256", "crc32", "os.system", "sha256\n"])
def test_an_unknown_digest_is_unsupported(name):
    with pytest.raises(OperationError, match="sha256") as caught:
        digests.new(name)
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize(("name", "package"), [("blake3", "blake3"), ("xxh3", "xxhash")])
def test_what_is_not_installed_is_unsupported_and_the_others_work(monkeypatch, name, package):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == package else real(asked))
    assert set(digests.available()) == set(KNOWN) - {name}
    with pytest.raises(OperationError) as caught:
        digests.new(name)
    assert caught.value.code == "unsupported"
    assert digests.new("sha256").hexdigest() == KNOWN["sha256"][0]


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "none"])
def test_other_threads_run_while_a_large_block_is_hashed(name):
    """Nobody is made to give up the GIL for a minute here: another thread runs if `update` lets go of it by itself."""
    hasher, met, hashed = digests.new(name), threading.Event(), []

    def work():
        while not met.is_set() and len(hashed) < BLOCKS:
            hasher.update(BLOCK)
            hashed.append(None)

    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        met.set()
        thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(hashed) < BLOCKS
