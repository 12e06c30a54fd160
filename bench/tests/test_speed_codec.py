"""The codec: what `fastframe bench codec` measures, ours alone."""

from __future__ import annotations

import time

import pytest

from fastframe.bench import codec
from fastframe.bench.report import size_text
from fastframe.bench.workloads import some_payloads, workload

CELLS = [(payload, batch) for payload in codec.QUICK_PAYLOADS for batch in codec.BATCHES if payload * batch <= codec.QUICK_CALL]

pytestmark = pytest.mark.benchmark(timer=time.thread_time)  # the time on the processor, deaf to other processes


@pytest.mark.parametrize("way", ["feed", "feed_batch"])
@pytest.mark.parametrize("chunk", codec.QUICK_CHUNKS, ids=size_text)
@pytest.mark.parametrize("payload", codec.QUICK_PAYLOADS, ids=size_text)
def test_decode(benchmark, note, ours, implementation, way, chunk, payload):
    contender = (ours.decode if way == "feed" else ours.batch)[implementation]
    work = workload(payload, chunk, codec.STREAM_SIZE)
    feed = contender.start()
    assert codec.gives_back(feed, work.chunks, work.payloads)
    note(f"{way}, {size_text(payload)} in chunks of {size_text(chunk)}", implementation, work.payloads)
    benchmark(codec.decode, feed, work.chunks, 1)


@pytest.mark.parametrize(("payload", "batch"), CELLS, ids=[f"{size_text(payload)}-{batch}" for payload, batch in CELLS])
def test_encode(benchmark, note, ours, implementation, payload, batch):
    contender = ours.encode[implementation]
    payloads = some_payloads(payload, batch)
    call, argument = (contender.encode, payloads[0]) if batch == 1 else (contender.encode_many, payloads)
    note(f"encode, {size_text(payload)}, {batch} a call", implementation, payloads)
    assert benchmark(call, argument) == contender.wire(payloads)
