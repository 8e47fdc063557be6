"""Whether a model answers in the form that is asked for: pairs as the JSON object, a text that passes the cleaning."""

from collections.abc import Sequence
from typing import Any

from mga.config import CleaningRules
from mga.expand.boilerplate import phrases_of
from mga.expand.clean import clean
from mga.expand.pairs import pair_schema, parse_pairs
from mga.records import Document, Drop, Reformulation
from mga.toolmodel.compare.proposals import is_valid
from mga.toolmodel.train.training_data import Asked

AT_ONCE = 8
LONGEST = 1.25
"""A reply may have this many times the tokens of the longest of the teacher's, and 32 more: what goes on is cut off."""


def valid_replies(model: Any, tokenizer: Any, asked: Sequence[Asked]) -> dict[str, dict[str, int]]:
    """For each stage how many prompts were answered in valid form, greedily, of how many.

    Pairs: the reply, unmended, is the JSON object with these keys. Texts: it ends by itself, and cleaning keeps it.
    """
    found: dict[str, dict[str, int]] = {}
    longest_first = sorted(asked, key=lambda one: -len(one.prompt))
    for first in range(0, len(longest_first), AT_ONCE):
        some = longest_first[first : first + AT_ONCE]
        for one, (text, ended) in zip(some, _answer(model, tokenizer, some), strict=True):
            of = found.setdefault(one.stage, {"valid": 0, "of": 0})
            of["of"] += 1
            of["valid"] += ended and (_is_pairs(one, text) if one.stage == "pairs" else _is_text(one, text))
    return found


def _is_pairs(one: Asked, text: str) -> bool:
    return is_valid(text, pair_schema(len(parse_pairs(one.reply))))


def _is_text(one: Asked, text: str) -> bool:
    rules = CleaningRules()
    document = Document("", one.document, "0:0")
    written = Reformulation(text.strip(), len(text))
    return bool(text.strip()) and not isinstance(clean(document, written, rules, phrases_of(rules)), Drop)


def _answer(model: Any, tokenizer: Any, asked: Sequence[Asked]) -> list[tuple[str, bool]]:
    """Each reply, and whether it came to its end."""
    import torch

    chats = [[{"role": "user", "content": one.prompt}] for one in asked]
    prompts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
    longest = max(len(tokenizer(one.reply)["input_ids"]) for one in asked)
    given = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    training, model_ = model.training, model.eval()
    with torch.inference_mode():
        made = model_.generate(
            **given.to(model.device),
            max_new_tokens=int(LONGEST * longest) + 32,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            use_cache=True,
        )
    model.train(training)
    replies = made[:, given["input_ids"].shape[1] :].tolist()
    ends = [tokenizer.eos_token_id in reply for reply in replies]
    texts = [tokenizer.decode(reply, skip_special_tokens=True) for reply in replies]
    return list(zip(texts, ends, strict=True))
