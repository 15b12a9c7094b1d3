"""HDDM_W (Frias-Blanco et al., IEEE TKDE 2015), as River has it: McDiarmid's bound on weighted means, for values
of 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable

from services.monitor.domain.detectors.river import RiverBank, RiverDetector


class HddmWBank(RiverBank):
    """Options: `drift_confidence`, `warning_confidence`, `lambda_val`, `two_sided_test`."""

    name = "hddm-w"

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class."""
        from river.drift import binary

        maker: Callable[..., RiverDetector] = binary.HDDMW
        return maker
