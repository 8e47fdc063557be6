"""The command `mga tool quantize`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.cli.options import TextKey
from mga.packages import require


def quantize(
    model: Annotated[Path, typer.Argument(help="folder of a Hugging Face model; for GGUF a Llama", metavar="MODEL")],
    scheme: Annotated[str, typer.Option("--scheme", help="w8a8 (vLLM, transformers), q8_0 or q4_0 (llama.cpp)")],
    out: Annotated[Path, typer.Option("--out", help="folder to write, new or to be continued")],
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            "--calibration",
            help="texts to calibrate with and to compare on: documents, or a folder of examples; if not given, the "
            "examples that the model was trained on",
            metavar="DATA|DOCS",
        ),
    ] = None,
    calibration_samples: Annotated[
        int, typer.Option("--calibration-samples", help="texts to calibrate with, at most", min=1)
    ] = 256,
    eval_samples: Annotated[
        int, typer.Option("--eval-samples", help="held-out texts to compare on, at most", min=1)
    ] = 64,
    max_seq_len: Annotated[int, typer.Option("--max-seq-len", help="tokens of a text that are read", min=16)] = 2048,
    max_ppl_increase: Annotated[
        float, typer.Option("--max-ppl-increase", help="how much higher the perplexity may be, as a share", min=0)
    ] = 0.03,
    accept_worse: Annotated[bool, typer.Option("--accept-worse", help="keep a model that is worse than that")] = False,
    judge_engine: Annotated[
        str | None, typer.Option("--judge-engine", help="let texts of both models be judged, too")
    ] = None,
    judged: Annotated[int, typer.Option("--judged", help="documents of which texts are judged", min=2)] = 100,
    text_key: TextKey = "text",
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Make a model smaller and faster, and check on held-out texts that it is not worse.

    Run the same command again to continue where it was stopped.
    """
    require("mga tool quantize", "quantize", "gguf", "numpy", "safetensors", "tokenizers", "torch", "transformers")
    import os
    import sys

    from rich.console import Console

    from mga.errors import InputError

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when the libraries below are imported
    if scheme not in ("w8a8", "q8_0", "q4_0"):
        raise InputError(f"--scheme is w8a8, q8_0 or q4_0, not {scheme!r}.")
    from mga.checks import open_checked
    from mga.data.output_folder import QUANTIZATION, check_output
    from mga.toolmodel.compare.compare import CompareSettings, prompt_beside
    from mga.toolmodel.quantize.quantize import QuantizeSettings
    from mga.toolmodel.quantize.quantize import quantize as quantized
    from mga.toolmodel.quantize.quantized_table import quantized_report
    from mga.toolmodel.train.data_folder import is_data

    def say(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr)

    judging = CompareSettings(sample=judged, variant=prompt_beside(f"transformers:{model}") or "base")
    settings = QuantizeSettings(
        calibration_samples, eval_samples, max_seq_len, max_ppl_increase, accept_worse, text_key, judge_engine, judging
    )
    texts = calibration or _trained_on(model)
    if not (len(texts) == 1 and is_data(Path(texts[0]))):
        open_checked(texts, text_key)
    check_output(out, QUANTIZATION)
    record = quantized(model.expanduser(), scheme, out, texts, settings, say)  # type: ignore[arg-type]
    Console().print(quantized_report(record))
    print(out / record["result"]["file"])
    say(f"Use it: mga expand … --engine {record['result']['engine']}")


def _trained_on(model: Path) -> list[str]:
    """The examples that a tool model's own record names."""
    from mga.data.store import read_json
    from mga.errors import InputError

    record = model / "tool.json"
    data = read_json(record).get("data") if record.is_file() else None
    if not isinstance(data, str) or not Path(data).exists():
        raise InputError("Name texts with --calibration: the quantized model is compared with the original on some.")
    return [data]
