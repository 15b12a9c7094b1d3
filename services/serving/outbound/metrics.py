"""Serving's figures for Prometheus, read from the versions' own statistics when it asks: a call costs nothing more.

Triton's names are there, so that its dashboards work, and ours beside them. What a version counted before it was
loaded anew stays in the sum: a counter never falls. Their labels are models and versions, which a person names; so they
stand here and not in the kit's list of fixed ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Self

from prometheus_client import REGISTRY
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from services.serving.domain.routes import Route, RouteTable, Version
from services.serving.domain.statistics import BUCKETS_MS, Statistics

Key = tuple[str, str]
"""Model and version."""
Read = Callable[[Statistics], float]

COUNTERS: Final[tuple[tuple[str, str, Read], ...]] = (
    ("nv_inference_request_success", "Number of successful inference requests", lambda one: one.success.count),
    (
        "nv_inference_count",
        "Number of inferences performed, a batch counted as its rows",
        lambda one: one.inference_count,
    ),
    ("nv_inference_exec_count", "Number of model executions performed", lambda one: one.execution_count),
    ("nv_inference_request_duration_us", "Whole requests, microseconds", lambda one: one.success.ns / 1000),
    ("nv_inference_queue_duration_us", "Time in the queue, microseconds", lambda one: one.queue.ns / 1000),
    (
        "nv_inference_compute_input_duration_us",
        "Inputs made ready, microseconds",
        lambda one: one.compute_input.ns / 1000,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "The model itself, microseconds",
        lambda one: one.compute_infer.ns / 1000,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Outputs handed out, microseconds",
        lambda one: one.compute_output.ns / 1000,
    ),
)
FAILURE: Final = ("nv_inference_request_failure", "Number of failed inference requests")
PENDING: Final = ("nv_inference_pending_request_count", "Requests that wait for the model now")
LATENCY: Final = ("irisloop_serving_request_seconds", "Whole requests, from the queue to the answer.")
ROLE: Final = (
    "irisloop_serving_version_role",
    "1 for what a loaded version is now: an alias, an arm, or shadow; join it to other figures on (model, version).",
)
LABELS: Final = ("model", "version")
UNTYPED: Final = "unknown"
"""Triton's counters have no `_total`, which this library adds to what it calls a counter; Prometheus does not mind."""


class StatisticsCollector(Collector):
    """Registered while serving runs; an async context manager."""

    def __init__(self, table: Callable[[], RouteTable], registry: CollectorRegistry = REGISTRY) -> None:
        self._table = table
        self._registry = registry
        self._seen: dict[Key, list[Statistics]] = {}
        """The newest last; those before it belong to versions that were loaded before under the same name."""
        self._cpu = (time.perf_counter(), time.process_time())

    async def __aenter__(self) -> Self:
        self._registry.register(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._registry.unregister(self)

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: which models there are is asked at each scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One sample a version and metric, and what the machine says."""
        routes = self._table().routes.values()
        versions = [version for route in routes for version in route.versions.values()]
        rows = [(version, self._all(version)) for version in versions]
        for name, text, read in COUNTERS:
            yield _samples(name, text, ((version, sum(map(read, found))) for version, found in rows))
        yield self._failures(rows)
        yield _samples(*PENDING, ((version, version.runner.pending) for version in versions), kind="gauge")
        yield _latencies(rows)
        yield _roles(routes)
        yield from self._machine()

    def _all(self, version: Version) -> list[Statistics]:
        known = self._seen.setdefault((version.model, version.name), [])
        newest = version.runner.statistics
        if not known or known[-1] is not newest:
            known.append(newest)
            if len(known) > 2:  # what ended before the one before cannot change any more
                known[:2] = [_added(known[0], known[1])]
        return known

    def _failures(self, rows: Iterable[tuple[Version, list[Statistics]]]) -> Metric:
        metric = Metric(*FAILURE, UNTYPED)
        for version, found in rows:
            counts = {
                "OTHER": sum(one.fail.count for one in found),
                "REJECTED": sum(one.rejected for one in found),
            }
            for reason, count in counts.items():
                labels = {"model": version.model, "version": version.name, "reason": reason}
                metric.add_sample(FAILURE[0], labels, count)
        return metric

    def _machine(self) -> Iterator[Metric]:
        now = (time.perf_counter(), time.process_time())
        passed, used = now[0] - self._cpu[0], now[1] - self._cpu[1]
        self._cpu = now
        cores = os.cpu_count() or 1
        memory = dict(_meminfo())
        total, free = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
        for name, text, value in (
            (
                "nv_cpu_utilization",
                "CPU of this server since the last scrape, of all cores, 0.0 - 1.0",
                used / passed / cores,
            ),
            ("nv_cpu_memory_total_bytes", "Memory of the machine", total),
            ("nv_cpu_memory_used_bytes", "Memory of the machine in use", total - free),
        ):
            metric = Metric(name, text, "gauge")
            metric.add_sample(name, {}, value)
            yield metric


def _samples(name: str, text: str, values: Iterable[tuple[Version, float]], kind: str = UNTYPED) -> Metric:
    metric = Metric(name, text, kind)
    for version, value in values:
        metric.add_sample(name, {"model": version.model, "version": version.name}, value)
    return metric


def _roles(routes: Iterable[Route]) -> Metric:
    metric = Metric(*ROLE, "gauge")
    for route in routes:
        for version in route.versions.values():
            for role in route.roles(version):
                metric.add_sample(ROLE[0], {"model": route.model, "version": version.name, "role": role}, 1)
    return metric


def _latencies(rows: Iterable[tuple[Version, list[Statistics]]]) -> Metric:
    metric = HistogramMetricFamily(*LATENCY, labels=LABELS)
    for version, found in rows:
        sums = [sum(counts) for counts in zip(*(one.latency.counts for one in found), strict=True)]
        running, buckets = 0, []
        for bound, count in zip((*BUCKETS_MS, float("inf")), sums, strict=True):
            running += count
            buckets.append((str(bound / 1000) if bound != float("inf") else "+Inf", running))
        metric.add_metric([version.model, version.name], buckets, sum(one.latency.sum_ms for one in found) / 1000)
    return metric


def _added(first: Statistics, second: Statistics) -> Statistics:
    """One that holds both."""
    both = Statistics()
    for one in (first, second):
        both.inference_count += one.inference_count
        both.execution_count += one.execution_count
        both.rejected += one.rejected
        for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
            duration = getattr(one, name)
            getattr(both, name).add(duration.ns, duration.count)
        both.latency.sum_ms += one.latency.sum_ms
        both.latency.counts = [a + b for a, b in zip(both.latency.counts, one.latency.counts, strict=True)]
    return both


def _meminfo() -> Iterator[tuple[str, int]]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        name, _, rest = line.partition(":")
        yield name, int(rest.split()[0]) * 1024
