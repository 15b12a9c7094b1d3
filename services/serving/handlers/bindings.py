"""Which cameras are predicted on: bindings from people, tags from ingest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self

from services.common.errors import Transient
from services.common.telemetry import log
from services.serving.domain.bindings import Binding, BindingTable, checked
from services.serving.domain.ports import BindingStore
from services.serving.errors import UnknownBinding


class Bindings:
    """The bindings as this replica knows them; what another replica changes arrives within `refresh_s`."""

    def __init__(self, store: BindingStore, refresh_s: float) -> None:
        self._store = store
        self._refresh_s = refresh_s
        self._table = BindingTable()
        self._tags: dict[str, Mapping[str, str]] = {}
        self._selected: dict[tuple[str, str], Sequence[str]] = {}

    async def __aenter__(self) -> Self:
        """Know the bindings before anything is predicted."""
        await self._load()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to give back."""

    async def _load(self) -> None:
        self._table = await self._store.load()
        self._selected.clear()

    def note_camera(self, camera: str, tags: Mapping[str, str]) -> None:
        """A camera's tags, as ingest says them."""
        if self._tags.get(camera) != tags:
            self._tags[camera] = tags
            self._selected.clear()

    def bound(self, camera: str) -> list[Binding]:
        """The bindings that select the camera."""
        return self._table.bound(camera, self._tags.get(camera, {}))

    def cameras(self, model: str, role: str) -> Sequence[str]:
        """The known cameras that the binding of that model and role selects, sorted; one list until that changes."""
        found = self._selected.get((model, role))
        if found is None:
            found = self._selected[model, role] = [
                camera
                for camera in sorted(self._tags)
                if any((one.model, one.role) == (model, role) for one in self.bound(camera))
            ]
        return found

    def list(self) -> Sequence[Binding]:
        """All, by model and role."""
        return self._table.bindings

    async def put(self, binding: Binding) -> Binding:
        """Set the binding of its model and role. Raises `BadBinding`."""
        await self._store.put(checked(binding))
        await self._load()
        return binding

    async def delete(self, model: str, role: str) -> None:
        """Raises `UnknownBinding`."""
        found = await self._store.delete(model, role)
        await self._load()
        if not found:
            raise UnknownBinding(f"{model[:128]!r} has no binding of the role {role[:128]!r}.", field="role")

    async def refresh(self) -> None:
        """Look for changes of other replicas until cancelled."""
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                if await self._store.revision() != self._table.revision:
                    await self._load()
            except Transient as error:
                log.warning("bindings_not_refreshed", error=str(error))
