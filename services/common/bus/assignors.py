"""Who gets which partitions: one number of every topic to one member, or everything to one member.

Members are taken in the order of their ids, which are stable for static members, so that everyone agrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata


class CoPartitioned(AbstractPartitionAssignor):  # type: ignore[misc]
    """Partition n of every topic goes to the same member: what is keyed alike is handled together."""

    name = "irisloop-co-partitioned"
    version = 0

    @classmethod
    def assign(
        cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """{member: its partitions}."""
        ids = sorted(members)
        topics = sorted({topic for member in members.values() for topic in member.subscription})
        mine: dict[str, dict[str, list[int]]] = {member: {} for member in ids}
        for topic in topics:
            hearing = [member for member in ids if topic in members[member].subscription]  # not all, in an upgrade
            for partition in sorted(cluster.partitions_for_topic(topic) or ()):
                mine[cls.owner(hearing, partition)].setdefault(topic, []).append(partition)
        return {
            member: ConsumerProtocolMemberAssignment(cls.version, sorted(found.items()), b"")
            for member, found in mine.items()
        }

    @classmethod
    def owner(cls, ids: list[str], partition: int) -> str:
        """Which member gets that number."""
        return ids[partition % len(ids)]

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What a member says when it joins."""
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Nothing is remembered."""


class OneOwner(CoPartitioned):
    """The first member gets everything; the others stand by."""

    name = "irisloop-one-owner"

    @classmethod
    def owner(cls, ids: list[str], partition: int) -> str:
        """Always the first."""
        return ids[0]
