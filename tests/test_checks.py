"""What every command says of an input that cannot be used, before it does anything else: a table of all commands."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mga.checks import check_columns
from mga.cli.group import Command
from mga.cli.main import app
from mga.data.documents import find_files
from mga.data.output_folder import LOSSES, PACK, open_output
from mga.errors import InputError


@dataclass(frozen=True)
class Reads:
    """A way of giving a command its input. IN in the arguments is the input, OUT a folder to write, LOSSES one of token
    losses; TOML a recipe whose source it is. `text`, `ids`, `by` are the options that name columns; of a folder that
    must be of one kind, `kind` says which, and the others are not asked."""

    arguments: str
    text: str | None = "--text-key"
    ids: str | None = "--id-key"
    by: str | None = None
    kind: str | None = None
    torch: bool = False


ENGINE = "--engine scripted:"
TOKENIZER = "--tokenizer smollm2-135m"
READS = {
    "expand": [Reads(f"IN --out OUT {ENGINE}"), Reads(f"IN --dry-run {ENGINE}")],
    "worker": [],
    "status": [Reads("IN", kind="run")],
    "top": [Reads("IN --once", kind="run")],
    "show": [Reads("IN", kind="run")],
    "report": [Reads("IN --out OUT", kind="run")],
    "export": [Reads("IN OUT", kind="run")],
    "compare-prompts": [Reads(f"IN --out OUT {ENGINE}")],
    "plan": [
        Reads("IN --gpus 8 --tokens-per-second 100", ids=None),
        Reads("--measured IN --gpus 8 --tokens 1B --documents 1M", kind="run"),
    ],
    "tune-engine": [],
    "clean": [Reads("IN --out OUT", kind="run")],
    "boilerplate": [
        Reads("IN --out OUT", ids=None),
        Reads("GOOD --originals IN --out OUT", text="--original-key", ids=None),
    ],
    "dedup": [Reads("IN --out OUT"), Reads("GOOD --against IN --out OUT", text=None, ids=None)],
    "decontaminate": [Reads("IN --against GOOD --out OUT")],
    "diversity": [Reads("IN", ids=None, by="--by")],
    "pretrain": [],
    "evaluate": [Reads("nowhere --own IN --out OUT", torch=True)],
    "study": [],
    "losses": [Reads("nowhere IN --out OUT", by="--by", torch=True)],
    "sample": [Reads("nowhere IN --out OUT", torch=True)],
    "collapse": [
        Reads("IN LOSSES", kind="losses of tokens"),
        Reads("LOSSES IN", kind="losses of tokens"),
        Reads("LOSSES LOSSES --history IN", kind="losses of tokens"),
        Reads("LOSSES LOSSES --docs IN"),
        Reads("LOSSES LOSSES --docs real=IN"),
        Reads("LOSSES LOSSES --real-samples IN --synt-samples IN", kind="samples of a model"),
    ],
    "collapse-generations": [Reads("IN --out OUT", by="--by", torch=True)],
    "budget plan": [],
    "budget count": [Reads(f"IN {TOKENIZER}", ids=None)],
    "budget pack": [Reads(f"TOML --out OUT {TOKENIZER}", text="text_key", ids="id_key", by="source_key")],
    "budget trace": [],
    "tool examples": [Reads("IN --out OUT", kind="run")],
    "tool train": [Reads("IN --out OUT", kind="training examples", torch=True)],
    "tool compare": [Reads("IN --student scripted: --judge-engine scripted: --teacher scripted: --out OUT")],
    "tool rounds": [
        Reads("IN --teacher scripted: --judge-engine scripted: --out OUT", text=None, ids=None, torch=True)
    ],
    "tool quantize": [
        Reads("nowhere --scheme q8_0 --calibration IN --out OUT", ids=None, torch=True),
    ],
}
"""Of the others: a worker reads settings that `mga expand` left (tests/test_slurm.py); `tune-engine` and `budget plan`
read no documents; `pretrain`, `study` and `budget trace` check what they are given in tests of their own."""


def names(command: Any, *before: str) -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(" ".join(before), command)]
    return [one for name, sub in inner.items() for one in names(sub, *before, name)]


def test_the_table_has_all_commands_and_all_look_at_their_arguments() -> None:
    commands = dict(names(get_command(app)))
    assert set(READS) == set(commands)
    assert [name for name, command in commands.items() if not isinstance(command, Command)] == []


CASES = [
    pytest.param(name, reads, id=f"{name}: {reads.arguments}", marks=[pytest.mark.torch] if reads.torch else [])
    for name, ways in READS.items()
    for reads in ways
]
DOCUMENTS = [case for case in CASES if not case.values[1].kind]  # type: ignore[union-attr]
FOLDERS = [case for case in CASES if case.values[1].kind]  # type: ignore[union-attr]


class Play:
    """A folder to try commands in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.good = folder / "good.jsonl"
        self.good.write_text('{"id": "a", "text": "one two three", "genre": "x"}\n')
        self.losses = folder / "losses"
        with open_output(self.losses, LOSSES, {}):
            pass
        self.packed = folder / "packed"
        with open_output(self.packed, PACK, {}):
            (self.packed / "documents.jsonl").write_text('{"text": "no corpus"}\n')

    def said(self, name: str, reads: Reads, given: str, columns: dict[str | None, str]) -> str:
        """What a command says of an input; it must be one line, and the command must have written nothing."""
        before = self.held()
        toml = self.folder / "recipe.toml"
        keys = "".join(f'{option} = "{column}"\n' for option, column in columns.items())
        toml.write_text(f'budget = "1K"\nstrategy = "repeat"\n[[source]]\nname = "s"\npaths = ["{given}"]\n{keys}')
        values = {"IN": given, "OUT": str(self.folder / "out"), "GOOD": str(self.good), "LOSSES": str(self.losses)}
        values |= {"TOML": str(toml), "real=IN": f"real={given}"}
        arguments = [values.get(part, part) for part in reads.arguments.split()]
        if "TOML" not in reads.arguments:
            arguments += [part for option, column in columns.items() for part in (str(option), column)]
        done = CliRunner().invoke(app, [*name.split(), *arguments])
        assert isinstance(done.exception, InputError), (done.output, done.exception)
        assert self.held() == before
        said = str(done.exception)
        assert "\n" not in said
        return said

    def held(self) -> list[str]:
        return sorted(str(path) for path in self.folder.rglob("*") if path.name != "recipe.toml")


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@pytest.mark.parametrize(("name", "reads"), DOCUMENTS)
def test_columns_are_checked(play: Play, name: str, reads: Reads) -> None:
    if reads.torch:
        pytest.importorskip("torch")
    numbers = play.folder / "numbers.jsonl"
    numbers.write_text('{"id": ["a"], "text": 3, "body": "words"}\n')
    lists = play.folder / "lists.parquet"
    pq.write_table(pa.table({"id": ["a"], "key": [["a"]], "text": ["words"]}), lists)
    good = str(play.good)
    if reads.text:
        said = play.said(name, reads, good, {reads.text: "txt"})
        instead = f"did you mean 'text'? It has: id, text, genre. Choose with {reads.text}."
        assert f"good.jsonl has no column 'txt'; {instead}" in said
        said = play.said(name, reads, good, {reads.text: "nothing.like.it"})
        assert f"has no column 'nothing.like.it'; it has: id, text, genre. Choose with {reads.text}." in said
    said = play.said(name, reads, str(numbers), {})
    assert "Column 'text' of numbers.jsonl holds numbers, not text; choose with" in said
    assert said.endswith(": body.")
    if reads.ids:
        said = play.said(name, reads, good, {reads.ids: "ids"})
        assert f"has no column 'ids'; did you mean 'id'? It has: id, text, genre. Choose with {reads.ids}." in said
        said = play.said(name, reads, str(lists), {reads.ids: "key"})
        assert "Column 'key' of lists.parquet holds lists, which are no ids" in said
    if reads.by:
        said = play.said(name, reads, good, {reads.by: "genres"})
        assert f"has no column 'genres'; did you mean 'genre'? It has: id, text, genre. Choose with {reads.by}." in said


