"""HDDM_A (Frias-Blanco et al., IEEE TKDE 2015), as River has it: Hoeffding's bound on means, for values of 0 and 1."""

from __future__ import annotations

from collections.abc import Callable

from services.monitor.domain.detectors.river import RiverBank, RiverDetector


class HddmABank(RiverBank):
    """Options: `drift_confidence`, `warning_confidence`, `two_sided_test`."""

    name = "hddm-a"

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class."""
        from river.drift import binary

        maker: Callable[..., RiverDetector] = binary.HDDMA
        return maker
