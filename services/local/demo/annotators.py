"""The annotators: they answer only what labeling's queue hands them, some seconds later, by what is true today."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from irisloop.labeling.v1 import labeling_pb2, labeling_pb2_grpc

from services.common.errors import IrisloopError
from services.common.grpc import call, channel
from services.local.demo.frames import Truth

THINK_S: Final = 5.0
AT_ONCE: Final = 50


@dataclass(slots=True)
class Annotators:
    """A pool of people with a budget: at most `budget` answers once `begin_budget` was called."""

    address: str
    truth: Truth
    class_names: list[str]
    budget: int
    answered: Counter[str] = field(default_factory=Counter)
    since_onset: int | None = None
    taken: int = 0
    stopping: bool = False

    def begin_budget(self) -> None:
        """From now on every task taken counts."""
        self.since_onset, self.taken = 0, 0

    async def run(self) -> None:
        """Take tasks until `stopping`; a labeling service that is down is simply asked again."""
        async with channel(self.address) as connection:
            stub: labeling_pb2_grpc.LabelingServiceAsyncStub = labeling_pb2_grpc.LabelingServiceStub(connection)
            async with asyncio.TaskGroup() as group:
                while not self.stopping:
                    tasks = await self._lease(stub)
                    if tasks:
                        group.create_task(self._answer(stub, tasks))
                    await asyncio.sleep(0.5)

    def _left(self) -> int:
        return AT_ONCE if self.since_onset is None else min(AT_ONCE, self.budget - self.taken)

    async def _lease(self, stub: labeling_pb2_grpc.LabelingServiceAsyncStub) -> list[labeling_pb2.Task]:
        limit = self._left()
        if limit <= 0:
            return []
        request = labeling_pb2.LeaseTasksRequest(limit=limit, lease_seconds=60)
        try:
            answer = await call(stub.LeaseTasks, request)
        except IrisloopError:
            return []
        self.taken += len(answer.tasks)
        return list(answer.tasks)

    async def _answer(self, stub: labeling_pb2_grpc.LabelingServiceAsyncStub, tasks: list[labeling_pb2.Task]) -> None:
        await asyncio.sleep(THINK_S + 0.1)
        answers = [labeling_pb2.TaskAnswer(task_id=task.id, labels=self._labels(task)) for task in tasks]
        request = labeling_pb2.AnswerTasksRequest(answers=answers)
        for _ in range(40):
            try:
                await call(stub.AnswerTasks, request)
            except IrisloopError:
                await asyncio.sleep(0.5)
                continue
            for task in tasks:
                self.answered[labeling_pb2.TaskOrigin.Name(task.draw.origin).removeprefix("TASK_ORIGIN_").lower()] += 1
            if self.since_onset is not None:
                self.since_onset += len(tasks)
            return

    def _labels(self, task: labeling_pb2.Task) -> list[labeling_pb2.Label]:
        """The truth, or nothing (which skips the task) for an asset that is not the demo's."""
        label = self.truth.label_of(task.asset_id)
        return [] if label is None else [labeling_pb2.Label(class_name=self.class_names[label])]
