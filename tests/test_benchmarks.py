"""Benchmarks: every task of the suites through the real harness, offline; smooth scores; one's own text; going on."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.errors import InputError
from mga.evaluation.evaluate import _figure
from mga.evaluation.local_data import local
from mga.evaluation.own_text import CHOICES, FEWEST, WORDS, write_items
from mga.evaluation.signals import smooth
from mga.evaluation.suites import MAIN, SCALING, chosen

LETTERS = ["A", "B", "C", "D", "E"]


def test_smooth_scores_are_those_computed_by_hand() -> None:
    found = smooth([-2.0, -4.0], [4, 2], right=0)
    assert found["probability"] == pytest.approx(1 / (1 + math.exp(-2)))
    assert found["probability_norm"] == pytest.approx(math.exp(-0.5) / (math.exp(-0.5) + math.exp(-2)))
    assert found["bits_per_byte"] == pytest.approx(0.5 / math.log(2))
    assert found["margin"] == pytest.approx(-0.5 + 2)


@given(st.lists(st.floats(-900, -0.001), min_size=2, max_size=6), st.data())
def test_the_probabilities_of_all_choices_are_one(values: list[float], data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 90), min_size=len(values), max_size=len(values)))
    scores = [smooth(values, lengths, right) for right in range(len(values))]
    assert sum(one["probability"] for one in scores) == pytest.approx(1)
    assert sum(one["probability_norm"] for one in scores) == pytest.approx(1)
    best = max(range(len(values)), key=lambda i: values[i] / lengths[i])
    assert scores[best]["margin"] >= 0


def test_a_score_has_an_error_and_an_interval_also_where_all_answers_are_right() -> None:
    half = _figure([0.0, 1.0, 1.0, 0.0])
    assert (half["value"], half["stderr"]) == pytest.approx((0.5, math.sqrt(1 / 3) / 2))
    # Wilson 1927 for 3 of 3: 1 / (1 + z²/3) to 1
    right = _figure([1.0, 1.0, 1.0])
    assert (right["low"], right["high"]) == pytest.approx((1 / (1 + 1.959964**2 / 3), 1.0))
    assert right["stderr"] > 0.1
    assert _figure([0.25])["stderr"] is None


def test_names_of_suites_and_tasks_are_found_and_wrong_ones_get_the_nearest() -> None:
    known = [*SCALING, "lambada_openai"]
    assert {one.name: one.shots for one in chosen(["paper-scaling"], known, None)} == SCALING
    assert {one.name: one.shots for one in chosen(["piqa", "lambada_openai"], known, 3)} == {
        "piqa": 3,
        "lambada_openai": 3,
    }
    with pytest.raises(InputError, match="did you mean hellaswag"):
        chosen(["helaswag"], known, None)


def passages(count: int) -> list[str]:
    return [" ".join(f"w{i}x{j}" for j in range(FEWEST + i)) for i in range(count)]


def test_own_items_have_the_true_continuation_once_among_others_of_the_same_corpus(tmp_path: Path) -> None:
    texts = passages(12)
    assert write_items([*texts, "too short"], tmp_path / "items.jsonl", 3, None) == 12
    items = [orjson.loads(line) for line in (tmp_path / "items.jsonl").read_bytes().splitlines()]
    for text, item in zip(texts, items, strict=True):
        assert len(item["choices"]) == len(set(item["choices"])) == CHOICES
        assert text.endswith(item["context"] + item["choices"][item["label"]])
        assert all(len(choice.split()) == WORDS for choice in item["choices"])
        assert sum(choice.strip() in text for choice in item["choices"]) == 1
    assert len({item["label"] for item in items}) > 1
    with pytest.raises(InputError, match="need 8 of them"):
        write_items(texts[:7], tmp_path / "few.jsonl", 3, None)


def test_local_datasets_are_taken_as_copies_of_the_hub_or_by_their_splits(tmp_path: Path) -> None:
    copy = tmp_path / "baber" / "piqa"
    copy.mkdir(parents=True)
    (copy / "README.md").write_text("---\nconfigs:\n- config_name: default\n---\n")
    assert local(tmp_path, "baber/piqa", None) == {"dataset_path": str(copy)}
    plain = tmp_path / "cais" / "mmlu" / "anatomy"
    plain.mkdir(parents=True)
    for name in ("test-00000-of-00001.parquet", "dev.parquet", "testimony.parquet"):
        (plain / name).touch()
    found = local(tmp_path, "cais/mmlu", "anatomy")
    assert found is not None
    assert {
        split: [Path(file).name for file in files] for split, files in found["dataset_kwargs"]["data_files"].items()
    } == {
        "dev": ["dev.parquet"],
        "test": ["test-00000-of-00001.parquet"],
    }
    assert local(tmp_path, "openai/gsm8k", "main") is None


def questions(count: int = 9) -> dict[str, tuple[str, Callable[[int], dict[str, Any]]]]:
    """For every dataset of the suites its folder, and an item in its columns."""

    def four(i: int) -> list[str]:
        return [f"answer {i} {letter}" for letter in LETTERS[:4]]

    def arc(i: int) -> dict[str, Any]:
        return {
            "id": f"q{i}",
            "question": f"What is {i}?",
            "choices": {"text": four(i), "label": LETTERS[:4]},
            "answerKey": "B",
        }

    return {
        "allenai/ai2_arc": ("*", arc),
        "allenai/winogrande": (
            "winogrande_xl",
            lambda i: {
                "sentence": f"Ann saw Bea; _ had {i} pens.",
                "option1": "Ann",
                "option2": "Bea",
                "answer": "2",
            },
        ),
        "Rowan/hellaswag": (
            "",
            lambda i: {
                "ctx_a": f"A man has {i} eggs.",
                "ctx_b": "he",
                "activity_label": "Cooking",
                "endings": four(i),
                "label": "3",
            },
        ),
        "cais/mmlu": (
            "*",
            lambda i: {"question": f"How many is {i}?", "subject": "anatomy", "choices": four(i), "answer": i % 4},
        ),
        "TIGER-Lab/MMLU-Pro": (
            "",
            lambda i: {
                "question": f"How many is {i}?",
                "options": four(i),
                "answer": "C",
                "answer_index": 2,
                "cot_content": "A: Let's think step by step. The answer is (C).",
                "category": CATEGORIES[i % len(CATEGORIES)],
            },
        ),
        "tau/commonsense_qa": (
            "",
            lambda i: {
                "question": f"Where are {i} books?",
                "choices": {"label": LETTERS, "text": [*four(i), "shelf"]},
                "answerKey": "E",
            },
        ),
        "allenai/openbookqa": (
            "main",
            lambda i: {
                "question_stem": f"The sun {i}",
                "choices": {"text": four(i), "label": LETTERS[:4]},
                "answerKey": "A",
            },
        ),
        "baber/piqa": ("", lambda i: {"goal": f"Open {i} jars", "sol1": "Turn it.", "sol2": "Eat it.", "label": 0}),
        "mandarjoshi/trivia_qa": (
            "rc.nocontext",
            lambda i: {"question": f"Who was number {i}", "answer": {"aliases": ["Ada", "ada"], "value": "Ada"}},
        ),
        "openai/gsm8k": ("main", lambda i: {"question": f"{i} and 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"}),
        "jaredfern/codah": (
            "fold_0",
            lambda i: {
                "question_category": 0,
                "question_propmt": f"A cat with {i} toys",
                "candidate_answers": four(i),
                "correct_answer_idx": 1,
            },
        ),
        "EleutherAI/drop": (
            "",
            lambda i: {
                "section_id": "s",
                "query_id": f"q{i}",
                "passage": f"They had {i} ships.",
                "question": "How many ships?",
                "answer": {
                    "number": str(i),
                    "date": {"day": "", "month": "", "year": ""},
                    "spans": [],
                    "worker_id": "",
                    "hit_id": "",
                },
                "validated_answers": {"number": [], "date": [], "spans": [], "worker_id": [], "hit_id": []},
            },
        ),
        "EleutherAI/race": (
            "high",
            lambda i: {
                "article": f"Text number {i}.",
                "problems": str([{"question": f"What is {i}?", "answer": "A", "options": four(i)}] * 2),
            },
        ),
    }


CATEGORIES = [
    "biology",
    "business",
    "chemistry",
    "computer science",
    "economics",
    "engineering",
    "health",
    "history",
    "law",
    "math",
    "other",
    "philosophy",
    "physics",
    "psychology",
]


@pytest.fixture(scope="module")
def datasets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Local copies of all datasets, with a few items written for the tests in their real columns."""
    folder = tmp_path_factory.mktemp("datasets")
    for name, (configuration, item) in questions().items():
        place = folder / name / (configuration if configuration != "*" else "")
        place.mkdir(parents=True)
        count = 2 * len(CATEGORIES) if "MMLU-Pro" in name else 9
        lines = b"\n".join(orjson.dumps(item(i)) for i in range(count))
        for split in ("train", "validation", "dev", "test"):
            (place / f"{split}.jsonl").write_bytes(lines)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two tiny models that differ by their seed."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as kinds

    folder = tmp_path_factory.mktemp("models")
    made = Tokenizer(kinds.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        ["a few words"],
        trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", bos_token="<|end|>")
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(
            vocab_size=300,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8192,
            initializer_range=0.3,
        )
        transformers.LlamaForCausalLM(config).save_pretrained(folder / f"model-{seed}")
        tokenizer.save_pretrained(folder / f"model-{seed}")
    return [folder / "model-0", folder / "model-1"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(passages(10))))
    return path


