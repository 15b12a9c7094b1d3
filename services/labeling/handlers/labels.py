"""Takes labels: imported in bulk, or given directly by a person or a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from services.common.bus import derive_id
from services.common.errors import InvalidMessage
from services.common.metrics import LABELING_ANNOTATIONS
from services.labeling.domain.model import (
    Annotation,
    Asset,
    ConceptChange,
    Dataset,
    Draw,
    Label,
    Micros,
    Reference,
    Source,
)
from services.labeling.domain.ports import AnnotationFilter, AssetDirectory, Clock, Ledger, Ledgers
from services.labeling.errors import AssetDeleted, UnknownAnnotation, UnknownAsset, UnknownClass
from services.labeling.handlers.datasets import checked_dataset

IMPORTED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Said:
    """Labels that somebody gave to an asset; `draw` and `task_id` when it was an answer."""

    asset: Asset
    labels: tuple[Label, ...]
    source: Source
    valid_from: Micros | None = None
    task_id: str = ""
    draw: Draw | None = None


@dataclass(slots=True)
class Scribe:
    """Writes revisions inside one transaction, with the events that they cause."""

    ledger: Ledger
    by: str
    now: Micros
    references: dict[str, list[Reference]] = field(default_factory=dict)

    def write(self, said: Sequence[Said], current: dict[str, Annotation]) -> list[Annotation]:
        """Add a revision for each, and put it into `current`; the same asset may come again."""
        changes = self.ledger.annotations.changes()
        written: list[Annotation] = []
        wave: dict[str, tuple[Said, Annotation]] = {}
        for one in said:
            if one.asset.id in wave:
                self._flush(wave)
            annotation = self._revision(one, current.get(one.asset.id), changes)
            current[one.asset.id] = annotation
            wave[one.asset.id] = (one, annotation)
            written.append(annotation)
        self._flush(wave)
        return written

    def _flush(self, wave: dict[str, tuple[Said, Annotation]]) -> None:
        self.ledger.annotations.add([annotation for _, annotation in wave.values()])
        self.ledger.say_confirmed(
            [(annotation, said.draw, self.references.get(said.asset.id, ())) for said, annotation in wave.values()]
        )
        wave.clear()

    def _revision(self, said: Said, before: Annotation | None, changes: Sequence[ConceptChange]) -> Annotation:
        revision = before.revision + 1 if before is not None else 1
        annotation = Annotation(
            id=derive_id("annotation", said.asset.id, str(revision)),
            asset=said.asset,
            revision=revision,
            labels=said.labels,
            annotated_by=self.by,
            annotated_at=self.now,
            valid_from=said.asset.captured_at if said.valid_from is None else said.valid_from,
            source=said.source,
            task_id=said.task_id,
        )
        return overtaken(annotation, changes)


def overtaken(annotation: Annotation, changes: Sequence[ConceptChange]) -> Annotation:
    """The annotation, marked when a concept change known already overtakes it."""
    for change in changes:
        if change.overtakes(annotation):
            return replace(annotation, superseded_at=change.began_at, superseded_by=change.incident_id)
    return annotation


@dataclass(frozen=True, slots=True)
class LabelHandlers:
    """Bound to a ledger, somebody who knows assets, and a clock; `on_labels` is called after labels were added."""

    ledgers: Ledgers
    directory: AssetDirectory
    clock: Clock
    on_labels: Callable[[], None]

    async def import_labels(
        self,
        dataset: str,
        class_names: tuple[str, ...],
        cameras: tuple[str, ...],
        labels: Sequence[tuple[Asset, tuple[Label, ...]]],
        by: str,
    ) -> tuple[int, int]:
        """Take labels that came with their images, a thousand a transaction; returns (created, unchanged).

        The dataset is made when it is missing, and gets the classes and cameras it lacks: what is imported into it is
        in it. Importing the same labels again changes
        nothing, also where a person has corrected them since.
        """
        if dataset:
            await self.ledgers.transact(lambda ledger: self._prepare(ledger, dataset, class_names, cameras, labels))
        created = 0
        for start in range(0, len(labels), IMPORTED_AT_ONCE):
            part = labels[start : start + IMPORTED_AT_ONCE]
            created += await self.ledgers.transact(partial(self._import, part=part, by=by))
        LABELING_ANNOTATIONS.labels("import", "created").inc(created)
        LABELING_ANNOTATIONS.labels("import", "unchanged").inc(len(labels) - created)
        if created:
            self.on_labels()
        return created, len(labels) - created

    async def confirm(self, asset_id: str, labels: tuple[Label, ...], valid_from: Micros | None, by: str) -> Annotation:
        """Take a label given without a task. The same person saying the same again is saying it once."""
        if not labels:
            raise InvalidMessage("An annotation needs a label.", field="labels")
        asset = await self._asset(asset_id)
        annotation, added = await self.ledgers.transact(
            lambda ledger: self._confirm(ledger, Said(asset, labels, Source.DIRECT, valid_from), by)
        )
        LABELING_ANNOTATIONS.labels("direct", "created" if added else "unchanged").inc()
        if added:
            self.on_labels()
        return annotation

    async def withdraw(self, asset_id: str, by: str) -> Annotation:
        """Take the label of an asset back: a revision without labels. The asset is in no later dataset version and
        counts in no measure of quality. Withdrawing again changes nothing.

        Raises `UnknownAnnotation` where there is no label.
        """
        annotation, added = await self.ledgers.transact(lambda ledger: self._withdraw(ledger, asset_id, by))
        LABELING_ANNOTATIONS.labels("direct", "withdrawn" if added else "unchanged").inc()
        return annotation

    async def page(self, chosen: AnnotationFilter) -> tuple[list[Annotation], str]:
        """A page in the order in which they were given, and the cursor of the next one, "" at the end."""
        one_more = replace(chosen, limit=chosen.limit + 1)
        rows = await self.ledgers.read(lambda ledger: ledger.annotations.page(one_more))
        page = rows[: chosen.limit]
        return [annotation for _, annotation in page], str(page[-1][0]) if len(rows) > len(page) else ""

    def _prepare(
        self,
        ledger: Ledger,
        name: str,
        class_names: tuple[str, ...],
        cameras: tuple[str, ...],
        labels: Sequence[tuple[Asset, tuple[Label, ...]]],
    ) -> None:
        known = next((one for one in ledger.datasets.all() if one.name == name), None)
        if known is None:
            dataset = checked_dataset(name, class_names, cameras, self.clock())
        else:
            more = tuple(one for one in class_names if one not in known.class_names)
            dataset = Dataset(name, known.class_names + more, known.cameras, known.created_at)
        _check_classes(dataset, labels)
        strange = {asset.camera_id for asset, _ in labels if not dataset.has_camera(asset.camera_id)}
        dataset = replace(dataset, cameras=(*dataset.cameras, *sorted(strange)))
        if dataset != known:
            ledger.datasets.put(dataset)

    def _import(self, ledger: Ledger, *, part: Sequence[tuple[Asset, tuple[Label, ...]]], by: str) -> int:
        ids = [asset.id for asset, _ in part]
        gone = ledger.pool.deleted(ids)
        current = ledger.annotations.current(ids)
        corrected = [one.asset.id for one in current.values() if one.source is not Source.IMPORT]
        imported = {one.asset.id: one.labels for one in current.values() if one.source is Source.IMPORT}
        imported.update(ledger.annotations.last_imported(corrected))
        said = []
        for asset, labels in part:
            if asset.id not in gone and imported.get(asset.id) != labels:
                imported[asset.id] = labels
                said.append(Said(asset, labels, Source.IMPORT))
        scribe = Scribe(ledger, by, self.clock(), ledger.pool.references(ids) if said else {})
        return len(scribe.write(said, current))

    async def _asset(self, asset_id: str) -> Asset:
        def look(ledger: Ledger) -> Asset | None:
            if ledger.pool.deleted([asset_id]):
                raise AssetDeleted("This asset was deleted.", field="asset_id")
            known = ledger.annotations.current([asset_id]).get(asset_id)
            return known.asset if known is not None else ledger.pool.assets([asset_id]).get(asset_id)

        asset = await self.ledgers.read(look) or await self.directory.find(asset_id)
        if asset is None:
            raise UnknownAsset(f"There is no asset {asset_id[:64]!r}.", field="asset_id")
        return asset

    def _confirm(self, ledger: Ledger, said: Said, by: str) -> tuple[Annotation, bool]:
        current = ledger.annotations.current([said.asset.id])
        known = current.get(said.asset.id)
        if (
            known is not None
            and known.labels == said.labels
            and known.annotated_by == by
            and (said.valid_from is None or known.valid_from == said.valid_from)
        ):
            return known, False
        scribe = Scribe(ledger, by, self.clock(), ledger.pool.references([said.asset.id]))
        written = scribe.write([said], current)[0]
        ledger.tasks.close_assets([said.asset.id])
        return written, True

    def _withdraw(self, ledger: Ledger, asset_id: str, by: str) -> tuple[Annotation, bool]:
        current = ledger.annotations.current([asset_id])
        known = current.get(asset_id)
        if known is None:
            raise UnknownAnnotation(f"The asset {asset_id[:64]!r} has no label.", field="asset_id")
        if known.withdrawn:
            return known, False
        scribe = Scribe(ledger, by, self.clock(), ledger.pool.references([asset_id]))
        return scribe.write([Said(known.asset, (), Source.DIRECT, known.valid_from)], current)[0], True


def _check_classes(dataset: Dataset, labels: Sequence[tuple[Asset, tuple[Label, ...]]]) -> None:
    known = set(dataset.class_names)
    for place, (_, given) in enumerate(labels):
        for label in given:
            if label.class_name not in known:
                raise UnknownClass(
                    f"Dataset {dataset.name!r} has no class {label.class_name!r}.",
                    field=f"annotations[{place}].labels",
                )
