"""EDDM (Baena-Garcia et al., IWKDDS 2006), as River has it: the distance between two errors, for values of 0 and
1. Loud: measured 17 false alarms in 10,000.
"""

from __future__ import annotations

from collections.abc import Callable

from services.monitor.domain.detectors.river import RiverBank, RiverDetector


class EddmBank(RiverBank):
    """Options: `warm_start`, `alpha`, `beta`."""

    name = "eddm"

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class."""
        from river.drift import binary

        maker: Callable[..., RiverDetector] = binary.EDDM
        return maker
