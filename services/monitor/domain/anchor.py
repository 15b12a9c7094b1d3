"""What a camera's pixels were like before a new version came: the anchor against which slow creep is seen.

What the pixels say does not depend on the model, so a new version need not learn it anew, and must not: a lens that
gets dirty over months would be normal again with each version. What the model says (confidence, embedding, classes) is
learnt anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.channels import PIXELS
from services.monitor.domain.profile import Profile
from services.monitor.domain.reference import Reference

_HELD: Final = ("centre", "scale", "mean", "deviation", "skew", "tail")


@dataclass(frozen=True, slots=True)
class Anchor:
    """Reference and profile of the same camera under the version before."""

    reference: Reference
    profile: Profile

    def hold(self, reference: Reference) -> None:
        """Pixel channels that both have are held to the former values; `reference.held` says which."""
        pixels = np.arange(len(reference.scale)) < len(PIXELS)
        held: NDArray[np.bool_] = pixels & reference.active
        held[: len(PIXELS)] &= self.reference.active[: len(PIXELS)]
        width = len(PIXELS)
        for name in _HELD:
            mine, former = getattr(reference, name), getattr(self.reference, name)
            mine[:width] = np.where(held[:width], former[:width], mine[:width])
        reference.held = held

    def fix(self, profile: Profile, held: NDArray[np.bool_]) -> None:
        """What is expected of the held channels by the hour is what was."""
        places = np.flatnonzero(held)
        profile.weights[:, places] = self.profile.weights[:, places]
