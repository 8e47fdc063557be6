"""From a model folder to a smaller model that is not silently worse. Read `quantize` first.

quantization.json   settings and fingerprints; with `result` once all is done
MODEL.W8A8/         a folder for vLLM and transformers; or MODEL.Q8_0.gguf, a file for llama.cpp
prompts/            the prompts that travel with the model (of a folder: in it)
README.md           the model card
.work/              losses of the original, the model before it is looked at; gone at the end
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import orjson

from mga.data.output_folder import QUANTIZATION, OutputFolder, open_output
from mga.data.store import read_json, write_atomically, write_json
from mga.errors import InputError, StopError
from mga.packages import require
from mga.scoring.model import load, model_files, model_fingerprint
from mga.toolmodel.compare.compare import CompareSettings, compare
from mga.toolmodel.quantize.calibration import Encoded, Texts, encode, read_texts
from mga.toolmodel.quantize.compressed import compress_w8a8
from mga.toolmodel.quantize.gguf_file import llama_config, model_config, safetensors_in, write_gguf
from mga.toolmodel.quantize.gguf_vocabulary import vocabulary_of
from mga.toolmodel.quantize.perplexity import Losses, comparison, load_either, losses_of
from mga.toolmodel.quantize.q4_0 import scales_by_texts
from mga.toolmodel.quantize.quantized_card import quantized_card
from mga.toolmodel.train.data_folder import is_data

Scheme = Literal["w8a8", "q8_0", "q4_0"]
SCHEMES: tuple[Scheme, ...] = ("w8a8", "q8_0", "q4_0")

WORK = ".work"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class QuantizeSettings:
    """`calibration_samples` and `eval_samples` count texts, `max_seq_len` their tokens. `max_ppl_increase`
    is how much higher the perplexity may be, as a share. With a `judge`, texts of both models are judged too
    (`mga.toolmodel.compare.compare`)."""

    calibration_samples: int = 256
    eval_samples: int = 64
    max_seq_len: int = 2048
    max_ppl_increase: float = 0.03
    accept_worse: bool = False
    text_key: str = "text"
    judge: str | None = None
    judging: CompareSettings = field(default_factory=CompareSettings)


def quantize(
    model: Path, scheme: Scheme, out: Path, texts: Sequence[str], settings: QuantizeSettings, say: Say
) -> dict[str, Any]:
    """Quantize the model of a folder into the folder `out`, or continue there; what quantization.json holds.

    `texts` are documents or a folder of examples. Raises InputError for what cannot be quantized, and when the result
    is worse than `settings` allows: it stays in .work then, and is taken with `accept_worse`.
    """
    check_model(model, scheme)
    read = read_texts(texts, settings.text_key, settings.calibration_samples, settings.eval_samples)
    with open_output(out, QUANTIZATION, _identity(model, scheme, read, settings)) as folder:
        if folder.is_complete:
            return folder.record
        with _room_said():
            made, final = (place / made_name(model, scheme) for place in (out / WORK, out))
            made = final if final.exists() else made  # stopped while it was published
            before = _before(out / WORK / "before.json", model, read, settings, say)
            if not made.exists():
                say(f"quantizing {model.name} as {scheme}")
                _make(model, scheme, made, read, settings)
            result = _looked_at(model, made, before, read, settings, say)
            if settings.judge:
                documents = _held_out_documents(out / WORK / "held_out.jsonl", texts, read)
                result["judged"] = _judged(out, model, made, settings.judge, documents, settings.judging, say)
        _refuse_worse(result, settings, out)
        return _publish(folder, final, model, made, result)


def check_model(model: Path, scheme: Scheme) -> None:
    """Raise InputError for a folder that cannot be quantized so, and where the library is missing that does it."""
    if scheme == "w8a8":
        require(f"The scheme {scheme}", "quantize", "llmcompressor")
    if model.is_file():
        raise InputError(f"{model} is a file; give the folder of the model that it was made from.")
    model_files(model)
    model_config(model)
    safetensors_in(model)
    if not (model / "tokenizer.json").is_file():
        raise InputError(f"{model} has no tokenizer.json; save its tokenizer beside the model first.")
    if scheme != "w8a8":
        vocabulary_of(model, llama_config(model)["vocab_size"])


def made_name(model: Path, scheme: Scheme) -> str:
    """What a quantized model is called."""
    name = model.resolve().name
    return f"{name}.W8A8" if scheme == "w8a8" else f"{name}.{scheme.upper()}.gguf"


def engine_of(made: Path) -> str:
    """The URI of an engine that runs a quantized model here."""
    return f"{'transformers' if made.is_dir() else 'llamacpp'}:{made}"


def _identity(model: Path, scheme: Scheme, texts: Texts, settings: QuantizeSettings) -> dict[str, Any]:
    return {
        "model": {"name": model.resolve().name, "fingerprint": model_fingerprint(model)},
        "scheme": scheme,
        "texts": {
            "fingerprint": texts.fingerprint,
            "calibration": len(texts.calibration),
            "held_out": len(texts.held_out),
            "max_seq_len": settings.max_seq_len,
        },
    }


@contextmanager
def _room_said() -> Iterator[None]:
    """Turn a lack of memory or disk into a sentence."""
    try:
        yield
    except MemoryError as error:
        raise StopError(_TOO_LARGE) from error
    except OSError as error:
        raise StopError(f"Cannot write: {error.strerror or error}. Make room or rights, then run again.") from error
    except RuntimeError as error:
        if any(words in str(error).lower() for words in ("out of memory", "allocate memory")):
            raise StopError(_TOO_LARGE) from error
        raise


_TOO_LARGE = (
    "The model and what is computed of it do not fit into memory: take a machine with more, or shorter and fewer texts "
    "(--max-seq-len, --calibration-samples)."
)


def _before(path: Path, model: Path, texts: Texts, settings: QuantizeSettings, say: Say) -> Losses:
    """The losses of the original on the held-out texts, measured once."""
    if not path.exists():
        say(f"the original on {len(texts.held_out):,} held-out texts")
        found = losses_of(load(str(model)), encoded(model, texts, settings, "held_out"))
        write_json(path, asdict(found))
    return Losses(**read_json(path))


def encoded(
    model: Path, texts: Texts, settings: QuantizeSettings, which: Literal["calibration", "held_out"]
) -> list[Encoded]:
    """Texts by the model's own tokenizer. Raises InputError when none of them has room for a reply."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model, local_files_only=True)
    first = tokenizer.bos_token_id
    prefix = tokenizer.eos_token_id if first is None else first
    given = texts.calibration if which == "calibration" else texts.held_out
    if any(text.prompt is not None for text in given) and tokenizer.chat_template is None:
        raise InputError(f"{model} has no chat template, which examples need; give documents instead.")
    found = encode(given, tokenizer, prefix, settings.max_seq_len)
    if not found:
        raise InputError(
            f"No text is left: all prompts have more than {settings.max_seq_len:,} tokens (--max-seq-len)."
        )
    return found


