"""What trainer refuses, as branches of the shared tree.

NotFound
`-- UnknownRun
Conflict
|-- RunOver             it ended; nothing can be changed about it
`-- NothingToLearnFrom  the dataset version has too few labels, or one class only
IrisloopError
`-- ChildFailed         the run's process ended with an error; its last words are the message
"""

from __future__ import annotations

from services.common.errors import Conflict, IrisloopError, NotFound


class UnknownRun(NotFound):
    """No run of that id."""

    default_reason = "UNKNOWN_RUN"


class RunOver(Conflict):
    """The run has ended."""

    default_reason = "RUN_OVER"


class NothingToLearnFrom(Conflict):
    """Fewer than two classes, or no rows to train, validate or test on."""

    default_reason = "NOTHING_TO_LEARN_FROM"


class ChildFailed(IrisloopError):
    """The child process of a run failed."""

    default_reason = "CHILD_FAILED"
