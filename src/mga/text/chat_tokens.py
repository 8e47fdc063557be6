"""The control tokens of chat templates, in one table: what must not get into a prompt, what ends a reply, what is
thought.

The table names each token once, beside the models whose templates or tokenizers have it (their `tokenizer_config.json`
or chat template is the source, unless something else is named). Three things are read from it: `as_data` (what a
document may not say to a model), `end_of_turn` (where a reply ends that its server has not cut) and `without_thoughts`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import regex


@dataclass(frozen=True, slots=True)
class Family:
    """Tokens of one family of models, as regular expressions without regard to case. `start`: begin a text or a turn
    and name who speaks; `end`: end a turn; `think`: pairs of expressions around thoughts; `other`: everything else.
    """

    models: str
    start: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    think: tuple[tuple[str, str], ...] = ()
    other: tuple[str, ...] = ()


_THOUGHT = (
    r"(?:deep_?think|think(?:ing)?|ant_?thinking|thoughts?|thought_process|reason(?:ing)?(?:_content)?|reflection|"
    r"scratchpad|analysis|planning|chain_of_thought|cot|inner_monologue|internal_(?:thoughts?|reasoning))"
)
# Models open in one spelling and close in another; a tag that closes itself is an empty thought.
_THOUGHT_ENDS = (
    rf"</(?:\w+[_:])?{_THOUGHT}\s*>|<(?:\w+[_:])?{_THOUGHT}\s*/>|"
    rf"<[|｜](?:/|end[_▁]?(?:of[_▁])?){_THOUGHT}[|｜]>"
)

# ｜ and ▁ are the full-width bar and the low line of DeepSeek's tokens. Tokens of the form <|name|>, <｜name｜> and
# [|name|] are broken by `as_data` whatever their name is; the table tells what they mean in a reply.
FAMILIES = (
    Family(
        "ChatML: Qwen 1 to 3.5, Yi, Hermes, SmolLM, InternLM, MiMo, Nemotron Nano, OLMo 3, phi-4 (<|im_sep|>)",
        start=(r"<\|im_start\|>(?:(?:assistant|system|user|tool)\b)?(?:<\|im_sep\|>)?\n?", r"<\|im_sep\|>"),
        end=(r"<\|im_end\|>", r"<\|endoftext\|>"),
        other=(r"<\|(?:object_ref|box|quad|vision)_\w+\|>", r"<\|fim_\w+\|>"),
    ),
    Family(
        "Llama 3 to 4",
        start=(
            r"<\|begin_of_text\|>",
            r"<\|(?:start_header_id|header_start)\|>\w*<\|(?:end_header_id|header_end)\|>\s*",
        ),
        end=(r"<\|(?:eot_id|eom_id|end_of_text|eot|eom)\|>",),
        other=(r"<\|(?:python_tag|finetune_right_pad_id|reserved_special_token_\d+)\|>",),
    ),
    Family(
        "Llama 1 and 2, Mistral, Mixtral, Magistral, Ministral (mistral-common)",
        start=(r"<s>", r"\[/INST\]", r"\[/SYSTEM_PROMPT\]"),
        end=(r"</s>", r"\[INST\]", r"\[SYSTEM_PROMPT\]"),
        think=((r"\[THINK\]", r"\[/THINK\]"),),
        other=(r"<</?SYS>>", r"\[/?(?:ARGS|CALL_ID|AVAILABLE_TOOLS|TOOL_\w+|IMG\w*|AUDIO)\]"),
    ),
    Family(
        "Gemma 1 to 4, MedGemma (<unused94>), T5Gemma",
        start=(r"<bos>", r"<start_of_turn>(?:model|user|system)?\n?", r"<\|turn>(?:model|user|system)?\n?"),
        end=(r"<eos>", r"<end_of_turn>", r"<turn\|>"),
        think=((r"<\|channel>\s*thought\b", r"<channel\|>"), (r"<unused94>(?:thought\b)?", r"<unused95>")),
        other=(r"<\|?(?:think|tool|tool_call|tool_response|image|audio|channel|turn)\|?>", r"<unused\d+>"),
    ),
    Family(
        "gpt-oss: the harmony format (openai-harmony)",
        start=(r"<\|start\|>(?:assistant|system|developer|user)?",),
        end=(r"<\|return\|>", r"<\|call\|>", r"<\|end\|>"),
        other=(r"<\|(?:channel|message|constrain)\|>",),  # its channels: `_final_channel`
    ),
    Family(
        "DeepSeek V2 to V3.2, R1",
        start=(r"<[|｜]begin▁of▁sentence[|｜]>", r"<[|｜]Assistant[|｜]>"),
        end=(r"<[|｜]end▁of▁sentence[|｜]>", r"<[|｜]User[|｜]>", r"<[|｜]EOT[|｜]>"),
        other=(r"<[|｜]tool▁\w+[|｜]>",),
    ),
    Family(
        "phi-3 and 3.5, Zephyr, StableLM, Falcon, GLM, Solar",
        start=(r"<\|assistant\|>\n?", r"\[gMASK\]", r"<sop>", r"<\|(?:begin|content)\|>(?:assistant\b)?"),
        end=(r"<\|end\|>", r"<\|(?:user|system|observation|flush)\|>", r"<eop>", r"<eod>"),
        think=((r"<\|think\|>", rf"<\|end\|>(?:<\|begin\|>assistant)?<\|content\|>|{_THOUGHT_ENDS}"),),
        other=(r"<\|(?:begin|end)_of_box\|>", r"\[[s]?MASK\]"),
    ),
    Family(
        "Command R to A, Aya, North (Cohere)",
        start=(
            r"<BOS_TOKEN>",
            r"<\|START_OF_TURN_TOKEN\|>(?:<\|(?:CHATBOT|USER|SYSTEM)_TOKEN\|>)?",
            r"<\|CHATBOT_TOKEN\|>",
            r"<\|START_(?:RESPONSE|TEXT)\|>",
        ),
        end=(
            r"<\|END_OF_TURN_TOKEN\|>",
            r"<\|END_(?:RESPONSE|TEXT)\|>",
            r"<EOS_TOKEN>",
            r"<\|(?:USER|SYSTEM)_TOKEN\|>",
        ),
        think=((r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),),
        other=(r"<\|(?:START|END)_(?:ACTION|TOOL_RESULT)\|>", r"<(?:PAD|UNK|CLS|SEP|MASK)_TOKEN>"),
    ),
    Family(
        "Kimi K1.5 to K2, Kimi-VL",
        start=(r"<\|im_(?:assistant|user|system)\|>\w*<\|im_middle\|>", r"<\|im_middle\|>", r"\[BOS\]"),
        end=(r"\[EOS\]", r"\[EOT\]", r"\[EXTRA_ID_\d+\]"),
        think=((r"◁think▷", r"◁/think▷"),),
        other=(r"<\|tool_calls?_\w+\|>",),
    ),
    Family(
        "Seed-OSS",
        start=(r"<seed:bos>(?:assistant\b)?\n?",),
        end=(r"<seed:eos>",),
        think=((r"<seed:think>", r"</seed:think>"),),
        other=(r"</?seed:\w+>",),
    ),
    Family(
        "MiniMax M1 and M2",
        start=(r"\]~!b\[", r"\]~b\](?:ai|user|system|tool)?\n?", r"<beginning_of_sentence>(?:ai\b)?"),
        end=(r"\[e~\[", r"<end_of_sentence>"),
        other=(r"</?minimax:tool_call>",),
    ),
    Family(
        "Granite 3 and 4 (3.2 thinks in words: its model card)",
        start=(r"<\|start_of_role\|>\w*<\|end_of_role\|>",),
        end=(r"<\|end_of_text\|>",),
        think=((r"here(?:'s| is) my thought process:\s*\n", r"here(?:'s| is) my (?:response|answer):"),),
        other=(r"<\|tool_call\|>",),
    ),
    Family(
        "Nemotron 4 and H",
        start=(r"<extra_id_0>\w*\n?", r"<SPECIAL_1[01]>(?:Assistant\b)?\n?"),
        end=(r"<extra_id_1>", r"<SPECIAL_12>"),
        other=(r"<extra_id_\d+>", r"<SPECIAL_\d+>"),
    ),
    Family(
        "EXAONE, HyperCLOVA, OpenChat, Baichuan, Hunyuan, Apertus, GigaChat, Grok, Ling, Jamba",
        start=(r"\[\|assistant\|\]", r"<\|assistant_start\|>", r"<\|startoftext\|>", r"<role>assistant</role>"),
        end=(
            r"\[\|(?:endofturn|user|system)\|\]",
            r"<\|(?:end_of_turn|endofturn|stop|eos|extra_[04]|assistant_end|user_start|message_sep|separator|role_end)\|>",
            r"<reserved_10[67]>",
            r"<role>human</role>",
        ),
        think=((r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),),
        other=(r"<reserved_\d+>", r"<\|(?:bom|eom)\|>"),
    ),
    Family(
        "prompt formats in words: Alpaca, Vicuna",
        end=(r"(?<=\n)###\s*(?:instruction|human|assistant)\s*:",),
    ),
    Family(
        "tags around thoughts: DeepSeek R1, QwQ, Qwen 3, GLM 4.1 to 5, MiniMax, Nemotron, ERNIE, Hunyuan, Granite 3.3, "
        "SmolLM3, MiMo, Marco-o1, LongCat, OpenThinker, Reflection, EXAONE Deep (<thought>); prompts that ask for them",
        think=(
            (rf"<(?:\w+[_:])?{_THOUGHT}(?:\s[^<>]{{0,80}})?(?<!/)>", _THOUGHT_ENDS),
            (rf"<[|｜](?:(?:start|begin)[_▁]?(?:of[_▁])?)?{_THOUGHT}[|｜]>", _THOUGHT_ENDS),
        ),
        other=(r"</?tools?>", r"</?tool_\w+>"),
    ),
    Family(
        "tokens as programs print them (llama.cpp: [end of text]), as tuned models misspell them, and padding",
        end=(
            r"\[end of text\]",
            r"</?(?:im_end|endoftext|end_of_text|eot|eot_id|eom|eom_id|end_of_turn|endofturn)>",
            r"</assistant>",
            r"<pad>",
        ),
    ),
    Family(
        "tokenizers of the older kind: SentencePiece, BERT, T5, GLM",
        other=(
            r"</?(?:bos|eos|pad|unk|mask|sep|cls|sop|eop|eod|start_of_\w+|end_of_\w+)>",
            r"<special_\d+>",
            r"\[/?(?:BOS|EOS|CLS|SEP|[gs]?MASK|PAD|UNK)\]",
        ),
    ),
)

_OF_NO_FAMILY = r"[<\[][|｜][\w▁ /-]{1,40}[|｜][>\]]"
_OUR_TAG = r"<(?:[^\S ]\s*)?(?:/\s*)?(?:document|rewrite)(?![\w:.-])"
_FLAGS = re.IGNORECASE


def _any_of(tokens: list[str]) -> str:
    return "|".join(f"(?:{token})" for token in tokens)


_STARTS = _any_of([token for family in FAMILIES for token in family.start])
_ENDS = _any_of([token for family in FAMILIES for token in family.end])
_THINK = [pair for family in FAMILIES for pair in family.think]
_OTHERS = _any_of([token for family in FAMILIES for token in family.other])
_CLOSES = _any_of([close for _, close in _THINK if not close[0].isalpha()])
_TOKENS = _any_of([_STARTS, _ENDS, _any_of([open_ for open_, _ in _THINK]), _CLOSES, _OTHERS])

# ── what must not get into a prompt ──────────────────────────────────────────────────────────────────────────────

# All tokens but those in words begin with a bracket. What stands at one is looked at closely unless it is a tag whose
# name no token has: a text full of markup takes a fifth of the time.
_BRACKET = re.compile(r"[<\[\]◁]")
_BRACKET_OR_BAR = re.compile(r"[<\[\]◁|｜]")
_TAG = re.compile(r"</?(\w[\w:.-]*)(?=[\s/>])|\[(?![|｜/A-Za-z])|\](?!~)")
_OPENS_TOKEN = re.compile(rf"(?:{_TOKENS})|[<\[][|｜]|{_OUR_TAG}", _FLAGS)


@lru_cache(512)  # a document goes into eleven prompts
def as_data(text: str) -> str:
    """The text with the tokens of the table, everything that opens with `<|` or `[|` or closes with `|>` or `|]`, and
    our own tags in any spelling (`</DOCUMENT >`, `<document id=1>`, over two lines) broken by a space behind the
    bracket.

    No tokenizer reads them as control tokens then, and none of our tags ends early. What is written in words (`Human:`,
    `### Instruction:`) and what only looks alike (other brackets, HTML entities) stays: it is text to every tokenizer.
    """
    if not any(character in text for character in "<[]◁|｜"):
        return text
    return _BRACKET_OR_BAR.sub(_broken, text)


def _broken(match: re.Match[str]) -> str:
    character, text, end = match.group(), match.string, match.end()
    if character in "|｜":
        breaks = text[end : end + 1] in (">", "]")
    else:
        breaks = _token_at(_OPENS_TOKEN, text, match.start()) is not None
    return f"{character} " if breaks else character


def _token_at(tokens: re.Pattern[str], text: str, start: int) -> re.Match[str] | None:
    tag = _TAG.match(text, start)
    if tag is not None and not (tag[1] and _names_a_token(tag[1])):
        return None
    return tokens.match(text, start)


@lru_cache(4096)
def _names_a_token(name: str) -> bool:
    return any(_OPENS_TOKEN.match(form) for form in (f"<{name}>", f"</{name}>", f"<{name}>human</{name}>"))


def _at_brackets(tokens: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The tokens in a text, in order, where they begin with a bracket."""
    if not any(bracket in text for bracket in "<[]◁"):
        return
    for bracket in _BRACKET.finditer(text):
        if found := _token_at(tokens, text, bracket.start()):
            yield found


