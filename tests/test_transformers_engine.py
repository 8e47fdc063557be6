"""The transformers engine: a tiny random model for what it does, the embedded model as a folder for what it says."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Any, TypeVar

import pytest
from model_folders import CONTEXT, embedded_model, make_tiny, tiny_folder

from mga.config import load_config
from mga.engines.client import Client
from mga.engines.engine import Reply, Request
from mga.engines.journal import Journal
from mga.engines.transformers.engine import TransformersEngine
from mga.errors import InputError, StopError, TryAgainError
from mga.toolmodel.train.base import hf_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

T = TypeVar("T")
SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"
ASK = Request("the ferry crossed the strait", 12, 7, "reformulate", "document", {"temperature": 1.0})
GREEDY = replace(ASK, sampling={"temperature": 0.0})
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "enum": [1, 2, 3]}},
    "required": ["score"],
    "additionalProperties": False,
}


@pytest.fixture
def tiny() -> Path:
    return tiny_folder()


@pytest.fixture(scope="session")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as a folder of safetensors."""
    folder = tmp_path_factory.mktemp("models") / "smol"
    hf_folder(embedded_model(), folder)
    return folder


def test_a_folder_of_the_embedded_model_has_its_tokenizer(smol: Path) -> None:
    from mga.packing.tokenizer import load_tokenizer

    theirs, ours = transformers.AutoTokenizer.from_pretrained(smol), load_tokenizer(str(embedded_model()))
    assert (theirs.bos_token, theirs.eos_token, theirs.pad_token) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    config = transformers.AutoConfig.from_pretrained(smol)
    assert (config.bos_token_id, config.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)
    for text in ("It weighed 2kg in 1987.", "a1b22c333", "def f(x):\n\treturn 0x7F", "日本語 и ещё 12"):
        assert theirs(text)["input_ids"] == ours.encode([text])[0].tolist()
    asked = theirs.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert asked.startswith("<|im_start|>system\n")
    assert asked.endswith("Hello<|im_end|>\n")


@asynccontextmanager
async def started(folder: Path, concurrency: int = 8) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine(str(folder), concurrency, "cpu")
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def with_engine(folder: Path, work: Callable[[TransformersEngine], Awaitable[T]], concurrency: int = 8) -> T:
    async def whole() -> T:
        async with asyncio.timeout(120), started(folder, concurrency) as engine:
            return await work(engine)

    return asyncio.run(whole())


