"""The memory that the connections of a loop receive into, all into the same."""

from __future__ import annotations

import threading
from typing import Final

from ._memory import LEND_SIZE

READ_SIZE: Final = 256 * 1024  # what one read may bring, as asyncio's own protocols have it
# A payload of which so much is missing is received in its own memory, and nothing else with it: of a netstring's comma and of
# the byte that a decoder holds back for uvloop it lends no memory.
IN_PLACE_SIZE: Final = LEND_SIZE + 2
# What is read behind such a payload: a header, small frames whole, and little that is copied if another large one follows. With
# messages of 1 MiB it was a tenth of the processor time that went into copying a quarter of each.
BEGINNING_SIZE: Final = 512


class _ReceiveMemory(threading.local):
    """What all connections of a thread receive into.

    Between `get_buffer` and `buffer_updated` a loop does nothing else, so one block serves them all. A decoder's own pair would
    hold on to its block after a read that brought nothing, which TLS does on every idle connection.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_SIZE))
        self.beginning = self.view[:BEGINNING_SIZE]  # one for all: of its own, it was 5 % of an idle connection
        self.kept = memoryview(self.view)  # never lent: the memory stays, should somebody release the other one


receive_memory: Final = _ReceiveMemory()
