"""The transfers of the demo, against real servers, and against one that is wrong."""

import asyncio
import contextlib
import threading

import pytest

from fastframe import aio
from fastframe.bench import demo, sweep


class Wrong(aio.FrameProtocol):
    """An echo server that once does something else than to send back what came."""

    def frames_received(self, frames):
        self.send_many(frames)

    @staticmethod
    def flipped_byte(frames):
        return [bytes([frames[0][0] ^ 1]) + frames[0][1:], *frames[1:]]

    @staticmethod
    def shifted_border(frames):
        return [frames[0] + frames[1][:1], frames[1][1:], *frames[2:]] if len(frames) > 1 else frames

    @staticmethod
    def swapped_frames(frames):
        return [frames[1], frames[0], *frames[2:]] if len(frames) > 1 else frames


@contextlib.contextmanager
def serving(protocol):
    """Serve in a thread; yield the address."""
    ready, stop = threading.Event(), None
    addresses = []

    async def main():
        nonlocal stop
        stop = asyncio.Event()
        async with await aio.serve(protocol, "127.0.0.1", 0, format=sweep.FORMAT) as server:
            addresses.extend(server.addresses)
            ready.set()
            await stop.wait()

    def run():
        nonlocal loop
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            runner.run(main())

    loop = None
    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(number * 7 % 251 for number in range(300_001)))
    return str(path)


WAYS = ["pure", "readexactly"]


@pytest.mark.parametrize("way", WAYS)
def test_a_file_comes_back_whole_at_every_size(way, path):
    with sweep.server(way) as address:
        events = [event for event in sweep.transfers(way, address, path, [1000, 65536, 1 << 20], 60) if event.problem == ""]
    assert [(event.size, event.total, event.received) for event in events] == [
        (size, 300_001, 300_001) for size in (1000, 65536, 1 << 20)
    ]
    assert [event.frames for event in events] == [301, 5, 1]


def test_a_transfer_without_time_sends_the_beginning_and_checks_it(path):
    with sweep.server("pure") as address:
        event = list(sweep.transfers("pure", address, path, [100], 0.0))[-1]
    assert event.problem == ""
    assert 0 <= event.received == event.total < 300_001


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["flipped_byte", "shifted_border", "swapped_frames"])
def test_a_wrong_byte_or_border_is_found(way, fault, path):
    class Faulty(Wrong):
        faults = 0

        def frames_received(self, frames):
            wrong = getattr(Wrong, fault)(frames)
            Faulty.faults += wrong is not frames
            self.send_many(wrong)

    with serving(Faulty) as address, pytest.raises(ValueError, match=r"came back|sha256"):
        list(sweep.transfers(way, address, path, [1000], 60))
    assert Faulty.faults


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_hangs_up_is_found(way, path):
    class HangsUp(aio.FrameProtocol):
        def frames_received(self, frames):
            self.send_many(frames[:3])
            self.close()

    with serving(HangsUp) as address, pytest.raises(ValueError, match=way):
        list(sweep.transfers(way, address, path, [1000], 60))


def test_demo_ends_with_status_1_when_a_byte_is_wrong(path, monkeypatch, capsys, tmp_path):
    class Faulty(Wrong):
        def frames_received(self, frames):
            self.send_many(Wrong.flipped_byte(frames))

    monkeypatch.setattr(sweep, "server", lambda way: serving(Faulty))
    assert demo.main(["--file", path, "--png", str(tmp_path / "picture.png")]) == 1
    assert "sha256" in capsys.readouterr().err
    assert not (tmp_path / "picture.png").exists()
