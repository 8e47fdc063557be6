"""How fast an engine was when it last worked on this machine, for estimates before a run.

A file for each engine in the user's state folder: `{"tokens_per_second": …, "measured": "2026-01-31"}`. Addresses are
kept without passwords and keys.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
import platformdirs

from mga.engine_uri import public_uri
from mga.records import content_id

LEAST_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Speed:
    """Generated tokens per second of one process, all its requests together, and the day (UTC) it was measured."""

    tokens_per_second: float
    measured: str


def note_speed(engine: str, judge_engine: str | None, generated_tokens: int, seconds: float) -> None:
    """Keep what a run has reached. Nothing is kept of a run that asked nothing, or where no file can be written."""
    if not generated_tokens or seconds < LEAST_SECONDS:
        return
    file = _file(engine, judge_engine)
    known = {"tokens_per_second": generated_tokens / seconds, "measured": f"{datetime.now(UTC):%Y-%m-%d}"}
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{content_id(seconds, generated_tokens)[:8]}.writing")
        beside.write_bytes(orjson.dumps(known))
        beside.replace(file)


def known_speed(engine: str, judge_engine: str | None) -> Speed | None:
    """What the last run with these engines has reached on this machine; None where there was none."""
    try:
        found = Speed(**orjson.loads(_file(engine, judge_engine).read_bytes()))
        return found if found.tokens_per_second > 0 else None
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None


def _file(engine: str, judge_engine: str | None) -> Path:
    names = [public_uri(uri) for uri in (engine, judge_engine or engine)]
    return platformdirs.user_state_path("mga") / "speeds" / f"{content_id(*names)}.json"
