"""Whole expansions through real servers that run on a CPU, started and stopped by mga (`make test-servers`).

MGA_TEST_MODEL is a model folder, MGA_TEST_VLLM the environment of vLLM; `transformers serve` and a server on
llama.cpp run in this one.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

psutil = pytest.importorskip("psutil")
pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

TEXTS = [
    "Bread rises because yeast eats sugar and gives off a gas that the dough cannot let go. Kneading lines up the long "
    "proteins of the flour into a net, and the net holds the bubbles. A warm kitchen hurries the yeast along.",
    "A sailing ship cannot go straight into the wind, but it can go nearly so, first to one side and then to the "
    "other, and get there in the end. The sail works like a wing set upright: air runs faster around its outer side.",
]
SETTINGS = """
pairs = 2
max_reply_tokens = 80
concurrency = 4
[pairing]
recipe = "one-by-one"
seeds = true
max_tokens = 120
[judging]
max_tokens = 60
"""
LLAMACPP = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.model_alias, params.n_parallel, params.n_ctx, params.n_ubatch = {"tiny"}, 4, 8192, 128
server = xllamacpp.Server(params)
threading.Event().wait()
"""


@pytest.fixture(autouse=True)
def quiet_and_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "2",
        "GOMP_SPINCOUNT": "1000",
    }.items():
        monkeypatch.setenv(name, value)


def model() -> str:
    return os.environ["MGA_TEST_MODEL"]


def vllm(folder: str) -> str:
    return f"vllm:{folder}?context=2048&speculation=ngram&args=--enforce-eager --max-num-seqs 4"


def engines() -> dict[str, str]:
    """The server's engine URI."""
    beside = Path(sys.executable).parent
    serve = f"{beside / 'transformers'} serve {model()} --host 127.0.0.1 --port {{port}} --device cpu --dtype float32"
    return {
        "transformers": f"server:{serve}#{model()}",
        "llamacpp": f"server:{sys.executable} {{script}} {{gguf}} {{port}}#tiny",
        "vllm": vllm(model()),
    }


def command(name: str, tmp_path: Path, engine: str = "") -> list[str]:
    from mga.engines.llamacpp.embedded_model import fetch

    given, settings, script = tmp_path / "in.jsonl", tmp_path / "settings.toml", tmp_path / "serve.py"
    given.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(TEXTS)))
    settings.write_text(SETTINGS)
    script.write_text(LLAMACPP)
    engine = (engine or engines()[name]).replace("{script}", str(script)).replace("{gguf}", str(fetch("smollm2-135m")))
    expand = [sys.executable, "-m", "mga", "expand", str(given), "--config", str(settings)]
    return [*expand, "--out", str(tmp_path / "run"), "--engine", engine]


def environment(name: str) -> dict[str, str]:
    path = os.environ["PATH"]
    return os.environ | {"PATH": f"{os.environ['MGA_TEST_VLLM']}/bin:{path}" if name == "vllm" else path}


def left_over(tmp_path: Path) -> list[str]:
    """Processes that a run has left behind, by its folder or model in their command lines."""
    marks = (str(tmp_path), model())
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if process.info["pid"] != os.getpid() and process.info["status"] != "zombie" and any(m in line for m in marks):
            found.append(line)
    return found


@pytest.mark.parametrize("name", ["llamacpp", "transformers", "vllm"])
def test_a_whole_expansion(name: str, tmp_path: Path) -> None:
    done = subprocess.run(command(name, tmp_path), capture_output=True, text=True, env=environment(name), timeout=600)
    assert done.returncode == 0, done.stderr
    stats = json.loads((tmp_path / "run" / "stats.json").read_text())
    assert sum(stats["outcomes"].values()) == 4
    assert stats["outcomes"].get("failed", 0) == 0
    assert stats["usage"]["pairs"]["generated_tokens"] > 0
    if name != "transformers":  # which has no schemas and does not say what it served from its cache
        assert stats["usage"]["reformulate"]["requests"] > 0
        assert sum(used["cached_tokens"] for used in stats["usage"].values()) > 0
        assert "schemas by json_schema, log-probabilities" in done.stderr
    assert not left_over(tmp_path)


@pytest.mark.parametrize("name", ["llamacpp", "transformers", "vllm"])
def test_killed_in_mid_run_and_continued(name: str, tmp_path: Path) -> None:
    run = subprocess.Popen(command(name, tmp_path), stderr=subprocess.PIPE, text=True, env=environment(name))
    journals = tmp_path / "run" / "journal"
    deadline = time.monotonic() + 400
    while not any(path.stat().st_size for path in journals.glob("*.jsonl")):
        assert run.poll() is None, run.stderr and run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 60  # the system asks the servers to end
    while left_over(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left_over(tmp_path)
    done = subprocess.run(command(name, tmp_path), capture_output=True, text=True, env=environment(name), timeout=600)
    assert done.returncode == 0, done.stderr
    assert sum(json.loads((tmp_path / "run" / "stats.json").read_text())["outcomes"].values()) == 4


def test_vllm_opens_what_mga_has_quantized(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"id": str(i), "text": f"{i}. {TEXTS[i % 2]}"}) + "\n" for i in range(12)))
    made = tmp_path / "w8a8"
    quantize = [sys.executable, "-m", "mga", "tool", "quantize", model(), "--scheme", "w8a8", "--accept-worse"]
    quantize += [
        "--calibration",
        str(texts),
        "--calibration-samples",
        "6",
        "--eval-samples",
        "3",
        "--max-seq-len",
        "128",
    ]
    done = subprocess.run([*quantize, "--out", str(made)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    folder = json.loads((made / "quantization.json").read_text())["result"]["file"]
    asked = command("vllm", tmp_path, vllm(str(made / folder)))
    done = subprocess.run(asked, capture_output=True, text=True, env=environment("vllm"), timeout=600)
    assert done.returncode == 0, done.stderr
    stats = json.loads((tmp_path / "run" / "stats.json").read_text())
    assert sum(stats["outcomes"].values()) == 4
    assert stats["outcomes"].get("failed", 0) == 0
    log = (tmp_path / "run" / "logs" / "generator" / "server-0.log").read_text()
    assert "Int8ScaledMMLinearKernel for CompressedTensorsW8A8Int8" in log, "not multiplied with 8 bits"
    assert not left_over(tmp_path)
