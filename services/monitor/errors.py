"""What can go wrong in the monitor, beside what every service knows.

IrisloopError
|-- NotFound
|   |-- UnknownModel        no prediction of it has been heard of    -> HTTP 404, gRPC NOT_FOUND
|   |-- UnknownIncident     none of that id is remembered            -> HTTP 404, gRPC NOT_FOUND
|   `-- UnknownPlan         no change of this id was announced       -> HTTP 404, gRPC NOT_FOUND
|-- Conflict
|   |-- BrokenPolicy        the policy file cannot be used           -> the service does not start
|   |-- BrokenNotices       the file of who is told cannot be used   -> the service does not start
|   |-- NothingToAnswer     no retraining waits for a person         -> HTTP 409, gRPC FAILED_PRECONDITION
|   |-- StillRunning        a monitor runs while its state is rebuilt -> exit code 1
|   `-- Expired             a topic no longer holds what is needed    -> exit code 1
|-- InvalidMessage
|   |-- BrokenRecording     a file of recorded events cannot be read -> exit code 2
|   |-- Undeliverable       a receiver refuses a notice for good     -> dead letter
|   `-- QueryFailed         ClickHouse's code says why               -> as a ClickHouse server answers
`-- Unavailable
    `-- AnalyticsClosed     ClickHouse is not open (yet, or here)    -> HTTP 503, gRPC UNAVAILABLE
"""

from __future__ import annotations

from typing import Final

from services.common.errors import Conflict, InvalidMessage, NotFound, Unavailable

GAP_ADVICE: Final = (
    "Nothing is read on there before somebody decides: `irisloop monitor gaps --accept --why TEXT` goes on without "
    "these records and notes it, `irisloop monitor rebuild --accept-expired` makes state and tables anew of what is "
    "left."
)
"""What people are told when retention has removed records that the judge or analytics had not read."""


class UnknownModel(NotFound):
    """Nothing has been heard of this model."""

    default_reason = "UNKNOWN_MODEL"


class UnknownIncident(NotFound):
    """Neither an incident nor an alert of this id is remembered."""

    default_reason = "UNKNOWN_INCIDENT"


class UnknownPlan(NotFound):
    """No change was announced under this id."""

    default_reason = "UNKNOWN_PLAN"


class BrokenPolicy(Conflict):
    """The policy file cannot be read or used; the message names the field."""

    default_reason = "BROKEN_POLICY"


class BrokenNotices(Conflict):
    """The file that names who is told of alerts cannot be read or used; the message names the field."""

    default_reason = "BROKEN_NOTICES"


class NothingToAnswer(Conflict):
    """No retraining of that model waits for a person's word, or it has been answered."""

    default_reason = "NOTHING_TO_ANSWER"


class StillRunning(Conflict):
    """A monitor is a member of the group whose state would be taken from under it."""

    default_reason = "STILL_RUNNING"


class Expired(Conflict):
    """Topics no longer hold their beginnings; the message names topic, partition and offsets."""

    default_reason = "EXPIRED"


class BrokenRecording(InvalidMessage):
    """A recording cannot be read; the message names the line."""

    default_reason = "BROKEN_RECORDING"


class Undeliverable(InvalidMessage):
    """A receiver refused a notice, and would refuse it again."""

    default_reason = "UNDELIVERABLE"


class AnalyticsClosed(Unavailable):
    """ClickHouse is still opening, or this instance does not have the role `analytics`."""

    default_reason = "ANALYTICS_CLOSED"


class QueryFailed(InvalidMessage):
    """A query is refused or fails; `code` and `reason` are ClickHouse's (src/Common/ErrorCodes.cpp)."""

    def __init__(self, code: int, name: str, message: str) -> None:
        """`message` is one sentence without a full stop."""
        super().__init__(message, reason=name)
        self.code = code
