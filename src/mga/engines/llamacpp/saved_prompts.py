"""The computed prompt of a document, carried from one of llama.cpp's sequences to the next.

A sequence can write what it has computed to a file and another can read it: milliseconds, where computing it again
takes a second. The files lie in memory, as long as there is room for them.
"""

import tempfile
from collections import OrderedDict
from pathlib import Path

from mga.engines.servers.endpoint import Endpoint
from mga.errors import MgaError

ROOM_BYTES = 1 << 30
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a private folder in it


class SavedPrompts:
    """The last documents' prompts, the newest that fit into the room."""

    def __init__(self) -> None:
        parent = _IN_MEMORY if _IN_MEMORY.is_dir() else None
        self._folder = tempfile.TemporaryDirectory(prefix="mga-", dir=parent, ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._known: dict[str, str] = {}
        self._works = True

    async def save(self, affinity: str, slot: int, endpoint: Endpoint) -> None:
        """Keep what an idle sequence has computed, unless it is kept already."""
        if not self._works or affinity in self._sizes:
            return
        self._sizes[affinity] = 0  # nobody else saves it meanwhile
        name = f"{abs(hash(affinity))}.bin"
        try:
            answer = await endpoint.post(f"/slots/{slot}?action=save", {"filename": name})
        except MgaError:  # this kind of model cannot, or the disk is full
            self._works = False
            return
        self._known[affinity] = name
        self._sizes[affinity] = int(answer.get("n_written") or 0)
        while sum(self._sizes.values()) > ROOM_BYTES:
            oldest, _ = self._sizes.popitem(last=False)
            if old := self._known.pop(oldest, None):
                (self.folder / old).unlink(missing_ok=True)

    async def restore(self, affinity: str, slot: int, endpoint: Endpoint) -> None:
        """Give an idle sequence what is kept for a document, if anything is."""
        if name := self._known.get(affinity):
            try:
                await endpoint.post(f"/slots/{slot}?action=restore", {"filename": name})
            except MgaError:
                self._known.pop(affinity, None)

    def close(self) -> None:
        """Delete all files."""
        self._folder.cleanup()
