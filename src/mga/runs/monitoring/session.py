"""How fast a run goes: a file in `sessions/` for each process that works on it, rewritten while it works.

`watch.py` writes them; `mga status` adds them up, and `mga top` shows them.
"""

from pydantic import BaseModel, ConfigDict

from mga.data.store import Place, exists, listed, read_json
from mga.errors import InputError
from mga.records import Usage

SESSIONS = "sessions"


class SessionStats(BaseModel):
    """What processes spent and received. `cpu_seconds` are this process's own, all threads; an engine that runs in
    this process is part of them. `in_flight_seconds`: the time all requests were in flight, added up.
    """

    model_config = ConfigDict(frozen=True)

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    in_flight_seconds: float = 0.0
    reused: int = 0
    spent: Usage = Usage()

    def __add__(self, other: "SessionStats") -> "SessionStats":
        return SessionStats(
            seconds=self.seconds + other.seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            in_flight_seconds=self.in_flight_seconds + other.in_flight_seconds,
            reused=self.reused + other.reused,
            spent=self.spent + other.spent,
        )

    def __str__(self) -> str:
        """The rates in one line."""
        spent, seconds = self.spent, max(self.seconds, 1e-9)
        cached = spent.cached_tokens / spent.prompt_tokens if spent.prompt_tokens else 0.0
        generated = spent.generated_tokens / seconds
        return (
            f"{spent.requests / seconds:,.1f} requests/s · {generated:,.0f} generated tokens/s · "
            f"{spent.prompt_tokens / seconds:,.0f} prompt tokens/s, {cached:.0%} from cache · "
            f"{self.in_flight_seconds / seconds:,.1f} requests in flight · "
            f"{self.cpu_seconds / seconds:.0%} of a core in this process"
        )


class Recent(BaseModel):
    """What came in the last `seconds` seconds of a worker's life, thirty at most."""

    model_config = ConfigDict(frozen=True)

    seconds: float = 0.0
    documents: float = 0.0
    spent: Usage = Usage()


class ServerFigures(BaseModel):
    """One server behind an engine: answers by bucket of `latency.BOUNDS_S`, of all time and of the last seconds."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: str
    in_flight: int
    outages: int
    seconds: float
    answers: list[int]
    recent_answers: list[int] = []


class EngineFigures(BaseModel):
    """One engine of a worker. `in_flight` is the limit that has found itself, `taken` what is in flight now."""

    model_config = ConfigDict(frozen=True)

    task: str = "generator"
    model: str = ""
    features: str = ""
    in_flight: int = 0
    taken: int = 0
    waiting: int = 0
    reused: int = 0
    spent: Usage = Usage()
    errors: dict[str, int] = {}
    servers: list[ServerFigures] = []


class SessionFile(SessionStats):
    """All of a worker's session: what it has done, what it is doing, and when it said so (`heard`).

    `open_documents`, `open_outcomes` and `open_reasons` belong to shards that are not published yet. Documents count
    by their finished chunks. `heard` and `started` are UTC by the worker's own clock.
    """

    started: str = ""
    heard: str = ""
    heard_every_s: float = 5.0
    ended: bool = False
    host: str = ""
    pid: int = 0
    documents: float = 0.0
    shards: int = 0
    outcomes: dict[str, int] = {}
    drops: dict[str, int] = {}
    failures: dict[str, int] = {}
    skipped: dict[str, int] = {}
    open_documents: float = 0.0
    open_outcomes: dict[str, int] = {}
    open_reasons: dict[str, int] = {}
    recent: Recent = Recent()
    engines: list[EngineFigures] = []

    @property
    def did_something(self) -> bool:
        """Whether it was of any use; a session that was not leaves no file."""
        return bool(self.spent.requests or self.documents)


def all_sessions(folder: Place) -> SessionStats:
    """Of all processes that have worked on a run, added up."""
    total = SessionStats()
    for path in listed(folder / SESSIONS, "[!.]*.json"):
        try:
            total += SessionStats.model_validate(read_json(path))
        except InputError:
            if exists(path):  # one that was of no use is deleted when it ends
                raise
    return total
