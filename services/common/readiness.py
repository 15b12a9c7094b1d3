"""What keeps a service from being ready, in words; shared by HTTP, gRPC health and the supervisor's table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from services.common.telemetry import log


def waiting_for(waits: Iterable[Callable[[], str]]) -> str:
    """The reasons that the parts give, each once, joined by semicolons; "" when there are none."""
    return "; ".join(dict.fromkeys(reason for reason in _reasons(list(waits)) if reason))


def _reasons(waits: Sequence[Callable[[], str]]) -> list[str]:
    reasons: list[str] = []
    for wait in waits:
        try:
            reasons += wait().split("; ")
        except Exception as error:  # a part that cannot say how it is, is not well; asking must not stop the asking
            log.exception("readiness_failed")
            reasons.append(f"a part that fails to say what it waits for ({error!r})")
    return reasons
