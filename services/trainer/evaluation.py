"""Reports on any version, asked for by registry or by a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import derive_id
from services.trainer import wire
from services.trainer.domain.jobs import Job
from services.trainer.domain.ports import Books, Labeling, Launcher, Registry
from services.trainer.errors import NothingToLearnFrom
from services.trainer.scheduler import places
from services.trainer.settings import TrainerSettings


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Judges a version on the test split of a dataset version, in a child process."""

    books: Books
    labeling: Labeling
    registry: Registry
    launcher: Launcher
    settings: TrainerSettings
    clock: Callable[[], datetime]
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def evaluate(
        self, model: str, version: str, dataset: str, dataset_version: int
    ) -> trainer_pb2.EvaluationReport:
        """The report, also said as `evaluation finished`. Raises `ChildFailed`, `NotFound`, `NothingToLearnFrom`,
        `Unavailable`."""
        found = await self.labeling.version(dataset, dataset_version)
        opponent = await self.registry.version(model, version)
        settings = self.settings
        job = Job(
            kind="evaluate",
            run_id=derive_id("evaluation", opponent.package, found.manifest),
            model=model,
            dataset=dataset,
            dataset_version=found.version,
            manifest=found.manifest,
            class_names=list(found.class_names),
            **places(settings.common),
            seed=0,
            epochs=0,
            steps=0,
            batch=settings.batch,
            new_share=settings.new_share,
            flip=False,
            longest_side=settings.longest_side,
            threads=settings.threads,
            niceness=settings.niceness,
            opponent=opponent,
        )
        async with self.one_at_a_time:
            answer = await self.launcher.carry_out(job, lambda _: None)
        if answer.error:
            raise NothingToLearnFrom(answer.error, field="version")
        at = self.clock()
        report = wire.report_message(opponent.package, dataset, found.version, answer, at)
        content = report.SerializeToString()
        await self.books.transact(lambda book: book.say_evaluated(model, opponent.version, content, at))
        return report