# ── what of a reply is thought ───────────────────────────────────────────────────────────────────────────────────

_UNSEEN = re.compile(r"\A\s*[\ufeff\u200b-\u200f\u2060][\s\ufeff\u200b-\u200f\u2060]*")
_HEAD = re.compile(rf"\s*(?:(?:{_STARTS})\s*)+", _FLAGS)
_OPENED = [(re.compile(rf"\s*(?:{open_})", _FLAGS), re.compile(close, _FLAGS)) for open_, close in _THINK]
_OPEN = re.compile(_any_of([open_ for open_, _ in _THINK if not open_[0].isalpha()]), _FLAGS)
_CLOSE = re.compile(_CLOSES, _FLAGS)
_OPEN_OR_CLOSE = re.compile(f"{_OPEN.pattern}|{_CLOSES}", _FLAGS)
_WRAPPED = regex.compile(
    r"\s*<(?P<tag>response|answer|output|final_answer|solution)>\s*(?P<text>.*?)\s*(?:</(?P=tag)>|\Z)"
    r"|\s*<[|｜]begin_of_(?P<name>solution|box|answer|response)[|｜]>\s*(?P<text>.*?)"
    r"\s*(?:<[|｜]end_of_(?P=name)[|｜]>|\Z)",
    regex.I | regex.S,
)
_FINAL = re.compile(r"(?:<\|channel\|>\s*)?\bfinal\b[^<\n]{0,40}(?:<\|constrain\|>[^<\n]{0,40})?<\|message\|>", _FLAGS)
_CHANNEL = re.compile(r"\s*(?:<\|channel\|>|(?:analysis|commentary)\b[^<\n]{0,60}<\|message\|>)", _FLAGS)
_BARE_CHANNEL = re.compile(r"\s*(?:analysis|commentary)(?=[A-Z\"'])(?:.*?(?P<final>assistant\s?final)(?=\S))?", regex.S)
_HEAD_MAY_BE_THOUGHT = re.compile(r"\s*(?:[<\[◁\]]|(?:analysis|commentary)[A-Z\"'<]|here(?:'s| is) my thought)", re.I)


