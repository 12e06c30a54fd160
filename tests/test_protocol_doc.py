"""docs/protocol.md is true: its example is played against the server byte by byte, its proofs and lists are computed again."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from sessions import TOKEN, played, served, where

from fastframe import aio
from fastframe.servers import chat, credentials, errors, files, messages, rooms, service
from fastframe.servers.credentials import Challenge, proof
from fastframe.servers.messages import Kind
from fastframe.servers.root import Root

PAGE = (Path(__file__).parent.parent / "docs/protocol.md").read_text()
EXAMPLE = re.findall(r"^(->|<-) ((?:[0-9a-f]{2} ){4}) ([0-9a-f]{2})  (.*)$", PAGE, re.MULTILINE)
CHAT = PAGE[PAGE.index("## Chat") : PAGE.index("## An example")]
MODIFIED = 1_700_000_000_000_000_000


@played
async def test_the_example_is_what_travels(tmp_path, monkeypatch):
    monkeypatch.setattr(credentials, "new_nonce", lambda: "b" * 64)
    monkeypatch.setattr(service, "AGENT", "fastframe/0.1.0")
    file = tmp_path / "hi"
    file.write_bytes(b"hi")
    file.chmod(0o644)
    os.utime(file, ns=(MODIFIED, MODIFIED))
    with Root(tmp_path) as root:
        async with served(files.Files(root).operations) as server:
            reader, writer = await asyncio.open_connection(**where(server))
            for arrow, length, kind, body in EXAMPLE:
                frame = bytes.fromhex(length + kind) + body.encode()
                if arrow == "->":
                    writer.write(frame)
                else:
                    assert await asyncio.wait_for(reader.readexactly(len(frame)), 10) == frame
            writer.close()
            await writer.wait_closed()


def test_the_example_has_every_message_of_a_get():
    kinds = [Kind(int(kind, 16)) for _, _, kind, _ in EXAMPLE]
    assert kinds == [Kind.HELLO, Kind.WELCOME, Kind.OPEN, Kind.OPENED, Kind.DATA, Kind.END, Kind.RESULT]


@pytest.mark.parametrize(("name", "side"), [("P", "client"), ("Q", "server")])
def test_the_proofs_are_right(name, side):
    assert f"{name} = {proof(TOKEN, side, Challenge('alice', 'a' * 64, 'b' * 64))}\n" in PAGE


def test_every_message_is_described():
    for kind in Kind:
        body = "bytes" if kind in messages.BYTES else "JSON"
        assert re.search(rf"^\| `{kind:02x}` \| {kind.name} \| \w+ \| {body} \|", PAGE, re.MULTILINE), kind


def test_every_code_is_in_the_list():
    rows = "".join(f"| `{code}` | {text} |\n" for code, text in errors.CODES.items())
    assert rows in PAGE


@pytest.mark.parametrize(
    "number", [messages.MAX_PAYLOAD, messages.MAX_EARLY_PAYLOAD, messages.MAX_CONTROL, messages.MAX_DIGITS, messages.MAX_DEPTH]
)
def test_every_limit_is_told(number):
    assert f"{number:,}" in PAGE


def test_every_operation_is_described():
    assert set(files.Files(None).operations) == set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE))  # type: ignore[arg-type]


def test_chats_limits_are_told():
    for number in (
        rooms.LONGEST_NAME,
        rooms.LONGEST_ROOM,
        rooms.LONGEST_TEXT,
        rooms.MOST_NAMES,
        rooms.SHOWN,
        rooms.LONGEST_ID,
    ):
        assert re.search(rf"\b{number:,}\b", CHAT)
    assert f"{chat.LAG:g} s" in CHAT


def test_timeouts_are_told():
    assert f"{aio.Limits().handshake_timeout:g} s" in PAGE
    assert f"{service.DATA_TIMEOUT:g} s" in PAGE
