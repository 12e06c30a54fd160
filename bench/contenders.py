"""Who competes: the limit that nobody can pass, the two codecs, other projects, and what plain Python does without any of them.

A contender is found or left out, with the reason in one line; nothing here fails because something is not installed.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from fastframe import _codec_py

from .byhand import add_by_hand
from .entry import Contenders, DecodeContender, EncodeContender, LeftOutError, first_line
from .limit import load_limit
from .peers import add_peers
from .workloads import FORMAT, frame


def find_contenders() -> Contenders:
    """Return all who can take part: the limit first, since all are measured against it."""
    found = Contenders({}, {}, {}, {}, [])
    add_limit(found)
    for name, codec in find_codecs(found.left_out).items():
        add_codec(found, name, codec)
    add_peers(found)
    add_by_hand(found)
    return found


def add_limit(found: Contenders) -> None:
    try:
        limit = load_limit()
    except LeftOutError as error:
        found.left_out.append(str(error))
        return
    for name, table, call in (("limit", found.decode, limit.decode), ("walk", found.batch, limit.walk)):
        start = lambda call=call: call  # noqa: E731  one expression, and bound now
        table[name] = DecodeContender("limit", first_line(call), start, lambda workload: workload.pieces)
        as_often = f"Do as {name} does, called once a chunk, mostly with nothing, where frames are longer than chunks"
        table[f"{name} by chunk"] = DecodeContender("limit", as_often, start, lambda workload: workload.padded)
    found.encode["limit"] = EncodeContender("limit", first_line(limit.encode), limit.encode, limit.encode_many, frame)


def find_codecs(left_out: list[str]) -> dict[str, ModuleType]:
    """Return the modules of the two codecs by name, the compiled one if it is built."""
    codecs: dict[str, ModuleType] = {}
    try:
        codecs["compiled"] = importlib.import_module("fastframe._codec_c")  # by name: it may not be there
    except ModuleNotFoundError:
        left_out.append("compiled: fastframe._codec_c is not built; FASTFRAME_IMPLEMENTATION=cython makes it or says why")
    return codecs | {"pure": _codec_py}


def add_codec(found: Contenders, name: str, codec: ModuleType) -> None:
    encoder = codec.Encoder(FORMAT)
    language = "Cython" if name == "compiled" else "Python"
    feed = f"Feed a `Decoder` in {language}, which returns a list of payloads; u32be, the default `max_payload_length`"
    batch = "Call its `feed_batch`, which makes no object of a payload"
    encode = "Call `encode` and `encode_many` of an `Encoder`"
    found.decode[name] = DecodeContender("ours", feed, lambda: codec.Decoder(FORMAT).feed, lambda workload: workload.chunks)
    found.batch[name] = DecodeContender(
        "ours", batch, lambda: codec.Decoder(FORMAT).feed_batch, lambda workload: workload.chunks
    )
    found.encode[name] = EncodeContender("ours", encode, encoder.encode, encoder.encode_many, frame)
