"""The fuzz targets themselves: they run on their seeds and on what was once found, and they see what is wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from fuzz import fuzz_decoder, fuzz_encoder
from fuzz.inputs import read_case
from fuzz.seeds import TARGETS

from fastframe import _codec_py

CHECKS = {"decoder": fuzz_decoder.check, "encoder": fuzz_encoder.check}
LINES = Path(__file__).with_name("fuzz").joinpath("found.txt").read_text().splitlines()
FOUND = [line.split(maxsplit=2)[:2] for line in LINES if line.startswith(tuple(CHECKS))]


def replay(target, twins):
    for seed in TARGETS[target]():
        CHECKS[target](seed, twins)


@pytest.mark.parametrize("target", CHECKS)
def test_seeds(twins, target):
    replay(target, twins)


@pytest.mark.parametrize(("target", "data"), FOUND)
def test_what_was_found(twins, target, data):
    CHECKS[target](bytes.fromhex(data), twins)


def test_seeds_reach_big_frames_and_errors():
    cases = [read_case(seed) for seed in TARGETS["decoder"]()]
    players = [fuzz_decoder.Player(_codec_py, case) for case in cases]
    for player, case in zip(players, cases, strict=True):
        for operation in case.operations:
            player.play(operation)
    assert {player.error[0] for player in players if player.error} == {"CorruptFrameError", "FrameTooLargeError"}
    assert max(len(payload) for player in players for payload in player.payloads) >= 300 << 10
    assert any(player.decoder.skipped for player in players)
    assert any(player.tail for player in players)


class LosesOne(_codec_py.Decoder):
    def feed(self, chunk, max_frames=None):
        return super().feed(chunk, max_frames)[:-1]


class RepeatsBehindOneByte(_codec_py.Decoder):
    def buffer_updated(self, nbytes, max_frames=None):
        return super().buffer_updated(nbytes, max_frames) * (2 if nbytes == 1 else 1)


class HandsOutWhatMayChange(_codec_py.Decoder):
    def feed(self, chunk, max_frames=None):
        return [bytearray(payload) for payload in super().feed(chunk, max_frames)]


class HandsOutWhatItLent(_codec_py.Decoder):
    def get_buffer(self, sizehint=-1):
        self.lent = super().get_buffer(sizehint)
        return self.lent

    def buffer_updated(self, nbytes, max_frames=None):
        return [self.lent[-len(payload) or None :] for payload in super().buffer_updated(nbytes, max_frames)]


class TooLong(_codec_py.Encoder):
    def encode(self, payload):
        return super().encode(payload) + b"\0"


class WritesOutside(_codec_py.Encoder):
    def encode_into(self, buffer, offset, payload):
        length = super().encode_into(buffer, offset, payload)
        buffer[-1] = 0
        return length


FAULTY = [LosesOne, RepeatsBehindOneByte, HandsOutWhatMayChange, HandsOutWhatItLent, TooLong, WritesOutside]


@pytest.mark.parametrize("faulty", FAULTY)
@pytest.mark.parametrize("alike", [False, True], ids=["one", "both"])
def test_a_fault_is_seen(faulty, alike):
    name = faulty.__mro__[1].__name__
    twin = SimpleNamespace(Decoder=_codec_py.Decoder, Encoder=_codec_py.Encoder)
    bad = SimpleNamespace(**{**vars(twin), name: faulty})
    with pytest.raises(AssertionError):
        replay(name.lower(), [bad, bad if alike else twin])
