"""Looks at a model repository of Triton or MLServer and says of each model whether it is served here, and what changes.

It reads and completes the configuration by the very code that serves, so that what it says is what happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from services.common.errors import IrisloopError, NotFound
from services.serving.domain.config import ModelConfig
from services.serving.errors import BadPackage
from services.serving.outbound.completion import PartialConfig, begin, complete, read_assets
from services.serving.outbound.ensembles import with_members
from services.serving.outbound.folder import Folder, ModelFiles
from services.serving.outbound.graphs import Graph, declared
from services.serving.outbound.mlserver import SERVER_FILE, server_notes

Kind = Literal["triton", "mlserver"]
Verdict = Literal["as is", "with changes", "not served"]
ASKED_LATER: Final = "its inputs and outputs are asked of the remote server when it is loaded"
NO_GRAPH: Final = Graph((), (), ())


@dataclass(frozen=True, slots=True)
class Finding:
    """One model."""

    model: str
    verdict: Verdict
    backend: str = ""
    versions: tuple[int, ...] = ()
    """Those that would be served."""
    reasons: tuple[str, ...] = ()
    """What changes, or why it is not served."""
    config: ModelConfig | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "model": self.model,
            "verdict": self.verdict,
            "backend": self.backend,
            "versions": list(self.versions),
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A whole repository."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """About the server rather than one model."""

    @property
    def served(self) -> bool:
        """Whether every model would be."""
        return all(finding.verdict != "not served" for finding in self.findings)


async def examine(kind: Kind, url: str) -> Report:
    """Look at every model. Raises `BadPackage` when there is no such repository, `Unavailable` for a remote one."""
    async with Folder.open(url) as folder:
        names = await folder.names()
        findings = [await _examine(folder, name, kind) for name in names]
        notes = await _server_notes(folder) if kind == "mlserver" else ()
    return Report(tuple(_with_members([one for one in findings if one is not None])), notes)


async def _server_notes(folder: Folder) -> tuple[str, ...]:
    try:
        return server_notes(await folder.beside(SERVER_FILE))
    except NotFound:
        return ()


async def _examine(folder: Folder, name: str, kind: Kind) -> Finding | None:
    try:
        files = await folder.read(name)
        if (files.settings is not None) != (kind == "mlserver"):
            return None
        partial = begin(files)
    except BadPackage as error:
        return Finding(name, "not served", reasons=(str(error),))
    if partial.review.refusals:
        return Finding(name, "not served", partial.backend, (), partial.review.refusals)
    if partial.backend == "remote" and not (partial.message.input and partial.message.output):
        return Finding(name, "with changes", "remote", tuple(files.versions), (ASKED_LATER,))
    try:
        versions, config = await _completed(folder, files, partial)
    except (BadPackage, NotFound) as error:
        return Finding(name, "not served", partial.backend, reasons=(str(error),))
    verdict: Verdict = "with changes" if config.warnings else "as is"
    return Finding(name, verdict, partial.backend, versions, config.warnings, config)


async def _completed(folder: Folder, files: ModelFiles, partial: PartialConfig) -> tuple[tuple[int, ...], ModelConfig]:
    versions = partial.versions(files)
    assets = await read_assets(folder, files, partial)
    config: ModelConfig | None = None
    for version in versions:
        graph = await _graph(folder, files, partial, version)
        config = complete(partial, graph.inputs, graph.outputs, overridable=graph.overridable, assets=assets)
    assert config is not None
    return tuple(versions), config


async def _graph(folder: Folder, files: ModelFiles, partial: PartialConfig, version: int) -> Graph:
    """The tensors of a version; none where they are not in a file of ours to read."""
    if partial.backend in ("ensemble", "remote"):
        return NO_GRAPH
    path = await folder.path(files, version, partial.filename)
    if partial.backend == "python":
        return NO_GRAPH
    return await asyncio.to_thread(declared, path)


def _with_members(findings: Sequence[Finding]) -> list[Finding]:
    """Ensembles once more, now that their models are known."""
    members = {finding.model: finding.config for finding in findings if finding.config is not None}
    return [_with_member(finding, members) for finding in findings]


def _with_member(finding: Finding, members: dict[str, ModelConfig]) -> Finding:
    if finding.config is None or finding.backend != "ensemble":
        return finding
    try:
        return replace(finding, config=with_members(finding.config, members))
    except IrisloopError as error:
        return replace(finding, verdict="not served", reasons=(str(error),), config=None)
