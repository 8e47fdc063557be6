"""Several servers with the same model as one engine.

All requests about a document go to one replica, where its prompt prefix is cached; a new document goes to the
replica with the least work. A replica that gives no answer is left alone for a while, its documents move to the
others, and then it is tried again.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from mga.engines.engine import Reply, Request
from mga.engines.latency import Latency, ServerState, State
from mga.engines.servers.endpoint import Endpoint
from mga.errors import InputError, MgaError, StopError, TryAgainError, UnreachableError
from mga.events import event

FIRST_REST_S = 2.0
LONGEST_REST_S = 60.0
MOST_DOUBLINGS = 16
# Homes of documents that are remembered, per document in flight: a finished document is never announced.
_REMEMBERED = 8


@dataclass(eq=False)
class Replica:
    """One server, how much it is doing, and until when it is left alone after it gave no answer."""

    endpoint: Endpoint
    started: bool = False
    in_flight: int = 0
    failures: int = 0
    resting_until: float = 0.0
    refusal: MgaError | None = None
    outages: int = 0
    latency: Latency = field(default_factory=Latency)

    @property
    def state(self) -> ServerState:
        state: State = "refuses" if self.refusal is not None else "away" if self.failures else "up"
        return ServerState(self.endpoint.url, state, self.in_flight, self.outages, self.latency)

    @property
    def rests(self) -> bool:
        return time.monotonic() < self.resting_until

    def failed(self, refusal: MgaError | None = None) -> None:
        """No answer came, or a refusal of everything: rest, twice as long each time in a row.

        One outage fails all requests in flight; the first of them counts.
        """
        self.refusal = refusal
        if not self.rests:
            rest_s = min(FIRST_REST_S * 2**self.failures, LONGEST_REST_S)
            self.resting_until = time.monotonic() + rest_s
            self.outages += not self.failures
            self.failures = min(self.failures + 1, MOST_DOUBLINGS)
            said = "replica refuses" if refusal else "replica away"
            event(said, logging.WARNING, replica=self.endpoint.url, rest_s=rest_s, failures=self.failures)

    def answered(self, seconds: float) -> None:
        self.latency.add(seconds)
        if self.failures:
            event("replica back", replica=self.endpoint.url)
        self.failures, self.resting_until, self.refusal = 0, 0.0, None


class Replicas:
    """Engine over endpoints that serve one model. `concurrency` is the total of requests in flight."""

    def __init__(self, endpoints: Sequence[Endpoint], concurrency: int | None = None) -> None:
        self._replicas = [Replica(endpoint) for endpoint in endpoints]
        self._homes: OrderedDict[str, Replica] = OrderedDict()
        self.model = endpoints[0].model
        self.context: int | None = None
        self.features = endpoints[0].features
        self.requests_in_flight = concurrency or sum(endpoint.requests_in_flight for endpoint in endpoints)
        self.most_in_flight = concurrency or sum(endpoint.most_in_flight for endpoint in endpoints)
        self.documents_in_flight = self.most_in_flight

    async def start(self) -> None:
        """Start all; one that is not ready is tried again later. Raises StopError when none is, or models differ."""
        errors = await asyncio.gather(*map(self._start, self._replicas))
        ready = [replica.endpoint for replica in self._replicas if replica.started]
        if not ready:
            raise next(error for error in errors if error is not None)
        if len({endpoint.model for endpoint in ready}) > 1:
            served = "; ".join(f"{endpoint.url}: {endpoint.model}" for endpoint in ready)
            raise StopError(f"The servers do not serve one model ({served}). Name it: URL,URL#MODEL.")
        self.model = ready[0].model
        self.features = ready[0].features
        for replica in self._replicas:  # one that starts late must serve this model too
            replica.endpoint.model = self.model
        self.context = min((endpoint.context for endpoint in ready if endpoint.context is not None), default=None)

    async def ask(self, request: Request) -> Reply:
        """Answer once; replicas that give no answer are passed over. Raises as `Endpoint.ask` does.

        One server's refusal of everything (restarted with another model or key) raises StopError only when all refuse.
        """
        tried: list[Replica] = []
        while (replica := self._home(request.affinity, tried)) is not None:
            tried.append(replica)
            replica.in_flight += 1
            try:
                if not replica.started and await self._start(replica) is not None:
                    continue
                began = time.monotonic()
                reply = await replica.endpoint.ask(request)
            except UnreachableError:
                replica.failed()
            except StopError as error:
                replica.failed(error)
            else:
                replica.answered(time.monotonic() - began)
                return reply
            finally:
                replica.in_flight -= 1
        refusals = [replica.refusal for replica in self._replicas if replica.refusal is not None]
        raise refusals[0] if len(refusals) == len(self._replicas) else UnreachableError("no replica answers")

    def wake(self, endpoint: Endpoint) -> None:
        """This server is known to be back: no rest for it any more."""
        for replica in self._replicas:
            if replica.endpoint is endpoint:
                replica.resting_until = 0.0

    def servers(self) -> list[ServerState]:
        """The state of each replica."""
        return [replica.state for replica in self._replicas]

    async def alive(self) -> bool:
        """Whether any replica could answer now."""
        return any(await asyncio.gather(*(replica.endpoint.alive() for replica in self._replicas)))

    async def count_tokens(self, text: str) -> int:
        """By the first replica that answers."""
        problem: TryAgainError = UnreachableError("no replica answers")
        for replica in self._replicas:
            if replica.started and not replica.rests:
                try:
                    return await replica.endpoint.count_tokens(text)
                except TryAgainError as error:
                    problem = error
        raise problem

    async def close(self) -> None:
        await asyncio.gather(*(replica.endpoint.close() for replica in self._replicas))

    async def _start(self, replica: Replica) -> StopError | InputError | None:
        try:
            await replica.endpoint.start()
        except (StopError, InputError) as error:
            replica.failed(error)
            return error
        replica.started = True
        return None

    def _home(self, affinity: str, tried: Sequence[Replica]) -> Replica | None:
        """A document's replica: where it was, else the one with the least work; None when all rest or are tried."""
        home = self._homes.get(affinity)
        if home is None or home.rests or home in tried:
            awake = [replica for replica in self._replicas if not replica.rests and replica not in tried]
            if not awake:
                return None
            home = min(awake, key=lambda replica: replica.in_flight)
            self._homes[affinity] = home
            while len(self._homes) > _REMEMBERED * self.documents_in_flight:
                self._homes.popitem(last=False)
        self._homes.move_to_end(affinity)
        return home