def without_thoughts(text: str) -> str:
    """A reply without what the model thought, in any form of the table, and without the tokens that begin its turn.

    Thoughts stand at the head, opened and closed, or closed alone where the prompt has opened them; later ones have
    lines of their own. Nothing is left of a reply that ended in the middle of a thought. A tag that stands in a
    sentence or in quotation marks is text.
    """
    thought = False
    text = _UNSEEN.sub("", text)
    if _HEAD_MAY_BE_THOUGHT.match(text) or "<|message|>" in text:
        text, thought = _final_channel(_without_start(text))
    while text:
        found = _opened_at_head(text)
        if found is not None:
            closed = found[1].search(text, found[0])
            text = text[closed.end() :] if closed else ""
        elif alone := _closed_alone(text):
            text = text[alone:]
        else:
            break
        text, thought = _without_start(text.lstrip()), True
    if thought and (answer := _WRAPPED.match(text)):
        text = answer["text"] + text[answer.end() :]
    return _without_later_thoughts(text)


def _without_start(text: str) -> str:
    """A text without the tokens that begin a turn."""
    head = _HEAD.match(text)
    return text[head.end() :] if head else text


def _opened_at_head(text: str) -> tuple[int, re.Pattern[str]] | None:
    """Where the opening of a thought ends that a text begins with, and what closes it."""
    if not _HEAD_MAY_BE_THOUGHT.match(text):
        return None
    return next(((match.end(), close) for open_, close in _OPENED if (match := open_.match(text))), None)


