"""The batch in flight: every pass gives every row its next token, and a row that ends makes room for the next request.

Each row has sampling settings, seed, schema and limit of its own. We hold this loop ourselves because `generate` keeps
finished rows until the longest is done and samples a batch in one way. transformers' own continuous batching was as
fast as this or faster in two of three runs on CPUs (on GPUs the two have not been compared), but it takes temperature,
top_k and top_p per request and lacks what small models need: seeds, min_p, repetition penalties, schemas, alternatives.

Prompts are read one by one, from where they differ from the last prompt about the same document. Rows are padded on
the left: their last tokens stand in one column.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from mga.engines.engine import Finish, Reply, Request, Token
from mga.engines.transformers.token_choice import SETTINGS, Choice, Matcher, alternatives, choose
from mga.errors import MgaError, StopError, TryAgainError

CHUNK = 512  # tokens of a prompt per pass: between two of them closing is noticed
PREFIXES = 8  # documents whose last prompt stays computed

Layers = list[tuple[Tensor, Tensor]]  # keys and values per layer, each [rows, heads, tokens, size]


@dataclass(eq=False)
class Row:
    """A request on its way, in token ids; `limit` is the most of them the reply may have."""

    request: Request
    prompt: list[int]
    limit: int
    choice: Choice
    future: asyncio.Future[Reply]
    cached: int = 0
    reply: list[int] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    done: bool = False

    @property
    def open(self) -> bool:
        return not (self.done or self.future.cancelled())

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.reply)

    def restart(self) -> None:
        """Forget the reply so far; the next one will be the same."""
        self.choice.restart()
        self.reply, self.tokens = [], []

    def answer(self, answer: Reply | MgaError) -> None:
        """Hand over to the event loop, from any thread; a loop that is gone waits for nothing."""

        def settle() -> None:
            if not self.future.done():
                self.future.set_exception(answer) if isinstance(answer, MgaError) else self.future.set_result(answer)

        self.done = True
        with contextlib.suppress(RuntimeError):
            self.future.get_loop().call_soon_threadsafe(settle)


class Batch:
    """Answers requests in a thread of its own, at most `rows` at a time.

    `decode` gives the text of token ids; one of `ends` ends a reply. `settings` are the sampling settings it knows.
    """

    settings = SETTINGS

    def __init__(self, model: Any, decode: Callable[[list[int]], str], ends: frozenset[int], rows: int) -> None:
        self.rows = rows
        self._model, self._decode, self._ends = model, decode, ends
        self._device: torch.device = model.device
        self._inbox: queue.SimpleQueue[Row | None] = queue.SimpleQueue()  # None: close
        self._waiting: list[Row] = []
        self._running: list[Row] = []
        self._cache = DynamicCache()  # of all running rows but for their last tokens, in their order
        self._prefixes: dict[str, tuple[list[int], Layers]] = {}  # a document's last prompt, the latest at the end
        self._closing = False
        self._end: StopError | None = None
        self._thread = threading.Thread(target=self._work, name="transformers", daemon=True)
        self._thread.start()

    async def answer(self, request: Request, prompt: list[int], limit: int, matcher: Matcher | None) -> Reply:
        """The reply to a prompt in token ids, of at most `limit` tokens. Raises TryAgainError or StopError."""
        row = Row(request, prompt, limit, Choice(request, matcher), asyncio.get_running_loop().create_future())
        self._inbox.put(row)
        if self._end is not None:  # the thread has ended, perhaps without seeing it
            row.answer(self._end)
        return await row.future

    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread, and wait for that; what has no answer yet fails."""
        self._closing = True
        self._inbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        end = StopError("The transformers engine was closed before it had answered.")
        try:
            with torch.inference_mode():
                while not self._closing:
                    self._take_in()
                    problem = None
                    try:
                        self._turn()
                    except torch.OutOfMemoryError as error:
                        problem = str(error)
                    if problem is not None:  # outside of the handler, where the error still holds on to tensors
                        self._shrink(problem)
        except StopError:
            pass  # closed in the middle of a prompt
        except Exception as error:
            end = StopError(f"The transformers engine has crashed ({type(error).__name__}: {error}).")
        finally:
            self._end = end
            arrived = [self._inbox.get() for _ in range(self._inbox.qsize())]
            for row in filter(None, [*self._running, *self._waiting, *arrived]):
                row.answer(end)
            self._model = None
            self._forget()

    def _take_in(self) -> None:
        """What has arrived; with nothing to do, wait for it."""
        with contextlib.suppress(queue.Empty):
            while (row := self._inbox.get(block=not (self._running or self._waiting))) is not None:
                self._waiting.append(row)

    def _turn(self) -> None:
        """Let ended rows go and waiting ones in, or else give every row its next token."""
        going_on = [i for i, row in enumerate(self._running) if row.open]
        self._waiting = [row for row in self._waiting if row.open]
        fresh = self._waiting[: max(0, self.rows - len(going_on))]
        if fresh or len(going_on) < len(self._running):
            read = [self._read(row) for row in fresh]
            self._regroup(going_on, [layers for layers, _ in read])
            self._running = [self._running[i] for i in going_on] + fresh
            del self._waiting[: len(fresh)]
            if read:
                self._extend(fresh, torch.cat([logits for _, logits in read]))
        elif self._running:
            self._step()

    def _read(self, row: Row) -> tuple[Layers, Tensor]:
        """Compute a prompt: its layers (of one row) and the logits [1, vocabulary] of the reply's first token."""
        known, layers = self._prefixes.pop(row.request.affinity, ([], []))
        shared = next((i for i, (a, b) in enumerate(zip(known, row.prompt, strict=False)) if a != b), len(known))
        row.cached = min(shared, len(row.prompt) - 1)
        cache, logits = _cache_of((k[..., : row.cached, :], v[..., : row.cached, :]) for k, v in layers), None
        for at in range(row.cached, len(row.prompt), CHUNK):
            if self._closing:
                raise StopError("closed")
            ids = torch.tensor([row.prompt[at : at + CHUNK]], device=self._device)
            logits = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        read = [(layer.keys, layer.values) for layer in cache.layers]
        self._prefixes[row.request.affinity] = row.prompt, read
        if len(self._prefixes) > PREFIXES:
            del self._prefixes[next(iter(self._prefixes))]
        return read, logits

    def _step(self) -> None:
        """The next token of every row."""
        lengths = torch.tensor([[row.length] for row in self._running])
        width = self._cache.get_seq_length() + 1
        logits = self._model(
            input_ids=torch.tensor([[row.reply[-1]] for row in self._running], device=self._device),
            attention_mask=(torch.arange(width) >= width - lengths).long().to(self._device),  # [rows, width]
            position_ids=(lengths - 1).to(self._device),
            past_key_values=self._cache,
            use_cache=True,
        ).logits
        self._extend(self._running, logits[:, -1])

    def _extend(self, rows: Sequence[Row], logits: Tensor) -> None:
        """Choose a token for each row from logits [rows, vocabulary]; answer the rows that end with it."""
        scores = logits.float()
        likeliest = []  # by the model itself, before settings and schema
        for row, line in zip(rows, scores, strict=True):
            likeliest.append(alternatives(line, row.request.top_logprobs, self._decode))
            row.choice.adjust(line, row.prompt, row.reply)
        chosen = choose([row.choice for row in rows], scores)
        for row, token, others in zip(rows, chosen, likeliest, strict=True):
            row.reply.append(token)
            if token in self._ends:
                self._answer(row, row.reply[:-1], "stop")
                continue
            row.choice.follow(token)
            if row.request.top_logprobs:
                row.tokens.append(Token(self._decode([token]), others))
            if len(row.reply) >= row.limit:
                self._answer(row, row.reply, "length")

    def _answer(self, row: Row, shown: list[int], finish: Finish) -> None:
        text = self._decode(shown)
        row.answer(Reply(text, finish, len(row.prompt), len(row.reply), row.cached, tuple(row.tokens)))

    def _regroup(self, going_on: list[int], read: list[Layers]) -> None:
        """The cache of the rows that go on (places in the old one) and of those just read, as wide as the longest."""
        lengths = [self._running[i].length - 1 for i in going_on]
        width = max([*lengths, *(layers[0][0].shape[-2] for layers in read)], default=0)
        old = [(layer.keys[going_on], layer.values[going_on]) for layer in self._cache.layers] if going_on else []
        parts = [part for part in (old, *read) if part]

        def joined(tensors: Iterable[Tensor]) -> Tensor:
            """One below the other, padded or (where the pad is negative) cut on the left."""
            return torch.cat([torch.nn.functional.pad(t, (0, 0, width - t.shape[-2], 0)) for t in tensors])

        layers = zip(*parts, strict=True)  # of each layer, the keys and values of all parts
        self._cache = _cache_of((joined(k for k, _ in layer), joined(v for _, v in layer)) for layer in layers)

    def _shrink(self, problem: str) -> None:
        """Out of memory: what was running begins again with half the rows; the seeds are its own."""
        self._waiting = [row for row in (*self._running, *self._waiting) if row.open]
        self._forget()
        if self.rows > 1:
            self.rows = max(1, min(self.rows, len(self._waiting)) // 2)
        elif self._waiting:
            self._waiting.pop(0).answer(TryAgainError(f"The GPU's memory does not hold this request ({problem})."))
        for row in self._waiting:
            row.restart()

    def _forget(self) -> None:
        """Give the memory of rows and prefixes back."""
        self._running, self._cache = [], DynamicCache()
        self._prefixes.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _cache_of(layers: Iterable[tuple[Tensor, Tensor]]) -> DynamicCache:
    """The form in which a model takes keys and values and adds to them."""
    cache = DynamicCache()
    for i, (keys, values) in enumerate(layers):
        cache.update(keys, values, i)
    return cache