def generated(folder: Path, prompt: str, tokens: int) -> str:
    """What transformers' own greedy `generate` answers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        reply = model.generate(ids, max_new_tokens=tokens, do_sample=False, pad_token_id=1)[0, ids.shape[1] :]
    return str(tokenizer.decode(reply, skip_special_tokens=True))


# ── what it does ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_reply_is_counted_and_says_how_it_ended(tiny: Path) -> None:
    reply = with_engine(tiny, lambda engine: engine.ask(GREEDY))
    assert (reply.finish, reply.prompt_tokens, reply.generated_tokens) == ("length", len(ASK.prompt), 12)
    assert reply.text
    assert reply.cached_tokens == 0


def test_an_end_token_stops_the_reply_and_is_not_shown(tiny: Path, tmp_path: Path) -> None:
    first = with_engine(tiny, lambda engine: engine.ask(replace(GREEDY, top_logprobs=1)))
    third = max(first.tokens[2].alternatives)
    ends = [1, transformers.AutoTokenizer.from_pretrained(tiny)(third)["input_ids"][0]]
    folder = shutil.copytree(tiny, tmp_path / "ends")
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": ends}))
    reply = with_engine(folder, lambda engine: engine.ask(GREEDY))
    assert reply.finish == "stop"
    assert reply.generated_tokens <= 3
    assert first.text.startswith(reply.text)
    assert len(reply.text) < len(first.text)


@pytest.mark.parametrize("window", [None, 16], ids=["full attention", "sliding window"])
def test_mixed_requests_in_one_batch_answer_as_generate_does(tmp_path: Path, window: int | None) -> None:
    folder = make_tiny(tmp_path / "model", "MistralConfig", sliding_window=window)
    prompts = [f"document {i % 3} " + "waves and wind " * (i % 4) + str(i) for i in range(20)]
    requests = [replace(GREEDY, prompt=p, max_tokens=5 + 3 * (i % 5), affinity=p[:10]) for i, p in enumerate(prompts)]

    async def all_at_once(engine: TransformersEngine) -> list[Reply]:
        return await asyncio.gather(*map(engine.ask, requests))

    replies = with_engine(folder, all_at_once, 6)
    assert [r.text for r in replies] == [generated(folder, r.prompt, r.max_tokens) for r in requests]
    assert sum(r.cached_tokens for r in replies) > 0


def test_a_request_alone_is_answered_the_same_and_by_its_seed(tiny: Path) -> None:
    async def several(engine: TransformersEngine) -> list[str]:
        seeds = [7, 8, 7]
        alone = [(await engine.ask(replace(ASK, seed=seed, affinity=str(i)))).text for i, seed in enumerate(seeds)]
        together = await asyncio.gather(*(engine.ask(replace(ASK, seed=seed)) for seed in range(4, 12)))
        return [*alone, together[3].text]

    first, other, again, in_company = with_engine(tiny, several)
    assert first == again == in_company
    assert other != first


def test_sampling_follows_the_settings_of_its_request(tiny: Path) -> None:
    async def several(engine: TransformersEngine) -> list[str]:
        every = [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 5.0}]
        every += [{"temperature": 0.0, "repeat_penalty": 5.0}, {"dry_multiplier": 0.8, "top_k": 1}]
        return [r.text for r in await asyncio.gather(*(engine.ask(replace(ASK, sampling=s)) for s in every))]

    greedy, *same, hot, penalized, ignored = with_engine(tiny, several)
    assert same == [greedy] * 3
    assert ignored == greedy
    assert hot != greedy != penalized

    async def ignores(engine: TransformersEngine) -> set[str]:
        await engine.ask(replace(GREEDY, sampling={"dry_multiplier": 0.8, "min_p": 0.1}))
        return engine.ignored

    assert with_engine(tiny, ignores) == {"dry_multiplier"}


def test_alternatives_are_natural_logarithms(tiny: Path) -> None:
    reply = with_engine(tiny, lambda engine: engine.ask(replace(GREEDY, top_logprobs=98)))
    assert len(reply.tokens) == reply.generated_tokens
    for token in reply.tokens:
        assert token.alternatives[token.text] == max(token.alternatives.values())
        assert sum(map(exp, token.alternatives.values())) == pytest.approx(1, abs=0.05)  # the end tokens share a name


def test_a_schema_holds_for_its_request_alone(tiny: Path) -> None:
    pytest.importorskip("llguidance")

    async def both(engine: TransformersEngine) -> tuple[Reply, Reply]:
        wanting = replace(ASK, schema=SCHEMA, max_tokens=150)
        return await asyncio.gather(engine.ask(wanting), engine.ask(GREEDY))  # type: ignore[return-value]

    held, free = with_engine(tiny, both)
    assert held.finish == "length" or json.loads(held.text)["score"] in (1, 2, 3)
    assert held.text.lstrip()[:1] in ("{", "")
    assert not free.text.startswith("{")


def test_a_prompt_beyond_the_context_fails_alone_and_a_long_reply_is_cut(tiny: Path) -> None:
    async def several(engine: TransformersEngine) -> Reply:
        with pytest.raises(InputError, match=f"context {CONTEXT}"):
            await engine.ask(replace(ASK, prompt="x" * (CONTEXT + 1)))
        with pytest.raises(InputError, match="empty"):
            await engine.ask(replace(ASK, prompt=""))
        assert engine.context == CONTEXT
        return await engine.ask(replace(GREEDY, prompt="x" * (CONTEXT - 5), max_tokens=100))

    reply = with_engine(tiny, several)
    assert reply.finish == "stop" or reply.generated_tokens == 5


def test_the_event_loop_is_never_blocked(tiny: Path) -> None:
    async def work(engine: TransformersEngine) -> float:
        longest, last = 0.0, time.monotonic()
        asked = [asyncio.create_task(engine.ask(replace(GREEDY, max_tokens=100, seed=i))) for i in range(8)]
        while not all(task.done() for task in asked):
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        return longest

    assert with_engine(tiny, work) < 1.0


def test_closing_in_the_middle_fails_what_waits(tiny: Path) -> None:
    async def work(engine: TransformersEngine) -> list[object]:
        asked = [asyncio.create_task(engine.ask(replace(GREEDY, max_tokens=200))) for _ in range(20)]
        await asyncio.sleep(0.05)
        await engine.close()
        await engine.close()
        assert not await engine.alive()
        return await asyncio.gather(*asked, return_exceptions=True)  # type: ignore[return-value]

    answers = with_engine(tiny, work, 2)
    assert any(isinstance(answer, StopError) for answer in answers)
    assert all(isinstance(answer, (StopError, Reply)) for answer in answers)


def test_cancelled_requests_make_room(tiny: Path) -> None:
    async def work(engine: TransformersEngine) -> Reply:
        asked = [asyncio.create_task(engine.ask(replace(GREEDY, max_tokens=200))) for _ in range(4)]
        await asyncio.sleep(0.05)
        for task in asked:
            task.cancel()
        return await engine.ask(GREEDY)

    assert with_engine(tiny, work, 2).generated_tokens > 0


def test_a_request_cancelled_before_it_is_seen_is_passed_over(tiny: Path) -> None:
    async def work(engine: TransformersEngine) -> Reply:
        batch: Any = engine._batch
        asked = batch.answer(GREEDY, [5], 12, None)
        asked.send(None).cancel()  # it lies in the inbox of a thread that has nothing else to do
        asked.close()
        await asyncio.sleep(0.05)
        return await engine.ask(GREEDY)

    assert with_engine(tiny, work).generated_tokens > 0


def test_a_crash_fails_everything_with_its_reason(tiny: Path) -> None:
    async def work(engine: TransformersEngine) -> list[object]:
        def crash() -> None:
            raise ZeroDivisionError("by nought")

        engine._batch._step = crash  # type: ignore[union-attr,method-assign]
        answers = await asyncio.gather(*(engine.ask(ASK) for _ in range(5)), return_exceptions=True)
        with pytest.raises(StopError, match="by nought"):
            await engine.ask(ASK)
        await asyncio.to_thread(engine._batch._thread.join, 10)  # type: ignore[union-attr]
        assert not await engine.alive()
        return answers  # type: ignore[return-value]

    for answer in with_engine(tiny, work):
        assert isinstance(answer, StopError)
        assert "ZeroDivisionError" in str(answer)


def test_short_memory_halves_the_batch_and_changes_no_reply(tiny: Path) -> None:
    requests = [replace(ASK, seed=seed, max_tokens=20) for seed in range(8)]

    async def work(engine: TransformersEngine, room: int) -> tuple[list[str], int]:
        batch: Any = engine._batch
        step = batch._step

        def limited() -> None:
            if len(batch._running) > room and len(batch._running[0].reply) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            step()

        batch._step = limited
        replies = await asyncio.gather(*map(engine.ask, requests), return_exceptions=True)
        return [r.text if isinstance(r, Reply) else type(r).__name__ for r in replies], batch.rows

    whole, rows = with_engine(tiny, lambda engine: work(engine, 8))
    assert rows == 8
    assert with_engine(tiny, lambda engine: work(engine, 3)) == (whole, 2)
    assert with_engine(tiny, lambda engine: work(engine, 0)) == ([TryAgainError.__name__] * 8, 1)


def test_what_cannot_be_loaded_is_said(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(folder: Path) -> str:
        with pytest.raises(InputError) as caught:
            with_engine(folder, lambda engine: engine.alive())
        return str(caught.value)

    assert "no model folder" in refusal(tmp_path / "nowhere")
    assert "config.json" in refusal(tmp_path)
    broken = shutil.copytree(tiny, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x08" * 100)
    assert "cannot load" in refusal(broken)
    (broken / "model.safetensors").unlink()
    assert "cannot load" in refusal(broken)
    settings = json.loads((tiny / "config.json").read_text())
    partial = shutil.copytree(tiny, tmp_path / "partial")
    (partial / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 3}))
    assert "lacks" in refusal(partial)
    (broken / "config.json").write_text("{}")
    assert "cannot load" in refusal(broken)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert "pip install 'mga[transformers]'" in refusal(tiny)


def test_asked_before_start_it_stops() -> None:
    with pytest.raises(StopError, match="before"):
        asyncio.run(TransformersEngine("anywhere").ask(ASK))
    asyncio.run(TransformersEngine("anywhere").close())


def test_layers_that_cannot_be_batched_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "hybrid")
    settings = json.loads((folder / "config.json").read_text())
    kinds = {"model_type": "qwen3", "layer_types": ["linear_attention", "full_attention"]}
    (folder / "config.json").write_text(json.dumps(settings | kinds))
    with pytest.raises(InputError, match="linear_attention"):
        with_engine(folder, lambda engine: engine.alive())


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────


def sample(count: int) -> list[str]:
    return [json.loads(line)["text"] for line in SAMPLE.read_text().splitlines()[:count]]


@pytest.mark.model
def test_the_converted_folder_models_english(smol: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(smol)
    model = transformers.AutoModelForCausalLM.from_pretrained(smol, dtype=torch.float32)
    text = sample(1)[0]
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids[0]) == text
    with torch.inference_mode():
        assert exp(model(ids, labels=ids).loss.item()) < 40
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.model
def test_a_real_model_answers_in_chat_holds_schemas_and_shares_documents(smol: Path, tmp_path: Path) -> None:
    document = sample(1)[0][:400]
    title = replace(GREEDY, prompt=f"{document}\n\nGive it a short title.", max_tokens=40)
    score = replace(title, prompt=f"{document}\n\nScore it in JSON.", schema=SCHEMA, top_logprobs=3)

    async def work(engine: TransformersEngine) -> list[Reply]:
        client, journal = Client(engine), Journal(tmp_path / "journal.jsonl")
        replies = [await client.ask(title, journal), await client.ask(score, journal), await client.ask(title, journal)]
        assert len(journal.path.read_bytes().splitlines()) == 2
        return replies

    titled, scored, remembered = with_engine(smol, work)
    assert remembered == titled
    assert titled.finish == "stop"
    assert "tide" in titled.text.lower()
    assert scored.cached_tokens > 50
    if "schema" not in scored.text:
        pytest.importorskip("llguidance")
        assert json.loads(scored.text)["score"] in (1, 2, 3)
        assert "".join(token.text for token in scored.tokens) == scored.text


@pytest.mark.model
def test_a_whole_run_ends_with_one_outcome_per_pair(smol: Path, tmp_path: Path) -> None:
    from rich.console import Console

    from mga.runs.executors.local import expand
    from mga.runs.monitoring.progress import Progress
    from mga.runs.run import Run

    settings = {
        "engine": f"transformers:{smol}",
        "input": [str(SAMPLE)],
        "limit": 2,
        "pairs": 1,
        "max_reply_tokens": 64,
        "concurrency": 2,
        "pairing": {"max_tokens": 100, "attempts": 1},
        "judging": {"max_tokens": 60, "attempts": 1},
    }
    config = load_config(None, settings)
    run = Run(tmp_path / "run")
    asyncio.run(expand(config, run, Progress(Console(quiet=True), quiet=True)))
    stats = json.loads((tmp_path / "run" / "stats.json").read_text())
    assert sum(stats["outcomes"].values()) == 2
    assert stats["outcomes"].get("failed", 0) == 0
