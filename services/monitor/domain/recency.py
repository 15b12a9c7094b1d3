"""Which events have been seen already: the newest few hundred, eight bytes each."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

_CAPACITY = 512


@dataclass(slots=True)
class Recent:
    """A bounded memory of ids. Our producers write transactionally, so a repeat is rare and comes soon."""

    ids: dict[int, None] = field(default_factory=dict)

    def fresh(self, ce_id: str) -> bool:
        """Remember an id; False when it is known."""
        key = int.from_bytes(blake2b(ce_id.encode(), digest_size=8).digest(), "big")
        if key in self.ids:
            return False
        self.ids[key] = None
        if len(self.ids) > _CAPACITY:
            del self.ids[next(iter(self.ids))]
        return True
