"""The nouns of labeling, as the handlers and the rules see them.

Times are `Micros`: microseconds since the epoch, UTC. They compare, bucket and store faster than datetimes do, and a
queue meets thousands a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Micros: TypeAlias = int
CHAMPION = "champion"
BACKGROUND = "background"
"""The class of a whole image that says: looked at, and there is nothing to draw a box around."""
IMPORTED = "import/"
"""What the camera ids of imported folders start with."""


class Source(IntEnum):
    """Where an annotation came from; the numbers are the contract's."""

    IMPORT = 1
    TASK = 2
    DIRECT = 3


class Origin(IntEnum):
    """Why a task exists; the numbers are the contract's, and also the order in which tasks are handed out, last first
    except that uniform comes before uncertain. A probe has no number there: nobody is told that a task is one's.
    """

    UNIFORM = 1
    UNCERTAINTY = 2
    DRIFT = 3
    REQUEST = 4
    PROBE = 100


class State(IntEnum):
    """Of a task; the numbers are the contract's."""

    OPEN = 1
    LEASED = 2
    DONE = 3
    SKIPPED = 4
    CLOSED = 5


class RequestState(StrEnum):
    """Of a request for a dataset version."""

    OPEN = "open"
    SERVED = "served"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Bytes in the object store."""

    digest: str
    size_bytes: int
    content_type: str


@dataclass(frozen=True, slots=True)
class Asset:
    """What labeling needs to know of a stored frame."""

    id: str
    camera_id: str
    captured_at: Micros
    object: StoredObject


@dataclass(frozen=True, slots=True)
class Label:
    """A class: of the whole image, or of a box (x, y, width, height) or ring (x0, y0, x1, y1, ...) in pixels."""

    class_name: str
    box: tuple[float, float, float, float] | None = None
    polygon: tuple[float, ...] | None = None


@lru_cache(maxsize=4_096)
def whole_image_class(labels: tuple[Label, ...]) -> str:
    """The class of the first label without geometry: what a classifier learns; "" when there is none."""
    return next((label.class_name for label in labels if label.box is None and label.polygon is None), "")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One revision of what a person, or an import, says about an asset; one without labels takes the earlier back."""

    id: str
    asset: Asset
    revision: int
    labels: tuple[Label, ...]
    annotated_by: str
    annotated_at: Micros
    valid_from: Micros
    source: Source
    task_id: str = ""
    superseded_at: Micros | None = None
    superseded_by: str = ""

    @property
    def class_name(self) -> str:
        """Of the whole image."""
        return whole_image_class(self.labels)

    @property
    def withdrawn(self) -> bool:
        """Whether nothing is known of the asset any more."""
        return not self.labels


@dataclass(frozen=True, slots=True)
class Draw:
    """How a prediction came to be looked at; `propensity` 0..1, 0 when not known."""

    origin: Origin
    propensity: float


class Detection(NamedTuple):
    """A box that a detector found, in pixels of the stored image; `score` 0..1."""

    class_name: str
    score: float
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Reference:
    """A prediction, as far as labels are joined to it. A detector's has a `decision_threshold`, above which detections
    are its answer; its `class_name` is the best one's, "" where there is none. `features` are the contract's message,
    passed on as it came.
    """

    prediction_id: str
    model: str
    version: str
    role: str
    class_name: str
    score: float
    detections: tuple[Detection, ...] = ()
    decision_threshold: float | None = None
    features: bytes = b""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction that tasks may be drawn from; `margin` 0..1, largest minus second largest probability, of a detector
    how near a score comes to the decision threshold.
    """

    reference: Reference
    asset_id: str
    camera_id: str
    captured_at: Micros
    margin: float


@dataclass(frozen=True, slots=True)
class Task:
    """A question to a person. `cause` is the incident or request it was drawn for; `object` is known at lease."""

    id: str
    asset_id: str
    camera_id: str
    captured_at: Micros
    state: State
    draw: Draw
    suggestion: Reference | None
    dataset: str
    cause: str
    created_at: Micros
    leased_until: Micros = 0
    leased_by: str = ""
    sequence: int = 0
    object: StoredObject | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Classes in the order of a model's outputs, and which cameras' assets belong."""

    name: str
    class_names: tuple[str, ...]
    cameras: tuple[str, ...]
    created_at: Micros

    def has_camera(self, camera_id: str) -> bool:
        """Whether the camera's assets belong; * and ? match any text and any character."""
        return any(fnmatchcase(camera_id, pattern) for pattern in self.cameras)

    def takes(self, camera_id: str, class_name: str) -> bool:
        """Whether an asset of that camera and class belongs; a detector that found nothing names no class."""
        return (not class_name or class_name in self.class_names) and self.has_camera(camera_id)


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable cut of a dataset; counts are of rows in force."""

    dataset: str
    number: int
    digest: str
    manifest: StoredObject
    class_names: tuple[str, ...]
    splits: dict[str, int]
    classes: dict[str, int]
    superseded_left_out: int
    created_at: Micros
    created_by: str
    request_id: str
    condition_since: Micros | None
    condition_labels: int
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class VersionRequest:
    """A version that is wanted as soon as `labels_wanted` labels of its condition are there.

    Of the condition are assets captured at or after `labels_since`, of `cameras` unless that is empty.
    """

    id: str
    dataset: str
    labels_since: Micros | None
    labels_wanted: int
    model: str
    requested_by: str
    requested_at: Micros
    cameras: tuple[str, ...] = ()
    state: RequestState = RequestState.OPEN
    version: int = 0

    def concerns(self, camera_id: str) -> bool:
        """Whether assets of that camera can be of the condition."""
        return not self.cameras or camera_id in self.cameras

    def is_new(self, asset: Asset) -> bool:
        """Whether an asset is of the condition; none is when the request names no time."""
        return (
            self.labels_since is not None and asset.captured_at >= self.labels_since and self.concerns(asset.camera_id)
        )


@dataclass(frozen=True, slots=True)
class Incident:
    """A drift as monitor said it last, and how many tasks were drawn for it."""

    id: str
    model: str
    revision: int
    cameras: tuple[str, ...]
    began_at: Micros
    drawing: bool
    drawn: int = 0


@dataclass(frozen=True, slots=True)
class ConceptChange:
    """From `began_at` on the named classes mean something else on the cameras that these patterns match."""

    incident_id: str
    class_names: tuple[str, ...]
    began_at: Micros
    cameras: tuple[str, ...]

    def overtakes(self, annotation: Annotation) -> bool:
        """Whether the annotation reads a touched class in the old way."""
        return (
            annotation.class_name in self.class_names
            and annotation.valid_from < self.began_at
            and any(fnmatchcase(annotation.asset.camera_id, pattern) for pattern in self.cameras)
        )