def _make(model: Path, scheme: Scheme, made: Path, texts: Texts, settings: QuantizeSettings) -> None:
    if scheme == "q8_0":
        write_gguf(model, made, "q8_0")
        return
    calibration = encoded(model, texts, settings, "calibration")
    if scheme == "w8a8":
        compress_w8a8(model, made, calibration)
    else:
        write_gguf(model, made, "q4_0", scales_by_texts(model, calibration))


def _looked_at(
    model: Path, made: Path, before: Losses, texts: Texts, settings: QuantizeSettings, say: Say
) -> dict[str, Any]:
    say(f"{made.name} on the same texts")
    after = losses_of(load_either(made, model), encoded(model, texts, settings, "held_out"))
    return {
        "perplexity": asdict(comparison(before, after)),
        "bytes": {"before": _size(model), "after": _size(made)},
        "mga": version("mga"),
    }


def _size(path: Path) -> int:
    """Bytes of the weights."""
    files = path.glob("*.safetensors") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _held_out_documents(path: Path, given: Sequence[str], texts: Texts) -> list[str]:
    """What is held out as an input of a comparison; of examples it finds that itself."""
    if is_data(Path(given[0])):
        return list(given)
    rows = [{"id": f"held-out-{number}", "text": text.reply} for number, text in enumerate(texts.held_out)]
    write_atomically(path, b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    return [str(path)]


def _judged(
    out: Path, model: Path, made: Path, judge: str, documents: Sequence[str], settings: CompareSettings, say: Say
) -> dict[str, Any]:
    """The original as teacher, what was made of it as student."""
    found = compare(f"transformers:{model}", engine_of(made), judge, documents, out / "judged", settings, say)
    return {name: found[name] for name in ("teacher", "student", "difference", "margin")}


def _refuse_worse(result: dict[str, Any], settings: QuantizeSettings, out: Path) -> None:
    if settings.accept_worse:
        return
    found = result["perplexity"]
    advice = "Run again with --accept-worse to keep it, or choose another --scheme or more texts in another --out."
    if found["change"] > settings.max_ppl_increase:
        raise InputError(
            f"Quantized, the model is worse: its perplexity on held-out texts is {found['after']:.2f} instead of "
            f"{found['before']:.2f} ({found['change']:+.1%}, at most {settings.max_ppl_increase:+.1%} is allowed), so "
            f"{out} has no model. {advice}"
        )
    judged = result.get("judged")
    if judged and judged["difference"]["verdict"] == "worse":
        raise InputError(
            f"Quantized, the model is worse: {judged['student']['acceptable']['share']:.1%} of its texts are "
            f"acceptable instead of {judged['teacher']['acceptable']['share']:.1%}, so {out} has no model. {advice}"
        )


def _publish(folder: OutputFolder, final: Path, model: Path, made: Path, result: dict[str, Any]) -> dict[str, Any]:
    out = folder.path
    if made != final:
        made.replace(final)
    if (model / "prompts").is_dir():
        beside = final if final.is_dir() else out
        shutil.copytree(model / "prompts", beside / "prompts", dirs_exist_ok=True)
    result = {**result, "file": final.name, "engine": engine_of(final)}
    write_atomically(out / "README.md", quantized_card({**folder.record, "result": result}, model).encode())
    record = folder.finish({"result": result})
    shutil.rmtree(out / WORK, ignore_errors=True)
    return record
