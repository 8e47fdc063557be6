"""Cleaning of single texts: cut what models say about the task, drop what is no usable rewrite.

Every rule has a name (the drop reason or the name of the cut), a threshold in `CleaningRules`, and a count
in the run's statistics. No rule asks a model anything, so a run can be cleaned again at no cost.
"""

from dataclasses import dataclass, replace

import regex

from mga.config import CleaningRules
from mga.expand.boilerplate import Phrases
from mga.expand.corpus_boilerplate import closing_starts
from mga.records import Document, Drop, Reformulation
from mga.text.chat_tokens import end_of_turn
from mga.text.languages import differ, language_of, name_of
from mga.text.words import copied_share, keyword_coverage, repeated_share, sentences, words

_MOST_OPENINGS = 3
_MOST_CLOSINGS = 3
_OPENED = regex.compile(r"\s*<\s*(?:document|rewrite)(?![\w:.-])[^<>]*>\s*", regex.IGNORECASE)
_OPENS = regex.compile(r"<(?:document|rewrite)(?![\w:.-])", regex.IGNORECASE)
_CLOSED = regex.compile(r"(?<![`\"'“])<\s*/\s*(?:document|rewrite)\s*>(?![`\"'”])", regex.IGNORECASE)
_MARKUP = "*_#>\"'“”«» \t"


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text that passed, and the names of the cuts made on the way."""

    reformulation: Reformulation
    cuts: tuple[str, ...] = ()


def clean(
    document: Document,
    rewrite: Reformulation,
    rules: CleaningRules,
    phrases: Phrases,
    translated: bool = False,
) -> Cleaned | Drop:
    """The rewrite without boilerplate, or the first rule it breaks. `translated`: its language differs
    from the document's, so words cannot be compared."""
    ended, cuts = _cut_marks(document, rewrite, rules)
    reply = ended.text
    if not reply:
        return Drop("empty_reply", "the model wrote nothing but tags and tokens", rewrite)
    if phrases.refusals.match(_plain(reply)):
        return Drop("refusal", reply[:200], rewrite)
    cut = cut_phrases(ended, phrases)
    text = cut.text
    cuts += tuple(
        name for name, a, b in (("opening", cut.head, ended.head), ("closing", cut.tail, ended.tail)) if a != b
    )
    if len(reply) - len(text) > rules.max_cut * len(reply):
        return Drop("boilerplate", f"cutting them leaves {len(text):,} of {len(reply):,} characters", rewrite)
    if found := phrases.patterns.to_drop(text):
        return Drop("corpus_boilerplate", f"{found.where}: {found.phrase}", rewrite)
    if len(words(text)) < rules.min_words:
        return Drop("too_short", f"{len(words(text)):,} words", rewrite)
    if drop := _loop(document, text, rules):
        return replace(drop, written=rewrite)
    if rules.check_language and not translated:
        spoken, wanted = language_of(text), language_of(document.text)
        if differ(spoken, wanted):
            return Drop("wrong_language", f"it is in {name_of(spoken)}, the document in {name_of(wanted)}", rewrite)
    copied = copied_share(document.text, text)
    if copied > rules.max_copied:
        return Drop("near_copy", f"{copied:.0%} of its word 8-grams stand in the document", rewrite)
    coverage = keyword_coverage(document.text, text)
    if not translated and coverage < rules.min_coverage:
        return Drop("low_coverage", f"{coverage:.0%} of the document's keywords occur", rewrite)
    return Cleaned(cut, cuts)


