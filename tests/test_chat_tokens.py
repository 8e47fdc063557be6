"""Control tokens of chat templates: what is thought, where a reply ends, and what is text that speaks of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.text.chat_tokens import as_data, end_of_turn, without_thoughts

TEXT = "The harbour was quiet.\n\nTwo boats came in before noon."
THOUGHT = "Okay, the user wants a rewrite. I should plan it.\n\nFirst the boats [2], then the harbour: a < b."


@pytest.mark.parametrize(
    "reply",
    [
        # closed alone, where the chat template has opened the thought
        *(f"{THOUGHT}\n{close}\n\n{TEXT}" for close in ("</think>", "</thinking>", "</reasoning>", "</seed:think>")),
        *(f"{THOUGHT}{close}{TEXT}" for close in ("</think>", "[/THINK]", "◁/think▷", "<|END_THINKING|>")),
        f"{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{TEXT}",
        # opened and closed by tags
        *(
            f"<{tag}>\n{THOUGHT}\n</{tag}>\n\n{TEXT}"
            for tag in ("think", "thinking", "thought", "Thought", "reasoning", "reflection", "scratchpad", "analysis")
        ),
        f"<THINK>{THOUGHT}</THINK>{TEXT}",
        f"\n\n<think time='3'>{THOUGHT}</think >\n{TEXT}",
        f"<think></think>{TEXT}",
        f"<think>\n\n</think>\n\n<think>{THOUGHT}</think>{TEXT}",
        f"<longcat_think>{THOUGHT}</longcat_think>\n{TEXT}",
        # by tokens
        f"[THINK]{THOUGHT}[/THINK]{TEXT}",
        f"◁think▷{THOUGHT}◁/think▷{TEXT}",
        f"<seed:think>{THOUGHT}<seed:cot_budget_reflect>129 used.</seed:cot_budget_reflect></seed:think>{TEXT}",
        f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{TEXT}",
        f"<|start_thinking|>{THOUGHT}<|end_thinking|>{TEXT}",
        f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|>\n\n<|begin_of_solution|>{TEXT}<|end_of_solution|>",
        f"<|channel>thought\n{THOUGHT}<channel|>{TEXT}",
        f"<unused94>thought\n{THOUGHT}<unused95>{TEXT}",
        f"<|inner_prefix|>{THOUGHT}<|inner_suffix|>{TEXT}",
        f"<|think|>{THOUGHT}<|end|><|begin|>assistant<|content|>{TEXT}",
        f"<|think|>{THOUGHT}<|/think|>{TEXT}",
        f"<|thinking|>{THOUGHT}<|/thinking|>{TEXT}",
        f"<|startthink|>{THOUGHT}<|endthink|>{TEXT}",
        # opened in one spelling and closed in another, closed by itself, behind what is not seen, other names
        f"<think>{THOUGHT}<|/think|>{TEXT}",
        f"<think/>{TEXT}",
        f"<think />\n\n{TEXT}",
        f"\ufeff<think>{THOUGHT}</think>{TEXT}",
        f"\n\u200b\n<think>{THOUGHT}</think>{TEXT}",
        *(
            f"<{tag}>{THOUGHT}</{tag}>{TEXT}"
            for tag in ("antThinking", "reasoning_content", "thought_process", "planning", "internal_reasoning")
        ),
        # harmony, with all, some or none of its tokens left
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}",
        f"<|start|>assistant<|channel|>analysis<|message|>{THOUGHT}<|end|>"
        f"<|start|>assistant<|channel|>commentary<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}",
        f"analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}",
        f"{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}",
        f"<|channel|>final <|constrain|>json<|message|>{TEXT}",
        f"analysisThe user wants it. {THOUGHT}assistantfinal{TEXT}",
        # with the answer in tags of its own
        f"<think>{THOUGHT}</think>\n<answer>\n{TEXT}\n</answer>",
        f"<think>{THOUGHT}</think>\n\n<response>{TEXT}</response>",
        f"<think>{THOUGHT}</think><|begin_of_box|>{TEXT}<|end_of_box|>",
        f"Here is my thought process:\n{THOUGHT}\n\nHere is my response:\n\n{TEXT}",
        # behind what begins a turn
        f"<|im_start|>assistant\n<think>{THOUGHT}</think>{TEXT}",
        f"<｜Assistant｜><think>{THOUGHT}</think>{TEXT}",
        # later, on lines of their own
        TEXT.replace("\n\n", f"\n\n<think>\n{THOUGHT}\n</think>\n\n"),
        f"{TEXT}\n\n<think>\n{THOUGHT} that never ends",
    ],
    ids=lambda reply: reply[:24],
)
def test_thoughts_are_no_part_of_a_reply(reply: str) -> None:
    assert without_thoughts(reply).strip() == TEXT


@pytest.mark.parametrize(
    "opened",
    [
        *("<think>", "<thinking>\n", "[THINK]", "◁think▷", "<seed:think>", "<|START_THINKING|>", "<unused94>thought\n"),
        *(
            "<|channel|>analysis<|message|>",
            "<|channel|>commentary to=x<|message|>",
            "analysis<|message|>",
            "analysisWe ",
        ),
        *("Here's my thought process:\n", "<|channel>thought\n", "<|im_start|>assistant\n<think>"),
    ],
)
def test_nothing_is_left_of_a_thought_without_an_end(opened: str) -> None:
    assert without_thoughts(opened + THOUGHT) == ""


LEAKED = [
    *("<|im_end|>", "<|endoftext|>", "<|im_start|>user\n", "<|eot_id|>", "<|end_of_text|>", "<|eot|>"),
    *("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "</s>", " </s><s>[INST]", "[INST]", "<eos>"),
    *("<end_of_turn>", "<end_of_turn>\n<start_of_turn>user\n", "<turn|>", "<|turn>user\n", "<|return|>", "<|end|>"),
    *("<|start|>user", "<｜end▁of▁sentence｜>", "<｜User｜>", "<|end▁of▁sentence|>", "<|user|>\n", "<|observation|>"),
    *("\n<|assistant|>\n", "<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>", "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>"),
    *("[EOS]", "[EOT]", "<|im_user|>user<|im_middle|>", "<seed:eos>", "<seed:bos>user\n", "[e~[", "[e~[\n]~b]user\n"),
    *("<|start_of_role|>user<|end_of_role|>", "<SPECIAL_12>", "<extra_id_1>User\n", "<SPECIAL_11>User\n"),
    *("[|endofturn|]", "<|end_of_turn|>", "<|stop|>", "<role>HUMAN</role>", "<|message_sep|>", "<|eos|>"),
    *(" [end of text]", "<endoftext>", "<im_end>", "<end_of_text>", "<eot>", "\n</assistant>", "<pad><pad>"),
    *("<|IM_END|>", "\n\n### Instruction:\n", "\n### Human: ", "\n### Assistant: "),
]


@pytest.mark.parametrize("token", LEAKED)
@pytest.mark.parametrize("more", ["", "And another version: the boats were late.", "\n\nWrite it again.<|im_end|>"])
def test_a_reply_ends_at_the_first_token_that_ends_a_turn(token: str, more: str) -> None:
    said = f"{TEXT}{token}{more}"
    assert said[: end_of_turn(said)].strip() == TEXT


@pytest.mark.parametrize(
    "token", ["<|im_end|", "<|im_end", "<|eot_id|", "<end_of_turn", "</s", "<｜end▁of▁sentence", "[/INST]", "<s>\n"]
)
def test_a_reply_ends_at_the_half_of_a_token_that_a_stop_string_has_left(token: str) -> None:
    assert end_of_turn(TEXT + token) == len(TEXT)
    said = f"{TEXT} Where a < b, {token.strip()} stands, and c > d"
    assert end_of_turn(said) == len(said)


@pytest.mark.parametrize("token", ["<|never_seen_before|>", "<｜neues▁Zeichen｜>", "[|another|]"])
def test_a_token_of_no_known_family_ends_a_reply_too(token: str) -> None:
    assert end_of_turn(f"{TEXT}{token}more") == len(TEXT)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "",
        "The tag <think>x</think> stands later in this sentence.",
        "He closes it with `</think>` and goes on.",
        "Qwen's turns end with `<|im_end|>`, and Llama's with “<|eot_id|>”.",
        "Decoding stops at the <eos> token, or at the </s> token of older models.",
        "<p>Prices <s>were high</s> are low.</p>",
        "In F#, xs |> List.map f |> List.sum; in Haskell, p <|> q.",
        "Thinking is hard work. [1] Analysis of the tides [2] followed: x < y > z.",
        "analysis of the tides began in 1874, and in the final year it ended.",
        "Nurse: I think so. [She laughs.]\n\nUser: And then?\nAssistant: Then nothing.",
        "In F#, it ends with f <|g",
        "A page ends with <b",
        "<details><summary>More</summary>Nine nights.</details> She reads on.",
        "BERT reads [CLS] first and [SEP] between sentences.",
        "Here is my thought on the process: it takes nine nights.",
        "# Results\n\n### Human factors\n\nThey matter.",
    ],
    ids=lambda text: text[:20],
)
def test_text_about_tokens_stays(text: str) -> None:
    assert without_thoughts(text) == text
    assert end_of_turn(text) == len(text)


@pytest.mark.parametrize(
    "tag",
    [
        *(
            "</document>",
            "</document >",
            "</ document>",
            "</document\n>",
            "</DOCUMENT>",
            "<document id=1>",
            "<document\nid='1'>",
        ),
        *(
            "<Document\tlang=en >",
            "<document/>",
            "</document",
            "<\n/document>",
            "</rewrite >",
            "<rewrite n=2>",
            "</Rewrite\n>",
        ),
    ],
)
def test_our_own_tags_are_broken_in_every_spelling(tag: str) -> None:
    assert as_data(f"a {tag} b") == f"a {tag[0]} {tag[1:]} b"


@pytest.mark.parametrize("markup", ["<documents>", "<document-list>", "<documentation>", "<x:document>", "document>"])
def test_other_markup_is_not_broken(markup: str) -> None:
    assert as_data(markup) == markup


def test_a_token_of_every_family_is_broken() -> None:
    tokens = "<seed:think> </seed:eos> ◁think▷ ◁/think▷ ]~b]ai [e~[ <turn|> <|turn>user <|channel>thought <unused94>"
    tokens += " <role>HUMAN</role> [EOS] [THINK] <EOS_TOKEN> <reserved_106> <longcat_think> <|START_THINKING|>"
    tokens += " <start_of_turn> <SPECIAL_12>"
    for token in tokens.split():
        broken = as_data(token)
        assert broken != token, token
        assert broken.replace(" ", "") == token
        assert end_of_turn(f"word{broken}word") == len(broken) + 8, token


@given(st.text(alphabet="<>[]|/thinkTHINKduser_ \n#:document◁▷~eb", max_size=80))
def test_any_reply_is_read_without_an_error_and_loses_nothing_else(reply: str) -> None:
    left = without_thoughts(reply)
    assert without_thoughts(left.strip()).strip() in left
    assert 0 <= end_of_turn(reply) <= len(reply)
