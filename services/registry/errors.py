"""What registry refuses, as branches of the shared tree.

    NotFound
    |-- UnknownModel
    `-- UnknownVersion
    Conflict
    |-- VersionRefused      its gates did not pass, and nobody forced it
    |-- ApprovalMissing     it waits for people
    `-- NothingToRollBack   there is no previous champion
"""

from __future__ import annotations

from services.common.errors import Conflict, NotFound


class UnknownModel(NotFound):
    """No version of a model of that name was ever registered."""

    default_reason = "UNKNOWN_MODEL"


class UnknownVersion(NotFound):
    """The model is known, the version or alias is not."""

    default_reason = "UNKNOWN_VERSION"


class VersionRefused(Conflict):
    """A gate failed; promoting all the same takes `force` and is recorded as such."""

    default_reason = "VERSION_REFUSED"


class ApprovalMissing(Conflict):
    """The policy asks for approvals that are not there yet."""

    default_reason = "APPROVAL_MISSING"


class NothingToRollBack(Conflict):
    """The model has no `previous` alias."""

    default_reason = "NOTHING_TO_ROLL_BACK"
