"""Losses of tokens, and the search for the first anomaly, against the barest way to have the same.

    python bench/losses.py speed FOLDER [--input examples/sample.jsonl] [--rounds 3]
    python bench/losses.py llamacpp [MODEL.gguf] [--input examples/sample.jsonl] [--documents 20]
    python bench/losses.py search [--documents 10000] [--tokens 2000]
    python bench/losses.py planted

speed     tokens per second of the scorer (five columns a token) beside the model's bare forward pass over the same
          batches, which gives scores and looks at none; rounds in turn, the best of each
llamacpp  perplexity by the scorer, and by llama.cpp itself, through the functions that xllamacpp's library exports
search    first anomalies of all documents, and the formula in plain Python on a hundredth of them, scaled up
planted   how many planted steps are found where they are, by size; how often noise passes p < 0.05
"""

import argparse
import ctypes
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"


def texts(path: Path, limit: int | None) -> list[str]:
    return [orjson.loads(line)["text"] for line in path.read_bytes().splitlines()][:limit]


def speed(arguments: argparse.Namespace) -> None:
    """Tokens per second beside the bare forward pass."""
    import torch
    import transformers

    from mga.scoring.model import BATCH_TOKENS, load
    from mga.scoring.windows import batches, windows_of

    scorer = load(str(arguments.model), arguments.device)
    bare: Any = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, scorer.dtype))
    bare.eval().to(scorer.device)
    held = [scorer.encode(text).ids for text in texts(arguments.input, arguments.documents)]
    sequences = [np.concatenate([[scorer.prefix or 0], ids]).astype(np.int32) for ids in held]
    windows = [w for i, ids in enumerate(sequences) for w in windows_of(i, len(ids), scorer.context, 0)]
    tokens = sum(map(len, windows))
    shown = []
    for batch in batches(windows, BATCH_TOKENS[scorer.device]):
        rows = torch.zeros((len(batch), len(batch[0])), dtype=torch.int64)
        for row, window in enumerate(batch):
            ids = sequences[window.sequence][window.first : window.end]
            rows[row, : len(window)] = torch.from_numpy(ids.astype(np.int64))
        shown.append(rows.to(scorer.device))
    ours, theirs = [], []
    for _ in range(arguments.rounds + 1):  # the first round warms up
        started = time.perf_counter()
        with torch.inference_mode():
            for rows in shown:
                bare(rows, use_cache=False)
        if scorer.device == "cuda":
            torch.cuda.synchronize()
        theirs.append(time.perf_counter() - started)
        started = time.perf_counter()
        scorer.score(sequences, 0)
        ours.append(time.perf_counter() - started)
    one, other = tokens / min(ours[1:]), tokens / min(theirs[1:])
    padding = scorer.padded / (scorer.read + scorer.padded)
    print(f"{tokens:,} tokens in {len(shown)} batches, {padding:.1%} padding; {scorer.device}, {scorer.dtype}")
    print(f"scorer {one:,.0f} tokens/s, bare forward pass {other:,.0f} tokens/s: {one / other:.2f} of it")


class _Params(ctypes.Structure):
    """A struct of llama.cpp's parameters, larger than any: passed on the stack, the callee reads what it knows."""

    _fields_ = (("n_ctx", ctypes.c_uint32), ("n_batch", ctypes.c_uint32), ("n_ubatch", ctypes.c_uint32))
    _fields_ += (("rest", ctypes.c_char * 1012),)


class _Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


def llama_losses(model: Path, sequences: list[Any], vocabulary: int) -> np.ndarray[Any, Any]:
    """llama.cpp's loss of every id but the first of each sequence, float64."""
    import xllamacpp

    library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("*.so"))))
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
    library.llama_log_set(silent, None)
    for name, result in (
        ("llama_model_default_params", _Params),
        ("llama_context_default_params", _Params),
        ("llama_model_load_from_file", ctypes.c_void_p),
        ("llama_init_from_model", ctypes.c_void_p),
        ("llama_get_memory", ctypes.c_void_p),
        ("llama_get_logits", ctypes.POINTER(ctypes.c_float)),
        ("llama_batch_init", _Batch),
    ):
        getattr(library, name).restype = result
    library.llama_backend_init()
    loaded = ctypes.c_void_p(
        library.llama_model_load_from_file(str(model).encode(), library.llama_model_default_params())
    )
    longest = max(map(len, sequences))
    params = library.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = longest
    context = ctypes.c_void_p(library.llama_init_from_model(loaded, params))
    batch = library.llama_batch_init(ctypes.c_int32(longest), ctypes.c_int32(0), ctypes.c_int32(1))
    losses = []
    for ids in sequences:
        library.llama_memory_clear(ctypes.c_void_p(library.llama_get_memory(context)), ctypes.c_bool(True))
        batch.n_tokens = len(ids) - 1
        for i, token in enumerate(ids[:-1].tolist()):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
        if library.llama_decode(context, batch):
            raise SystemExit("llama.cpp could not decode")
        scores = np.ctypeslib.as_array(library.llama_get_logits(context), (len(ids) - 1, vocabulary)).astype(np.float64)
        best = scores.max(1, keepdims=True)
        losses.append(np.log(np.exp(scores - best).sum(1)) + best[:, 0] - scores[np.arange(len(ids) - 1), ids[1:]])
    return np.concatenate(losses)