@pytest.mark.parametrize(("name", "reads"), DOCUMENTS)
def test_what_holds_no_documents_is_said(play: Play, name: str, reads: Reads) -> None:
    if reads.torch:
        pytest.importorskip("torch")
    (play.folder / "folder").mkdir()
    (play.folder / "empty.jsonl").touch()
    (play.folder / "blank.jsonl").write_text("\n \n")
    pq.write_table(
        pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), play.folder / "no.parquet"
    )
    for given, expected in {
        "nowhere": "There is no file, folder or match for",
        "folder": "holds no Parquet or JSONL file",
        "packed": "holds packed data (mga budget pack), and no documents",
        "empty.jsonl": "empty.jsonl has no rows",
        "blank.jsonl": "blank.jsonl has no rows",
        "no.parquet": "no.parquet has no rows",
    }.items():
        assert expected in play.said(name, reads, str(play.folder / given), {}), given


@pytest.mark.parametrize(("name", "reads"), FOLDERS)
def test_folders_of_another_kind_are_said(play: Play, name: str, reads: Reads) -> None:
    if reads.torch:
        pytest.importorskip("torch")
    (play.folder / "folder").mkdir()
    assert reads.kind is not None
    for given, expected in {
        "nowhere": "there is no such folder",
        "folder": f"holds no {reads.kind} (there is no",
        "packed": f"holds no {reads.kind} (there is no",
        "good.jsonl": "good.jsonl is a file; name the folder",
    }.items():
        said = play.said(name, reads, str(play.folder / given), {})
        assert expected in said, given
        assert ("but packed data (mga budget pack)" in said) == (given == "packed")


