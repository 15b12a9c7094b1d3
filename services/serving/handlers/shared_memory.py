"""Shared memory as clients manage it; what is not switched on is refused."""

from __future__ import annotations

from collections.abc import Sequence

from services.serving.domain.ports import RegionManager, RegionStatus
from services.serving.errors import Unsupported


class SharedMemory:
    """Every transport's road to the regions."""

    def __init__(self, regions: RegionManager, *, offered: bool = True) -> None:
        self._regions = regions
        self._offered = offered

    def status(self, name: str = "") -> Sequence[RegionStatus]:
        """The region, or all for "". Raises `UnknownRegion`."""
        return self._regions.status(name)

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Raises `BadRequest`, `RegionTaken`; `Unsupported` where shared memory is switched off."""
        if not self._offered:
            raise Unsupported("shared memory is switched off on this server (IRISLOOP_SERVING__SHARED_MEMORY)")
        self._regions.register(name, key, offset, byte_size)

    def unregister(self, name: str = "") -> None:
        """The region, or all for ""."""
        self._regions.unregister(name)