def llamacpp(arguments: argparse.Namespace) -> None:
    """Losses and perplexity beside llama.cpp's own."""
    from mga.engines.llamacpp.embedded_model import fetch
    from mga.scoring.model import load

    model = arguments.model or fetch("smollm2-135m")
    scorer = load(str(model), "cpu")
    held = [scorer.encode(text).ids for text in texts(arguments.input, arguments.documents)]
    begin = [] if scorer.prefix is None else [scorer.prefix]
    sequences = [np.concatenate([begin, ids]).astype(np.int32) for ids in held]
    ours = np.concatenate([found.loss for found in scorer.score(sequences, 0)]).astype(np.float64)
    theirs = llama_losses(model, sequences, scorer.vocabulary)
    one, other = np.exp(ours.mean()), np.exp(theirs.mean())
    print(f"{len(ours):,} tokens: perplexity {one:.3f} here, {other:.3f} by llama.cpp ({one / other - 1:+.2%})")
    alike = np.corrcoef(ours, theirs)[0, 1]
    print(f"losses differ by {np.abs(ours - theirs).mean():.4f} nats in the mean, correlation {alike:.5f}")


def plain(differences: list[float], share: float, k: float) -> int:
    """The formula, written down in plain Python."""
    n = len(differences)
    window = max(int(share * n), 1)
    mean = sum(differences) / n
    sigma = (sum((d - mean) ** 2 for d in differences) / n) ** 0.5
    for p in range(n - window + 1):
        if abs(sum(differences[p : p + window]) / window) > abs(mean) + k * sigma:
            return p
    return -1


def search(arguments: argparse.Namespace) -> None:
    """The search for first anomalies beside the formula in plain Python."""
    from mga.collapse.positions import Rule, first_anomalies

    documents, tokens = arguments.documents or 10_000, arguments.tokens
    random = np.random.default_rng(0)
    offsets = np.arange(documents + 1) * tokens
    for what, shift in (("none has an anomaly", 0.0), ("a step at 80%", 1.5)):
        differences = random.normal(0, 0.5, (documents, tokens)).astype(np.float32)
        differences[:, int(0.8 * tokens) :] += shift
        flat = differences.ravel()
        first_anomalies(flat, offsets, Rule())  # compiled
        times = []
        for _ in range(3):
            started = time.perf_counter()
            found = first_anomalies(flat, offsets, Rule())
            times.append(time.perf_counter() - started)
        some = max(documents // 100, 1)
        rows = [row.tolist() for row in differences[:some]]
        started = time.perf_counter()
        slow = [plain(row, 0.05, 1.0) for row in rows]
        scaled = (time.perf_counter() - started) * documents / some
        assert found[:some].tolist() == slow
        print(
            f"{documents:,} documents × {tokens:,} tokens, {what}: {min(times):.3f} s, plain Python {scaled:.1f} s, "
            f"{scaled / min(times):,.0f} times; found {(found >= 0).mean():.1%}"
        )


def planted(arguments: argparse.Namespace) -> None:
    """What the search finds of planted steps, and in noise."""
    from mga.collapse.histogram import position_figures
    from mga.collapse.positions import Rule, first_anomalies, normalised

    random = np.random.default_rng(0)
    documents, tokens = 2000, 2000
    offsets = np.arange(documents + 1) * tokens
    print("| step at 80%, in σ of the noise | found | within 2 points |\n|---|---|---|")
    for size in (0.5, 1.0, 1.5, 2.0, 3.0, 5.0):
        differences = random.normal(0, 1, (documents, tokens)).astype(np.float32)
        differences[:, int(0.8 * tokens) :] += size
        at = normalised(first_anomalies(differences.ravel(), offsets, Rule()), offsets)
        print(f"| {size} | {(at >= 0).mean():.1%} | {(np.abs(at - 80) <= 2).mean():.1%} |")
    passed, later, runs = 0, [], 200
    for seed in range(runs):
        random = np.random.default_rng(seed)
        bounds = np.concatenate([[0], np.cumsum(random.integers(100, 500, 200))])
        noise = random.standard_t(3, bounds[-1]).astype(np.float32)
        found = position_figures(noise, bounds, Rule(), (), 99, seed)[0]
        passed += found["p_later"] < 0.05
        later.append(found["later"])
    print(
        f"noise: p < 0.05 in {passed} of {runs} corpora of 200 documents; mean shift against chance "
        f"{np.mean(later):+.2f} points (standard error {np.std(later) / runs**0.5:.2f})"
    )


def main() -> None:
    """Read the flags and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "llamacpp", "search", "planted"])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--input", type=Path, default=SAMPLE)
    parser.add_argument("--documents", type=int)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cuda", "cpu"])
    arguments = parser.parse_args()
    {"speed": speed, "llamacpp": llamacpp, "search": search, "planted": planted}[arguments.what](arguments)


if __name__ == "__main__":
    main()
