"""FHDDM (Pesaranghader & Viktor, ECML PKDD 2016), as River has it: Hoeffding's bound on a window, for 0 and 1."""

from __future__ import annotations

from collections.abc import Callable

from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.detectors.river import RiverBank, RiverDetector


class FhddmBank(RiverBank):
    """Options: `sliding_window_size`, `confidence_level`, `short_window_size`.

    River's class fires when the mean falls, although its documentation has 1 as an error: it is fed 1 - value, so that
    it finds a rising rate, as the others do.
    """

    name = "fhddm"

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class."""
        from river.drift import binary

        maker: Callable[..., RiverDetector] = binary.FHDDM
        return maker

    def _feed(self, values: Vector) -> None:
        super()._feed(1.0 - values)
