"""DDM (Gama et al., SBIA 2004), as River has it: a rate of errors some deviations above its lowest, for values of
0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable

from services.monitor.domain.detectors.river import RiverBank, RiverDetector


class DdmBank(RiverBank):
    """Options: `warm_start`, `warning_threshold`, `drift_threshold`."""

    name = "ddm"

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class."""
        from river.drift import binary

        maker: Callable[..., RiverDetector] = binary.DDM
        return maker
