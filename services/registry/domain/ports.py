"""What the handlers need of the outside, as Protocols that `outbound` implements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from services.registry.domain.model import Candidate, GateResult, Model, Move, Rollout, Version, VersionState

T = TypeVar("T")


class Ledger(Protocol):
    """Registry's memory inside one transaction: what is read stays true until it commits, and every write is said.

    Times are aware, UTC. Reads raise `UnknownModel` or `UnknownVersion`.
    """

    def model(self, name: str) -> Model: ...

    def models(self) -> Sequence[Model]: ...

    def version(self, model: str, version: str) -> Version:
        """`version` is a number as text, or an alias."""

    def versions(self, model: str, *, since: datetime | None = None, run_id: str = "") -> Sequence[Version]: ...

    def version_of_run(self, model: str, run_id: str) -> Version | None:
        """What a run became; None for an empty id."""

    def add_version(
        self, candidate: Candidate, state: VersionState, gates: tuple[GateResult, ...], at: datetime
    ) -> Version:
        """Number it, creating its model when it is the first."""

    def set_state(self, version: Version, state: VersionState) -> Version: ...

    def settle(
        self, model: Model, aliases: dict[str, str], rollout: Rollout | None, *, by: str, reason: str, at: datetime
    ) -> Model:
        """Move what differs: a row of history and an event for each move, and the whole map published anew."""

    def count_pairs(self, rollout: Rollout, pairs: int) -> None:
        """Remember how many pairs were compared; nothing is said."""

    def say_judged(self, version: Version, *, by: str, reason: str, at: datetime) -> None: ...

    def approvals(self, version: Version) -> Mapping[str, bool]:
        """What each person said, the last word of each."""

    def approve(self, version: Version, principal: str, approved: bool, reason: str, at: datetime) -> None:
        """Record one person's word, replacing an earlier one of theirs."""

    def history(
        self, model: str, *, limit: int, before: int | None, since: datetime | None
    ) -> Sequence[tuple[int, Move]]:
        """Newest first, each with its sequence number; `before` continues a page."""


class Ledgers(Protocol):
    """Opens ledgers."""

    async def transact(self, work: Callable[[Ledger], T]) -> T:
        """Run `work` in one transaction; its events leave with the commit."""

    async def read(self, work: Callable[[Ledger], T]) -> T: ...
