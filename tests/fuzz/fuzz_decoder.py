"""The decoders under a case of `inputs.py`: the twins have to agree after each call, and each with itself.

With itself means: the same stream whole and in small pieces gives the same payloads and then the same error; what was handed
out never changes, whoever writes to memory that was lent; and the encoder makes each frame again from its payload.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from test_agreement import outcome, perform
from vectors import by_buffer, by_feed, drive

from .inputs import Case, read_case

if TYPE_CHECKING:
    from fastframe import FrameFormat

KEEP, KEEP_SLICE, WRITE_BEHIND, RELEASE_EARLY, RESIZE = 1, 2, 4, 8, 16  # what a caller does with memory lent to it
MAX_KEPT = 8
MAX_ENCODED = 100
PIECES = 64
WRITTEN = b"\xee" * 8192  # enough to reach a payload, and in a third of the time that all of a block takes
CLOSING_CALLS = [("call", "feed", b"", None), ("call", "finish"), ("scribble",)]


def check(data: bytes, twins: list[ModuleType]) -> None:
    case = read_case(data)
    if case is None:
        return
    players = [Player(twin, case) for twin in twins]
    for operation in case.operations + CLOSING_CALLS:
        first, second = (player.play(operation) for player in players)
        assert first == second, f"{operation!r:.200} differs: {first!r:.500} and {second!r:.500}"
    for player in players:
        check_chunking(player, case)
        check_encoder(player, case.format)
        player.leave()
        assert player.payloads == player.copies, "a payload changed after it was handed out"


class Player:
    """One decoder, the stream that it took, and all that it handed out."""

    def __init__(self, twin: ModuleType, case: Case) -> None:
        self.twin = twin
        self.decoder = twin.Decoder(case.format, case.on_oversize)
        self.stream = bytearray()
        self.payloads: list[bytes] = []
        self.copies: list[bytes] = []
        self.error: tuple[Any, ...] | None = None
        self.tail: bytes | None = None
        self.views: list[memoryview] = []
        self.batches: list[tuple[Any, list[bytes], bytes]] = []  # each, its payloads and its wire
        self.format = case.format

    def play(self, operation: tuple[Any, ...]) -> Any:
        """Do one operation and return all that can be seen of it."""
        name, *arguments = operation
        return getattr(self, name)(*arguments)

    def call(self, name: str, *arguments: Any) -> Any:
        seen = perform(self.decoder, (name, *arguments))
        self._note(seen[1])
        if name == "detach" and seen[1][0] == "returned":
            self.tail = seen[1][1]
        return seen

    def feed(self, how: int, data: bytes, max_frames: int | None) -> Any:
        chunk = _chunk(how, data)
        seen = perform(self.decoder, ("feed", chunk, max_frames))[1:]
        self._note(seen[0], data)
        _spoil(chunk)
        return seen

    def feed_batch(self, how: int, data: bytes) -> Any:
        chunk = _chunk(how, data)
        seen = self._batch(self.decoder.feed_batch, chunk)
        self._note(seen[0], data)
        _spoil(chunk)
        return seen

    def receive(self, how: int, data: bytes, max_frames: int | None) -> Any:
        return self._receive(how, data, lambda size: perform(self.decoder, ("buffer_updated", size, max_frames))[1:])

    def receive_batch(self, how: int, data: bytes) -> Any:
        return self._receive(how, data, lambda size: self._batch(self.decoder.buffer_updated_batch, size))

    def _receive(self, how: int, data: bytes, update: Callable[[int], Any]) -> Any:
        """Hand over `data` through lent memory, in as many turns as that needs."""
        seen = []
        while True:
            done, view = self._borrow(len(data) or -1)
            if view is None:
                return [*seen, done]
            taken = data[: len(view)]
            view[: len(taken)] = taken
            self._before(how, view)
            seen.append(update(len(taken)))
            self._note(seen[-1][0], taken)
            if how & WRITE_BEHIND:
                with suppress(ValueError):
                    _write(view, bytes(view[: len(WRITTEN)]))
            data = data[len(taken) :]
            if not data or seen[-1][0][0] == "raised":
                return seen

    def scribble(self) -> None:
        """Write to all memory that was lent and is still at hand."""
        outcome(self.decoder.feed, b"", 0)  # takes it back: until then a write is one to the payload that is being received
        for view in self.views:
            _write(view, WRITTEN)

    def release(self) -> None:
        if self.views:
            self.views.pop(0).release()

    def leave(self) -> None:
        """Let go of the decoder first, and of what it lent behind it."""
        del self.decoder
        while self.views:
            _write(self.views[0], WRITTEN)
            self.release()
        for batch, payloads, wire in self.batches:
            assert (list(batch), bytes(batch.wire)) == (payloads, wire), "a batch changed after it was handed out"
            check_batch(batch, payloads, self.twin.Decoder(self.format))

    def _batch(self, call: Callable[[Any], Any], argument: Any) -> Any:
        """Do a call that returns a batch, and return its payloads and all that can be seen of the decoder."""
        batches: list[Any] = []
        done = outcome(lambda: batches.append(call(argument)))
        for batch in batches:
            payloads = list(batch)
            check_batch(batch, payloads, self.twin.Decoder(self.format))
            if len(self.batches) < MAX_KEPT:
                self.batches.append((batch, payloads, bytes(batch.wire)))
            done = "returned", payloads
        return done, self.decoder.pending, self.decoder.needed, self.decoder.skipped, repr(self.decoder)

    def _borrow(self, sizehint: int) -> tuple[Any, memoryview | None]:
        lent: list[memoryview] = []
        done = outcome(lambda: lent.append(self.decoder.get_buffer(sizehint)))
        return done, lent[0] if lent else None

    def _before(self, how: int, view: memoryview) -> None:
        """Do with `view`, which is full, what a caller should not do before `buffer_updated`."""
        if len(self.views) < MAX_KEPT:
            self.views += [view] * (how & KEEP > 0) + [view[1:-1]] * (how & KEEP_SLICE > 0)
        memory = view.obj
        is_block = isinstance(memory, bytearray)
        if how & RELEASE_EARLY:
            view.release()
            if how & RESIZE and is_block and not how & KEEP_SLICE:
                with suppress(BufferError):
                    memory.clear()

    def _note(self, done: tuple[Any, ...], taken: bytes = b"") -> None:
        """Keep account of a call: what it took, handed out, and the error it ended in."""
        if done[0] == "returned":
            frames = done[1] if isinstance(done[1], list) else []
        elif done[3] is None or self.error is not None:
            return  # refused: misuse, or failed before
        else:
            _, name, attributes, frames, text = done
            self.error = name, attributes, text
        self.stream += taken
        assert all(type(payload) is bytes for payload in frames)
        self.payloads += frames
        self.copies += [bytes(bytearray(payload)) for payload in frames]


def _chunk(how: int, data: bytes) -> Any:
    """Return `data` in memory of some kind; an array has no byte to spare, so reading behind its end is always seen."""
    kind = how % 5
    if kind == 0:
        return data
    if kind == 1:
        return bytearray(data)
    if kind == 2:
        return memoryview(array("B", data))
    if kind == 3:
        return memoryview(bytearray(b"<" + data + b">"))[1:-1]
    return array("B", data)


def _spoil(chunk: Any) -> None:
    """Do with a chunk's memory what its owner may do once `feed` has returned."""
    if isinstance(chunk, bytes):
        return
    with memoryview(chunk) as view:
        view[:] = b"\xdd" * len(view)
    if isinstance(chunk, memoryview):
        chunk.release()
    else:
        del chunk[:]  # a BufferError if the decoder still holds on to it