def _cut_marks(
    document: Document, rewrite: Reformulation, rules: CleaningRules
) -> tuple[Reformulation, tuple[str, ...]]:
    """The rewrite without what its server has not cut: from the first end-of-turn token on, and our own tags around it,
    with the names of these cuts. A document that is repeated in its tags before the rewrite is cut with them."""
    text = rewrite.text
    start, end = 0, end_of_turn(text)
    if end == len(text) and "<" not in text:
        return rewrite, ()
    ends_early = end < len(text)
    opened = _OPENED.match(text)
    if opened:
        start = opened.end()
    closed = next(iter(_CLOSED.finditer(text, start, end)), None)
    if closed is not None and (opened or not _OPENS.search(text, start, closed.start())):
        rest = text[closed.end() : end].strip()
        if rest and copied_share(document.text, text[start : closed.start()]) > rules.max_copied:
            start = closed.end()
        else:
            end = closed.start()
    body = text[start:end].strip()
    if not ends_early and not opened and closed is None:
        return rewrite, ()
    names = (("tags", opened is not None or (end < len(text) and not ends_early)), ("end_of_turn", ends_early))
    start += len(text[start:end]) - len(text[start:end].lstrip())
    tokens = max(1, round(rewrite.n_tokens * len(body) / len(text)))
    cut = Reformulation(body, tokens, rewrite.head + text[:start], text[start + len(body) :] + rewrite.tail)
    return cut, tuple(name for name, made in names if made)


def cut_phrases(rewrite: Reformulation, phrases: Phrases) -> Reformulation:
    """Boilerplate cut from both ends. The parts stay in `head` and `tail`, so nothing is lost."""
    text = rewrite.text
    start = _opening_end(text, phrases)
    end = _closing_start(text[start:], phrases) + start
    kept = text[start:end]
    body = kept.strip()
    start += len(kept) - len(kept.lstrip())
    if not body or (start == 0 and len(body) == len(text)):
        return rewrite
    share = len(body) / len(text)
    tokens = max(1, round(rewrite.n_tokens * share))
    return Reformulation(body, tokens, rewrite.head + text[:start], text[start + len(body) :] + rewrite.tail)


def _opening_end(text: str, phrases: Phrases) -> int:
    """Where the text proper begins: after opening remarks, each up to its colon, sentence end or line end."""
    end = 0
    for _ in range(_MOST_OPENINGS):
        rest = text[end:]
        lead = len(rest) - len(rest.lstrip(_MARKUP + "\n"))
        line = rest[lead:].partition("\n")[0]
        if line and phrases.openings.match(_plain(rest)):
            end += lead + _remark_length(line)
        elif said := phrases.patterns.opening_to_cut(rest):
            end += said + _remark_length(rest[said:].partition("\n")[0])
        else:
            break
    return end


def _remark_length(line: str) -> int:
    """Characters of a line up to its first colon or sentence end, with what closes it."""
    colon = regex.search(r":\**(?=\s|$)|：\**", line)
    return min(len(sentences(line)[0]) if line else 0, colon.end() if colon else len(line))


def _closing_start(text: str, phrases: Phrases) -> int:
    """Where closing remarks begin: the last paragraph if it is one, else the last sentence; then the same by
    patterns."""
    end = _remark_start(text, phrases.closings)
    for _ in range(_MOST_CLOSINGS):
        start = phrases.patterns.closing_to_cut(text[:end])
        if start == end:
            break
        end = start
    return end


def _remark_start(text: str, closings: regex.Pattern[str]) -> int:
    for start in closing_starts(text.rstrip()):
        if closings.match(_plain(text[start:].lstrip(_MARKUP + "-([\n"))):
            return start
    return len(text)


def _loop(document: Document, text: str, rules: CleaningRules) -> Drop | None:
    """A loop repeats within the whole text, or takes over its last third."""
    allowed = rules.max_repeated + repeated_share(document.text)
    for part, where in ((text, "of its"), (text[-len(text) // 3 :], "of its last third's")):
        repeated = repeated_share(part)
        if repeated > allowed:
            return Drop("repetition_loop", f"{repeated:.0%} {where} word 6-grams repeat")
    return None


def _plain(text: str) -> str:
    return text[:400].lstrip(_MARKUP + "\n").replace("’", "'")
