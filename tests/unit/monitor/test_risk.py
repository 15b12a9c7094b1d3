"""How much worse an error is, and when labels cannot tell."""

from __future__ import annotations

import pytest

from services.monitor.domain import risk
from services.monitor.domain.risk import Count
from tests.unit.monitor.worlds import policy


def of(error: float, labels: float) -> Count:
    return Count(error * labels, labels)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (of(0.13, 600), of(0.18, 600), True),
        (of(0.13, 600), of(0.18, 599), False),  # a few more may tell
        (of(0.13, 5000), of(0.18, 5000), False),  # that hurts
        (of(0.13, 600), of(0.13, 600), False),  # that does not
        (of(0.13, 600), of(0.30, 600), False),
        (of(0.13, 0), of(0.18, 9000), False),  # there is nothing to hold it against
    ],
)
def test_labels_cannot_tell_when_knowing_the_error_exactly_would_not(before: Count, after: Count, told: bool) -> None:
    assert risk.undecidable(before, after, policy().harm) is told
