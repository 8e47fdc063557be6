"""The command `mga losses`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.cli.options import CorpusFiles, IdKey, Out, TextKey
from mga.packages import require


def losses(
    model: Annotated[str, typer.Argument(help="folder of a Hugging Face model, or a GGUF file", metavar="CHECKPOINT")],
    docs: CorpusFiles,
    out: Out,
    context: Annotated[
        int | None,
        typer.Option(help="tokens the model sees at once; the model's own if not given, 8,192 at most", min=2),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="tokens before those that later windows of a long document score; a quarter of the context", min=0
        ),
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="column that names a document's source")] = None,
    run: Annotated[str | None, typer.Option(help="name of the training run, for curves over training")] = None,
    step: Annotated[
        int | None, typer.Option(help="training step; if not given, the number in the checkpoint's name", min=0)
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one")] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16, float16; auto: float32 on a CPU, the weights' own on a GPU")
    ] = "auto",
    limit: Annotated[int | None, typer.Option(help="only so many documents", min=1)] = None,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
) -> None:
    """Measure the loss of every token of every document under a model, for `mga collapse`.

    Run the same command again to continue where it was stopped.
    """
    require("mga losses", "transformers,corpus", "numpy", "tokenizers", "torch", "transformers")
    import re
    import sys

    from rich.console import Console

    from mga.checks import open_checked
    from mga.collapse.table import losses_report
    from mga.data.output_folder import LOSSES, check_output
    from mga.errors import InputError
    from mga.scoring.model import load, model_files, model_fingerprint
    from mga.scoring.token_losses import measure_losses

    path = Path(model).expanduser()
    if device not in (None, "cpu", "cuda"):
        raise InputError(f"--device is cpu or cuda, not {device!r}.")
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise InputError(f"--dtype is auto, float32, bfloat16 or float16, not {dtype!r}.")
    corpus = open_checked(docs, text_key, id_key, {"--by": by})
    check_output(out, LOSSES)
    model_files(path)
    numbers = re.findall(r"\d+", path.stem if path.is_file() else path.resolve().name)
    about = {
        "model": path.resolve().name,
        "fingerprint": model_fingerprint(path),
        "run": run,
        "step": step if step is not None else int(numbers[-1]) if numbers and run else None,
    }
    scorer = load(model, device, dtype, context)
    record = measure_losses(corpus, scorer, out, about, overlap, by, limit, lambda line: print(line, file=sys.stderr))
    Console().print(losses_report(record))
    print(out)