def _closed_alone(text: str) -> int:
    """Where thoughts end that were opened in the prompt: behind a closing token that no opening one stands before."""
    for match in _at_brackets(_OPEN_OR_CLOSE, text):
        if not _is_quoted(text, match):
            return match.end() if _CLOSE.fullmatch(match.group()) else 0
    return 0


def _without_later_thoughts(text: str) -> str:
    """A text without thoughts that begin on a line of their own, or without its rest where one of them never ends."""
    at = 0
    while opened := next((m for m in _at_brackets(_OPEN, text[at:]) if text[: at + m.start()].endswith("\n")), None):
        start = at + opened.start()
        closed = next(_at_brackets(_CLOSE, text[at + opened.end() :]), None)
        if closed is None:
            return text[:start].rstrip()
        text, at = text[:start] + text[at + opened.end() + closed.end() :].lstrip("\n"), start
    return text


def _final_channel(text: str) -> tuple[str, bool]:
    """The message of the channel `final` (harmony), also where the server has lost some or all of its tokens; whether
    thoughts came before it."""
    final = _FINAL.search(text)
    before = text[: final.start()] if final else ""
    if final and "<|return|>" not in before and ("<|message|>" in before or "<|end|>" in before or not before.strip()):
        return text[final.end() :], True
    if _CHANNEL.match(text):
        return "", True
    if bare := _BARE_CHANNEL.match(text):
        return (text[bare.end() :] if bare["final"] else ""), True
    return text, False