def run(models: list[Path], out: Path, tasks: list[str], **more: Any) -> dict[str, Any]:
    from mga.data.corpus_files import open_corpus
    from mga.evaluation.evaluate import Settings, evaluate

    said: list[str] = more.pop("said", [])
    own = more.pop("own", None)
    corpus = open_corpus([str(own)], "text", "id") if own else None
    data = more.pop("data", None)
    return evaluate(models, out, tasks, data, corpus, Settings(**more), said.append)


def value(record: dict[str, Any], checkpoint: str, task: str, metric: str) -> float:
    (row,) = [r for r in record["results"] if (r["checkpoint"], r["task"], r["metric"]) == (checkpoint, task, metric)]
    return float(row["value"])


@pytest.mark.torch
def test_every_task_of_the_suites_is_asked_offline(datasets_folder: Path, models: list[Path], tmp_path: Path) -> None:
    names = [name for name in SCALING if not name.startswith("mmlu")]
    record = run(
        models[:1], tmp_path / "out", [*names, "mmlu_anatomy", "mmlu_pro_math"], data=datasets_folder, limit=2, shots=1
    )
    scored = {row["task"]: row for row in record["results"]}
    assert set(scored) == {*names, "mmlu_anatomy", "mmlu_pro_math"}
    assert all(row["n"] == 2 for row in scored.values())
    assert all(math.isfinite(row["value"]) for row in record["results"])


