"""What the handlers need from outside, as Protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from numpy.typing import NDArray

from services.serving.domain.bindings import Binding, BindingTable
from services.serving.domain.statistics import Statistics
from services.serving.domain.tensors import Region
from services.serving.domain.work import Arrays, Asked, Work

if TYPE_CHECKING:
    from services.serving.domain.routes import Target, Version

DeploymentState = Literal["loaded", "failed", "unloaded"]


Ran = tuple[Arrays, bool]
"""One answer's outputs, and whether it is known to be the last."""
Inline = Callable[[Callable[[], None]], None]


class Backend(Protocol):
    """What runs a batch of one version; one contract suite for all (tests/contract/test_backends.py)."""

    @property
    def blocking(self) -> bool:
        """Whether `run` waits for something else than this process's CPU, so that it needs threads of its own."""

    @property
    def joins(self) -> bool:
        """Whether requests may be joined along the batch; else they run one by one, or as `run_group` has them."""

    @property
    def placement(self) -> str:
        """Where it really runs, e.g. onnxruntime's provider."""

    def run(self, inputs: Arrays, asked: Asked) -> Iterator[Ran]:
        """Blocks. Exactly one answer, the last, unless the model is decoupled.

        `asked` is the request's own when the model is decoupled, else that of the batch's first.
        Raises `InferenceFailed`, `BadRequest`, `Transient`.
        """

    def close(self) -> None:
        """Give the memory back; nothing runs any more."""


@runtime_checkable
class GroupBackend(Protocol):
    """A `Backend` that also takes the requests of a batch side by side, each as it came."""

    def run_group(self, requests: Sequence[tuple[Arrays, Asked]]) -> Sequence[Arrays | Exception]:
        """Blocks. Outputs or an error for each, in order. Raises when none of them could run."""


class Runner(Protocol):
    """A loaded version as requests meet it."""

    @property
    def statistics(self) -> Statistics: ...

    @property
    def pending(self) -> int:
        """Requests that wait."""

    def submit(self, work: Work, inline: Inline | None = None) -> None:
        """Queue a request; never blocks. Raises `Overloaded`, `BadRequest`; then the sink is not called.

        `inline` may be handed the turn that runs it, when the model is quick; the caller then runs it soon.
        """

    def hold(self) -> AbstractContextManager[None]:
        """Keep it open inside the block although it was retired. Raises `Overloaded` when it is closed already."""

    def retire(self) -> None:
        """Take no new holders; close after the last request."""

    async def close(self) -> None:
        """Finish what runs, refuse what waits, and give the memory back."""


class Regions(Protocol):
    """Shared-memory regions that clients registered."""

    def read(self, region: Region) -> memoryview:
        """The bytes, not copied. Raises `BadRequest` when the region is unknown or does not hold them."""

    def write(self, region: Region, data: bytes | memoryview) -> None:
        """Raises `BadRequest` when the region is unknown or too small."""


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """A region as it was registered."""

    name: str
    key: str
    """Of the segment."""
    offset: int
    byte_size: int


class RegionManager(Regions, Protocol):
    """Regions and their registration."""

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Raises `BadRequest`, `RegionTaken`."""

    def unregister(self, name: str = "") -> None:
        """The region, or all for ""."""

    def status(self, name: str = "") -> Sequence[RegionStatus]:
        """The region, or all for "". Raises `UnknownRegion`."""


class ModelSource(Protocol):
    """Where packages come from: fetched, verified, loaded and warmed up."""

    async def load(self, model: str, target: Target) -> Version:
        """Loaded and warmed up. Raises `BadPackage`, `SignatureRefused`, `NotFound` for good; `Transient` for now."""


@dataclass(frozen=True, slots=True)
class FolderModel:
    """A model of a model folder, as far as it could be loaded."""

    model: str
    state: str
    """Changes when anything of its files does."""
    versions: Mapping[str, Version]
    problems: Mapping[str, str]
    """Version to why it is not loaded; "" is the model as a whole."""
    members: tuple[str, ...] = ()
    """Of an ensemble: the models that it needs."""


class ModelFolder(Protocol):
    """A folder of models, as Triton and MLServer have them."""

    async def names(self) -> Sequence[str]:
        """Every model that lies there. Raises `Transient`."""

    async def state(self, model: str) -> str:
        """A word that changes when anything of the model does. Raises `UnknownModel`, `BadPackage`, `Transient`."""

    async def members(self, model: str, override: str) -> Sequence[str]:
        """What an ensemble needs; empty for all others. Raises `BadPackage`, `UnknownModel`."""

    async def load(
        self, model: str, present: Mapping[str, Version], override: str, files: Mapping[str, bytes]
    ) -> FolderModel:
        """Load what the version policy chooses; versions in `present` that did not change are kept as they are.

        `override`: a configuration as JSON that replaces the model's own; `files`: {path: content} that replace its
        folder. Raises `UnknownModel`, `Transient`.
        """


class ImageSource(Protocol):
    """The stored images."""

    async def get_many(self, digests: Sequence[str]) -> list[bytes]:
        """In the order given; raises when one is missing or damaged."""

    async def get(self, digest: str) -> bytes:
        """Raises `NotFound`, `IrisloopError` for damaged bytes, `Transient`."""


class ImagePreparer(Protocol):
    """Decodes and resizes off the event loop."""

    async def __call__(self, items: Sequence[bytes], image: Any) -> Sequence[NDArray[Any] | Exception]:
        """One prepared image or error an item."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A version on this replica."""

    model: str
    version: str
    roles: tuple[str, ...]
    state: DeploymentState
    error: str
    changed_at: datetime
    revision: int
    cause_time: datetime


class Announcer(Protocol):
    """Tells the others what is deployed here."""

    async def announce(self, changes: Sequence[Deployment]) -> None:
        """Return when it is durable. Raises `Transient`."""


class BindingStore(Protocol):
    """The bindings, shared by the replicas."""

    async def load(self) -> BindingTable: ...

    async def revision(self) -> int: ...

    async def put(self, binding: Binding) -> None: ...

    async def delete(self, model: str, role: str) -> bool:
        """Whether there was one."""
