"""How many requests are in flight: a fixed number, or one that finds itself while the work goes on.

Finding it is hill climbing on generated tokens per second: more places as long as they bring more, back to the
last number that did when they do not, fewer at once when the server says that it has too much to do. Later it tries
again now and then, since servers come back and documents differ.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mga.engines.engine import Purpose

LEAST_ANSWERS = 128  # in a window; fewer say nothing about a rate
SHORTEST_WINDOW_S = 0.5
FULL = 0.9  # a limit that was not used to this share is not judged
GROWTH_AT_FIRST, GROWTH_LATER = 2.0, 1.25
WORTH = 0.25  # of what proportional growth would bring, so much must come
CUT, CUT_EVERY_S = 0.7, 1.0
HELD_AT_FIRST, HELD_AT_MOST = 8, 64  # windows between attempts to grow

# Who goes first when requests wait: what ends a document before what begins one, so that few documents are open at
# once and their prompts are still in the server's cache.
_ORDER: dict[Purpose, int] = {"judge": 0, "reformulate": 1, "pairs": 2}


class Places:
    """Places for requests in flight, at most `limit`. `most` above `start` lets the limit find itself."""

    def __init__(self, start: int, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._waiting: tuple[deque[asyncio.Future[None]], ...] = tuple(deque() for _ in _ORDER)
        self._taken = 0
        self._fixed = start
        self._pace = _Pace(start, most, now) if most > start else None

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return self._pace.limit if self._pace else self._fixed

    @property
    def taken(self) -> int:
        """Requests in flight now."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return sum(map(len, self._waiting))

    async def take(self, purpose: Purpose) -> None:
        """Wait for a place."""
        if self._taken < self.limit and not any(self._waiting):
            self._taken += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting[_ORDER[purpose]].append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it had just been given
                self.give_back()
            raise

    def give_back(self) -> None:
        """A place is free again; the next in order takes it."""
        self._taken -= 1
        self._hand_out()

    def answered(self, tokens: int) -> None:
        """An answer of so many generated tokens has come, its place still taken."""
        if self._pace and self._pace.answered(tokens, self._taken):
            self._hand_out()

    def pushed_back(self) -> None:
        """The server has said that it has too much to do, or took too long."""
        if self._pace:
            self._pace.pushed_back(self._taken)

    def _hand_out(self) -> None:
        for queue in self._waiting:
            while queue and self._taken < self.limit:
                place = queue.popleft()
                if not place.done():
                    place.set_result(None)
                    self._taken += 1


@dataclass(slots=True)
class _Window:
    """What was seen at one limit. The first answers still belong to the limit before and are let pass."""

    let_pass: int
    since: float = 0.0
    answers: int = 0
    tokens: int = 0
    in_flight: int = 0


class _Pace:
    """The limit and the search for it."""

    def __init__(self, start: int, most: int, now: Callable[[], float]) -> None:
        self.limit = start
        self._most = most
        self._now = now
        self._growth = GROWTH_AT_FIRST
        self._before: tuple[int, float] | None = None  # the limit to go back to and its rate, while trying a larger
        self._hold = 0
        self._held = HELD_AT_FIRST
        self._last_cut = float("-inf")
        self._window = _Window(let_pass=0, since=now())

    def answered(self, tokens: int, in_flight: int) -> bool:
        """Count an answer; True when the limit has changed."""
        window = self._window
        if window.let_pass:
            window.let_pass -= 1
            if not window.let_pass:
                window.since = self._now()
            return False
        window.answers += 1
        window.tokens += tokens + 1
        window.in_flight += in_flight
        if window.answers < max(2 * self.limit, LEAST_ANSWERS):
            return False
        seconds = self._now() - window.since
        if seconds < SHORTEST_WINDOW_S:
            return False
        was = self.limit
        if window.in_flight >= FULL * self.limit * window.answers:
            self._judge(window.tokens / seconds)
        self._window = _Window(let_pass=self.limit if self.limit != was else 0, since=self._now())
        return self.limit != was

    def pushed_back(self, in_flight: int) -> None:
        """Fewer places, but once for all refusals of one moment."""
        now = self._now()
        if now - self._last_cut < CUT_EVERY_S:
            return
        self._last_cut = now
        self.limit = self._before[0] if self._before else max(1, int(min(self.limit, in_flight) * CUT))
        self._stay()
        self._window = _Window(let_pass=self.limit, since=now)

    def _judge(self, rate: float) -> None:
        """Go on growing, stay, or go back, by the tokens per second of a full window."""
        if self._hold:
            self._hold -= 1
            return
        if self._before is not None:
            limit, rate_before = self._before
            wanted = 1 + WORTH * (self.limit / limit - 1)
            if rate < wanted * rate_before:
                self.limit = limit
                self._stay()
                return
            self._held = HELD_AT_FIRST
        if self.limit < self._most:
            self._before = self.limit, rate
            self.limit = min(self._most, max(self.limit + 1, int(self.limit * self._growth)))
        else:
            self._before = None

    def _stay(self) -> None:
        self._before = None
        self._growth = GROWTH_LATER
        self._hold, self._held = self._held, min(2 * self._held, HELD_AT_MOST)