@pytest.mark.torch
def test_scores_are_the_harness_own_and_the_smooth_ones_agree_with_its_likelihoods(
    datasets_folder: Path, models: list[Path], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq
    from lm_eval import evaluate as direct

    from mga.evaluation.harness import Harness, load_model
    from mga.evaluation.suites import Benchmark

    record = run(models[:1], tmp_path / "out", ["winogrande", "piqa"], data=datasets_folder)
    harness = Harness([], datasets_folder, None, tmp_path / "cache")
    for name in ("winogrande", "piqa"):
        (task,) = harness.load([Benchmark(name, 0)])[name]
        samples = direct(load_model(models[0], "cpu", 4), {name: task}, log_samples=True, bootstrap_iters=0)
        theirs = samples["results"][name]["acc,none"]
        assert value(record, "model-0", name, "acc") == pytest.approx(theirs)
        rows = pq.read_table(tmp_path / "out" / "items" / "model-0" / "model-0" / f"{name}.parquet").to_pylist()
        for row, sample in zip(rows, samples["samples"][name], strict=True):
            likelihoods = [float(answer[0][0]) for answer in sample["resps"]]
            right = 1 if name == "winogrande" else 0
            expected = math.exp(likelihoods[right]) / sum(map(math.exp, likelihoods))
            assert row["probability"] == pytest.approx(expected, rel=1e-3)
            assert (row["acc"] == 1) == (likelihoods.index(max(likelihoods)) == right)


@pytest.mark.torch
def test_examples_come_before_the_question(datasets_folder: Path, tmp_path: Path) -> None:
    from mga.evaluation.harness import Harness
    from mga.evaluation.suites import Benchmark

    harness = Harness([], datasets_folder, None, tmp_path / "cache")
    for name in ("arc_easy", "gsm8k"):
        for shots in (0, 5):
            (task,) = harness.load([Benchmark(name, shots)])[name]
            task.set_fewshot_seed(seed=1234)
            task.build_all_requests(limit=1)
            assert task.instances[0].args[0].count("Question:") == shots + 1
    assert MAIN["gsm8k"] == MAIN["mmlu"] == 5


@pytest.mark.torch
def test_a_group_is_all_its_tasks(datasets_folder: Path, tmp_path: Path) -> None:
    from mga.evaluation.harness import Harness

    leaves = [*Harness([], datasets_folder, None, tmp_path)._specifications("mmlu")]
    assert len(leaves) == 57
    assert not any(leaf.get("absent") for leaf in leaves)


@pytest.mark.torch
def test_own_text_is_scored_and_what_was_asked_is_not_asked_again(
    models: list[Path], own: Path, tmp_path: Path
) -> None:
    import numpy as np

    from mga.scoring.model import load

    said: list[str] = []
    out = tmp_path / "out"
    alone = run(models[:1], out, [], own=own, said=said)
    assert len(said) == 1
    both = run(models, out, [], own=own, said=said)
    assert len(said) == 2
    assert [row for row in both["results"] if row["checkpoint"] == "model-0"] == alone["results"]
    scorer = load(str(models[0]))
    assert scorer.prefix is not None
    total = 0.0
    for text in passages(10):
        ids = scorer.encode(text).ids
        sequence = np.concatenate([[scorer.prefix], ids]).astype(np.int32)
        total += float(scorer.score([sequence], 0)[0].loss.sum()) / math.log(2)
    size = sum(len(text.encode()) for text in passages(10))
    assert value(both, "model-0", "own", "bits_per_byte") == pytest.approx(total / size, rel=1e-4)
    named = {(row["checkpoint"], row["metric"]): row for row in both["differences"]}
    difference = value(both, "model-1", "own", "probability") - value(both, "model-0", "own", "probability")
    assert named["model-1", "probability"]["value"] == pytest.approx(difference)
    with pytest.raises(InputError, match=r"limit \(None → 3\)"):
        run(models, out, [], own=own, limit=3)


@pytest.mark.torch
def test_what_is_missing_is_said_before_anything_is_asked(
    datasets_folder: Path, models: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"baber/piqa is not in .*hf download baber/piqa"):
        run(models, tmp_path / "a", ["piqa"], data=tmp_path)
    with pytest.raises(InputError, match="cannot be had from the hub"):
        run(models, tmp_path / "b", ["piqa"])
    with pytest.raises(InputError, match="There is no model"):
        run([tmp_path / "nowhere"], tmp_path / "c", ["piqa"], data=datasets_folder)
    with pytest.raises(InputError, match="did you mean piqa"):
        run(models, tmp_path / "d", ["piqaa"], data=datasets_folder)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text("{}")
    with pytest.raises(InputError, match="has no tokenizer"):
        run([bare], tmp_path / "e", ["piqa"], data=datasets_folder)
