"""Triton's names with our numbers, which never fall when a version is loaded anew."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from services.serving.domain.rollout import Rollout
from services.serving.domain.routes import Route, Routes
from services.serving.domain.statistics import Execution, Failure
from services.serving.outbound.metrics import COUNTERS, StatisticsCollector
from tests.unit.serving.test_repository import Idle, made

RUN = Execution(rows=4, queued=[0, 1_000_000], began=2_000_000, ready=2_500_000, ran=5_000_000, ended=6_000_000)


def scraped(registry: CollectorRegistry) -> dict[str, float]:
    """{name and labels: value}."""
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


async def test_what_a_version_is_stands_beside_its_figures() -> None:
    routes, registry = Routes(), CollectorRegistry()
    old, new = made("m", "1", "x"), made("m", "2", "x")
    rollout = Rollout("r", "shadow", "1", "2")
    routes.put(Route("m", versions={"1": old, "2": new}, default=old, aliases={"champion": old}, rollout=rollout))
    async with StatisticsCollector(lambda: routes.table, registry):
        found = {name for name in scraped(registry) if name.startswith("irisloop_serving_version_role")}
    assert found == {
        f'irisloop_serving_version_role{{model="m",role="{role}",version="{version}"}}'
        for role, version in (("champion", "1"), ("shadow", "2"))
    }


async def test_every_figure_of_tritons_is_there_and_stays_when_the_version_is_loaded_anew() -> None:
    routes, registry = Routes(), CollectorRegistry()
    async with StatisticsCollector(lambda: routes.table, registry):
        for loaded in range(1, 5):
            version = made("m", "3", "x")
            assert isinstance(version.runner, Idle)
            version.runner.statistics.note([RUN, Failure(1_000)], now_ms=1)
            version.runner.statistics.refused()
            version.runner.pending = 7
            routes.put(Route("m", versions={"3": version}, default=version))
            found = scraped(registry)
            labels = '{model="m",version="3"}'
            assert found[f"nv_inference_count{labels}"] == 4 * loaded
            assert found[f"nv_inference_exec_count{labels}"] == loaded
            assert found[f"nv_inference_request_success{labels}"] == 2 * loaded
            assert found[f"nv_inference_queue_duration_us{labels}"] == 3_000 * loaded
            assert found[f"nv_inference_compute_infer_duration_us{labels}"] == 5_000 * loaded
            assert found['nv_inference_request_failure{model="m",reason="OTHER",version="3"}'] == loaded
            assert found['nv_inference_request_failure{model="m",reason="REJECTED",version="3"}'] == loaded
            assert found[f"nv_inference_pending_request_count{labels}"] == 7
            assert found[f"irisloop_serving_request_seconds_count{labels}"] == 2 * loaded
            assert all(f"{name}{labels}" in found for name, _, _ in COUNTERS)
        assert found["nv_cpu_memory_total_bytes"] >= found["nv_cpu_memory_used_bytes"] > 0
    assert scraped(registry) == {}
