"""Which of an engine's sequences answers a request, when each keeps the tokens of its last prompt.

A document has a sequence of its own as long as it has requests, so that it is computed once. A sequence that nobody
needs for a moment goes to a document without one, or else to one with several requests waiting, which is then computed
a second time: many sequences at once generate so much faster that this is worth it.
"""

import asyncio
from collections import deque

# A document's next request comes a moment after its last reply; so long its sequence is kept for it.
KEPT_S = 0.05


class Slots:
    """So many sequences, by number; `take` one for a document, and give it back."""

    def __init__(self, count: int) -> None:
        self._owner: list[str | None] = [None] * count
        self._free: dict[int, bool] = dict.fromkeys(range(count), True)  # in order of release; True: kept for nobody
        self._waiting: dict[str, deque[asyncio.Future[tuple[int, bool]]]] = {}

    async def take(self, affinity: str) -> tuple[int, bool]:
        """Wait for a sequence: the document's own if it has one. True: it had another document's before."""
        slot = self._own(affinity)
        if slot is None and not self._has_one(affinity):
            slot = next(iter(self._free), None)  # free for longest
        if slot is None:
            slot = next((slot for slot, for_anybody in self._free.items() if for_anybody), None)
        if slot is not None:
            return self._give(slot, affinity)
        place: asyncio.Future[tuple[int, bool]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(affinity, deque()).append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it had just been given
                self.give_back(place.result()[0])
            raise

    def give_back(self, slot: int) -> None:
        """Its document comes next; when it has nothing to ask for a moment, whoever waits."""
        owner = self._owner[slot]
        assert owner is not None
        if not self._serve(slot, owner):
            self._free[slot] = False
            asyncio.get_running_loop().call_later(KEPT_S, self._offer, slot)

    def _offer(self, slot: int) -> None:
        """A sequence whose document has not come back: to a document without one, or to the one that waits longest."""
        if self._free.get(slot) is not False:
            return  # taken meanwhile, or offered before
        without = (affinity for affinity in list(self._waiting) if not self._has_one(affinity))
        for affinity in [*without, *self._waiting]:
            if self._serve(slot, affinity):
                return
        self._free[slot] = True

    def _serve(self, slot: int, affinity: str) -> bool:
        waiting = self._waiting.get(affinity, deque())
        while waiting:
            place = waiting.popleft()
            if not waiting:
                del self._waiting[affinity]
            if not place.done():
                place.set_result(self._give(slot, affinity))
                return True
        return False

    def _give(self, slot: int, affinity: str) -> tuple[int, bool]:
        self._free.pop(slot, None)
        is_new = self._owner[slot] != affinity
        self._owner[slot] = affinity
        return slot, is_new

    def _own(self, affinity: str) -> int | None:
        return next((slot for slot in self._free if self._owner[slot] == affinity), None)

    def _has_one(self, affinity: str) -> bool:
        return affinity in self._owner
