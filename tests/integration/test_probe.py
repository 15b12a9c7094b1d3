"""A probe from end to end: the monitor's judge asks, labeling's handlers draw and take answers, the judge believes.

Everything between the two goes through the contracts' messages, as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irisloop.labeling.v1 import labeling_pb2 as pb
from irisloop.topics import ANNOTATION_CONFIRMED, PROBE_ANSWERED, PROBE_ENDED

from services.common.bus import Delivery, derive_id
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Asset, Label, StoredObject
from services.labeling.domain.ports import AnnotationFilter
from services.labeling.handlers.tasks import Answer
from services.monitor import wire
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Cause, DriftFound, Finding, Harm, Incident, Request, State
from services.monitor.domain.inputs import Labelled
from services.monitor.domain.probe_events import ProbeEnded, ProbeRequest, ProbeVerdict, Reread
from tests.unit.labeling.world import World as Labeling
from tests.unit.labeling.world import predicted, stored, world
from tests.unit.monitor.old_answers import OldAnswers
from tests.unit.monitor.worlds import CLASSES, World, policy

UNASKED = DrawPolicy(uniform_share=0.0, uncertainty_share=0.0, drift_tasks=0)
PEOPLE = ("ann", "ben", "cid")


def micros(at: float) -> int:
    return round(at * 1e6)


@dataclass
class Both:
    """Monitor's judge and labeling beside it: labels of new frames go to the judge at once, the probe to labeling."""

    labeling: Labeling
    cameras: World
    engine: Engine = field(default_factory=lambda: Engine.new(policy()))
    asked_of: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """All of it."""
        await self.labeling.datasets.put("parts", CLASSES, ("*",))
        noted = 0
        for batch in self.cameras.inputs():
            given = list(self.cameras.old.given.values())
            await self._remember(given[noted:])
            noted = len(given)
            found = self.engine.feed(batch)
            self.cameras.heard(found)
            await self._tell(found)
        await self._tell(self.engine.drain())

    async def _remember(self, labels: Sequence[Labelled]) -> None:
        """Labeling has taken these answers, each from one of three people."""
        for label in labels:
            digest = derive_id("object", label.asset_id).replace("-", "") * 2
            asset = Asset(
                label.asset_id, label.camera_id, micros(label.captured_at), StoredObject(digest, 9, "image/png")
            )
            self.labeling.now = micros(label.at)
            await self.labeling.send(stored(asset), predicted(asset, label.predictions[0].class_name))
            who = PEOPLE[int(label.asset_id.partition("-")[2]) % 3]
            await self.labeling.labels.confirm(label.asset_id, (Label(label.class_name),), None, who)

    async def _tell(self, found: Sequence[Finding]) -> None:
        for finding in found:
            if isinstance(finding, DriftFound | ProbeRequest):
                self.labeling.now = micros(finding.at)
                await self.labeling.send(wire.event_of(finding))
            if isinstance(finding, ProbeRequest):
                await self._answer(finding.at + 5.0)

    async def _answer(self, at: float) -> None:
        """Three people empty the queue; what labeling says of it is heard by the judge."""
        self.labeling.now = micros(at)
        for who in PEOPLE:
            while tasks := await self.labeling.tasks.lease(100, 60, "", who):
                self.asked_of |= {task.asset_id for task in tasks}
                answers = [Answer(task.id, (Label(self._says(task.asset_id)),)) for task in tasks]
                await self.labeling.tasks.answer(answers, who)
        await self.labeling.settle()
        bus = self.labeling.bus
        said: list[Delivery[Any]] = [*bus.events(PROBE_ANSWERED), *bus.events(PROBE_ENDED)]
        for delivery in said:
            heard = wire.input_of(delivery)
            assert isinstance(heard, Reread | ProbeEnded)
            self.cameras.old.waiting.append(heard)

    def _says(self, asset_id: str) -> str:
        label = self.cameras.old.given[asset_id]
        return self.cameras.old.read(label, "")

    def incidents(self) -> list[Incident]:
        """Every word about incidents of labels."""
        said = [f.incident for f in self.cameras.findings if isinstance(f, DriftFound)]
        wanted = {i.id for i in said if i.cause is Cause.LABELS}
        return [i for i in said if i.id in wanted]


async def test_two_swapped_classes_are_confirmed_by_what_people_say_of_old_assets(tmp_path: Path) -> None:
    async with world(tmp_path, UNASKED) as labeling:
        both = Both(labeling, World(1, swapped=(2, 7), frames=9_000, again=False))
        await both.run()
        (request,) = [f for f in both.cameras.findings if isinstance(f, ProbeRequest)]
        confirmed = next(i for i in both.incidents() if i.state is State.CONFIRMED)
        assert confirmed.probe is not None
        assert confirmed.probe.verdict is ProbeVerdict.MOVED
        assert confirmed.class_names == ("class-2", "class-7")
        answers = [delivery.value for delivery in labeling.bus.events(PROBE_ANSWERED)]
        assert {one.asset_id for one in answers} <= both.asked_of
        assert all(one.annotated_before_by != one.annotated_now_by for one in answers)
        assert all(one.annotated_before_at.ToMicroseconds() < micros(request.answered_before) for one in answers)
        assert {one.revision for one in answers} == {1}
        (end,) = [delivery.value for delivery in labeling.bus.events(PROBE_ENDED)]
        assert (end.reason, end.drawn, end.answered) == (pb.PROBE_END_ANSWERED, 30, 30)


async def test_old_labels_are_superseded_only_once_old_answers_are_other_and_stay_when_they_stand(
    tmp_path: Path,
) -> None:
    for folder, read, superseded in (("moved", None, True), ("stands", lambda label, who: label.class_name, False)):
        (tmp_path / folder).mkdir()
        async with world(tmp_path / folder, UNASKED) as labeling:
            both = Both(labeling, World(1, swapped=(2, 7), frames=9_000, again=False))
            if read is not None:
                both.cameras.old = OldAnswers(read)
            await both.run()
            last = both.incidents()[-1]
            assert last.harm is Harm.CROSSED
            old, _ = await labeling.labels.page(AnnotationFilter(limit=1_000))
            marked = [one for one in old if one.superseded_at is not None]
            assert bool(marked) is superseded
            assert {one.class_name for one in marked} <= {"class-2", "class-7"}
            assert {one.revision for one in old} == {1}
            await labeling.settle()
            assert len(labeling.bus.events(ANNOTATION_CONFIRMED)) == len(old)
            requests = [f for f in both.cameras.findings if isinstance(f, Request)]
            assert [bool(one.class_names) for one in requests] == [superseded]
