"""`kill -9` of commands on whole corpora: each is killed at moments spread over its work, given again, and compared
byte for byte with one that nobody disturbed.

    python tests/chaos/commands.py --moments 10 --commands decontaminate pack examples report losses

`losses` needs torch. Of the files only times may differ: keys that hold them are left out (`TIMES`).
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

TIMES = ("created", "seconds", "tokens_per_second")
MGA = [sys.executable, "-m", "mga"]
RECIPE = """
strategy = "repeat"
[[source]]
name = "originals"
paths = "{corpus}"
[pack]
sequence = 512
shard_tokens = 50_000
held_out = {{ share = 0.1 }}
"""


def decontaminate(room: Path) -> list[str]:
    """Many files, so that some are done when the kill comes."""
    return ["decontaminate", str(room / "corpus"), "--against", str(room / "benchmark.jsonl"), "--workers", "2"]


def pack(room: Path) -> list[str]:
    """Tokenizing, drawing, packing."""
    recipe = room / "recipe.toml"
    recipe.write_text(RECIPE.format(corpus=room / "corpus"))
    given = ["--tokenizer", str(tokenizer(room)), "--separator", "</s>", "--workers", "2"]
    return ["budget", "pack", str(recipe), *given, "--budget", "400k"]


def examples(room: Path) -> list[str]:
    """Of a finished run."""
    return ["tool", "examples", str(run(room)), "--tokenizer", str(tokenizer(room))]


def report(room: Path) -> list[str]:
    """The page of a finished run."""
    return ["report", str(run(room))]


def losses(room: Path) -> list[str]:
    """Of a tiny model."""
    from model_folders import make_tiny

    model = room / "model"
    if not model.exists():
        make_tiny(model, "LlamaConfig")
    return ["losses", str(model), str(room / "corpus" / "00.jsonl"), "--limit", "1500"]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "decontaminate": decontaminate,
    "pack": pack,
    "examples": examples,
    "report": report,
    "losses": losses,
}


def corpus(room: Path) -> None:
    """Texts of random words in many files, and a benchmark of which some texts hold an item."""
    rng = random.Random(4)
    words = ["".join(rng.choices("abcdefghijklmnoprstu", k=rng.randint(3, 9))) for _ in range(3_000)]
    items = [" ".join(rng.choices(words, k=20)) for _ in range(40)]
    (room / "corpus").mkdir()
    for number in range(40):
        lines = []
        for i in range(500):
            text = " ".join(rng.choices(words, k=80)) + (f" {rng.choice(items)}" if rng.random() < 0.05 else "") + "."
            lines.append(json.dumps({"id": f"{number}-{i}", "text": text}) + "\n")
        (room / "corpus" / f"{number:02}.jsonl").write_text("".join(lines))
    (room / "benchmark.jsonl").write_text("".join(json.dumps({"question": item}) + "\n" for item in items))


def tokenizer(room: Path) -> Path:
    """Words and letters, trained on the corpus."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    path = room / "tokenizer.json"
    if not path.exists():
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=1_000, special_tokens=["</s>"], initial_alphabet=alphabet)
        made.train_from_iterator([(room / "corpus" / "00.jsonl").read_text()], trainer)
        made.save(str(path))
    return path


def run(room: Path) -> Path:
    """A finished run, made by a script."""
    out = room / "run"
    if not out.exists():
        given = ["expand", str(room / "corpus" / "00.jsonl"), "--engine", "scripted:?flaws=0.2", "--out", str(out)]
        done(given)
    return out


def done(arguments: list[str]) -> float:
    """A command to its end; the seconds it took."""
    began = time.monotonic()
    ended = subprocess.run([*MGA, *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {ended.returncode}\n{ended.stderr}")
    return time.monotonic() - began


def content(out: Path) -> dict[str, Any]:
    """Every file by its name, times left out; locks are no content."""
    files = sorted(path for path in out.rglob("*") if path.is_file()) if out.is_dir() else [out]
    return {str(path.relative_to(out)): _content(path) for path in files if path.name != ".lock"}


def _content(path: Path) -> Any:
    return _timeless(json.loads(path.read_bytes())) if path.suffix == ".json" else path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if name not in TIMES}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def differences(room: Path, name: str, moments: int, rng: random.Random) -> tuple[int, list[str]]:
    """How many kills found the command at work, and what differed after it was given again."""
    words = COMMANDS[name](room)
    suffix = ".html" if name == "report" else ""
    whole = room / f"{name}-whole{suffix}"
    took = done([*words, "--out", str(whole)])
    expected, found, kills = content(whole), [], 0
    for moment in range(moments):
        out = room / f"{name}-{moment}{suffix}"
        process = subprocess.Popen(
            [*MGA, *words, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(0.8 * took * (moment + rng.random()) / moments)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        done([*words, "--out", str(out)])
        now = content(out)
        found += [
            f"{out.name}: {file}"
            for file in sorted(expected.keys() | now.keys())
            if expected.get(file) != now.get(file)
        ]
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    return kills, found


def main() -> None:
    """Kill, compare, print; exit code 1 when anything differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=[*COMMANDS])
    given = parser.parse_args()
    rng = random.Random(given.seed)
    any_found = False
    with tempfile.TemporaryDirectory() as folder:
        corpus(Path(folder))
        for name in given.commands:
            kills, found = differences(Path(folder), name, given.moments, rng)
            print(f"{name:15} {kills} kills at work, {len(found)} files differ", *found[:10], sep="\n  ", flush=True)
            any_found |= bool(found)
    sys.exit(any_found)


if __name__ == "__main__":
    main()
