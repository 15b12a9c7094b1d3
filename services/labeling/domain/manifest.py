"""The rows of a dataset version: which labels are in it, where, and their digest.

docs/reference/manifest.md says it in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from services.labeling.domain.model import Annotation, Dataset, Micros, VersionRequest
from services.labeling.domain.splits import TEST, Splits

OLD = "old"
NEW = "new"


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled asset in a version."""

    annotation: Annotation
    class_index: int
    split: str
    condition: str

    @property
    def in_force(self) -> bool:
        """Whether no later reading of its class has superseded it."""
        return self.annotation.superseded_at is None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Rows in the order of (captured_at, asset_id), and what there is to say about them."""

    dataset: Dataset
    condition_since: Micros | None
    rows: tuple[Row, ...]
    digest: str
    superseded_left_out: int

    @property
    def splits(self) -> dict[str, int]:
        """In-force rows of each split."""
        return dict(Counter(row.split for row in self.rows if row.in_force))

    @property
    def classes(self) -> dict[str, int]:
        """In-force rows of each class."""
        return dict(Counter(row.annotation.class_name for row in self.rows if row.in_force))

    @property
    def condition_labels(self) -> int:
        """In-force rows of the new condition."""
        return sum(row.in_force and row.condition == NEW for row in self.rows)


def compose(dataset: Dataset, annotations: Sequence[Annotation], splits: Splits, request: VersionRequest) -> Manifest:
    """Lay out the annotations (newest revisions, of the dataset's cameras and classes) as rows."""
    places = {name: place for place, name in enumerate(dataset.class_names)}
    ordered = sorted(annotations, key=lambda one: (one.asset.captured_at, one.asset.id))
    sides = splits.assign([one.asset for one in ordered])
    rows = tuple(
        Row(one, places[one.class_name], side, NEW if request.is_new(one.asset) else OLD)
        for one, side in zip(ordered, sides, strict=True)
        if one.superseded_at is None or side == TEST
    )
    superseded = sum(one.superseded_at is not None for one in ordered)
    return Manifest(dataset, request.labels_since, rows, rows_digest(rows), superseded)


def rows_digest(rows: Iterable[Row]) -> str:
    """SHA-256 over the rows as lines of tab-separated values."""
    digest = sha256()
    for row in rows:
        one = row.annotation
        values = (
            one.asset.id, one.asset.captured_at, one.asset.object.digest, one.class_name, row.class_index, row.split,
            row.condition, int(row.in_force), one.revision,
        )  # fmt: skip
        digest.update(("\t".join(map(str, values)) + "\n").encode())
    return digest.hexdigest()
