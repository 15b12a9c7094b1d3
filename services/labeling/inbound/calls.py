"""What gRPC and HTTP have in common: the handlers they call, and how they read pages."""

from __future__ import annotations

from dataclasses import dataclass

from irisloop.labeling.v1 import labeling_pb2 as pb

from services.common.errors import InvalidMessage
from services.labeling import codec
from services.labeling.domain.model import Origin, State, Task
from services.labeling.domain.queue import RANKS
from services.labeling.handlers.datasets import DatasetHandlers
from services.labeling.handlers.labels import LabelHandlers
from services.labeling.handlers.tasks import TaskHandlers
from services.labeling.handlers.versions import VersionHandlers

MOST_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the transports call."""

    labels: LabelHandlers
    tasks: TaskHandlers
    datasets: DatasetHandlers
    versions: VersionHandlers


def task_message(task: Task) -> pb.Task:
    """With its priority; a task of a probe has that of a random one."""
    return codec.task_message(task, RANKS.get(task.draw.origin, RANKS[Origin.UNIFORM]))


def task_state(wanted: int | str) -> State:
    """By its number in the contract, or a name such as `open`. Raises `InvalidMessage`."""
    for state in State:
        if wanted == state or (isinstance(wanted, str) and wanted.upper() == state.name):
            return state
    known = ", ".join(state.name.lower() for state in State)
    raise InvalidMessage(f"A task is {known}; not {str(wanted)[:32]!r}.", field="state")


def page_size(limit: int) -> int:
    """1-1000; 100 when 0."""
    if not 0 <= limit <= MOST_LISTED:
        raise InvalidMessage(f"`limit` is 1 to {MOST_LISTED}, got {limit}.", field="limit")
    return limit or 100


def page_start(cursor: str) -> int:
    """The sequence after which the page begins."""
    if cursor and not (cursor.isdecimal() and len(cursor) < 19):
        raise InvalidMessage("`cursor` is not one that this list gave out.", field="cursor")
    return int(cursor or 0)
