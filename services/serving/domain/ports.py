"""What the handlers need from outside, as Protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

from services.serving.domain.bindings import Binding, BindingTable
from services.serving.domain.package import ModelCard
from services.serving.domain.tensors import TensorSpec

if TYPE_CHECKING:
    from services.serving.domain.routes import Target

Arrays = Mapping[str, NDArray[Any]]
DeploymentState = Literal["loaded", "failed", "unloaded"]


class Engine(Protocol):
    """A graph that runs; calls that are queued together run together."""

    @property
    def inputs(self) -> Sequence[TensorSpec]: ...

    @property
    def outputs(self) -> Sequence[TensorSpec]: ...

    @property
    def max_batch(self) -> int:
        """Most rows of one call; 0 when the first dimension is not a batch."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep it open inside the block although it was retired."""

    async def infer(self, inputs: Arrays, *, background: bool = False) -> Arrays:
        """All outputs, once the queue comes to it. Raises `Overloaded` (never in the background), `InferenceFailed`."""

    def retire(self) -> None:
        """Take no new holders; close after the last call."""

    async def close(self) -> None:
        """Finish what runs and give the memory back."""


class ModelSource(Protocol):
    """Where packages come from: fetched, verified, loaded and warmed up."""

    async def load(self, target: Target) -> tuple[ModelCard, Engine]:
        """Raises `BadPackage`, `SignatureRefused`, `NotFound` for good; `Transient` when it may work later."""


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
