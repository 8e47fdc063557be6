"""The plan of the packages, kept: every arrow runs one way, and looking at the help costs no heavy import."""

import ast
import subprocess
import sys
from pathlib import Path

import mga
from mga.data.output_folder import KINDS

SOURCE = Path(next(iter(mga.__path__)))
ORDER = [
    "terminal",
    "errors",
    "interrupts",
    "packages",
    "events",
    "records",
    "stats",
    "scores",
    "engine_uri",
    "wheel",
    "text",
    "prompts",
    "config",
    "data",
    "checks",
    "engines",
    "embedders",
]
ORDER += [
    "expand",
    "runs",
    "planning",
    "curation",
    "mixture",
    "packing",
    "pretrain",
    "scoring",
    "collapse",
    "evaluation",
]
ORDER += ["study", "toolmodel", "prompt_comparison", "report", "api", "cli", "__main__"]
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"numba", "numpy", "xllamacpp", "aiohttp", "pyarrow", "rich", "torch", "zstandard", "fsspec", "asyncio"}


def module(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def package(name: str) -> str:
    return name.split(".")[1]


def imports(file: Path) -> set[str]:
    """What of mga a file imports anywhere in it, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("mga.")}


GRAPH = {module(file): imports(file) for file in FILES if file.name != "__init__.py"}


def test_every_package_has_its_place() -> None:
    assert {package(name) for name in GRAPH} == set(ORDER)


def test_a_package_imports_only_from_packages_before_it() -> None:
    backwards = [
        f"{name} imports {imported}"
        for name, imported_names in GRAPH.items()
        for imported in sorted(imported_names)
        if ORDER.index(package(imported)) > ORDER.index(package(name))
    ]
    assert backwards == []


def test_one_module_takes_output_folders_and_writes_their_records() -> None:
    """Runs have workers on many machines instead of a lock: `runs` takes and records its folders itself. The other
    locks are of caches that processes share."""
    caches = {"mga.embedders.packaged", "mga.engines.llamacpp.embedded_model", "mga.engines.llamacpp.settings"}
    locking = {module(file) for file in FILES if "filelock" in file.read_text(encoding="utf-8")}
    assert locking == {"mga.data.output_folder", "mga.runs.claims"} | caches
    comparing = {name for name, imported in GRAPH.items() if "mga.config.differences" in imported}
    assert comparing == {"mga.data.output_folder", "mga.runs.run"}
    records = {kind.record for kind in KINDS} - {"run.json"}
    assert len(records) > 10
    written = {f"{module(file)} writes {record}" for file in FILES for record in records & written_by(file)}
    assert written == {"mga.study.carry writes evaluation.json"}  # of a study that asks no benchmark: no results


def written_by(file: Path) -> set[str]:
    """The names of files that a module hands to a function that writes JSON, as far as they stand in the call."""
    calls = (node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    writing = [call for call in calls if getattr(call.func, "id", "") in ("write_json", "write_atomically")]
    return {str(part.value) for call in writing for part in ast.walk(call) if isinstance(part, ast.Constant)}


def test_files_import_each_other_in_no_circle() -> None:
    edges = {
        name: {other for other in GRAPH if any(f"{i}.".startswith(f"{other}.") for i in GRAPH[name])} for name in GRAPH
    }
    while leaves := {name for name, needed in edges.items() if not needed}:
        edges = {name: needed - leaves for name, needed in edges.items() if name not in leaves}
    assert edges == {}


def test_engines_know_nothing_of_documents() -> None:
    seen = {i for name, imported in GRAPH.items() if package(name) == "engines" for i in imported}
    assert seen
    forbidden = (
        "mga.data.documents",
        "mga.data.reading",
        "mga.data.outcomes",
        "mga.text.chunks",
        "mga.data.store",
        "mga.records.Document",
        "mga.records.Outcome",
    )
    assert [name for name in sorted(seen) if name.startswith(forbidden)] == []


def test_init_files_stay_empty() -> None:
    inits = [file for file in FILES if file.name == "__init__.py"]
    assert {file.parent for file in inits} == {file.parent for file in FILES}
    assert [str(file) for file in inits if file.read_bytes().strip()] == []


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, mga.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "mga.cli.main" in loaded
    assert sorted(HEAVY & loaded) == []
