"""Cleaning: boilerplate is cut, unusable texts dropped each for its own reason, and ordinary texts left alone."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.config import CleaningRules, load_config
from mga.errors import InputError
from mga.expand.boilerplate import load_phrases, phrases_of
from mga.expand.clean import Cleaned, clean, cut_phrases
from mga.expand.corpus_boilerplate import Pattern, Patterns, load_patterns, patterns_toml, read_patterns
from mga.expand.recipe import Recipe
from mga.records import Document, Drop, Reformulation

PHRASES = load_phrases()
RETOLD = (
    "Long before the mill fell silent, Martha Greaves walked her young orchard by lantern light. She had grafted the "
    "apple trees herself, forty kinds of them, and when frost threatened the blossom she kept smudge pots burning. "
    "Some years the harvest was ninety barrels; the cider press hardly rested before November."
)

OPENINGS = [
    "Sure! Here is the rewritten text:\n\n",
    "Certainly! Here's a revised version of the document for night nurses:\n\n",
    "Of course!\n\n",
    "Here is the rewritten text: ",
    "**Here is the reformulated article:**\n\n",
    "Below is the adapted version of the text, written for young farmers.\n\n",
    "I have rewritten the text for this audience.\n\n",
    "Rewritten text:\n",
    "Gerne! Hier ist die umgeschriebene Fassung des Textes:\n\n",
    "Voici le texte réécrit :\n\n",
    "Aquí está el texto reescrito:\n\n",
    "Ecco il testo riscritto:\n\n",
    "以下是改写后的文本：\n\n",
    "以下是改写后的文本：",
    "以下は書き直した文章です。\n\n",
    "إليك النص المعاد صياغته:\n\n",
]

CLOSINGS = [
    "\n\nI hope this helps!",
    "\n\nNote: I have kept the facts of the original.",
    "\n\nNote that this rewrite leaves out the dates.",
    "\n\n(Note: The rewritten text keeps the names.)",
    "\n\nThis rewritten version keeps the tone of the original for its audience.",
    "\n\nPlease let me know if you would like any changes.",
    "\n\n---\nLet me know if you need further assistance.",
    " I hope this rewritten text meets your needs.",
    "\n\nHinweis: Dieser Text wurde für Pflegekräfte umgeschrieben.",
    "\n\n注意：改写时保留了原文的数字。",
]

# Each begins or ends as a model's remark might, and is none.
ORDINARY_BEGINNINGS = [
    "Here is the text of the treaty as it was signed at Utrecht: the parties agree to lasting peace.",
    "Here you will find peace, says the inscription over the gate.",
    "Here we go again, said the old man.",
    "The following is a summary of events in the county.",
    "The following summer was dry.",
    "This is the first document that names the town.",
    "This is a response to the famine.",
    "This text is carved on the stone above the door.",
    "This document, dated 1202, names the town.",
    "Below are the documents found at the site.",
    "Let me write you a letter about the sea, my son.",
    "I will write to you about the sea, my son.",
    "I have written forty letters about bees.",
    "I've revised my opinion of the man.",
    "Of course, I have seen the river.",
    "Okay, let me tell you about rivers.",
    "Great, here the river bends.",
    "As required by law, the report was filed in June.",
    "As requested by the king, the bishop came to York.",
    "Revised versions of the law came in 1900.",
    "Title: Bees\nAuthor: a monk of York\nYear: 1202",
    "Genre: comedy\nThe curtain rises on a street at night.",
    "Note: the tide turns at six.",
    "Answer: forty-two barrels, and not one less.",
    "Output: 40 litres a day.",
    "Natürlich, die Bienen leben im Stock.",
    "Nachfolgend neue Zahlen.",
    "Bien sûr, le texte dit vrai : les abeilles vivent.",
    "Voici le texte de la loi de 1905.",
    "Claro que sí: el texto dice la verdad.",
    "以下是三种蜜蜂。",
    "当然，蜜蜂住在蜂箱里。",
    "好的蜂蜜很甜。",
    "もちろん、蜂は巣に住む。",
    "بالطبع يعيش النحل في الخلايا.",
    "यहाँ एक पुराना पाठ मिला।",
]
ORDINARY_ENDINGS = [
    "Note how the queen moves slowly.",
    "Notes on bees were kept by monks.",
    "Notes were taken by all.",
    "Note: the tide turns at six.",
    "Please note the sign at the gate.",
    "The above are all species of bee.",
    "The rewrite took nine years.",
    "The revised text came into force in 1911.",
    "The adapted version was staged in Paris.",
    "This adapted them to the cold.",
    "I hope this finds you well, dear brother.",
    "I kept bees for forty years.",
    "I tried it once.",
    "I have kept the ring.",
    "Let me know when you arrive.",
    "If you need any more wood, ask the forester.",
    "If you have other questions, call at the harbour office.",
    "Hinweis der Redaktion fehlt.",
    "Remarque étrange, il revint.",
    "Nota la diferencia entre los dos.",
    "希望在明天。",
    "注意安全是第一位的。",
    "以上三つの理由がある。",
    "注意深く見た。",
    "ملاحظة صغيرة كانت على الباب.",
]
ORDINARY_NOS = [
    "As an AI winter set in, funding fell.",
    "As an artificial intelligence pioneer, Turing wrote the paper.",
    "I cannot do this alone, said the captain to the mate.",
    "I won't do it, said the boy.",
    "I cannot continue to live here, my dear sister.",
    "I am sorry that I cannot be with you this Christmas, dear mother.",
    "Unfortunately, I cannot swim.",
    "Es tut mir leid, dass du nicht kommst.",
    "Lo siento, dijo el capitán. Nosotros vamos.",
    "Désolé, il n'y a pas de pain.",
]
REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I cannot help with that request.",
    "I am really sorry, but I am unable to rewrite this document.",
    "Sorry, I can't help with that.",
    "I cannot provide a rewrite of this text, because it is too long.",
    "As an AI language model, I do not write letters.",
    "As an AI, I cannot do that.",
    "Es tut mir leid, aber ich kann bei dieser Anfrage nicht helfen.",
    "Je suis désolé, mais je ne peux pas vous aider.",
    "Lo siento, pero no puedo ayudar con eso.",
    "抱歉，我无法协助完成这个请求。",
    "申し訳ありませんが、その依頼には対応できません。",
]


def cleaned(document: Document, reply: str, **rules: float) -> Cleaned | Drop:
    return clean(document, Reformulation(reply, 100), CleaningRules(**rules), PHRASES)


def cut(reply: str) -> Reformulation:
    return cut_phrases(Reformulation(reply, 100), PHRASES)


@pytest.mark.parametrize("opening", OPENINGS)
def test_an_opening_remark_is_cut_and_kept_beside_the_text(orchard: Document, opening: str) -> None:
    result = cleaned(orchard, opening + RETOLD)
    assert isinstance(result, Cleaned)
    assert (result.reformulation.head, result.reformulation.text, result.cuts) == (opening, RETOLD, ("opening",))
    assert 0 < result.reformulation.n_tokens < 100


@pytest.mark.parametrize("closing", CLOSINGS)
def test_a_closing_remark_is_cut_and_kept_beside_the_text(orchard: Document, closing: str) -> None:
    result = cleaned(orchard, RETOLD + closing)
    assert isinstance(result, Cleaned)
    assert (result.reformulation.text, result.reformulation.tail, result.cuts) == (RETOLD, closing, ("closing",))


def test_remarks_at_both_ends_are_cut_together(orchard: Document) -> None:
    result = cleaned(orchard, OPENINGS[0] + RETOLD + CLOSINGS[0])
    assert isinstance(result, Cleaned)
    assert (result.reformulation.text, result.cuts) == (RETOLD, ("opening", "closing"))


def test_several_opening_remarks_in_a_row_are_cut(orchard: Document) -> None:
    result = cleaned(orchard, "Certainly!\n\nHere is the rewritten text:\n\nTitle: " + RETOLD)
    assert isinstance(result, Cleaned)
    assert result.reformulation.text == RETOLD


def test_a_clean_text_is_left_as_it_is(orchard: Document) -> None:
    assert cleaned(orchard, RETOLD) == Cleaned(Reformulation(RETOLD, 100), ())


@pytest.mark.parametrize("beginning", ORDINARY_BEGINNINGS)
def test_an_ordinary_text_keeps_its_first_sentence(orchard: Document, beginning: str) -> None:
    text = f"{beginning}\n\n{RETOLD}"
    assert cut(text) == Reformulation(text, 100)
    assert isinstance(cleaned(orchard, text), Cleaned)


@pytest.mark.parametrize("ending", ORDINARY_ENDINGS)
@pytest.mark.parametrize("joint", [" ", "\n\n"])
def test_an_ordinary_text_keeps_its_last_sentence(ending: str, joint: str) -> None:
    text = f"{RETOLD}{joint}{ending}"
    assert cut(text) == Reformulation(text, 100)


@pytest.mark.parametrize("beginning", ORDINARY_NOS)
def test_an_ordinary_text_that_says_no_is_no_refusal(orchard: Document, beginning: str) -> None:
    assert isinstance(cleaned(orchard, f"{beginning} {RETOLD}"), Cleaned)


@pytest.mark.parametrize("phrase", ["Note: I have rewritten the text.", "Here is the rewritten text:", "Title: Bees"])
def test_a_remark_in_the_midst_of_a_text_is_left(phrase: str) -> None:
    text = f"{RETOLD}\n\n{phrase}\n\n{RETOLD}"
    assert cut(text) == Reformulation(text, 100)


REMARKS = st.sampled_from(
    [*OPENINGS, *CLOSINGS, "word ", "。", "\n\n", "**", ": ", "👩‍👩‍👧", "हिन्दी। ", "¿ ", "\u202e"]
)


@given(st.lists(REMARKS, max_size=12).map("".join) | st.text(max_size=80))
def test_head_text_and_tail_are_always_the_whole_reply(reply: str) -> None:
    result = cut(reply)
    assert result.head + result.text + result.tail == reply
    assert result.text.strip() or not reply.strip()


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_dropped_as_refusal(orchard: Document, refusal: str) -> None:
    result = cleaned(orchard, refusal)
    assert isinstance(result, Drop)
    assert (result.reason, result.written) == ("refusal", Reformulation(refusal, 100))


LOOP = "and the apple orchard turns round and round the old mill, "
BROKEN = {
    "repetition_loop": RETOLD + LOOP * 30,
    "near_copy": "",
    "too_short": "Martha planted forty kinds of apple behind the mill.",
    "low_coverage": "Turbines convert wind into electric current. Their blades are made from glass fibre, and "
    "engineers check each bolt twice before a tower goes up beside the motorway.",
    "boilerplate": "Here is the rewritten text: Apples.",
}


@pytest.mark.parametrize(("reason", "reply"), BROKEN.items(), ids=BROKEN)
def test_every_rule_has_a_reason_of_its_own_and_leaves_the_reply(orchard: Document, reason: str, reply: str) -> None:
    reply = reply or orchard.text
    result = cleaned(orchard, reply)
    assert isinstance(result, Drop)
    assert (result.reason, result.written.text) == (reason, reply)
    assert result.detail


OFF = {"min_words": 0, "max_repeated": 1, "max_copied": 1, "min_coverage": 0, "max_cut": 1}


@pytest.mark.parametrize("reply", [*BROKEN.values(), "👍", "..."])
def test_every_rule_can_be_switched_off(orchard: Document, reply: str) -> None:
    assert isinstance(cleaned(orchard, reply or orchard.text, **OFF), Cleaned)


def test_a_loop_in_the_last_third_alone_is_found(orchard: Document) -> None:
    result = cleaned(orchard, RETOLD + " " + " ".join(f"apple{i} mill{i}" for i in range(90)) + LOOP * 9)
    assert isinstance(result, Drop)
    assert result.reason == "repetition_loop"
    assert "last third" in result.detail


def test_a_document_that_repeats_itself_may_be_retold_with_repetition() -> None:
    song = "Row the boat across the wide water, row the boat home. " * 12
    retold = "They sang: row the boat across the cold water, boys, row it home again. " * 12
    assert isinstance(cleaned(Document("song", song, "0:0"), retold), Cleaned)


def test_a_text_in_another_language_need_not_share_words(orchard: Document) -> None:
    welsh = Reformulation(
        "Plannodd Martha ei pherllan y tu ôl i'r felin. Cadwodd y coed yn gynnes yn y nos pan ddaeth rhew yn y "
        "gwanwyn, a chasglodd lawer o ffrwythau bob hydref.",
        60,
    )
    rules = CleaningRules(min_coverage=0.3)
    assert isinstance(clean(orchard, welsh, rules, PHRASES, translated=True), Cleaned)
    assert isinstance(clean(orchard, welsh, rules, PHRASES, translated=False), Drop)


OTHER_SCRIPTS = {
    "Chinese": (
        "蜜蜂住在蜂箱里，春天采花蜜，秋天储存食物。",
        "孩子们，你们知道吗？春天一到，蜜蜂就离开蜂箱去采花蜜，到了秋天便储存食物过冬。",
    ),
    "Arabic": (
        "يعيش النحل في الخلايا ويجمع الرحيق في الربيع ويخزن الطعام في الخريف.",
        "أيها الصغار، هل تعلمون أين يعيش النحل؟ إنه يسكن الخلايا، وعندما يأتي الربيع يطير بين الزهور كي يجمع الرحيق، "
        "وفي الخريف يخزن الطعام لأيام الشتاء الباردة الطويلة.",
    ),
    "Hindi": (
        "मधुमक्खियाँ छत्ते में रहती हैं, वसंत में रस इकट्ठा करती हैं और शरद में भोजन जमा करती हैं।",
        "प्यारे बच्चो, क्या तुम जानते हो कि मधुमक्खियाँ कहाँ रहती हैं? उनका घर छत्ते में होता है। जब वसंत आता है तब वे फूलों से "
        "रस लाती हैं और शरद आने पर सर्दी के लिए भोजन बचाती हैं।",
    ),
    "emoji": (
        "Bees 🐝 live in hives and gather nectar in spring 🌸.",
        "🐝🐝 Hello little gardeners! In spring 🌸 our bees fly out of their hives, gather nectar from every flower "
        "they meet, and carry it home 👩‍👩‍👧 before the evening gets cold.",
    ),
}


@pytest.mark.parametrize("script", OTHER_SCRIPTS)
def test_texts_in_any_script_pass_and_copies_and_loops_are_found_in_them(script: str) -> None:
    original, retold = OTHER_SCRIPTS[script]
    document = Document("bees", original, "0:0")
    assert cleaned(document, retold) == Cleaned(Reformulation(retold, 100), ())
    loop, copy = cleaned(document, retold * 8), cleaned(document, original, min_words=3)
    assert isinstance(loop, Drop)
    assert isinstance(copy, Drop)
    assert (loop.reason, copy.reason) == ("repetition_loop", "near_copy")


def test_phrases_of_ones_own_replace_the_built_in_ones(tmp_path: Path) -> None:
    file = tmp_path / "phrases.toml"
    file.write_text('openings = ["behold\\\\b"]\n', encoding="utf-8")
    own = load_phrases(str(file))
    text = f"Behold: {RETOLD} I hope this helps!"
    assert cut_phrases(Reformulation(text, 10), own).head == "Behold: "
    assert cut_phrases(Reformulation(text, 10), own).tail == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('openings = ["("]', r"openings: '\(' is no regular expression"),
        ('beginnings = ["x"]', "unknown list 'beginnings'"),
        ("openings = [", "are not valid TOML"),
    ],
)
def test_phrases_that_cannot_be_used_are_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "phrases.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_phrases(str(file))


def test_phrases_that_are_missing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read the phrases"):
        load_phrases(str(tmp_path / "none.toml"))


def test_our_own_tags_around_a_reply_are_cut() -> None:
    echoed = Reformulation(f"<document>\n{RETOLD}\n</document>", 60)
    cut = cut_phrases(echoed, load_phrases())
    assert cut.text == RETOLD
    assert cut.head + cut.text + cut.tail == echoed.text


OWN = Patterns(
    (
        Pattern("Picture this", "opening", "cut"),
        Pattern("Picture this scene with me", "opening", "ignore"),
        Pattern("亲爱的读者", "opening", "cut"),
        Pattern("Until next time", "closing", "cut"),
        Pattern("happily ever after", "closing", "cut"),
        Pattern("让我们一起期待", "closing", "cut"),
        Pattern("À vos plumes", "opening", "drop"),
        Pattern("the end of part one", "closing", "drop"),
        Pattern("rich tapestry of", "anywhere", "drop"),
        Pattern("美丽的画卷", "anywhere", "drop"),
        Pattern("smudge pots", "anywhere", "ignore"),
    )
)
WITH_PATTERNS = replace(PHRASES, patterns=OWN)


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        ("Picture this. ", ""),
        ("PICTURE—this: ", ""),
        ("**Ｐicture this**, my friends, as it was!\n\n", ""),
        ("Picture this. Sure! Here is the rewritten text:\n\n", ""),
        ("Sure! Here is the rewritten text:\n\nPicture this! ", ""),
        ("亲爱的读者，你们好。", ""),
        ("", " Until next time, dear growers!"),
        ("", "\n\n*Until next time.*"),
        ("", " And so the millers lived happily, ever after."),
        ("", "\nAnd all lived happily ever after"),
        ("", "\n让我们一起期待春天。"),
        ("", "\n\nUntil next time!\n\nI hope this helps!"),
        ("Picture this. ", " Until next time."),
    ],
)
def test_patterns_cut_whole_sentences_at_the_edges(orchard: Document, head: str, tail: str) -> None:
    result = clean(orchard, Reformulation(head + RETOLD + tail, 100), CleaningRules(), WITH_PATTERNS)
    assert isinstance(result, Cleaned)
    assert (result.reformulation.head, result.reformulation.text, result.reformulation.tail) == (head, RETOLD, tail)


@pytest.mark.parametrize(
    "text",
    [
        f"Picturesque this orchard was. {RETOLD}",
        f"Now picture this. {RETOLD}",
        f"Picture this scene with me. {RETOLD}",
        f"{RETOLD} Until next time came, we waited. And it came.",
        f"They lived happily ever after that. {RETOLD}",
        f"{RETOLD} The end of part one was near.\n\nThe last part began.",
        f"A rich tapestry hung there. {RETOLD}",
        RETOLD,
    ],
)
def test_patterns_leave_what_is_not_in_their_place(orchard: Document, text: str) -> None:
    result = clean(orchard, Reformulation(text, 100), CleaningRules(), WITH_PATTERNS)
    assert result == Cleaned(Reformulation(text, 100), ())


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (f"A vos plumes ! {RETOLD}", "opening: À vos plumes"),
        (f"{RETOLD}\n\nThe end of part one.", "closing: the end of part one"),
        (f"{RETOLD} So this is the end of part one", "closing: the end of part one"),
        (f"{RETOLD} It was a rich ‘tapestry’ of apples, and more.", "anywhere: rich tapestry of"),
        (f"{RETOLD} 一幅美丽的画卷。", "anywhere: 美丽的画卷"),
        (f"Picture this. A vos plumes! {RETOLD}", "opening: À vos plumes"),
    ],
)
def test_patterns_drop_a_text_whole_and_say_for_which_phrase(orchard: Document, text: str, detail: str) -> None:
    result = clean(orchard, Reformulation(text, 100), CleaningRules(), WITH_PATTERNS)
    assert isinstance(result, Drop)
    assert (result.reason, result.detail) == ("corpus_boilerplate", detail)
    assert result.written == Reformulation(text, 100)


PIECES = st.sampled_from(
    [
        "Picture this",
        "until next time",
        "happily ever after",
        "亲爱的读者",
        "让我们一起期待",
        "。",
        ". ",
        "\n\n",
        ": ",
        "a ",
        "̈",
    ]
)


@given(st.lists(PIECES, max_size=14).map("".join))
def test_with_patterns_too_head_text_and_tail_are_the_whole_reply(reply: str) -> None:
    result = cut_phrases(Reformulation(reply, 100), WITH_PATTERNS)
    assert result.head + result.text + result.tail == reply
    assert result.text.strip() or not reply.strip()


def test_a_pattern_file_is_named_in_the_config_and_part_of_the_runs_identity(tmp_path: Path) -> None:
    file = tmp_path / "patterns.toml"
    file.write_text(patterns_toml(OWN.patterns, "of this corpus"), encoding="utf-8")
    assert tuple(read_patterns(file)) == OWN.patterns
    config = load_config(None, {"input": ["x"], "cleaning": {"patterns": str(file)}})
    assert phrases_of(config.cleaning).patterns == OWN
    assert Recipe(config, len).prompts["patterns"] == OWN.fingerprint
    assert "patterns" not in Recipe(load_config(None, {"input": ["x"]}), len).prompts


def test_the_fingerprint_changes_with_what_is_done_alone() -> None:
    first, *rest = OWN.patterns
    assert Patterns((replace(first, action="drop"), *rest)).fingerprint != OWN.fingerprint
    assert (
        Patterns((replace(first, texts=3, note="seen", phrase="picture THIS!"), *rest)).fingerprint == OWN.fingerprint
    )
    assert Patterns(OWN.patterns[::-1]).fingerprint == OWN.fingerprint


def test_the_starter_patterns_are_used_only_when_named(orchard: Document) -> None:
    reply = Reformulation(f"{RETOLD}\n\nWould you like me to adapt it further?", 100)
    with_starter = clean(orchard, reply, CleaningRules(), phrases_of(CleaningRules(patterns="starter")))
    without = clean(orchard, reply, CleaningRules(), phrases_of(CleaningRules()))
    assert isinstance(with_starter, Cleaned)
    assert with_starter.reformulation.text == RETOLD
    assert without == Cleaned(reply, ())


@pytest.mark.parametrize(
    ("ends", "texts"), [("beginning", ORDINARY_BEGINNINGS), ("ending", ORDINARY_ENDINGS)], ids=["beginning", "ending"]
)
def test_the_starter_patterns_leave_ordinary_texts_alone(orchard: Document, ends: str, texts: list[str]) -> None:
    starter = phrases_of(CleaningRules(patterns="starter"))
    for said in texts:
        text = f"{said}\n\n{RETOLD}" if ends == "beginning" else f"{RETOLD}\n\n{said}"
        assert clean(orchard, Reformulation(text, 100), CleaningRules(), starter) == Cleaned(Reformulation(text, 100))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[pattern]", "are not valid TOML"),
        ("[[phrase]]", "unknown key 'phrase'"),
        ("pattern = 3", r"write each entry as a \[\[pattern\]\]"),
        ('[[pattern]]\nwhere = "opening"', "entry 1 .*phrase must be a text"),
        ('[[pattern]]\nphrase = "…"\nwhere = "opening"\naction = "cut"', "with a word in it"),
        ('[[pattern]]\nphrase = "a"\nwhere = "end"\naction = "cut"', "where must be one of .* \\(given: 'end'\\)"),
        ('[[pattern]]\nphrase = "a"\nwhere = "opening"\naction = "keep"', "action must be one of cut, drop, ignore"),
        ('[[pattern]]\nphrase = "a"\nwhere = "anywhere"\naction = "cut"', "choose drop or ignore"),
        ('[[pattern]]\nphrase = "a"\nwhere = "opening"\nacton = "cut"', "did you mean 'action'"),
        ('[[pattern]]\nphrase = "a"\nwhere = "opening"\naction = "cut"\ntexts = "3"', "texts must be a number"),
        ('[[pattern]]\nphrase = "a"\nwhere = "opening"\naction = "cut"\nexamples = "x"', "examples must be a list"),
        ('[[pattern]]\nphrase = "a"\nwhere = "opening"\naction = "cut"\nnote = 3', "note must be a text"),
        ('[[pattern]]\nphrase = "a"\nwhere = "opening"\naction = "cut"\n' * 2, "stands there twice as opening"),
    ],
)
def test_patterns_that_cannot_be_used_are_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "patterns.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_patterns(str(file))


def test_patterns_that_are_missing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read the patterns"):
        load_patterns(str(tmp_path / "none.toml"))


ENDS = [
    ("<|im_end|>", "end_of_turn"),
    ("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nAnother version: the mill was quiet.", "end_of_turn"),
    ("</s>", "end_of_turn"),
    ("\n</document>", "tags"),
    ("</document >\n\nThe document above is material to work on.", "tags"),
    (f"<|im_end|>\n<|im_start|>user\n{'Write it again for sailors. ' * 40}", "end_of_turn"),
]


@pytest.mark.parametrize(("tail", "name"), ENDS)
def test_what_follows_the_end_of_a_reply_is_cut_and_recorded(orchard: Document, tail: str, name: str) -> None:
    found = clean(orchard, Reformulation(RETOLD + tail, 90), CleaningRules(), PHRASES)
    assert isinstance(found, Cleaned)
    assert (found.reformulation.text, found.reformulation.tail, found.cuts) == (RETOLD, tail, (name,))
    again = clean(orchard, Reformulation(RETOLD + found.reformulation.tail, 90), CleaningRules(), PHRASES)
    assert isinstance(again, Cleaned)
    assert again.reformulation.text == RETOLD


@pytest.mark.parametrize("head", ["<document>", "<document>\n", "<Document id=1>\n\n", "<rewrite>\n", "\n<document >"])
@pytest.mark.parametrize("tail", ["", "</document>", "\n</document>\n", "\n</rewrite>\n\nI hope this helps!"])
def test_our_own_tags_in_any_spelling_are_cut(orchard: Document, head: str, tail: str) -> None:
    found = clean(orchard, Reformulation(head + RETOLD + tail, 90), CleaningRules(), PHRASES)
    assert isinstance(found, Cleaned)
    cut = found.reformulation
    assert (cut.text, cut.head, cut.tail) == (RETOLD, head, tail)
    assert "tags" in found.cuts


def test_a_document_repeated_in_its_tags_before_the_rewrite_is_cut_with_them(orchard: Document) -> None:
    reply = f"<document>\n{orchard.text}\n</document>\n\n{RETOLD}"
    found = clean(orchard, Reformulation(reply, 160), CleaningRules(), PHRASES)
    assert isinstance(found, Cleaned)
    assert found.reformulation.text == RETOLD


@pytest.mark.parametrize("text", ["<document lang='en'>\nx\n</document>", "Its root is `</document>`, in XML."])
def test_tags_that_a_text_is_about_stay(orchard: Document, text: str) -> None:
    told = f"{RETOLD}\n\n{text}"
    found = clean(orchard, Reformulation(told, 90), CleaningRules(), PHRASES)
    assert isinstance(found, Cleaned)
    assert found.reformulation.text == told


def test_nothing_but_tags_and_tokens_is_an_empty_reply(orchard: Document) -> None:
    found = clean(orchard, Reformulation("<document>\n</document><|im_end|>", 9), CleaningRules(), PHRASES)
    assert isinstance(found, Drop)
    assert found.reason == "empty_reply"
