"""The detectors that may watch input channels, by the name that a policy gives them in `channels.detector`."""

from __future__ import annotations

from typing import Final

from services.monitor.domain.detectors.adwin import AdwinBank
from services.monitor.domain.detectors.cusum import CusumBank
from services.monitor.domain.detectors.kswin import KswinBank
from services.monitor.domain.detectors.page_hinkley import PageHinkleyBank
from services.monitor.domain.detectors.river import RiverBank

RIVERS: Final[dict[str, type[RiverBank]]] = {bank.name: bank for bank in (AdwinBank, KswinBank, PageHinkleyBank)}
"""River's, at their defaults: they know no run length, so the policy's has no effect on them."""
NAMES: Final = (CusumBank.name, *RIVERS)
