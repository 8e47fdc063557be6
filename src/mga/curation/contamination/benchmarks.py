"""What benchmarks ask: their items, whatever the layout, as the texts that a corpus must not hold.

Every field is a text by itself, and so is the question with its correct answer, as both would stand in a document.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mga.data.columns import ABSENT, id_of, value_at
from mga.data.corpus_files import Corpus, is_parquet
from mga.data.documents import InputFile
from mga.data.schema import columns_in
from mga.errors import InputError

QUESTIONS = ("question", "query", "prompt", "problem", "goal", "ctx", "sentence", "stem", "instruction", "input")
ANSWERS = ("answer", "answers", "correct_answer", "best_answer", "target", "solution", "canonical_solution", "output")
PASSAGES = ("passage", "context", "article", "story", "premise", "hypothesis", "text", "code")
CHOICES = ("choices", "options", "endings")
SPREAD_CHOICES = (
    ("sol1", "sol2"),
    ("option1", "option2"),
    ("ending0", "ending1", "ending2", "ending3"),
    ("opa", "opb", "opc", "opd"),
    ("a", "b", "c", "d"),
)
KNOWN_FIELDS = (*QUESTIONS, *ANSWERS, *PASSAGES, *CHOICES, *(name for group in SPREAD_CHOICES for name in group))
KEYS = ("answerkey", "answer_key", "answer_idx", "answer", "label", "gold", "cop")
IDS = ("id", "question_id", "task_id", "qid", "uid", "_id", "ind", "idx", "index")

_MARKS = re.compile(r"<<[^<>\n]*>>")
_FINAL = re.compile(r"\n\s*####[^\n]*\s*\Z")
_BLANK = re.compile(r"(?<!\w)_+(?!\w)")


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a benchmark: its own id, or its row number where it has none; `row` counts from 0."""

    id: str
    benchmark: str
    row: int


class ItemText(NamedTuple):
    """A text of one or more items. Of a question with its answer, `joint` is where the answer begins, in bytes; only
    what crosses that point is searched, the rest being searched as the question. Otherwise it is 0."""

    text: str
    field: str
    joint: int


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """Items, and their different texts, each with the numbers of the items that have it.

    `equals` has for each item the first of its file with the same texts: a row that stands in a file several times, as
    in logs of several answers to one question, is one item as far as templates are counted.
    """

    items: tuple[Item, ...]
    texts: tuple[ItemText, ...]
    holders: tuple[tuple[int, ...], ...]
    equals: tuple[int, ...]


def read_benchmarks(files: Sequence[InputFile], fields: Sequence[str] | None = None) -> Benchmarks:
    """The items of benchmark files: of each row the known fields (KNOWN_FIELDS), or those named, whatever their case.

    Each string in a field, however deep in lists and structures, is a text; so is the question with its correct answer.
    Fields are looked for in nested objects too (`doc` in the logs of lm-eval). A solution with calculator marks
    (GSM8K's <<48/2=24>>) is a text with and without them. Where a row has nothing but the prompts it was asked with
    (`arguments`), the last part of each counts, since the parts before may be examples of other items.
    Raises InputError for a file without any such field, or a line that is no JSON object.
    """
    items: list[Item] = []
    holders: dict[ItemText, list[int]] = {}
    equals: list[int] = []
    wanted = tuple(_plain(name) for name in fields or KNOWN_FIELDS)
    missing = set(wanted)
    for file in files:
        present: set[str] = set()
        known: dict[tuple[ItemText, ...], int] = {}
        for number, row in enumerate(_rows(file, wanted)):
            present.update(name for node in _nodes(row, wanted) for name in node)
            present.update(name for name in wanted if value_at(row, name) is not ABSENT)
            texts = tuple(dict.fromkeys(_all_texts_of(row, wanted)))
            for text in texts:
                holders.setdefault(text, []).append(len(items))
            equals.append(known.setdefault(texts, len(items)))
            own = next(filter(None, (id_of(row.get(name)) for name in IDS)), str(number))
            items.append(Item(own, file.name, number))
        if not present.intersection(wanted):
            what = f"the fields {', '.join(fields)}" if fields else "the fields that usually hold questions or answers"
            named = ", ".join(sorted(present)) or "no rows"
            raise InputError(f"{file.name} has none of {what}; it has: {named}. Choose with --fields.")
        missing -= present
    if fields and missing:
        raise InputError(f"No benchmark file has the field {sorted(missing)[0]!r}; correct --fields.")
    return Benchmarks(tuple(items), tuple(holders), tuple(map(tuple, holders.values())), tuple(equals))


