"""What the handlers answer, as messages of the inference service; and the maps of its requests as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inference import grpc_service_pb2 as pb

from services.serving.domain.ports import RegionStatus
from services.serving.domain.routes import Version
from services.serving.domain.statistics import Duration, Statistics
from services.serving.handlers.catalog import IndexEntry, ModelFacts


def metadata_message(facts: ModelFacts) -> pb.ModelMetadataResponse:
    """Names, types and shapes."""
    tensor = pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=facts.name,
        versions=facts.versions,
        platform=facts.platform,
        inputs=[tensor(name=one.name, datatype=one.datatype, shape=shape) for one, shape in facts.inputs],
        outputs=[tensor(name=one.name, datatype=one.datatype, shape=shape) for one, shape in facts.outputs],
    )


def index_message(entries: Sequence[IndexEntry]) -> pb.RepositoryIndexResponse:
    """One entry a version."""
    entry = pb.RepositoryIndexResponse.ModelIndex
    return pb.RepositoryIndexResponse(
        models=[entry(name=one.name, version=one.version, state=one.state, reason=one.reason) for one in entries]
    )


def statistics_message(version: Version, statistics: Statistics) -> pb.ModelStatistics:
    """Of one version; the cache's fields stay empty, since there is none."""
    found = pb.ModelStatistics(
        name=version.model,
        version=version.name,
        last_inference=statistics.last_inference_ms,
        inference_count=statistics.inference_count,
        execution_count=statistics.execution_count,
        inference_stats=pb.InferStatistics(
            success=_duration(statistics.success),
            fail=_duration(statistics.fail),
            queue=_duration(statistics.queue),
            compute_input=_duration(statistics.compute_input),
            compute_infer=_duration(statistics.compute_infer),
            compute_output=_duration(statistics.compute_output),
            cache_hit=pb.StatisticDuration(),
            cache_miss=pb.StatisticDuration(),
        ),
    )
    for size, times in sorted(dict(statistics.batches).items()):
        found.batch_stats.add(
            batch_size=size,
            compute_input=_duration(times.compute_input),
            compute_infer=_duration(times.compute_infer),
            compute_output=_duration(times.compute_output),
        )
    return found


def regions_message(regions: Sequence[RegionStatus]) -> pb.SystemSharedMemoryStatusResponse:
    """Region by name."""
    found = pb.SystemSharedMemoryStatusResponse()
    for one in regions:
        found.regions[one.name].CopyFrom(
            pb.SystemSharedMemoryStatusResponse.RegionStatus(
                name=one.name, key=one.key, offset=one.offset, byte_size=one.byte_size
            )
        )
    return found


def trace_message(settings: Mapping[str, Sequence[str]]) -> pb.TraceSettingResponse:
    """All trace settings."""
    found = pb.TraceSettingResponse()
    for name, values in settings.items():
        found.settings[name].value.extend(values)
    return found


def log_message(settings: Mapping[str, bool | int | str]) -> pb.LogSettingsResponse:
    """All log settings."""
    found = pb.LogSettingsResponse()
    for name, value in settings.items():
        if isinstance(value, bool):
            found.settings[name].bool_param = value
        elif isinstance(value, int):
            found.settings[name].uint32_param = value
        else:
            found.settings[name].string_param = value
    return found


def log_values(settings: Mapping[str, pb.LogSettingsRequest.SettingValue]) -> dict[str, bool | int | str]:
    """The changes; a setting without a value is left out."""
    found: dict[str, bool | int | str] = {}
    for name, setting in settings.items():
        choice = setting.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(setting, choice)
    return found


def repository_values(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> dict[str, Any]:
    """The parameters as plain values."""
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[name] = getattr(parameter, choice) if choice else None
    return found


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
