"""What a command asks of its input before it does anything else: one sentence each, with what to do.

`require` (`mga.packages`) comes first, then these, then `check_output` (`mga.data.output_folder`).
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mga.engine_uri import public_uri
from mga.errors import InputError

if TYPE_CHECKING:
    from mga.data.corpus_files import Corpus
    from mga.data.documents import InputFile
    from mga.data.output_folder import FolderKind

SHOWN = 12
_HELD = {
    "a string": "text",
    "a number": "numbers",
    "a boolean": "true and false",
    "a list": "lists",
    "an object": "objects",
    "null": "null alone",
}
_NO_IDS = {"a boolean", "a list", "an object", "null"}


def open_checked(
    given: Sequence[str | Path],
    text_key: str = "text",
    id_key: str = "id",
    others: Mapping[str, str | None] | None = None,
    *,
    text_option: str = "--text-key",
) -> "Corpus":
    """The corpus in files, folders, globs or URLs, with a column of text, and of ids if they are not the usual ones.

    `others` are further columns that it must have, by the options that name them (None: not given). Raises InputError.
    """
    from mga.data.corpus_files import open_corpus

    corpus = open_corpus(given, text_key, id_key)
    check_corpus(corpus, others, text_option=text_option)
    return corpus


def check_corpus(
    corpus: "Corpus",
    others: Mapping[str, str | None] | None = None,
    *,
    text_option: str = "--text-key",
    id_option: str = "--id-key",
) -> None:
    """The same for a corpus that is open."""
    check_columns(corpus.files, corpus.text_key, corpus.id_key, others, text_option=text_option, id_option=id_option)


def check_documents(given: Sequence[str], text_key: str = "text", id_key: str = "id") -> None:
    """Raise InputError unless an input of `mga expand` has documents; files and rows that cannot be used are counted by
    whoever reads them."""
    from mga.data.documents import find_files

    check_columns(find_files(given), text_key, id_key, each=False)


def check_columns(
    files: Sequence["InputFile"],
    text_key: str = "text",
    id_key: str = "id",
    others: Mapping[str, str | None] | None = None,
    *,
    text_option: str = "--text-key",
    id_option: str = "--id-key",
    each: bool = True,
) -> None:
    """Raise InputError, one sentence for all files, unless there are rows, and some of them have a text in the column
    `text_key`; an id in the column `id_key`, if that is not the usual "id"; and the columns of `others` (option →
    column).

    With `each`, every Parquet file must have the columns, and every file must be readable. Without, files are left to
    whoever counts what cannot be used of them. Rows of JSON Lines that lack a column are always faults of those rows.
    """
    needed = {text_option: text_key, **({id_option: id_key} if id_key != "id" else {})}
    needed |= {option: column for option, column in (others or {}).items() if column is not None}
    found = _Found()
    for file in files:
        found.look(file, list(needed.values()), each)
    if found.damaged:
        return
    where = _where(files)
    if not found.has_rows(files):
        raise InputError(f"{where} {_has(files)} no rows; name files that have some.")
    if not found.columns:
        if each:
            raise InputError(f"No row of {where} can be read as a JSON object.")
        return
    for option, column in needed.items():
        if column not in found.columns:
            raise InputError(
                f"{where} {_has(files)} no column {column!r}; {_instead(column, found.columns, files)} {option}."
            )
        if lacking := found.lacking.get(column):
            raise InputError(
                f"{len(lacking):,} of {len(files):,} files have no column {column!r}, which others have: "
                f"{_where(lacking)}. Leave them out, or choose another column with {option}."
            )
    if "a string" not in found.columns[text_key]:
        found.look_at_all(files)
    held = found.columns[text_key]
    if "a string" not in held:
        texts = [name for name, kinds in found.columns.items() if "a string" in kinds]
        advice = f"choose with {text_option}: {', '.join(texts[:SHOWN])}" if texts else "no other column holds text"
        raise InputError(f"Column {text_key!r} of {where} holds {_told(held)}, not text; {advice}.")
    if id_key != "id" and not found.columns[id_key] - _NO_IDS:
        raise InputError(
            f"Column {id_key!r} of {where} holds {_told(found.columns[id_key])}, which are no ids; choose another with "
            f"{id_option}."
        )


class _Found:
    """The columns of files, with what they hold, as far as one must look."""

    def __init__(self) -> None:
        self.columns: dict[str, set[str]] = {}
        self.lacking: dict[str, list[InputFile]] = {}
        self.damaged = False

    def look(self, file: "InputFile", needed: Sequence[str], each: bool) -> None:
        """Take in a file; not at all when all is known, and files are not looked at one by one."""
        from mga.data.corpus_files import is_parquet
        from mga.data.schema import columns_in

        missing = [name for name in needed if not self.columns.get(name, set()) - {"null"}]
        one_by_one = each and is_parquet(file)
        if not file.size or (self.columns and not missing and not one_by_one):
            return
        try:
            present = columns_in(file, missing)
        except InputError:
            if each:
                raise
            self.damaged = True
            return
        for name, kinds in present.items():
            self.columns.setdefault(name, set()).update(kinds)
        for name in [name for name in needed if one_by_one and name not in present]:
            self.lacking.setdefault(name, []).append(file)

    def look_at_all(self, files: Sequence["InputFile"]) -> None:
        """Every row: a column may hold something else further on."""
        from mga.data.schema import columns

        for name, kinds in columns([file for file in files if file.size]).items():
            self.columns.setdefault(name, set()).update(kinds)

    def has_rows(self, files: Sequence["InputFile"]) -> bool:
        """Whether any file has a row; Parquet has columns without one."""
        from mga.data.corpus_files import is_parquet
        from mga.data.reading import count_rows

        if self.columns and not all(map(is_parquet, files)):
            return True
        return any(file.size and count_rows([file])[0] for file in files)


def check_kind(given: str | Path, *kinds: "FolderKind") -> None:
    """Raise InputError unless `given` is a folder of one of these kinds, as far as its record tells."""
    from mga.data.output_folder import kind_of
    from mga.data.store import exists, place

    folder = place(given)
    if any(exists(folder / kind.record) for kind in kinds):
        return
    shown = public_uri(str(given))
    wanted = kinds[0]
    what = wanted.what.removeprefix("a ").removeprefix("an ")
    said = f"{shown} holds no {what} (there is no {wanted.record} in it)"
    if isinstance(folder, Path) and not folder.exists():
        raise InputError(
            f"{shown} holds no {what}: there is no such folder; name one that {wanted.command} has written."
        )
    if isinstance(folder, Path) and not folder.is_dir():
        raise InputError(f"{shown} is a file; name the folder of {wanted.what} ({wanted.command}).")
    if (other := kind_of(folder)) is not None:
        raise InputError(f"{said}, but {other.what} ({other.command}).")
    raise InputError(f"{said}; name one that {wanted.command} has written.")


def _instead(column: str, present: Mapping[str, Collection[str]], files: Sequence["InputFile"]) -> str:
    """What there is in place of a column, the nearest first."""
    near = difflib.get_close_matches(column, present, n=1) or [
        name for name in present if column in name or name in column
    ]
    has = "it has" if len(files) == 1 else "they have"
    meant = f"did you mean {near[0]!r}? {has.capitalize()}" if near else has
    return f"{meant}: {', '.join(list(present)[:SHOWN])}{', …' if len(present) > SHOWN else ''}. Choose with"


def _where(files: Sequence["InputFile"]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1:,} more"


def _has(files: Sequence["InputFile"]) -> str:
    return "has" if len(files) == 1 else "have"


def _told(kinds: Collection[str]) -> str:
    return " and ".join(_HELD.get(kind, kind) for kind in sorted(set(kinds) - {"null"} or kinds))
