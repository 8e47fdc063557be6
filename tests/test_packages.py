"""What an install without optional packages does, what it says, and that the extras bring what is asked for."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import mga
from mga import packages
from mga.cli.main import app
from mga.data.documents import find_files
from mga.data.store import place
from mga.errors import InputError
from mga.packages import require

SOURCE = Path(next(iter(mga.__path__)))
PROJECT: dict[str, Any] = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OTHERWISE = {"python-json-logger": "pythonjsonlogger", "scikit-learn": "sklearn", "universal-pathlib": "upath"}
"""Distributions whose module has another name."""
BROUGHT = {
    "gguf": {"numpy"},
    "lm_eval": {"datasets"},
    "transformers": {"numpy", "tokenizers"},
    "scikit-learn": {"threadpoolctl"},
}
"""Modules that come with a distribution because it cannot do without them."""
CORE_COMMANDS = {
    "expand",
    "worker",
    "status",
    "top",
    "show",
    "report",
    "export",
    "plan",
    "tune-engine",
    "clean",
    "budget plan",
    "tool compare",
}


def modules_of(requirements: list[str]) -> set[str]:
    """Top-level modules that these requirements bring; mga's own extras are followed."""
    found: set[str] = set()
    for one in requirements:
        if own := re.match(r"mga\[(.+)\]", one):
            found |= modules_of([r for extra in own[1].split(",") for r in EXTRAS[extra]])
            continue
        name = re.split(r"[^\w.-]", one)[0].lower()
        found |= {OTHERWISE.get(name, name.replace("-", "_"))} | BROUGHT.get(name, set())
    return found


CORE = modules_of(PROJECT["dependencies"])
OPTIONAL = modules_of([r for requirements in EXTRAS.values() for r in requirements]) - CORE


def commands(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, *before, name)
        else:
            yield " ".join((*before, name)), one


COMMANDS = dict(commands(get_command(app)))


def least(command: Any) -> list[str]:
    """Arguments that the command line accepts; there is no file of that name."""
    given: list[str] = []
    for parameter in command.params:
        if parameter.required:
            given += ["1"] if parameter.param_type_name == "argument" else [parameter.opts[0], "1"]
    return given


RUN = """
import contextlib, io, json, sys
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None
from mga.cli.main import main
for words in json.loads(sys.argv[2]):
    sys.argv = ["mga", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            code, _ = repr(error), err.write(repr(error))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


def without(modules: set[str], lines: list[list[str]], folder: Path) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of command lines, in a process that cannot import these modules."""
    words = [sys.executable, "-c", RUN, json.dumps(sorted(modules)), json.dumps(lines)]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder, env=environment, timeout=100)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_every_command_of_a_core_install_works_or_names_its_extra_before_anything_else(tmp_path: Path) -> None:
    answers = without(OPTIONAL, [[*name.split(), *least(one)] for name, one in COMMANDS.items()], tmp_path)
    working = set()
    for name, (code, out, err) in zip(COMMANDS, answers, strict=True):
        assert code == 2, (name, code, err)
        assert out == "", name
        asked = re.fullmatch(rf"mga: mga {name} needs [a-z_, ]+: pip install 'mga\[[a-z,]+\]'\.\n", err)
        if not asked:
            working.add(name)
            assert re.fullmatch(r"mga: [^\n]+\n", err), (name, err)
    assert working == CORE_COMMANDS
    assert [path.name for path in tmp_path.iterdir() if path.name != "1"] == []


def test_a_core_install_carries_a_run_and_shows_it(tmp_path: Path) -> None:
    rows = [
        {"id": f"d{i}", "text": f"Grafting number {i}. " + "The orchard was planted in 1862. " * 20} for i in range(3)
    ]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [
        "expand documents.jsonl --engine scripted: --pairs 2 --out run --quiet",
        "status run",
        "top run --once",
        "show run",
        "report run",
        "export run exported --schema mgacorpus",
        "clean run --out cleaned --min-words 1",
        "plan documents.jsonl --gpus 2 --tokens-per-second 1000",
        "budget plan paper-subset",
    ]
    for line, (code, out, err) in zip(
        lines, without(OPTIONAL, [line.split() for line in lines], tmp_path), strict=True
    ):
        assert (code, bool(out)) == (0, True), (line, err)
    assert {"run", "exported", "cleaned"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "run" / "report.html").is_file()


def test_help_needs_no_optional_package_fits_80_columns_and_is_not_cut(tmp_path: Path) -> None:
    lines = [["--help"], ["budget", "--help"], ["tool", "--help"], *([*name.split(), "--help"] for name in COMMANDS)]
    for words, (code, out, err) in zip(lines, without(OPTIONAL, lines, tmp_path), strict=True):
        assert (code, err) == (0, ""), words
        assert max(map(len, out.splitlines())) <= 80, words
        assert [line for line in out.splitlines()[1:] if re.search(r"[a-z,]\.\.\.$", line)] == [], words
        assert "\x1b" not in out, words


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def run_at_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The statements of a module that run when it is imported."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
            for inner in ("body", "handlers", "orelse"):
                yield from run_at_import(getattr(node, inner, []))


TREES = {
    ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        file.read_text(encoding="utf-8")
    )
    for file in SOURCE.rglob("*.py")
}


