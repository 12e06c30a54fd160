"""A few points of `crash_upload.py`, which is run by hand for hundreds of them."""

from __future__ import annotations

import pytest
from crash_upload import points_of

MIB = 1024 * 1024


@pytest.mark.parametrize("victim", ["server", "client"])
@pytest.mark.parametrize("transfer", ["put", "get"])
def test_a_transfer_that_was_killed_leaves_nothing_torn_and_is_gone_on_with(tmp_path, transfer, victim):
    points = list(points_of(transfer, victim, ["data"], 1, tmp_path, 8 * MIB))
    assert [point.wrong for point in points] == [""]
