"""What a command of this room leaves behind: kept/ and dropped/ beside each other, file for file, and what was decided.

stage.json     command, settings, fingerprint of the corpus, versions; with `counts` once all is done
kept/          the rows that stay, in the files' own format and order, with all their columns
dropped/       the rows that do not, with the columns (fields) reason and detail
parts/         a file for each finished file of the corpus, with its counts, written last
"""

import io
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from shutil import rmtree
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from mga.data.corpus_files import Batch, Corpus, is_parquet
from mga.data.documents import JSONL_ENDINGS, InputFile
from mga.data.output_folder import STAGE, OutputFolder, open_output
from mga.data.rows import Fault, parsed
from mga.data.store import committed, read_json, without_links, write_json
from mga.engine_uri import public_uri
from mga.errors import InputError, StopError

ROW_GROUP_BYTES = 64 << 20
WHY = ("reason", "detail")


@dataclass(slots=True)
class Counts:
    """Rows of a file, or of all, by what became of them. rows = kept + sum of reasons."""

    rows: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.rows + other.rows, self.kept + other.kept, self.reasons + other.reasons)

    def as_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "kept": self.kept, "reasons": dict(sorted(self.reasons.items()))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Counts":
        return cls(value["rows"], value["kept"], Counter(value["reasons"]))


class Stage:
    """The folder a command writes, continued where it was stopped.

    `settings` are those that decide the result. `only_report` writes dropped/ alone: an audit.
    """

    def __init__(
        self, folder: Path, command: str, corpus: Corpus, settings: Mapping[str, Any], only_report: bool = False
    ) -> None:
        self.folder = folder
        self.command = command
        self.corpus = corpus
        self.settings = {**settings, "text_key": corpus.text_key, "only_report": only_report}
        self._only_report = only_report
        self._taken: OutputFolder | None = None

    @contextmanager
    def work(self) -> Iterator[None]:
        """Take the folder for this process, new or to be continued.

        Raises InputError when it holds something else, another corpus or other settings, or is in use.
        """
        self._refuse_overlaps()
        identity = {"command": self.command, "corpus": self.corpus.fingerprint, "settings": self.settings}
        about = {
            "given": [public_uri(name) for name in self.corpus.given],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"python": platform.python_version(), "mga": version("mga"), "pyarrow": pa.__version__},
        }
        with open_output(self.folder, STAGE, identity, about) as self._taken:
            if self.is_complete:  # a kill may have come before `finish` had deleted it
                self._clear_scratch()
            yield

    def _refuse_overlaps(self) -> None:
        """Raise InputError when writing would touch the corpus, or one file of it would be written over another."""
        out = without_links(self.folder)
        if any(_is_local(file) and without_links(Path(file.url)).is_relative_to(out) for file in self.corpus.files):
            raise InputError(f"{self.folder} holds the corpus itself; choose another --out.")
        if any(Path(given).is_dir() and out.is_relative_to(without_links(Path(given))) for given in self.corpus.given):
            raise InputError(f"{self.folder} lies in the corpus itself; choose another --out.")
        written: dict[PurePosixPath, InputFile] = {}
        for file in self.corpus.files:
            other = written.setdefault(_output_name(file), file)
            if other is not file:
                raise InputError(
                    f"{other.name} and {file.name} would both be written as {_output_name(file)}; "
                    "rename one, or work on them apart."
                )

    @property
    def is_complete(self) -> bool:
        """Whether everything was done before."""
        return self._has.is_complete

    @property
    def _has(self) -> OutputFolder:
        assert self._taken is not None, "only inside work()"
        return self._taken

    @property
    def scratch(self) -> Path:
        """A folder for what is needed until the command is done; deleted by `finish`."""
        return self.folder / ".scratch"

    def todo(self) -> list[int]:
        """Numbers of the corpus's files that are not written yet."""
        return [i for i in range(len(self.corpus.files)) if not self._part(i).exists()]

    def write(self, number: int, decided: Iterator[tuple[Batch, pa.Array, pa.Array]]) -> Counts:
        """Write one file of the corpus: its batches with all columns, each with a reason per row (null keeps it) and
        a detail per row. A row that cannot be used goes for that reason. The file counts as done when this returns."""
        file = self.corpus.files[number]
        counts = Counts()
        with (
            _Writer(self.folder / "kept", file, False) as kept,
            _Writer(self.folder / "dropped", file, True) as dropped,
        ):
            for batch, why, how in decided:
                reasons, details = _with_faults(batch, why, how)
                stays = reasons.is_null()
                counts.rows += batch.rows.num_rows
                counts.kept += pc.sum(stays).as_py() or 0
                if not self._only_report:
                    kept.add(batch, stays)
                goes = pc.invert(stays)
                if pc.any(goes).as_py():
                    dropped.add(batch, goes, reasons, details)
                    counts.reasons.update(reasons.drop_null().to_pylist())
        write_json(self._part(number), counts.as_json())
        return counts

    def finish(self, more: Mapping[str, Any] | None = None) -> Counts:
        """Write the counts, and `more` figures, into stage.json; returns the counts of all files."""
        counts = sum((Counts.from_json(read_json(self._part(i))) for i in range(len(self.corpus.files))), Counts())
        if counts.rows != counts.kept + counts.reasons.total():
            raise StopError(f"The counts in {self.folder} do not add up; please report this with its stage.json.")
        self._has.finish({**(more or {}), "counts": counts.as_json()})
        self._clear_scratch()
        return counts

    def _clear_scratch(self) -> None:
        if self.scratch.exists():
            rmtree(self.scratch)

    def _part(self, number: int) -> Path:
        return self.folder / "parts" / f"{number:05}.json"