# ── where a reply ends ───────────────────────────────────────────────────────────────────────────────────────────

_CLOSED = "</s>"
_IN_TEXT = ("<s>", "[/inst]")  # begin a turn, and are text or markup where they stand later
_END = re.compile(_any_of([_ENDS, _STARTS, _OF_NO_FAMILY]), _FLAGS)
_KNOWN_END = re.compile(_ENDS, _FLAGS)
_CUT_TOKEN = re.compile(r"(<(?:[|｜]|/?(?=[a-z]))[\w▁]+)[|｜]?\s*\Z", _FLAGS)  # a stop string's half, at the end
_END_IN_WORDS = re.compile(_any_of([end for family in FAMILIES for end in family.end if "#" in end]), _FLAGS)
_MENTIONED_BEFORE, _MENTIONED_AFTER = re.compile(r"[\w,;(:]\s\Z"), re.compile(r"\s[^\W\d_A-Z]|[,;)]")
_QUOTES = "`\"'“”‘’«»„"


def end_of_turn(text: str) -> int:
    """Where a reply ends that goes on behind an end-of-turn token, or behind the beginning of another turn, as its
    server has not cut it; the length of the text where there is no such token.

    A token in quotation marks or in the middle of a sentence is what the text is about, and no end.
    """
    in_words = _END_IN_WORDS.search(text) if "###" in text else None
    end = len(text) if in_words is None else in_words.start()
    for match in _at_brackets(_END, text):
        token = match.group().strip().casefold()
        if _is_quoted(text, match) or _is_mentioned(text, match):
            continue
        if token in _IN_TEXT and text[match.end() :].strip():
            continue
        if token == _CLOSED and "<s>" in text[: match.start()].casefold():
            continue
        return min(match.start(), end)
    cut = _CUT_TOKEN.search(text, max(0, len(text) - 60))
    if cut and any(_KNOWN_END.fullmatch(cut[1] + close) for close in ("|>", "｜>", ">")):
        return min(cut.start(), end)
    return end


def _is_quoted(text: str, match: re.Match[str]) -> bool:
    before, after = (
        text[match.start() - 1 : match.start()] if match.start() else "",
        text[match.end() : match.end() + 1],
    )
    return bool(before and after) and before in _QUOTES and after in _QUOTES


def _is_mentioned(text: str, match: re.Match[str]) -> bool:
    """Whether a token stands between words of one sentence."""
    start, end = match.start(), match.end()
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return bool(_MENTIONED_BEFORE.search(before) and _MENTIONED_AFTER.match(after))
