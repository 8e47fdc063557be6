"""Runs are watched from outside: metrics, logs and `mga top` say what happened, and only what may be said."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import test_command_line as command_line
from hypothesis import given as given_values
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, RenderableType
from servers import ChatServer, Fault, reset, status
from test_command_line import FLAWED, KEY, PASSWORD, Mga, documents, stats, tree
from upath import UPath

from mga.engines import client as client_module
from mga.engines.latency import BOUNDS_S, Latency, quantile
from mga.engines.servers import replicas as replicas_module
from mga.events import event
from mga.runs.monitoring import logs as logs_module
from mga.runs.monitoring.logs import RunLog, listening
from mga.runs.monitoring.status import Look
from mga.runs.monitoring.top import frame

mga = command_line.mga  # the fixture

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def parsed(text: str) -> Samples:
    """Metrics by name and labels, as a Prometheus client reads them; the same sample twice is an error."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in found.setdefault(sample.name, {}), f"{sample.name} {labels} twice"
            found[sample.name][labels] = sample.value
    return found


def by(label: str, samples: dict[frozenset[tuple[str, str]], float]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for labels, value in samples.items():
        sums[dict(labels)[label]] += value  # type: ignore[assignment]
    return dict(sums)


def logged(run: Path) -> list[dict[str, Any]]:
    lines = [line for path in sorted((run / "logs").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def shown(renderable: RenderableType, width: int = 140) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    console.print(renderable)
    return console.export_text()


def until(reached: Callable[[], object], within_s: float = 15.0) -> None:
    end = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end, "it has not come to that"
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def in_the_background(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "mga", *map(str, arguments)], stderr=subprocess.DEVNULL)


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_metrics_of_a_finished_run_are_its_counts(mga: Mga, tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "node" / "run.prom"
    file.parent.mkdir()
    engine = f"{FLAWED}&faults=0.2"
    said = mga("expand", documents(tmp_path / "in.jsonl", 30), "--out", run, "--engine", engine, "--metrics-file", file)
    assert said.code == 0
    found, told = parsed(file.read_text()), stats(run)
    kept_dropped_failed = by("status", found["mga_outcomes_total"])
    assert {name: count for name, count in kept_dropped_failed.items() if count} == told["outcomes"]
    assert by("reason", found["mga_drops_total"]) | by("reason", found["mga_failures_total"]) == told["reasons"]
    used = told["usage"].values()
    assert by("kind", found["mga_tokens_total"]) == {
        "prompt": sum(usage["prompt_tokens"] for usage in used),
        "generated": sum(usage["generated_tokens"] for usage in used),
        "cached": 0,
    }
    requests = sum(usage["requests"] for usage in used)
    assert by("source", found["mga_requests_total"]) == {"engine": requests, "journal": 0}
    assert sum(found["mga_request_seconds_count"].values()) == requests
    assert by("le", found["mga_request_seconds_bucket"])["+Inf"] == requests
    assert sum(found["mga_documents_total"].values()) == 30
    assert by("class", found["mga_errors_total"])["server_error"] > 0
    assert set(found["mga_working"].values()) == {0}
    identity = json.loads((run / "run.json").read_bytes())["run"]
    others = {name: samples for name, samples in found.items() if not name.startswith(("process_", "python_"))}
    assert {dict(labels)["run"] for samples in others.values() for labels in samples} == {identity}
    assert sorted(path.name for path in file.parent.iterdir()) == ["run.prom"]


def test_metrics_are_served_on_loopback_while_the_run_works_and_no_longer(tmp_path: Path) -> None:
    port = free_port()
    given, run = documents(tmp_path / "in.jsonl", 40), tmp_path / "run"
    command = ("expand", given, "--out", run, "--engine", "scripted:?latency=0.1", "--metrics-port", port)
    url = f"http://127.0.0.1:{port}/metrics"
    seen: list[Samples] = []

    def scrape() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                seen.append(parsed(answer.read().decode()))
        except OSError:
            return False
        return sum(seen[-1]["mga_documents_total"].values()) >= 10

    with in_the_background(*command) as process:
        until(scrape)
        busy = seen[-1]
        with pytest.raises(OSError):
            socket.create_connection((_own_address(), port), timeout=1).close()
        assert process.wait(30) == 0
    assert by("task", busy["mga_requests_in_flight"]) == {"generator": 16}
    assert by("task", busy["mga_requests_in_flight_limit"]) == {"generator": 16}
    assert by("task", busy["mga_requests_waiting"])["generator"] > 0
    assert sum(busy["mga_input_rows"].values()) == 40
    assert busy["process_resident_memory_bytes"]
    assert by("status", busy["mga_outcomes_total"])["dropped"] == 0, "a counter exists before its first event"
    documents_seen = [sum(samples["mga_documents_total"].values()) for samples in seen]
    assert documents_seen == sorted(documents_seen)
    assert not scrape()


def _own_address() -> str:
    """An address of this machine that is not 127.0.0.1: another of the loopback network does."""
    return "127.0.0.2"


@pytest.mark.parametrize("option", ["--metrics-port", "--metrics-file", "--log-file"])
def test_what_cannot_be_had_is_said_before_the_work_begins(option: str, mga: Mga, tmp_path: Path) -> None:
    given, run = documents(tmp_path / "in.jsonl"), tmp_path / "run"
    command = ("expand", given, "--out", run, "--engine", FLAWED, option)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        value = taken.getsockname()[1] if option == "--metrics-port" else tmp_path / "nowhere" / "file.prom"
        said = mga(*command, value)
    assert said.code == 2
    assert option in said.last
    assert "Traceback" not in said.err
    assert not (run / "run.json").exists()
    assert mga(*command, free_port() if option == "--metrics-port" else tmp_path / "file.prom").code == 0


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_log_tells_what_happened_without_secrets_or_texts(
    mga: Mga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGA_API_KEY", KEY)
    monkeypatch.setattr(client_module, "_backoff", lambda _state: 0.01)
    given, run = documents(tmp_path / "in.jsonl", 20), tmp_path / "run"
    with given.open("a") as file:
        file.write('{"id": "empty", "body": "a text under another name"}\n')
    asked: Counter[bytes] = Counter()

    def quoting(body: dict[str, Any]) -> Fault | None:
        """Servers like to quote what they refuse."""
        prompt = str(body["messages"][0]["content"])
        key = orjson.dumps(body)
        asked[key] += 1
        if "<document>" not in prompt or asked[key] > 1 or len(asked) % 5:
            return None
        return status(400 if len(asked) % 2 else 500, prompt)

    with ChatServer(flaws=0.3) as server:
        server.fault_for = quoting
        engine = server.url.replace("//", f"//user:{PASSWORD}@") + "#tiny"
        options = ("--log-file", tmp_path / "log.jsonl", "--metrics-file", tmp_path / "run.prom")
        assert mga("expand", given, "--out", run, "--engine", engine, *options).code == 0
    told = logged(run)
    assert [line["event"] for line in told[:3]] == ["tokens are estimated", "work begun", "engine ready"]
    assert told[-1]["event"] == "work done"
    assert all(datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0) and line["level"] for line in told)
    published = [line for line in told if line["event"] == "shard published"]
    assert len(published) == len(list((run / "shards").iterdir()))
    outcomes = sum((Counter(line["outcomes"]) for line in published), Counter[str]())
    assert outcomes == stats(run)["outcomes"]
    assert told[-1]["errors"]["server_error"] > 0
    assert told[-1]["errors"]["request_refused"] > 0
    skipped = [line for line in told if line["event"] == "row skipped"]
    assert [(line["file"], line["row"], line["level"]) for line in skipped] == [("in.jsonl", 20, "WARNING")]
    assert (tmp_path / "log.jsonl").read_bytes() == next((run / "logs").iterdir()).read_bytes()
    files = [tmp_path / "log.jsonl", tmp_path / "run.prom", *(run / "sessions").iterdir(), *(run / "logs").iterdir()]
    for text in (path.read_text() for path in files):
        assert PASSWORD not in text
        assert KEY not in text
        assert "Fishermen" not in text
        assert "seagulls" not in text


def test_a_run_that_stops_says_why_in_its_log(mga: Mga, tmp_path: Path) -> None:
    with ChatServer() as server:
        begun = 20
        server.fault_for = lambda body: status(401, "revoked") if len(server.chats()) > begun else None
        said = mga("expand", documents(tmp_path / "in.jsonl", 12), "--out", tmp_path / "run", "--engine", server.url)
    last = logged(tmp_path / "run")[-1]
    assert (said.code, last["event"], last["level"], last["error"]) == (2, "work stopped", "ERROR", "StopError")
    assert last["message"] in said.last
    session = json.loads(next((tmp_path / "run" / "sessions").iterdir()).read_bytes())
    assert session["ended"]
    assert session["engines"][0]["errors"]["stop"] > 0


def test_an_outage_of_a_replica_is_logged_counted_and_over(
    mga: Mga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas_module, "FIRST_REST_S", 0.02)
    with ChatServer() as good, ChatServer() as shaky:
        met = iter(range(3))
        shaky.fault_for = lambda body: reset if "<document>" in str(body) and next(met, None) is not None else None
        engine = f"{good.url},{shaky.url}"
        file = tmp_path / "run.prom"
        command = ("expand", documents(tmp_path / "in.jsonl", 60), "--out", tmp_path / "run", "--engine", engine)
        assert mga(*command, "--concurrency", 4, "--metrics-file", file).code == 0
    told = [line for line in logged(tmp_path / "run") if line["event"].startswith("replica")]
    assert {line["replica"] for line in told} == {shaky.url}
    assert (told[0]["event"], told[-1]["event"]) == ("replica away", "replica back")
    found = parsed(file.read_text())
    assert by("replica", found["mga_replica_up"]) == {good.url: 1, shaky.url: 1}
    outages = sum(line["event"] == "replica back" for line in told)
    assert by("replica", found["mga_replica_outages_total"]) == {good.url: 0, shaky.url: outages}
    answers = by("replica", found["mga_request_seconds_count"])
    assert min(answers.values()) > 0
    assert sum(answers.values()) == sum(found["mga_requests_total"].values())


def test_on_an_object_store_the_log_grows_by_whole_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_module, "PART_BYTES", 400)
    log, folder = RunLog(), UPath("memory://logs-of-a-run/logs")
    with listening(log):
        event("before the folder is ours")
        log.upload()
        log.begin(folder / "worker.jsonl")
        for i in range(10):
            event("counted", number=i)
            log.upload()
            log.upload()
    lines = [line for path in sorted(folder.glob("*")) for line in path.read_text().splitlines()]
    assert len(list(folder.glob("*"))) > 1
    assert [json.loads(line).get("number") for line in lines] == [None, *range(10)]


# ── mga top ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_top_of_a_finished_run_adds_up_and_touches_nothing(mga: Mga, tmp_path: Path) -> None:
    run = tmp_path / "run"
    mga("expand", documents(tmp_path / "in.jsonl", 30), "--out", run, "--engine", FLAWED)
    before = tree(run)
    said = mga("top", run, "--once")
    assert (said.code, said.err) == (0, "")
    assert tree(run) == before
    counts = stats(run)["outcomes"]
    assert "30 of 30 documents · 100.0%" in said.out
    assert "complete" in said.out
    for state in ("kept", "dropped", "failed"):
        assert f"{counts[state]} {state}" in said.out
    for reason, count in stats(run)["reasons"].items():
        assert f"{reason} {count}" in " ".join(said.out.split())
    store = UPath("memory://top-of-a-run")
    for name, data in before.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(data)
    moment = datetime.now(UTC)
    here, there = (shown(frame(Look(place, utc=lambda: moment).now(), 50)) for place in (run, store))
    assert there.splitlines()[1:] == here.splitlines()[1:]


def test_top_follows_workers_through_death_and_return(
    mga: Mga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, run = documents(tmp_path / "in.jsonl", 60), tmp_path / "run"
    command = ("expand", given, "--out", run, "--engine", "scripted:?latency=0.1")
    look = Look(run)
    with in_the_background(*command) as process:
        until(lambda: (run / "run.json").exists() and look.now().documents > 8 and look.now().left_s is not None)
        view = look.now()
        assert [worker.session.pid for worker in view.working] == [process.pid]
        assert view.left_s is not None
        text = shown(frame(view, 50))
        assert "1 worker · 0:" in text
        assert f"{socket.gethostname()}:{process.pid}" in text
        assert "scripted" in text.split("replica")[1]
        process.send_signal(signal.SIGKILL)
    later = Look(run, utc=lambda: datetime.now(UTC) + timedelta(minutes=5)).now()
    assert later.working == []
    assert later.documents == later.published.rows, "what a dead worker had open is nobody's"
    text = shown(frame(later, 50))
    assert "nobody works on it; run the same command again to continue" in text
    assert "not heard" in text
    assert mga(*command).code == 0
    view = look.now()
    assert view.complete
    assert view.documents == 60
    assert view.outcomes == stats(run)["outcomes"]
    assert sum(worker.session.reused for worker in view.workers) > 0


def test_a_wrong_clock_of_a_worker_is_seen_through(mga: Mga, tmp_path: Path) -> None:
    run = tmp_path / "run"
    mga("expand", documents(tmp_path / "in.jsonl", 4), "--out", run, "--engine", FLAWED)
    file = next((run / "sessions").iterdir())
    session = json.loads(file.read_bytes()) | {"ended": False, "host": "\x1b[2Jnode"}
    ticks = 100.0
    look = Look(run, clock=lambda: ticks)

    def heard(seconds: float) -> float | None:
        session["heard"] = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
        file.write_text(json.dumps(session | {"seconds": seconds}))
        return look.now().workers[0].heard_s

    assert heard(1.0) == pytest.approx(3 * 3600, abs=60)
    ticks += 5
    assert heard(6.0) == 0
    ticks += 5
    assert heard(6.0) == 5
    assert [worker.works for worker in look.now().workers] == [True]
    assert "\x1b" not in shown(frame(look.now(), 50))
    ticks += 60
    assert [worker.is_silent for worker in look.now().workers] == [True]


def test_top_of_what_is_no_run(mga: Mga, tmp_path: Path) -> None:
    said = mga("top", tmp_path / "nowhere", "--once")
    sentence = "holds no run: there is no such folder; name one that mga expand has written."
    assert (said.code, said.last) == (2, f"mga: {tmp_path / 'nowhere'} {sentence}")


def test_a_session_without_work_leaves_no_file(mga: Mga, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ("expand", documents(tmp_path / "in.jsonl", 4), "--out", run, "--engine", FLAWED)
    assert mga(*command).code == 0
    before = tree(run)
    assert mga(*command).code == 0
    assert tree(run) == before


# ── latency ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given_values(st.lists(st.floats(0.0, 900.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    latency = Latency()
    for each in seconds:
        latency.add(each)
    assert sum(latency.counts) == len(seconds)
    assert latency.seconds == pytest.approx(sum(seconds))
    true = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    found = quantile(latency.counts, share)
    upper = next(bound for bound in BOUNDS_S if true <= bound)
    lower = max((bound for bound in BOUNDS_S if bound < true), default=0.0)
    assert found is not None
    assert lower <= found <= upper


def test_without_answers_there_is_no_quantile() -> None:
    assert quantile(Latency().counts, 0.5) is None