def _write(view: memoryview, data: bytes) -> None:
    with suppress(ValueError):  # it is released when the memory is lent to somebody else
        view[: len(data)] = data[: len(view)]


def check_batch(batch: Any, payloads: list[bytes], decoder: Any) -> None:
    """See that all that a batch says of its payloads is the same."""
    count, middle = len(payloads), len(payloads) // 2
    assert all(type(payload) is bytes for payload in payloads)
    assert len(batch) == len(batch.offsets) == len(batch.lengths) == count
    assert [batch.data[at : at + length] for at, length in zip(batch.offsets, batch.lengths, strict=True)] == payloads
    assert list(batch[:middle]) + list(batch[middle:]) == payloads
    assert bytes(batch[:middle].wire) + bytes(batch[middle:].wire) == batch.wire
    for at in {0, middle, count - 1, -1} if count else ():
        view = batch.view(at)
        assert batch[at] == view == payloads[at]
        assert view.readonly
    assert outcome(batch.view, count)[1] == outcome(lambda: batch[count])[1] == "IndexError"
    assert drive(decoder, [bytes(batch.wire)]) == (payloads, None)


def check_chunking(player: Player, case: Case) -> None:
    stream, expected = bytes(player.stream), (player.payloads, player.error)
    if player.tail is not None:
        assert stream.endswith(player.tail), "detach() made bytes up"
        stream, expected = stream[: len(stream) - len(player.tail)], (player.payloads, None)
    step = len(stream) // PIECES + 1
    small = [stream[at : at + step] for at in range(0, len(stream), step)]
    for pieces, door in (([stream], by_feed), (small, by_buffer)):
        decoder = player.twin.Decoder(case.format, case.on_oversize)
        seen = drive(decoder, pieces, door)
        assert seen == expected, f"in {len(pieces)} pieces {seen!r:.500}, and not {expected!r:.500}"
        assert decoder.skipped == player.decoder.skipped


def check_encoder(player: Player, format: FrameFormat) -> None:
    encoder, payloads = player.twin.Encoder(format), player.payloads[:MAX_ENCODED]
    frames = [encoder.encode(payload) for payload in payloads]
    assert encoder.encode_many(payloads) == b"".join(frames)
    for payload, frame in zip(payloads, frames, strict=True):
        assert encoder.header(len(payload)) + payload + b"," * format.trailer_length == frame
    if player.decoder.skipped:  # in between, and nobody knows where
        assert drive(player.twin.Decoder(format), frames) == (payloads, None)
    else:
        assert frames == list(_as_encoded(bytes(player.stream), frames, format))


def _as_encoded(stream: bytes, frames: list[bytes], format: FrameFormat) -> Iterator[bytes]:
    """Yield the frames of `stream`, with what the encoder writes in place of the bytes that the decoder does not look at."""
    offset, strip, header_length = format.length_field_offset, format.initial_bytes_to_strip, format.header_length
    blind = offset if strip is None else min(offset, strip)
    zeros = 0 if strip is None or header_length is None else max(0, strip - header_length)
    at = 0
    for frame in frames:
        wire = bytearray(stream[at : at + len(frame)])
        wire[:blind] = format.leading[:blind]
        if zeros:
            wire[header_length : header_length + zeros] = bytes(zeros)
        at += len(frame)
        yield bytes(wire)


if __name__ == "__main__":
    from .harness import main

    main(check)
