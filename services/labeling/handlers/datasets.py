"""Datasets, and what is asked about their versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.names import NAME
from services.labeling.domain.model import Dataset, Micros, Version
from services.labeling.domain.ports import Clock, Ledger, Ledgers
from services.labeling.errors import BadDataset, ClassesFixed


@dataclass(frozen=True, slots=True)
class DatasetHandlers:
    """Bound to a ledger and a clock."""

    ledgers: Ledgers
    clock: Clock

    async def put(self, name: str, class_names: tuple[str, ...], cameras: tuple[str, ...]) -> Dataset:
        """Create or change a dataset; one that has versions keeps its classes in their order and may get more."""

        def work(ledger: Ledger) -> Dataset:
            wanted = checked_dataset(name, class_names, cameras, self.clock())
            known = next((one for one in ledger.datasets.all() if one.name == name), None)
            if known is not None:
                kept = class_names[: len(known.class_names)] == known.class_names
                if not kept and ledger.datasets.last_number(name):
                    raise ClassesFixed(
                        f"Dataset {name!r} has versions: its classes stay {', '.join(known.class_names)}, "
                        "and new ones come after them.",
                        field="class_names",
                    )
                wanted = Dataset(name, wanted.class_names, wanted.cameras, known.created_at)
            ledger.datasets.put(wanted)
            return wanted

        return await self.ledgers.transact(work)

    async def all(self) -> list[Dataset]:
        """By name."""
        return await self.ledgers.read(lambda ledger: ledger.datasets.all())

    async def version(self, dataset: str, number: int) -> Version:
        """The newest when 0."""
        return await self.ledgers.read(lambda ledger: ledger.datasets.version(dataset, number))

    async def versions(self, dataset: str, asset_id: str, since: Micros | None) -> Sequence[Version]:
        """By dataset and number; empty arguments do not restrict."""
        return await self.ledgers.read(lambda ledger: ledger.datasets.versions(dataset, asset_id, since))


def checked_dataset(name: str, class_names: tuple[str, ...], cameras: tuple[str, ...], now: Micros) -> Dataset:
    """A dataset of all cameras when none is named. Raises `BadDataset`."""
    if not NAME.fullmatch(name):
        raise BadDataset(
            f"A dataset's name is 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first: {name!r}.",
            field="name",
        )
    if not class_names or len(set(class_names)) != len(class_names) or not all(class_names):
        raise BadDataset("A dataset needs distinct class names.", field="class_names")
    return Dataset(name, class_names, cameras or ("*",), now)
