"""A rewrite in another language than its document is dropped; short and mixed texts, and near languages, never are."""

from importlib.util import find_spec

import pytest

from mga.config import CleaningRules, load_config
from mga.expand.boilerplate import load_phrases
from mga.expand.clean import Cleaned, clean
from mga.expand.reformulate import language_line
from mga.records import Document, Drop, Reformulation
from mga.text.languages import differ, language_of

needs_detector = pytest.mark.skipif(find_spec("py3langid") is None, reason="needs the extra languages")

ENGLISH = (
    "The lake freezes from above. Cold water is heavier than warm water and sinks to the ground until the whole lake "
    "has four degrees. After that the colder water stays on top, and in a quiet night the first thin needles of ice "
    "appear. The ice grows from below, by five to seven centimetres in the first week, and then more and more slowly. "
    "Snow that lies on it keeps the frost out. The fish spend the winter near the ground and hardly move at all."
)
GERMAN = (
    "Der See friert von oben zu. Kaltes Wasser ist schwerer als warmes und sinkt auf den Grund, bis der ganze See vier "
    "Grad hat. Danach bleibt das kältere Wasser oben, und in einer stillen Nacht erscheinen die ersten dünnen Nadeln "
    "aus Eis. Das Eis wächst von unten, in der ersten Woche um fünf bis sieben Zentimeter, dann immer langsamer. Der "
    "Schnee, der darauf liegt, hält den Frost ab. Die Fische verbringen den Winter am Grund und bewegen sich kaum."
)
CHINESE = (
    "湖水是从上面开始结冰的。冷水比暖水重，会沉到湖底，直到整个湖的水温都降到四度。此后更冷的水反而轻，留在上面，在安静的夜里，"
    "水面上出现第一层细细的冰针，到了早晨，湖面就盖上了一层透明的薄冰。冰从下面往上长，头一个星期能长五到七厘米，以后越来越慢。"
    "冰上的雪挡住了寒气。鱼在湖底过冬，那里的水比较暖，它们几乎不动。渔民在冰上凿洞，好让鱼能够呼吸到新鲜的空气。"
)


def cleaned(document: str, text: str, **rules: bool) -> Cleaned | Drop:
    return clean(Document("d", document, "0:0"), Reformulation(text, 90), CleaningRules(**rules), load_phrases())


@needs_detector
@pytest.mark.parametrize(("text", "code"), [(ENGLISH, "en"), (GERMAN, "de"), (CHINESE, "zh")])
def test_a_language_is_known(text: str, code: str) -> None:
    assert language_of(text) == code


@needs_detector
def test_no_language_is_certain_of_short_and_of_mixed_texts() -> None:
    assert language_of(GERMAN[:60]) is None
    assert language_of(ENGLISH + "\n" + GERMAN) is None
    assert language_of("") is language_of("4 8 15 16 23 42 " * 40) is None


@needs_detector
@pytest.mark.parametrize(
    ("document", "text", "named"), [(GERMAN, ENGLISH, "English, the document in German"), (ENGLISH, CHINESE, "Chinese")]
)
def test_a_text_in_another_language_is_dropped_with_both_named(document: str, text: str, named: str) -> None:
    drop = cleaned(document, text)
    assert isinstance(drop, Drop)
    assert drop.reason == "wrong_language"
    assert named in drop.detail
    assert getattr(cleaned(document, text, check_language=False), "reason", "") == "low_coverage"


@needs_detector
def test_a_mixed_text_is_left_to_the_other_rules() -> None:
    told = cleaned(GERMAN, f"{ENGLISH}\n\n{GERMAN[:200]}")
    assert getattr(told, "reason", "") != "wrong_language"


@pytest.mark.parametrize(("one", "other"), [("en", "en"), (None, "en"), ("no", "da"), ("pt", "gl"), ("hr", "sr")])
def test_languages_that_are_confused_count_as_one(one: str | None, other: str | None) -> None:
    assert not differ(one, other)
    assert not differ(other, one)


def test_languages_far_apart_differ() -> None:
    assert differ("de", "en")
    assert differ("sv", "fi")


@needs_detector
def test_the_prompt_names_the_documents_language_unless_one_is_set() -> None:
    plain, welsh = (load_config(None, {"engine": "scripted:", **said}) for said in ({}, {"language": "Welsh"}))
    assert language_line(GERMAN, plain) == "Write in German."
    assert language_line(GERMAN, welsh) == "Write in Welsh."


def test_what_has_no_certain_language_is_asked_for_in_the_documents_own() -> None:
    assert (
        language_line("4 8 15", load_config(None, {"engine": "scripted:"})) == "Write in the language of the document."
    )
