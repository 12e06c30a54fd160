"""Messages: as bytes and back, and everything that is none refused in a sentence."""

from __future__ import annotations

import json

import pytest

from fastframe.servers import messages
from fastframe.servers.errors import OperationError
from fastframe.servers.messages import Fields, Kind

CONTROL = [kind for kind in Kind if kind not in messages.BYTES]


@pytest.mark.parametrize("kind", CONTROL)
def test_a_control_message_is_its_type_and_an_object(kind):
    payload = messages.encode(kind, {"name": "grüße", "size": 1 << 62, "ok": True})
    assert payload[0] == kind
    assert json.loads(payload[1:]) == {"name": "grüße", "size": 1 << 62, "ok": True}
    message = messages.decode(payload)
    assert message.kind is kind
    assert message.fields == {"name": "grüße", "size": 1 << 62, "ok": True}


@pytest.mark.parametrize("kind", sorted(messages.BYTES))
def test_a_message_of_bytes_is_its_type_and_the_bytes(kind):
    payload = messages.encode_bytes(kind, b"\0\xff{")
    assert payload == bytes((kind,)) + b"\0\xff{"
    message = messages.decode(payload)
    assert (message.kind, message.data, message.fields) == (kind, b"\0\xff{", {})


def test_the_data_of_a_message_is_no_copy():
    payload = messages.encode_bytes(Kind.DATA, b"data")
    assert messages.decode(payload).data.obj is payload


NO_MESSAGE = {
    "nothing": b"",
    "an unknown type": b"\x7f{}",
    "type 0": b"\0{}",
    "no body": b"\x10",
    "no object": b"\x10[]",
    "a number": b"\x10" + b"1",
    "null": b"\x10null",
    "two objects": b"\x10{}{}",
    "a duplicate key": b'\x10{"a":1,"a":2}',
    "a duplicate key within": b'\x10{"a":{"b":1,"b":1}}',
    "NaN": b'\x10{"a":NaN}',
    "Infinity": b'\x10{"a":-Infinity}',
    "too large for a float": b'\x10{"a":1e999}',
    "endless digits": b'\x10{"a":' + b"1" * 10_000 + b"}",
    "endless digits behind the point": b'\x10{"a":0.' + b"1" * 10_000 + b"}",
    "no UTF-8": b'\x10{"a":"\xff"}',
    "UTF-16": b"\x10" + '{"a":1}'.encode("utf-16"),
    "a byte order mark": b'\x10\xef\xbb\xbf{"a":1}',
    "a lone surrogate": b'\x10{"a":"\\ud800"}',
    "a lone surrogate as a key": b'\x10{"\\udfff":1}',
    "a lone surrogate in a list": b'\x10{"a":["\\ud800"]}',
    "nine levels": b'\x10{"a":' + b"[" * 8 + b"]" * 8 + b"}",
    "a thousand levels": b'\x10{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "a control character": b'\x10{"a":"\n"}',
    "more than a control message may have": b'\x10{"a":"' + b"x" * messages.MAX_CONTROL + b'"}',
}


@pytest.mark.parametrize("payload", NO_MESSAGE.values(), ids=NO_MESSAGE)
def test_what_is_no_message_is_refused(payload):
    with pytest.raises(OperationError) as info:
        messages.decode(payload)
    assert info.value.code == "bad_message"
    assert len(info.value.message) < 200


def test_eight_levels_are_allowed():
    body = b'{"a":' + b"[" * 7 + b"]" * 7 + b"}"
    assert messages.decode_fields(body) == json.loads(body)


FIELDS = Fields(name="x", size=3, flag=True, half=0.5, list=["a"], object={"b": 1}, none=None)


def test_fields_are_asked_for_with_their_type():
    assert FIELDS.text("name") == "x"
    assert FIELDS.text("missing", default="y") == "y"
    assert FIELDS.integer("size") == 3
    assert FIELDS.integer("missing", default=7) == 7
    assert FIELDS.flag("flag")
    assert not FIELDS.flag("missing")
    assert FIELDS.texts("list") == ["a"]
    assert FIELDS.texts("missing") == []
    assert FIELDS.object("object").integer("b") == 1
    assert FIELDS.object("missing") == {}


@pytest.mark.parametrize(
    "ask",
    [
        lambda: FIELDS.text("missing"),
        lambda: FIELDS.text("size"),
        lambda: FIELDS.text("none", default="x"),
        lambda: Fields(a="xx").text("a", most=1),
        lambda: FIELDS.integer("missing"),
        lambda: FIELDS.integer("flag"),
        lambda: FIELDS.integer("half"),
        lambda: FIELDS.integer("size", most=2),
        lambda: FIELDS.integer("size", least=4),
        lambda: Fields(a=1 << 63).integer("a"),
        lambda: FIELDS.flag("size"),
        lambda: FIELDS.flag("none"),
        lambda: FIELDS.texts("name"),
        lambda: Fields(a=[1]).texts("a"),
        lambda: Fields(a=["x", "y"]).texts("a", most=1),
        lambda: FIELDS.object("list"),
    ],
)
def test_a_field_that_is_something_else_is_a_bad_request(ask):
    with pytest.raises(OperationError) as info:
        ask()
    assert info.value.code == "bad_request"
