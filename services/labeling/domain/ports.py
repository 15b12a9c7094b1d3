"""What the handlers need of the world: a ledger to write in, a place for manifests, and somebody who knows assets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from services.labeling.domain.manifest import Manifest
from services.labeling.domain.model import (
    Annotation,
    Asset,
    ConceptChange,
    Dataset,
    Draw,
    Incident,
    Label,
    Micros,
    Origin,
    Prediction,
    Reference,
    State,
    StoredObject,
    Task,
    Version,
    VersionRequest,
)
from services.labeling.domain.probe import Probe, Reading, Tally

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AnnotationFilter:
    """Which annotations to list; empty fields do not restrict. `after` is the last sequence of the page before."""

    asset_id: str = ""
    camera_id: str = ""
    since: Micros | None = None
    revisions: bool = False
    after: int = 0
    limit: int = 100


class Pool(Protocol):
    """Assets and predictions of the last days, to draw tasks from."""

    def note_assets(self, assets: Sequence[Asset]) -> int:
        """Keep those not known yet; returns how many."""

    def assets(self, ids: Iterable[str]) -> dict[str, Asset]:
        """Those known and not deleted, by id."""

    def deleted(self, ids: Iterable[str]) -> set[str]:
        """Those that are known to be deleted."""

    def forget(self, ids: Sequence[tuple[str, str]], at: Micros) -> None:
        """Mark (asset id, camera id) as deleted, known or not, and drop its predictions."""

    def note_predictions(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Keep those not known yet, and return them."""

    def references(self, asset_ids: Iterable[str]) -> dict[str, list[Reference]]:
        """The predictions of each asset, the champion's first."""

    def candidates(self, model: str, since: Micros, limit: int) -> list[Prediction]:
        """The champion's newest, captured at or after `since`, whose asset nobody labelled or was asked about.

        Of any model when `model` is empty.
        """

    def unasked(self, asset_ids: Iterable[str]) -> set[str]:
        """Those that nobody labelled or was asked about."""

    def prune(self, before: Micros, most: int) -> int:
        """Drop what was captured before, and the oldest beyond `most`, but nothing that an open task needs."""


class Annotations(Protocol):
    """Every revision of every annotation."""

    def current(self, asset_ids: Iterable[str]) -> dict[str, Annotation]:
        """The newest revision of each asset that has one."""

    def last_imported(self, asset_ids: Iterable[str]) -> dict[str, tuple[Label, ...]]:
        """What the newest import said about each asset, whoever corrected it since."""

    def add(self, annotations: Sequence[Annotation]) -> None:
        """Add revisions; each becomes the newest of its asset."""

    def page(self, chosen: AnnotationFilter) -> list[tuple[int, Annotation]]:
        """With their sequence, in its order."""

    def count_in_force(self, dataset: Dataset, since: Micros | None, cameras: Sequence[str]) -> int:
        """How many labels of the dataset, captured at or after `since` by `cameras` (by all when empty), are in
        force.
        """

    def of_dataset(self, dataset: Dataset) -> list[Annotation]:
        """The newest revision of every asset that belongs to the dataset and is not deleted."""

    def answered_before(self, at: Micros, dataset: Dataset, cameras: Sequence[str], limit: int) -> list[Annotation]:
        """What people (no imports) said of assets of a dataset and of `cameras` (of all when empty): of the whole
        image, captured and said before `at`, still in force, of an asset that is not deleted; the newest said first.
        """

    def supersede(self, change: ConceptChange) -> int:
        """Mark what the change overtakes, and unmark what an earlier word about the same incident marked."""

    def changes(self) -> list[ConceptChange]:
        """All concept changes told so far."""

    def forget(self, asset_ids: Sequence[str]) -> None:
        """Take the annotations of deleted assets out of what is in force."""


class Tasks(Protocol):
    """The queue."""

    def add(self, tasks: Sequence[Task]) -> int:
        """Add those whose id is new and whose asset has no open task; returns how many."""

    def by_ids(self, ids: Iterable[str]) -> dict[str, Task]:
        """Those known."""

    def newest_open(self, origin: Origin, dataset: str, limit: int) -> list[Task]:
        """Open tasks whose asset is stored, newest first, with their object."""

    def lease(self, ids: Sequence[str], by: str, until: Micros) -> None:
        """Hand them out."""

    def take_back(self, now: Micros) -> int:
        """Open again what was leased until before now; returns how many."""

    def settle(self, ids: Sequence[str], state: State) -> None:
        """Done, skipped or closed."""

    def close_cause(self, cause: str) -> int:
        """Close the open and leased tasks of an incident or a request."""

    def close_origins(self, dataset: str, origins: Sequence[Origin]) -> int:
        """Close the open and leased tasks of a dataset that were drawn so."""

    def close_assets(self, asset_ids: Sequence[str]) -> int:
        """Close the open and leased tasks of deleted assets."""

    def crowd_out(self, most: int) -> int:
        """Close the oldest uncertain, then the oldest random tasks beyond `most` open ones."""

    def pending(self, cause: str) -> int:
        """How many open and leased tasks there are of an incident or a request."""

    def handed(self, cause: str, who: str) -> int:
        """How many tasks of an incident, a request or a probe were handed to a person and not taken back."""

    def page(self, state: State | None, after: int, limit: int) -> list[Task]:
        """In the order of their sequence."""

    def counts(self) -> dict[State, int]:
        """How many there are in each state."""


