"""Knows stored assets, and forgets deleted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.labeling.domain.model import Asset
from services.labeling.domain.ports import Clock, Ledger, Ledgers


@dataclass(frozen=True, slots=True)
class AssetHandlers:
    """Bound to a ledger and a clock."""

    ledgers: Ledgers
    clock: Clock

    async def note(self, assets: Sequence[Asset]) -> int:
        """Keep what is needed to show and label them; those known already change nothing."""
        if not assets:
            return 0
        return await self.ledgers.transact(lambda ledger: ledger.pool.note_assets(assets))

    async def forget(self, deleted: Sequence[tuple[str, str]]) -> int:
        """Take deleted assets (id, camera) out of the queue and of later versions, and mark the versions they are in.

        Their annotations stay readable, but are in force no more. Returns how many were not forgotten before.
        """

        def work(ledger: Ledger) -> int:
            known = ledger.pool.deleted(asset_id for asset_id, _ in deleted)
            new = [(asset_id, camera_id) for asset_id, camera_id in dict(deleted).items() if asset_id not in known]
            if new:
                ids = [asset_id for asset_id, _ in new]
                ledger.pool.forget(new, self.clock())
                ledger.annotations.forget(ids)
                ledger.tasks.close_assets(ids)
                ledger.datasets.forget(ids)
            return len(new)

        return await self.ledgers.transact(work)
