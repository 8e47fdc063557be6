"""What stands between the flow and an engine: the journal first, places in flight, retries by error class."""

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TypeVar

import tenacity

from mga.engines.engine import Engine, Reply, Request, sound
from mga.engines.journal import Journal
from mga.engines.latency import Latency, ManyServers, ServerState, State
from mga.engines.places import Places
from mga.errors import InputError, MgaError, StopError, TryAgainError, UnreachableError
from mga.events import event
from mga.records import Usage
from mga.text.words import estimate_tokens

ATTEMPTS = 8
LONGEST_WAIT_S = 60.0
SOON = 3  # attempts at the moment that a server names, where that is now

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Client:
    """An engine with memory and patience. One per engine, used by all documents at once.

    A request that fails `ATTEMPTS` times while the engine is alive fails alone; while the engine is away or busy,
    requests wait, `patience_s` seconds at most. After so many without any answer the run stops.
    """

    def __init__(self, engine: Engine, patience_s: float = 600.0) -> None:
        self.engine = engine
        self.spent = Usage()
        self.reused = 0
        self.in_flight_s = 0.0
        self.errors: Counter[str] = Counter()
        self.latency = Latency()
        self._patience_s = patience_s
        self._last_success = 0.0
        self._away = False
        self._outages = 0

    @cached_property
    def places(self) -> Places:
        """Places for requests in flight."""
        return Places(self.engine.requests_in_flight, self.engine.most_in_flight)

    async def ask(self, request: Request, journal: Journal) -> Reply:
        """The reply remembered for exactly this request, or a new one, journaled before it is returned.

        Raises InputError and TryAgainError for this request alone, StopError when nothing further can succeed.
        """
        key = request.key(self.engine.model)
        if (known := journal.get(key)) is not None:
            self.reused += 1
            return known
        places = self.places
        await places.take(request.purpose)
        taken = time.monotonic()
        try:
            reply = await self._patiently(self._attempt, request)
            places.answered(reply.generated_tokens)
        except (InputError, StopError) as error:
            self.errors[error_class(error)] += 1
            raise
        finally:
            places.give_back()
            self.in_flight_s += time.monotonic() - taken
        self.spent += journal.append(key, request.purpose, reply)
        return reply

    async def count_tokens(self, text: str) -> int:
        """Tokens of a text by the engine's count, waited for like a reply: counts decide what is asked. Estimated where
        a living engine fails to count this text again and again."""
        try:
            return await self._patiently(self.engine.count_tokens, text)
        except TryAgainError as error:
            event("tokens estimated", logging.WARNING, model=self.engine.model, error=error_class(error))
            return estimate_tokens(text)

    def servers(self) -> list[ServerState]:
        """Who answers, and how fast: the servers behind the engine, or the engine as the only one."""
        if isinstance(self.engine, ManyServers):
            return self.engine.servers()
        state: State = "away" if self._away else "up"
        return [ServerState(self.engine.model, state, self.places.taken, self._outages, self.latency)]

    async def _attempt(self, request: Request) -> Reply:
        """The engine's answer, its time counted."""
        began = time.monotonic()
        reply = sound(await self.engine.ask(request))
        self.latency.add(time.monotonic() - began)
        return reply

    async def _patiently(self, call: Callable[[Question], Awaitable[Answer]], question: Question) -> Answer:
        """A plain attempt first: nearly all succeed, and the machinery of retries costs a third of a request."""
        started = time.monotonic()
        try:
            answer = await call(question)
        except TryAgainError as error:
            self._note(error)
            answer = await self._again(call, question, error, started)
        self._last_success = time.monotonic()
        if self._away:
            self._away = False
            event("engine answers again", model=self.engine.model)
        return answer

    async def _again(
        self, call: Callable[[Question], Awaitable[Answer]], question: Question, error: TryAgainError, started: float
    ) -> Answer:
        """Attempts after one that failed, as long as the engine is away or busy."""
        made = [error]

        async def attempt() -> Answer:
            if made:
                raise made.pop()  # the attempt made already counts as the first
            try:
                return await call(question)
            except TryAgainError as error:
                self._note(error)
                raise

        is_back = False
        while True:
            try:
                return await _retrying(attempt)
            except TryAgainError as error:
                silent_s = time.monotonic() - max(started, self._last_success)
                if silent_s > self._patience_s:
                    raise StopError(f"The engine has given no answer for {silent_s:.0f} seconds: {error}") from error
                still_busy = error.busy and time.monotonic() - started <= self._patience_s
                if not still_busy and await self.engine.alive():
                    if is_back or not isinstance(error, UnreachableError):
                        raise
                    is_back = True  # it may have been away all the time, and never have seen this request

    def _note(self, error: TryAgainError) -> None:
        self.errors[error_class(error)] += 1
        if error.busy:
            self.places.pushed_back()
        if isinstance(error, UnreachableError) and not self._away:
            self._away = True
            self._outages += 1
            event("engine gives no answer", logging.WARNING, model=self.engine.model, error=error_class(error))


def error_class(error: MgaError) -> str:
    """An error's class under a name for people: metrics, logs and session files use it."""
    match error:
        case UnreachableError():
            return "unreachable"
        case TryAgainError(busy=True):
            return "busy"
        case TryAgainError():
            return "server_error"
        case InputError():
            return "request_refused"
        case _:
            return "stop"


_backoff = tenacity.wait_exponential_jitter(multiplier=0.5, max=LONGEST_WAIT_S, jitter=1.0)


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_for = error.retry_after if isinstance(error, TryAgainError) else None
    if asked_for is None or (asked_for < 1 and state.attempt_number > SOON):  # at once, again and again, is no wait
        return _backoff(state)
    return min(max(asked_for, 0.0), 10 * LONGEST_WAIT_S)


_retrying = tenacity.AsyncRetrying(
    retry=tenacity.retry_if_exception_type(TryAgainError),
    stop=tenacity.stop_after_attempt(ATTEMPTS),
    wait=_wait,
    reraise=True,
)
