"""The benchmarks' workloads for developers, by pytest-benchmark: what a change of the code makes faster or slower.

    pytest bench --benchmark-only                            all, in a minute or two; -k "decode and compiled": some
    pytest bench --benchmark-disable                         each once and untimed: do they still run, and are they right?

Two commits are compared on the same machine, one right after the other:

    git switch main      && pytest bench --benchmark-only --benchmark-save=main
    git switch my-change && pytest bench --benchmark-only --benchmark-compare      # with what was saved last

The first one lies in .benchmarks/ then. Build the extensions after each switch. What changed by less than the IQR did not.

No test passes or fails by time. `fastframe bench` is for everybody else: it knows the peers and the limit, compares turn by
turn, and says what its figures depend on. This folder is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from fastframe.bench.contenders import add_codec, find_codecs
from fastframe.bench.entry import Contenders
from fastframe.bench.measure import quiet

OURS = Contenders({}, {}, {}, {}, [])
for name, codec in find_codecs(OURS.left_out).items():
    add_codec(OURS, name, codec)


def pytest_xdist_auto_num_workers() -> int:
    """Run all in this process, one after the other: side by side they would measure each other."""
    return 0


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


@pytest.fixture
def ours() -> Contenders:
    return OURS


@pytest.fixture(params=OURS.decode)
def implementation(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def note(benchmark) -> Callable[[str, str, Sequence[bytes]], None]:
    """What tells pytest-benchmark with whom to compare, and what one call works on."""

    def say(group: str, implementation: str, payloads: Sequence[bytes]) -> None:
        benchmark.group = group
        benchmark.extra_info |= {
            "implementation": implementation,
            "frames": len(payloads),
            "bytes": sum(map(len, payloads)),
        }

    return say
