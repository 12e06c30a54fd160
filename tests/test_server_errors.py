"""Errors of operations: codes from one list, and no path of the server in what a peer is told."""

from __future__ import annotations

import errno
import os

import pytest

from fastframe.servers.errors import CODES, ERRNOS, OperationError, from_oserror


def test_every_errno_leads_to_a_code_of_the_list():
    assert set(ERRNOS.values()) <= set(CODES)


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "disk_full"), (errno.EDQUOT, "quota_exceeded"), (errno.EIO, "io_error"), (errno.EDOM, "internal")],
)
def test_an_oserror_becomes_a_code(number, code):
    error = from_oserror(OSError(number, os.strerror(number), "/srv/secret/file"), "file")
    assert error.code == code
    assert str(error) == f"file: {CODES[code]} ({code})"


def test_an_oserror_without_a_number_is_internal():
    assert from_oserror(OSError("strange"), "file").code == "internal"


def test_an_error_says_what_its_code_means():
    assert str(OperationError("busy")) == f"{CODES['busy']} (busy)"
    assert str(OperationError("busy", "wait")) == "wait (busy)"


def test_a_code_of_a_newer_server_is_a_error_too():
    assert str(OperationError("new_code", "what is new")) == "what is new (new_code)"
