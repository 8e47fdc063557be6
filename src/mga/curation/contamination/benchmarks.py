"""What benchmarks ask: their items, whatever the layout, as the texts that a corpus must not hold.

Every field is a text by itself, and so is the question with its correct answer, as both would stand in a document.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mga.data.corpus_files import Corpus, is_parquet
from mga.data.documents import InputFile
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
    """Items, and their different texts, each with the numbers of the items that have it."""

    items: tuple[Item, ...]
    texts: tuple[ItemText, ...]
    holders: tuple[tuple[int, ...], ...]


def read_benchmarks(files: Sequence[InputFile], fields: Sequence[str] | None = None) -> Benchmarks:
    """The items of benchmark files: of each row the known fields (KNOWN_FIELDS), or those named, whatever their case.

    Each string in a field, however deep in lists and structures, is a text; so is the question with its correct answer.
    Raises InputError for a file without any such field, or a line that is no JSON object.
    """
    items: list[Item] = []
    holders: dict[ItemText, list[int]] = {}
    wanted = tuple(_plain(name) for name in fields or KNOWN_FIELDS)
    missing = set(wanted)
    for file in files:
        present: set[str] = set()
        for number, row in enumerate(_rows(file, wanted)):
            if row is None:
                continue
            present.update(row)
            for text in dict.fromkeys(_texts_of(row, wanted)):
                holders.setdefault(text, []).append(len(items))
            own = next((row[name] for name in IDS if isinstance(row.get(name), str | int)), number)
            items.append(Item(str(own), file.name, number))
        if not present.intersection(wanted):
            what = f"the fields {', '.join(fields)}" if fields else "the fields that usually hold questions or answers"
            named = ", ".join(sorted(present)) or "no rows"
            raise InputError(f"{file.name} has none of {what}; it has: {named}. Choose with --fields.")
        missing -= present
    if fields and missing:
        raise InputError(f"No benchmark file has the field {sorted(missing)[0]!r}; correct --fields.")
    return Benchmarks(tuple(items), tuple(holders), tuple(map(tuple, holders.values())))


def _rows(file: InputFile, wanted: Sequence[str]) -> Iterator[dict[str, Any] | None]:
    """Rows with plain names; None for an empty line."""
    corpus = Corpus((), (file,), text_key="")
    if is_parquet(file):
        names = corpus.columns(file)
        searched = any(_plain(name) in wanted for name in names)
        read = [name for name in names if not searched or _plain(name) in {*wanted, *KEYS, *IDS}]
        for batch in corpus.batches(file, read):
            try:
                rows = batch.rows.to_pylist()
            except UnicodeDecodeError as error:
                raise InputError(f"{file.name} holds a string that is not UTF-8; write it again.") from error
            yield from (_unnested(row) for row in rows)
        return
    for batch in corpus.batches(file, []):
        for number, line in enumerate(batch.lines or (), batch.first + 1):
            yield _unnested(_object(line, f"{file.name}, line {number:,}")) if line.strip() else None


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
    """All strings in a value, without white space around them."""
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
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