def reasons_of(rows: int, found: Mapping[int, tuple[str, str]]) -> tuple[pa.Array, pa.Array]:
    """Reason and detail of each of so many rows, null for rows that are not in `found`."""
    reasons: list[str | None] = [None] * rows
    details: list[str | None] = [None] * rows
    for row, (reason, detail) in found.items():
        reasons[row], details[row] = reason, detail
    return pa.array(reasons, pa.string()), pa.array(details, pa.string())


def _with_faults(batch: Batch, reasons: pa.Array, details: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The reasons and details, with those of rows that cannot be used in their place."""
    if not batch.faults:
        return reasons, details
    faults = {row: (fault.kind, fault.what) for row, fault in batch.faults.items()}
    faulty, why = reasons_of(len(reasons), faults)
    return pc.coalesce(faulty, reasons), pc.if_else(faulty.is_valid(), why, details)


class _Writer:
    """Rows of one file of the corpus, in its format, under its name; no row, no file."""

    def __init__(self, folder: Path, file: InputFile, explains: bool) -> None:
        self._file = file
        self._explains = explains
        self._path = folder / _output_name(file)
        self._beside = self._path.with_name(f".{self._path.name}.writing")
        self._stream: Any = None
        self._parquet: pq.ParquetWriter | None = None
        self._held: list[pa.RecordBatch] = []

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None:
                self._flush()
            if self._stream is None:
                if error is None:
                    self._path.unlink(missing_ok=True)
                return
            if self._parquet is not None:
                self._parquet.close()
            self._stream.close()
            if error is None:
                committed(self._beside, self._path)
        except OSError as failed:
            raise StopError(
                f"Cannot write {self._path}: {failed.strerror}. Make room or rights, then run again."
            ) from failed
        finally:
            self._beside.unlink(missing_ok=True)

    def add(
        self, batch: Batch, chosen: pa.Array, reasons: pa.Array | None = None, details: pa.Array | None = None
    ) -> None:
        """Append the chosen rows of a batch."""
        try:
            if is_parquet(self._file):
                self._add_rows(batch.rows, chosen, reasons, details)
            else:
                self._add_lines(batch, chosen, reasons, details)
        except OSError as error:
            raise StopError(
                f"Cannot write {self._path}: {error.strerror}. Make room or rights, then run again."
            ) from error

    def _add_rows(
        self, rows: pa.RecordBatch, chosen: pa.Array, reasons: pa.Array | None, details: pa.Array | None
    ) -> None:
        if self._explains:
            for name, values in zip(WHY, (reasons, details), strict=True):
                if name in rows.schema.names:
                    rows = rows.set_column(rows.schema.get_field_index(name), name, values)
                else:
                    rows = rows.append_column(name, values)
        taken = rows if pc.all(chosen).as_py() else rows.filter(chosen)
        if taken.num_rows:
            self._held.append(taken)
        if sum(batch.nbytes for batch in self._held) >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        table = pa.Table.from_batches(self._held)
        self._held = []
        stream = self._open()
        if self._parquet is None:
            self._parquet = pq.ParquetWriter(stream, table.schema, compression="zstd")
        self._parquet.write_table(table, row_group_size=table.num_rows)

    def _add_lines(self, batch: Batch, chosen: pa.Array, reasons: pa.Array | None, details: pa.Array | None) -> None:
        assert batch.lines is not None
        for row in pc.indices_nonzero(chosen).to_pylist():
            line = batch.lines[row].strip()
            if self._explains and reasons is not None and details is not None:
                line = _explained(line, reasons[row].as_py(), details[row].as_py())
            self._open().write(line + b"\n")

    def _open(self) -> Any:
        if self._stream is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            raw = self._beside.open("wb")
            packed = self._path.name.endswith(".zst")
            self._stream = zstandard.ZstdCompressor().stream_writer(raw) if packed else io.BufferedWriter(raw)
        return self._stream


def _output_name(file: InputFile) -> PurePosixPath:
    """The file's own name; packed JSON Lines are packed again, always as .zst."""
    if is_parquet(file):
        return PurePosixPath(file.name)
    ending = next(ending for ending in sorted(JSONL_ENDINGS, key=len, reverse=True) if file.name.endswith(ending))
    packed = ".zst" if ending.endswith((".gz", ".zst")) else ""
    return PurePosixPath(f"{file.name.removesuffix(ending)}.jsonl{packed}")


def _explained(line: bytes, reason: str, detail: str | None) -> bytes:
    row = parsed(line)
    if isinstance(row, Fault):
        row = {"line": line.decode("utf-8", "replace")}
    return orjson.dumps({**row, "reason": reason, "detail": detail})


def _is_local(file: InputFile) -> bool:
    protocol: str | Sequence[str] = file.fs.protocol
    return "file" in ([protocol] if isinstance(protocol, str) else protocol)
