"""A worker's figures as Prometheus metrics: served on a port, or written as a file for node-exporter.

Nothing is counted here. The figures are read where the work has left them, when somebody asks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mga.engines.latency import BOUNDS_S
from mga.errors import InputError
from mga.runs.monitoring.session import EngineFigures, SessionFile

_BOUNDS = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run that a worker works on. `rows` of input are unknown for some kinds of files."""

    id: str = ""
    model: str = ""
    judge_model: str = ""
    version: str = ""
    rows: int | None = None


class RunCollector(Collector):
    """The metrics of one worker. `labels` come with every sample; a server that is scraped needs none."""

    def __init__(
        self,
        figures: Callable[[], SessionFile],
        run: Callable[[], RunInfo],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._figures, self._run = figures, run
        self._labels = dict(labels or {})

    def describe(self) -> list[Metric]:
        """Nothing has to be read to register it."""
        return []

    def collect(self) -> Iterator[Metric]:
        figures, run = self._figures(), self._run()
        yield from self._of_the_run(figures, run)
        yield from self._of_engines(figures.engines)
        yield from self._of_servers(figures.engines)

    def _of_the_run(self, figures: SessionFile, run: RunInfo) -> Iterator[Metric]:
        names = {"run": run.id, "model": run.model, "judge_model": run.judge_model, "version": run.version}
        yield self._gauge("mga_run_info", "The run that this process works on.", [(names, 1)])
        if run.rows is not None:
            yield self._gauge("mga_input_rows", "Rows of the whole input.", [({}, run.rows)])
        working = int(not figures.ended)
        yield self._gauge("mga_working", "1 while this process works, 0 when it has ended in order.", [({}, working)])
        yield self._counter("mga_documents", "Documents expanded, parts of long ones included.", "", figures.documents)
        yield self._counter("mga_shards_published", "Shards published.", "", figures.shards)
        yield self._counter("mga_outcomes", "Texts by what became of them.", "status", figures.outcomes)
        yield self._counter("mga_drops", "Texts dropped, by reason.", "reason", figures.drops)
        yield self._counter("mga_failures", "Texts failed, by reason.", "reason", figures.failures)
        yield self._counter("mga_skipped_rows", "Input rows that cannot be used.", "kind", figures.skipped)

    def _of_engines(self, engines: list[EngineFigures]) -> Iterator[Metric]:
        def gauge(name: str, text: str, value: Callable[[EngineFigures], int]) -> Metric:
            return self._gauge(name, text, [({"task": engine.task}, value(engine)) for engine in engines])

        def counter(name: str, text: str, label: str, value: Callable[[EngineFigures], Mapping[str, int]]) -> Metric:
            samples = [
                ({"task": engine.task, label: key}, count) for engine in engines for key, count in value(engine).items()
            ]
            return self._family(CounterMetricFamily, name, text, ["task", label], samples)

        yield counter("mga_errors", "Attempts that failed, by class of error.", "class", lambda e: e.errors)
        yield counter("mga_requests", "Requests answered, by the engine or by an earlier reply.", "source", _requests)
        yield counter("mga_tokens", "Tokens; those from a server's cache are prompt tokens too.", "kind", _tokens)
        yield gauge("mga_requests_in_flight", "Requests sent and not answered.", lambda e: e.taken)
        yield gauge("mga_requests_in_flight_limit", "How many may be in flight now.", lambda e: e.in_flight)
        yield gauge("mga_requests_waiting", "Requests that wait to be sent.", lambda e: e.waiting)

    def _of_servers(self, engines: list[EngineFigures]) -> Iterator[Metric]:
        servers = [
            ({"task": engine.task, "replica": server.name}, server) for engine in engines for server in engine.servers
        ]
        names = ["task", "replica"]
        up = [(labels, int(server.state == "up")) for labels, server in servers]
        yield self._gauge("mga_replica_up", "1 when it has answered last, 0 when it gives no answer.", up)
        in_flight = [(labels, server.in_flight) for labels, server in servers]
        yield self._gauge("mga_replica_requests_in_flight", "Requests that it has now.", in_flight)
        outages = [(labels, server.outages) for labels, server in servers]
        yield self._family(CounterMetricFamily, "mga_replica_outages", "Times it stopped answering.", names, outages)
        seconds = HistogramMetricFamily(
            "mga_request_seconds", "From sending a request to its reply.", labels=[*self._labels, *names]
        )
        for labels, server in servers:
            buckets = list(zip(_BOUNDS, map(float, accumulate(server.answers)), strict=True))
            seconds.add_metric([*self._labels.values(), *labels.values()], buckets, server.seconds)
        yield seconds

    def _counter(self, name: str, text: str, label: str, value: float | Mapping[str, int]) -> Metric:
        if isinstance(value, Mapping):
            samples = [({label: key}, count) for key, count in value.items()]
            return self._family(CounterMetricFamily, name, text, [label], samples)
        return self._family(CounterMetricFamily, name, text, [], [({}, value)])

    def _gauge(self, name: str, text: str, samples: Sequence[tuple[Mapping[str, str], int]]) -> Metric:
        return self._family(GaugeMetricFamily, name, text, list(samples[0][0]) if samples else [], samples)

    def _family(
        self,
        kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        text: str,
        labels: list[str],
        samples: Sequence[tuple[Mapping[str, str], float]],
    ) -> Metric:
        family = kind(name, text, labels=[*self._labels, *labels])
        for own, value in samples:
            family.add_metric([*self._labels.values(), *own.values()], value)
        return family


def _requests(engine: EngineFigures) -> dict[str, int]:
    return {"engine": engine.spent.requests, "journal": engine.reused}


def _tokens(engine: EngineFigures) -> dict[str, int]:
    spent = engine.spent
    return {"prompt": spent.prompt_tokens, "cached": spent.cached_tokens, "generated": spent.generated_tokens}


@contextmanager
def served(collector: RunCollector, address: str, port: int) -> Iterator[str]:
    """Serve the metrics while the block runs; gives the URL. Raises InputError when the port cannot be had."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, address, registry)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"Metrics cannot be served at {address} port {port}: {getattr(error, 'strerror', None) or error}; "
            "choose another --metrics-port (0 takes a free one) or --metrics-address."
        ) from error
    host = f"[{address}]" if ":" in address else address
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_textfile(path: Path, collector: RunCollector) -> None:
    """The metrics as a file that is always whole. Raises InputError when it cannot be written."""
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}; choose another --metrics-file.") from error
