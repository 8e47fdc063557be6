"""The one architecture: transformers' Llama, at the paper's sizes or any other.

Table 7 of the paper (arXiv 2502.04235) gives totals that its printed fields do not always reach. What reproduces them:

- The totals leave out the embeddings and the head, which stand apart (134.2M, 377.5M, 1,677.7M without them).
- 134M: a hidden size of 1,024; the printed 1,204 is no multiple of its 8 heads and gives 165M.
- 7B and 13B: feed-forward layers of 14,336 and 18,432 (6,979M and 12,885M); with the printed 8,192 and 12,288 they
  are 4,564M and 9,261M, and the embeddings are 403M more: no reading of those reaches 6.98B and 12.9B.
"""

from dataclasses import dataclass
from typing import Any

from mga.errors import InputError
from mga.pretrain.config import ModelSettings

SIZES: dict[str, dict[str, int]] = {
    name: dict(
        zip(
            (
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
            ),
            fields,
            strict=True,
        )
    )
    for name, fields in {
        "134M": (1024, 4096, 8, 8, 8),
        "377M": (1536, 6144, 10, 12, 12),
        "1.7B": (2560, 10240, 16, 20, 20),
        "7B": (4096, 14336, 32, 32, 8),
        "13B": (4096, 18432, 48, 32, 8),
    }.items()
}
"""The paper's sizes, as they reproduce its totals."""

VOCABULARY = 49_152
"""Of the paper's tokenizer."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of a model's weights: `total`, and the `layers` alone, which the paper's totals count."""

    total: int
    layers: int
    head: int

    @property
    def matrices(self) -> int:
        """The weights that every token is multiplied with: layers and head."""
        return self.layers + self.head


def llama_config(settings: ModelSettings, vocabulary: int, context: int, end: int | None = None) -> Any:
    """transformers' configuration of a Llama. Raises InputError for an unknown size."""
    import transformers

    if settings.size is not None and settings.size not in SIZES:
        raise InputError(f"There is no size {settings.size!r}; the paper's are {', '.join(SIZES)}.")
    fields = (
        SIZES[settings.size]
        if settings.size
        else {
            "hidden_size": settings.hidden_size,
            "intermediate_size": settings.intermediate_size,
            "num_hidden_layers": settings.num_hidden_layers,
            "num_attention_heads": settings.num_attention_heads,
            "num_key_value_heads": settings.num_key_value_heads or settings.num_attention_heads,
        }
    )
    return transformers.LlamaConfig(
        **fields,
        vocab_size=vocabulary,
        max_position_embeddings=context,
        tie_word_embeddings=settings.tie_word_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
        bos_token_id=end,
        eos_token_id=end,
        use_cache=False,
    )


def count_parameters(config: Any) -> Parameters:
    """Counted on a model without memory (torch's meta device)."""
    import torch
    import transformers

    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    total = sum(weight.numel() for weight in model.parameters())
    layers = sum(weight.numel() for weight in model.model.layers.parameters()) + model.model.norm.weight.numel()
    return Parameters(total, layers, model.lm_head.weight.numel())


def flops_per_token(config: Any, parameters: Parameters, sequence: int) -> float:
    """FLOPs of training on one token, forward and backward: 6 · weights + 6 · layers · hidden ·
    sequence (PaLM, arXiv 2204.02311, appendix B, with half of the attention, which a causal mask leaves out)."""
    return 6.0 * (parameters.matrices + int(config.num_hidden_layers * config.hidden_size) * sequence)