def third_parties(names: set[str]) -> set[str]:
    """The optional modules that are imported when these names are, through all modules of mga."""
    seen: set[str] = set()
    found: set[str] = set()
    while names:
        name = names.pop()
        module = name if name in TREES else name.rpartition(".")[0]
        if module in TREES and module not in seen:
            seen.add(module)
            names |= imported(run_at_import(TREES[module].body))
        elif not name.startswith("mga."):
            found.add(name.partition(".")[0])
    return found - set(sys.stdlib_module_names) - CORE


def requirements(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """Extras and modules of each `require(…)` in a piece of source; `*NEEDED` is not followed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
            _, extra, *modules = node.args
            if isinstance(extra, ast.Constant):
                yield str(extra.value), {str(m.value) for m in modules if isinstance(m, ast.Constant)}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_asks_for_all_that_its_modules_import(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not asked for and imported when the work begins would end in a traceback where it is missing."""
    function = COMMANDS[name].callback.__wrapped__ if hasattr(COMMANDS[name].callback, "__wrapped__") else None
    function = function or COMMANDS[name].callback
    module = TREES[function.__module__]
    body = next(n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == function.__name__)
    asked: set[str] = set()

    class AskedError(Exception):
        pass

    def note(what: str, extra: str, *modules: str) -> None:
        asked.update(modules)
        raise AskedError

    monkeypatch.setattr(sys.modules[function.__module__], "require", note, raising=False)
    if any(True for _ in requirements(body)):
        given = {p.name: p.default for p in COMMANDS[name].params}
        with pytest.raises(AskedError):
            function(**given)
    else:
        assert name in CORE_COMMANDS
    assert third_parties(imported(ast.walk(body))) - asked == set()


def test_the_extra_that_is_named_brings_the_packages_that_are_asked_for() -> None:
    asked = [(name, *one) for name, tree in TREES.items() for one in requirements(tree)]
    assert len(asked) > 20
    for name, extra, modules in asked:
        brought = modules_of([f"mga[{extra}]"])
        assert modules <= brought, name
    for extra, module in packages.STORES.values():
        assert module in modules_of([f"mga[{extra}]"])


def test_all_that_is_missing_is_named_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_a").mkdir()  # a folder of data, no package
    monkeypatch.syspath_prepend(tmp_path)
    require("mga x", "corpus", "json", "pyarrow")
    with pytest.raises(InputError, match=r"^mga x needs no_a, no_b and no_c: pip install 'mga\[lab,corpus\]'\.$"):
        require("mga x", "lab,corpus", "json", "no_a", "no_b", "no_c")


@pytest.mark.parametrize(
    ("url", "extra", "module"),
    [
        ("s3://b/k", "s3", "s3fs"),
        ("gs://b/k", "gcs", "gcsfs"),
        ("az://b/k", "azure", "adlfs"),
        ("abfs://b@c/k", "azure", "adlfs"),
        ("hf://datasets/o/n", "hub", "huggingface_hub"),
        ("simplecache::s3://b/k", "s3", "s3fs"),
    ],
)
def test_a_store_whose_package_is_missing_names_the_extra(
    url: str, extra: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    said = rf"needs {module}: pip install 'mga\[{extra}\]'\.$"
    with pytest.raises(InputError, match=said):
        find_files([url])
    with pytest.raises(InputError, match=said):
        place(url)


def test_a_package_that_cannot_be_imported_is_a_sentence(tmp_path: Path) -> None:
    """As numba says where numpy is too new for it."""
    for name, code in (("numba", ""), ("numpy", "raise ImportError('Numba needs NumPy 2.4 or less.')")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(SOURCE.parent)])}
    words = [sys.executable, "-m", "mga", "dedup", "corpus.parquet", "--out", "out"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"mga: [^\n]*\(Numba needs NumPy 2\.4 or less\.\)[^\n]*pip install[^\n]*\n", done.stderr)


def front_door(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "PYTHONPATH": str(SOURCE.parent), "HOME": str(tmp_path), **environment}
    words = (sys.executable, "-m", "mga", *words)
    return subprocess.run(words, capture_output=True, text=True, env=settings, cwd=tmp_path, timeout=60)


def test_the_version_is_the_distribution_s(tmp_path: Path) -> None:
    done = front_door(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mga {version('mga')}\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["expnad"], "Did you mean 'expand'?"),
        (["tool", "exmples"], "Did you mean 'examples'?"),
        (["dedup", "--treshold", "1"], "--threshold"),
        (["dedup"], "Missing argument 'CORPUS...'"),
        (["plan", "--gpus", "many"], "Invalid value for '--gpus'"),
        (["plan", "--gpus", "0"], "Invalid value for '--gpus'"),
    ],
)
def test_a_wrong_command_line_is_told_in_plain_words(words: list[str], said: str, tmp_path: Path) -> None:
    done = front_door(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.isascii()
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        ("bash", {"COMP_WORDS": "mga dedup --thr", "COMP_CWORD": "2"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "mga dedup --thr"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "mga dedup --thr", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_the_shell_completes_options(shell: str, asked: dict[str, str], tmp_path: Path) -> None:
    done = front_door(tmp_path, _MGA_COMPLETE=f"complete_{shell}", **asked)
    assert "--threshold" in done.stdout
    assert "--shingle" not in done.stdout


def test_completion_is_installed_for_the_command(tmp_path: Path) -> None:
    unasked = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = front_door(tmp_path, "--show-completion", "bash", **unasked)
    assert "_MGA_COMPLETE=complete_bash" in shown.stdout
    assert front_door(tmp_path, "--install-completion", "bash", **unasked).returncode == 0
    assert "mga" in (tmp_path / ".bashrc").read_text()
