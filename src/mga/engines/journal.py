"""Every received reply, written down before it is used: what was paid for is never asked again.

One append-only file of JSON lines per open shard. A line goes to the operating system at once, which
survives `kill -9`; `sync`, called every second by the run, forces lines to the disk, which survives power loss.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import orjson

from mga.engines.engine import Purpose, Reply, Token, sound
from mga.errors import StopError
from mga.records import Usage

_PURPOSES = frozenset(get_args(Purpose))


class Journal:
    """The replies of one shard by request key. Opened, it knows all whole lines of its file, and of the `earlier`
    contents of other processes' files."""

    def __init__(self, path: Path, earlier: Iterable[bytes] = ()) -> None:
        self.path = path
        self._replies: dict[str, Reply] = {}
        self._usage: defaultdict[str, Usage] = defaultdict(Usage)
        self._file: int | None = None
        self._unsynced = False
        self._size = 0
        for data in earlier:
            self._load(data)
        if path.exists():
            self._size = self._load(path.read_bytes())

    def get(self, key: str) -> Reply | None:
        """The reply to the request with this key, if one was ever received."""
        return self._replies.get(key)

    def append(self, key: str, purpose: Purpose, reply: Reply) -> Usage:
        """Remember a sound reply; returns what it cost. Raises StopError when it cannot be written (disk full, …)."""
        line = orjson.dumps([key, purpose, *_packed(reply)], option=orjson.OPT_APPEND_NEWLINE)
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                self._drop_half_line()
            written = os.write(self._file, line)
            if written < len(line):
                self._drop_half_line()
                raise OSError("No space left on device")
            self._size += written
        except OSError as error:
            raise StopError(f"Cannot write the journal {self.path}: {error.strerror or error}.") from error
        self._unsynced = True
        return self._remember(key, purpose, reply)

    def sync(self) -> None:
        """Force what was appended to the disk."""
        if self._unsynced and self._file is not None:
            try:
                os.fsync(self._file)
            except OSError as error:
                raise StopError(f"Cannot write the journal {self.path}: {error.strerror or error}.") from error
            self._unsynced = False

    @property
    def usage(self) -> dict[str, Usage]:
        """Requests and tokens by purpose, former processes included."""
        return dict(sorted(self._usage.items()))

    def close(self) -> None:
        """Sync and close; the file stays."""
        self.sync()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Close and delete: its shard is published."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _drop_half_line(self) -> None:
        """What a kill or a full disk left of a line; later lines must not be glued to it."""
        if self._file is not None and os.fstat(self._file).st_size > self._size:
            os.ftruncate(self._file, self._size)

    def _remember(self, key: str, purpose: str, reply: Reply) -> Usage:
        spent = Usage(1, reply.prompt_tokens, reply.cached_tokens, reply.generated_tokens)
        self._usage[purpose] += spent
        self._replies[key] = reply
        return spent

    def _load(self, data: bytes) -> int:
        """Know the replies in whole lines; returns the bytes of these."""
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines():
            try:
                key, purpose, *packed = orjson.loads(line)
                if not isinstance(key, str) or purpose not in _PURPOSES:
                    continue
                if key not in self._replies:  # a file and the copy of it hold the same lines
                    self._remember(key, purpose, sound(_unpacked(packed)))
            except (ValueError, TypeError):
                continue  # damaged by the disk: that reply is asked for again
        return whole


def _packed(reply: Reply) -> list[object]:
    tokens = [[token.text, dict(token.alternatives)] for token in reply.tokens]
    return [
        reply.text,
        reply.finish,
        reply.prompt_tokens,
        reply.generated_tokens,
        reply.cached_tokens,
        tokens,
        reply.text_tokens,
    ]


def _unpacked(packed: list[Any]) -> Reply:
    """Raises ValueError when it is no reply: what was written holds a text and counts. For their range see `sound`."""
    text, finish, prompt_tokens, generated_tokens, cached_tokens, tokens, *text_tokens = packed
    if not all(isinstance(count, int | float) for count in (prompt_tokens, generated_tokens, cached_tokens)):
        raise ValueError("a count is no number")
    pairs = (pair for pair in (tokens if isinstance(tokens, list) else []) if isinstance(pair, list) and len(pair) == 2)
    alternatives = tuple(Token(*pair) for pair in pairs)
    return Reply(text, finish, prompt_tokens, generated_tokens, cached_tokens, alternatives, *text_tokens[:1])
