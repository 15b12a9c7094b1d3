"""Two processes of one service under one replica number: the one that came last works, the other says so and waits.

A static member's name holds the number, and the broker gives the name to whoever joins last. The client would join
again at once and take it back, and the two would do nothing else, each looking well half of the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.admin import DescribeGroupsRequest

from services.common.bus.connection import BROKER_ERRORS
from services.common.settings import CommonSettings
from services.common.telemetry import log

LOOK_S: Final = 1.0
SETTING: Final = "IRISLOOP_REPLICA"


def client_id(group: str, settings: CommonSettings) -> str:
    """What a replica's consumer of a group calls itself."""
    return f"{group}.{settings.replica}"


async def give_way(
    consumer: AIOKafkaConsumer, service: str, settings: CommonSettings, say: Callable[[str], None]
) -> None:
    """Return when this instance may join its group: at once, unless another one took its name from it.

    To be called where the partitions were revoked, before the client joins again. `say` is told what is waited for.
    """
    coordinator = consumer._coordinator
    if coordinator.member_id:
        return  # a rebalance, in which it is still a member
    about = {"setting": SETTING, "number": settings.replica, "group": coordinator.group_id}
    said = False
    while (host := await _rival(coordinator, client_id(coordinator.group_id, settings))) is not None:
        words = (
            f"another {service} (at {host}) has the same {SETTING}={settings.replica} and took this one's place: give "
            "each replica a number of its own"
        )
        say(words)
        if not said:
            log.error(
                "replica_number_taken", setting=SETTING, number=settings.replica, group=coordinator.group_id, host=host
            )
        said = True
        await asyncio.sleep(LOOK_S)
    if said:
        say("Kafka to hand out the partitions")
        log.info("replica_number_free", **about)


async def _rival(coordinator: Any, name: str) -> str | None:
    """The host of a member of that client id; None when there is none, or the broker does not tell."""
    with suppress(*BROKER_ERRORS):
        answer = await coordinator._send_req(DescribeGroupsRequest([coordinator.group_id]))
        for group in answer.groups:
            found = [str(member[2]).lstrip("/") for member in group[5] if member[1] == name]
            if found:
                return found[0]
    return None
