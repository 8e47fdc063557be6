"""The command `mga sample`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.cli.options import CorpusFiles, IdKey, Out, TextKey
from mga.packages import require


def sample(
    model: Annotated[str, typer.Argument(help="folder of a Hugging Face model, or a GGUF file", metavar="CHECKPOINT")],
    docs: CorpusFiles,
    out: Out,
    prompt: Annotated[int, typer.Option(help="tokens of a document that are shown", min=1)] = 32,
    tokens: Annotated[int, typer.Option(help="tokens that are written", min=8)] = 128,
    limit: Annotated[int, typer.Option(help="texts", min=2)] = 256,
    temperature: Annotated[
        float, typer.Option(help="1: the model as it is, which is what collapse shows in", min=0.01)
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="of the random numbers", min=0, max=2**31)] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one")] = None,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
) -> None:
    """Let a model continue the beginnings of real documents, to see how varied its samples are (`mga collapse`).

    Run the same command again to continue where it was stopped.
    """
    require("mga sample", "transformers,corpus", "numba", "numpy", "tokenizers", "torch", "transformers")
    import sys

    from mga.checks import open_checked
    from mga.collapse.samples import Sampling, write_texts
    from mga.data.output_folder import SAMPLES, check_output
    from mga.scoring.model import load, model_files, model_fingerprint

    path = Path(model).expanduser()
    corpus = open_checked(docs, text_key, id_key)
    check_output(out, SAMPLES)
    model_files(path)
    fingerprint = model_fingerprint(path)
    written = write_texts(
        corpus,
        load(model, device),
        out,
        {"model": path.resolve().name, "fingerprint": fingerprint},
        Sampling(prompt, tokens, limit, temperature, seed),
        lambda line: print(line, file=sys.stderr),
    )
    print(f"{written:,} texts in {out}")