class Datasets(Protocol):
    """Datasets, their versions, who waits for one, and the incidents that change what is asked."""

    def put(self, dataset: Dataset) -> None:
        """Create or replace."""

    def get(self, name: str) -> Dataset:
        """Raises `UnknownDataset`."""

    def all(self) -> list[Dataset]:
        """By name."""

    def splits(self, dataset: str) -> list[tuple[str, str]]:
        """The remembered assignments: (key, split)."""

    def add_version(self, version: Version, manifest: Manifest, splits: Mapping[str, str]) -> None:
        """Keep the version, who is in it, and the new assignments."""

    def last_number(self, dataset: str) -> int:
        """0 when there is no version."""

    def version(self, dataset: str, number: int) -> Version:
        """The newest when 0. Raises `UnknownVersion`."""

    def versions(self, dataset: str, asset_id: str, since: Micros | None) -> list[Version]:
        """By dataset and number; empty arguments do not restrict."""

    def forget(self, asset_ids: Sequence[str]) -> None:
        """Mark the versions that hold deleted assets."""

    def request(self, request_id: str) -> VersionRequest | None:
        """By id."""

    def open_requests(self) -> list[VersionRequest]:
        """Oldest first."""

    def put_request(self, request: VersionRequest) -> None:
        """Create or replace."""

    def incident(self, incident_id: str) -> Incident | None:
        """By id."""

    def drawing_incidents(self) -> list[Incident]:
        """Those that tasks are still drawn for."""

    def put_incident(self, incident: Incident) -> None:
        """Create or replace."""


class Probes(Protocol):
    """Blind probes, and the assets that were drawn for them."""

    def get(self, probe_id: str) -> Probe | None:
        """By id."""

    def open(self) -> list[Probe]:
        """Those whose answers are awaited."""

    def put(self, probe: Probe) -> None:
        """Create or replace."""

    def add(self, readings: Sequence[Reading]) -> None:
        """Assets drawn."""

    def readings(self, task_ids: Iterable[str]) -> dict[str, Reading]:
        """By task."""

    def answer(self, reading: Reading) -> None:
        """Keep how it is read now."""

    def tally(self, probe_id: str) -> Tally:
        """How its assets ended."""


class Ledger(Protocol):
    """Everything labeling keeps, inside one transaction."""

    @property
    def pool(self) -> Pool:
        """Assets and predictions."""

    @property
    def annotations(self) -> Annotations:
        """What people said."""

    @property
    def tasks(self) -> Tasks:
        """What people are asked."""

    @property
    def datasets(self) -> Datasets:
        """What is cut from it."""

    @property
    def probes(self) -> Probes:
        """What people are asked again."""

    def say_confirmed(self, said: Sequence[tuple[Annotation, Draw | None, Sequence[Reference]]]) -> None:
        """`annotation confirmed`, published once the transaction commits."""

    def say_created(self, version: Version) -> None:
        """`dataset version created`, published once the transaction commits."""

    def say_again(self, probe: Probe, readings: Sequence[Reading]) -> None:
        """`probe answered`, published once the transaction commits."""

    def say_ended(self, probe: Probe, tally: Tally, at: Micros) -> None:
        """`probe ended`, published once the transaction commits."""


class Ledgers(Protocol):
    """Opens ledgers."""

    async def transact(self, work: Callable[[Ledger], T]) -> T:
        """One write transaction."""

    async def read(self, work: Callable[[Ledger], T]) -> T:
        """One consistent read."""


class ManifestStore(Protocol):
    """Where manifests lie for whoever trains on them."""

    async def put(self, manifest: Manifest) -> StoredObject:
        """Durable when it returns."""


class AssetDirectory(Protocol):
    """Knows assets that the bus told of too long ago."""

    async def find(self, asset_id: str) -> Asset | None:
        """None when there is no such asset. Raises `Unavailable`."""


Clock = Callable[[], Micros]