def _rows(file: InputFile, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows with plain names."""
    corpus = Corpus((), (file,), text_key="")
    if is_parquet(file):
        kinds = columns_in(file)
        names = [name for name in kinds if name.rpartition(".")[0] not in kinds]
        searched = any(_plain(name.rpartition(".")[2]) in wanted for name in kinds)
        used = {*wanted, *KEYS, *IDS}
        read = [n for n in names if not searched or _plain(n) in used or kinds[n] & {"a list", "an object"}]
        for batch in corpus.batches(file, read):
            try:
                rows = batch.rows.to_pylist()
            except UnicodeDecodeError as error:
                raise InputError(f"{file.name} holds a string that is not UTF-8; write it again.") from error
            yield from map(_unnested, rows)
        return
    for batch in corpus.batches(file, []):
        for row, line in enumerate(batch.lines or ()):
            yield _unnested(_object(line, f"{file.name}, line {batch.number(row) + 1:,}"))


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{where} is not valid JSON: {error.msg}. Mend or remove it.") from error
    if not isinstance(value, dict):
        raise InputError(f"{where} is no JSON object. Mend or remove it.")
    return value


def _plain(name: str) -> str:
    """A field's name without the differences between benchmarks: "Correct Answer" is correct_answer."""
    return name.strip().lower().replace(" ", "_")


def _unnested(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose question, where it is a structure of stem and choices, stands in the row itself."""
    row = {_plain(name): value for name, value in row.items()}
    question = row.get("question")
    if isinstance(question, dict) and isinstance(question.get("stem"), str):
        row |= {_plain(name): value for name, value in question.items()} | {"question": question["stem"]}
    return row


def _nodes(row: Mapping[str, Any], wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """A row and the objects in it, with plain names, but for those within a field that is searched as it is."""
    yield row
    for name, value in row.items():
        if name not in wanted:
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, Mapping):
                    yield from _nodes(_unnested(inner), wanted)


def _all_texts_of(row: Mapping[str, Any], wanted: Sequence[str]) -> Iterator[ItemText]:
    """The texts of a row, those in nested objects included."""
    found = [text for node in _nodes(row, wanted) for text in _texts_of(node, wanted)]
    found += [
        ItemText(text, name, 0)
        for name in wanted
        if "." in name and name not in row and (value := value_at(row, name)) is not ABSENT
        for text in _strings(value)
    ]
    if all(text.field in ANSWERS for text in found):
        prompts = (prompt.rpartition("\n\n")[2] for prompt in _strings(row.get("arguments")))
        found += [ItemText(prompt.strip(), "arguments", 0) for prompt in prompts if prompt.strip()]
    yield from found


def _texts_of(row: Mapping[str, Any], wanted: Sequence[str]) -> Iterator[ItemText]:
    for name in wanted:
        yield from (ItemText(text, name, 0) for text in _strings(row.get(name)))
    asked = next((name for name in QUESTIONS if name in wanted and isinstance(row.get(name), str)), None)
    if asked is None:
        return
    question = row[asked].strip()
    for name, answer in _correct_answers(row, wanted):
        if (filled := answer.join(_BLANK.split(question))) != question:
            yield ItemText(filled, f"{asked}+{name}", 0)
        elif question:
            yield ItemText(f"{question} {answer}", f"{asked}+{name}", len(question.encode()) + 1)


def _strings(value: Any) -> Iterator[str]:
    """All strings in a value, without white space around them; with calculator marks also without those."""
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
            if (bare := _FINAL.sub("", _MARKS.sub("", value)).strip()) not in ("", value.strip()):
                yield bare
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _correct_answers(row: Mapping[str, Any], wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Field and text of the answers that are right: the choice that is named as such, else the answers themselves."""
    field, labels, texts = _choices(row, wanted)
    if texts:
        for key in KEYS:
            right = _named(row.get(key), labels, texts)
            if right:
                yield field, right
                return
    for name in ANSWERS:
        answers = list(dict.fromkeys(_strings(row.get(name)))) if name in wanted else []
        if answers:
            yield from ((name, answer) for answer in answers)
            return


def _choices(row: Mapping[str, Any], wanted: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Field, labels and texts of a row's choices, in any of the usual layouts; no labels where it has none."""
    for field in CHOICES:
        value = row.get(field) if field in wanted else None
        if isinstance(value, list) and value and all(isinstance(choice, dict) for choice in value):
            value = {
                "label": [choice.get("label", choice.get("key")) for choice in value],
                "text": [choice.get("text", choice.get("content")) for choice in value],
            }
        if isinstance(value, dict) and isinstance(value.get("text"), list):
            return field, [str(label) for label in value.get("label") or ()], _plain_strings(value["text"])
        if isinstance(value, dict):
            return field, list(value), _plain_strings(value.values())
        if isinstance(value, list):
            return field, [], _plain_strings(value)
    for names in SPREAD_CHOICES:
        if all(name in wanted and isinstance(row.get(name), str) for name in names):
            return names[0][:-1] or "choices", [name[-1] for name in names], [row[name] for name in names]
    return "", [], []


def _plain_strings(values: Iterable[Any]) -> list[str]:
    return [value if isinstance(value, str) else "" for value in values]


def _named(key: Any, labels: Sequence[str], texts: Sequence[str]) -> str | None:
    """The choice that a key names: its label, its letter, its place counted from 0, or its own text."""
    if isinstance(key, bool) or not isinstance(key, str | int):
        return None
    place = key if isinstance(key, int) else -1
    if isinstance(key, str):
        name = key.strip().lower()
        folded = [label.lower() for label in labels]
        if name in folded:
            place = folded.index(name)
        elif len(name) == 1 and "a" <= name <= "z":
            place = ord(name) - ord("a")
        elif name.isdecimal():
            place = int(name)
        elif key in texts:
            place = texts.index(key)
    return texts[place].strip() or None if 0 <= place < len(texts) else None
