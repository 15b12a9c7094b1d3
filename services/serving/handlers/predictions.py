"""Predicts on stored assets of bound cameras, every bound role once."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from numpy.typing import NDArray

from services.common.bus import derive_id
from services.common.errors import IrisloopError, Transient
from services.common.metrics import SERVING_REPEATS
from services.common.telemetry import log
from services.serving.domain.answers import answers
from services.serving.domain.features import Answer
from services.serving.domain.images import stacked
from services.serving.domain.package import ImageInput, ModelCard
from services.serving.domain.ports import ImagePreparer, ImageSource
from services.serving.domain.predictions import Frame, Made
from services.serving.domain.routes import RouteTable, Version
from services.serving.errors import BadPackage, InferenceFailed
from services.serving.handlers.bindings import Bindings
from services.serving.handlers.rollouts import Rollouts
from services.serving.handlers.settling import run_in_background

AT_ONCE = 2
"""Groups of frames in hand: one is fetched and decoded while another runs."""


@dataclass(frozen=True, slots=True)
class Job:
    """One prediction to make."""

    id: str
    place: int
    model: str
    role: str
    version: Version
    rollout_id: str = ""


class Predictor:
    """The stream's work; what it needs of images and models comes from outside."""

    def __init__(
        self,
        table: Callable[[], RouteTable],
        bindings: Bindings,
        rollouts: Rollouts,
        images: ImageSource,
        prepare: ImagePreparer,
        clock: Callable[[], datetime],
        group: int,
    ) -> None:
        self._table = table
        self._bindings = bindings
        self._rollouts = rollouts
        self._images = images
        self._prepare = prepare
        self._clock = clock
        self._group = group

    async def predict(self, frames: Sequence[Frame], seen: Container[str]) -> list[Made]:
        """The predictions of all bound roles that are not in `seen`, in the frames' order.

        An image that cannot be predicted gives a prediction that says why. Raises `Transient` when the store is away.
        """
        jobs, made = self._jobs(frames, seen)
        places = sorted({job.place for job in jobs})
        groups = [places[at : at + self._group] for at in range(0, len(places), self._group)]
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(group: list[int]) -> list[Made]:
            async with gate:
                wanted = set(group)
                return await self._run(frames, group, [job for job in jobs if job.place in wanted])

        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(one(group)) for group in groups]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the bus decides by the error's kind
        for task in running:
            made += task.result()
        return sorted(made, key=lambda one: (one.place, one.model, one.role))

    def _jobs(self, frames: Sequence[Frame], seen: Container[str]) -> tuple[list[Job], list[Made]]:
        """What is to be run; and the answers that are errors already, since the version did not load."""
        table = self._table()
        jobs: list[Job] = []
        failed: list[Made] = []
        taken: set[str] = set()
        for place, frame in enumerate(frames):
            for binding in self._bindings.bound(frame.camera):
                rollout_id, beside = self._rollouts.of_camera(binding.model, binding.role, frame.camera)
                for role, version in beside:
                    identity = prediction_id(frame.asset, binding.model, f"{role}/{rollout_id}")
                    if self._is_new(identity, seen, taken):
                        jobs.append(Job(identity, place, binding.model, role, version, rollout_id))
                        self._rollouts.compared_on_camera(rollout_id)
                version_bound, problem = table.behind(binding.model, binding.role)
                identity = prediction_id(frame.asset, binding.model, binding.role)
                if (version_bound is None and not problem) or not self._is_new(identity, seen, taken):
                    continue
                if version_bound is not None:
                    jobs.append(Job(identity, place, binding.model, binding.role, version_bound, rollout_id))
                    continue
                asked = table.routes[binding.model].asked[binding.role].version
                answer = Answer(error=f"Version {asked} is not loaded: {problem}")
                failed.append(Made(identity, place, binding.model, asked, binding.role, answer, 0.0, self._clock()))
        return jobs, failed

    def _is_new(self, identity: str, seen: Container[str], taken: set[str]) -> bool:
        if identity in seen or identity in taken:
            SERVING_REPEATS.inc()
            return False
        taken.add(identity)
        return True

    async def _run(self, frames: Sequence[Frame], places: list[int], jobs: list[Job]) -> list[Made]:
        contents = dict(zip(places, await self._fetch([frames[place].digest for place in places]), strict=True))
        by_version: dict[int, list[Job]] = defaultdict(list)
        for job in jobs:
            by_version[id(job.version)].append(job)
        prepared: dict[ImageInput, dict[int, NDArray[Any] | Exception]] = {}
        made: list[Made] = []
        for same in by_version.values():
            version = same[0].version
            with version.runner.hold():
                image = _card(version).image
                if image not in prepared:
                    prepared[image] = await self._prepared(contents, image)
                made += await self._infer(version, same, prepared[image])
        return made

    async def _fetch(self, digests: Sequence[str]) -> list[bytes | Exception]:
        try:
            return list(await self._images.get_many(digests))
        except Transient:
            raise
        except IrisloopError:
            return [await self._fetch_one(digest) for digest in digests]

    async def _fetch_one(self, digest: str) -> bytes | Exception:
        try:
            return await self._images.get(digest)
        except Transient:
            raise
        except IrisloopError as error:
            return error

    async def _prepared(
        self, contents: dict[int, bytes | Exception], image: ImageInput
    ) -> dict[int, NDArray[Any] | Exception]:
        found: dict[int, NDArray[Any] | Exception] = {
            place: content for place, content in contents.items() if isinstance(content, Exception)
        }
        there = [(place, content) for place, content in contents.items() if isinstance(content, bytes)]
        done = await self._prepare([content for _, content in there], image)
        found.update(zip((place for place, _ in there), done, strict=True))
        return found

    async def _infer(
        self, version: Version, jobs: list[Job], prepared: dict[int, NDArray[Any] | Exception]
    ) -> list[Made]:
        """Several roles may point at one version: it runs once."""
        good: dict[int, NDArray[Any]] = {}
        results: dict[int, Answer] = {}
        for place in sorted({job.place for job in jobs}):
            pixels = prepared[place]
            if isinstance(pixels, Exception):
                results[place] = Answer(error=str(pixels))
            else:
                good[place] = pixels
        started = time.perf_counter()
        if good:
            results.update(zip(good, await self._answers(version, list(good.values())), strict=True))
        latency, at = (time.perf_counter() - started) * 1000, self._clock()
        return [
            Made(job.id, job.place, job.model, version.name, job.role, results[job.place], latency, at, job.rollout_id)
            for job in jobs
        ]

    async def _answers(self, version: Version, pixels: list[NDArray[Any]]) -> list[Answer]:
        card = _card(version)
        most = version.config.max_batch_size or 1
        found: list[Answer] = []
        for at in range(0, len(pixels), most):
            part = pixels[at : at + most]
            try:
                inputs = {card.image.name: stacked(part, card.image)}
                outputs = await run_in_background(version.runner, inputs, len(part))
                found += answers(card, outputs)
            except (InferenceFailed, BadPackage) as error:
                log.error("inference_failed", model=version.model, version=version.name, error=str(error))
                found += [Answer(error=str(error))] * len(part)
        return found


def _card(version: Version) -> ModelCard:
    """Only registry's models have aliases to be bound, and each of these came with its card."""
    assert version.card is not None
    return version.card


def prediction_id(asset: str, model: str, role: str) -> str:
    """One prediction an asset, model and role, whatever the version."""
    return derive_id("prediction", asset, model, role)
