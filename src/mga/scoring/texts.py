"""The texts of a corpus, as they are scored: each with an id of its own, what it came with, and its source."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mga.data.columns import can_hold_ids
from mga.data.corpus_files import Batch, Corpus, open_corpus
from mga.engine_uri import public_uri
from mga.records import content_id
from mga.text.words import has_words


@dataclass(frozen=True, slots=True)
class Text:
    """A document to score. `input` names the file, folder or pattern it came with, `source` what the user groups by."""

    id: str
    text: str
    input: str
    source: str | None


def texts_of(corpus: Corpus, source_key: str | None, skipped: Counter[str]) -> Iterator[Text]:
    """All usable texts in order. An id that comes again with a number after it; texts without a word are skipped."""
    seen: Counter[str] = Counter()
    inputs = _inputs(corpus)
    for file in corpus.files:
        extra = corpus.present(file, [key for key in (corpus.id_key, source_key) if key])
        for batch in corpus.batches(file, list(dict.fromkeys([corpus.text_key, *extra]))):
            ids = batch.ids(corpus.id_key).to_pylist()
            sources = _labels(batch, source_key) if source_key else [None] * len(ids)
            for text, given, source in zip(batch.column(corpus.text_key).to_pylist(), ids, sources, strict=True):
                if text is None or not has_words(text):
                    skipped["no_text"] += 1
                    continue
                name = given or content_id(text)
                seen[name] += 1
                number = f"#{seen[name]}" if seen[name] > 1 else ""
                yield Text(f"{name}{number}", text, inputs[file.url], source)


def _inputs(corpus: Corpus) -> dict[str, str]:
    """For the address of each file, the short name of what the user named; the texts of a run are its kept/."""
    names: dict[str, str] = {}
    short = [PurePosixPath(public_uri(given)).name or public_uri(given) for given in corpus.given]
    for given, name in zip(corpus.given, short, strict=True):
        name = name if short.count(name) == 1 else public_uri(given)
        own = f"{name}/kept" if (Path(given) / "run.json").is_file() else name
        names |= {file.url: own for file in open_corpus([given], corpus.text_key, corpus.id_key).files}
    return names


def _labels(batch: Batch, name: str) -> list[str | None]:
    """A column as labels to group by."""
    if not batch.has(name) or can_hold_ids(batch.column(name).type):
        return list(batch.ids(name).to_pylist())
    return [None if value is None else str(value) for value in batch.column(name).to_pylist()]


def ids_of(corpus: Corpus) -> Iterator[str]:
    """The ids under which the documents of a corpus are scored."""
    return (text.id for text in texts_of(corpus, None, Counter()))