@pytest.mark.parametrize(("name", "reads"), CASES)
def test_nothing_hangs_on_a_pipe_and_nothing_takes_an_empty_name_for_this_folder(
    play: Play, name: str, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reads.torch:
        pytest.importorskip("torch")
    os.mkfifo(play.folder / "pipe.jsonl")
    assert "is a pipe, socket or device" in play.said(name, reads, str(play.folder / "pipe.jsonl"), {})
    monkeypatch.chdir(play.folder)
    if "real=IN" not in reads.arguments:
        assert "mpty" in play.said(name, reads, "", {})
    if "--out OUT" in reads.arguments:
        out = Reads(reads.arguments.replace("IN", "GOOD").replace("OUT", "IN"))
        assert "--out is empty" in play.said(name, out, "", {})
        assert "is a pipe, socket or device" in play.said(name, out, str(play.folder / "pipe.jsonl"), {})


def test_pipes_sockets_and_devices_among_the_files_of_an_input_are_refused(tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text('{"text": "a"}\n')
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s.jsonl"))
        for given in (tmp_path, tmp_path / "*.jsonl", tmp_path / "s.jsonl"):
            with pytest.raises(InputError, match=r"s\.jsonl is a pipe, socket or device; write what it holds"):
                find_files([str(given)])


def test_a_pipe_beside_the_data_of_a_folder_is_not_opened(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    os.mkfifo(tmp_path / "about.json")
    with pytest.raises(InputError, match=r"about\.json is a pipe"):
        find_files([str(tmp_path)])


def test_a_run_stands_for_its_kept_texts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "d.jsonl").write_text('{"text": "' + "The mill stood by the river in 1862. " * 20 + '"}\n')
    done = CliRunner().invoke(
        app, ["expand", str(tmp_path / "d.jsonl"), "--engine", "scripted:", "--out", str(out), "--quiet"]
    )
    assert done.exit_code == 0, done.exception
    assert {Path(file.url).parent.name for file in find_files([str(out)])} == {"kept"}


class TestColumns:
    """Rows and files beside each other."""

    def files(self, folder: Path, **texts: str) -> list[Any]:
        for name, text in texts.items():
            (folder / f"{name}.jsonl").write_text(text)
        return find_files([str(folder / "*.jsonl")])

    def test_a_column_of_later_rows_and_files_counts(self, tmp_path: Path) -> None:
        check_columns(
            self.files(tmp_path, a='{"id": 1}\n', b='{"x": 1}\n{"body": null}\n{"body": 3}\n{"body": "t"}\n'), "body"
        )

    def test_a_hundred_files_are_one_line(self, tmp_path: Path) -> None:
        files = self.files(tmp_path, **{f"f{i:03}": '{"id": 1, "body": "t"}\n' for i in range(100)})
        with pytest.raises(InputError) as error:
            check_columns(files)
        assert str(error.value) == (
            "f000.jsonl and 99 more have no column 'text'; they have: id, body. Choose with --text-key."
        )

    def test_one_parquet_file_without_the_column_is_named(self, tmp_path: Path) -> None:
        for i in range(3):
            pq.write_table(pa.table({"text" if i != 1 else "body": ["t"]}), tmp_path / f"{i}.parquet")
        files = find_files([str(tmp_path / "*")])
        with pytest.raises(InputError, match=r"1 of 3 files have no column 'text', which others have: 1\.parquet"):
            check_columns(files)
        check_columns(files, each=False)

    def test_files_of_which_no_row_can_be_read_are_said_or_left_to_be_counted(self, tmp_path: Path) -> None:
        files = self.files(tmp_path, a="not json\n[1]\n")
        with pytest.raises(InputError, match=r"No row of a\.jsonl can be read as a JSON object"):
            check_columns(files)
        check_columns(files, each=False)

    def test_nested_columns_are_found_and_listed(self, tmp_path: Path) -> None:
        files = self.files(tmp_path, a='{"meta": {"docid": "1"}, "content": {"text": "t"}}\n')
        check_columns(files, "content.text", "meta.docid")
        with pytest.raises(InputError, match=r"did you mean 'meta.docid'\? It has: meta, meta\.docid"):
            check_columns(files, "content.text", "meta.docids")
