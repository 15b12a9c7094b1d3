"""What registry refuses, as branches of the shared tree.

NotFound
|-- UnknownModel
`-- UnknownVersion
Conflict
|-- VersionRefused      its gates did not pass, and nobody forced it
|-- ApprovalMissing     it waits for people
|-- NothingToApprove    it does not wait for people
|-- NothingToRollBack   there is no previous champion
|-- NothingToCompare    there is no champion, or the challenger is the champion
|-- RolloutUnderWay     the model has another rollout
|-- NothingUnderWay     the model has none
`-- RunRegistered       the run's package is a version already, and it is another one
InvalidMessage
`-- AliasReserved       the alias moves by promotion and rollback alone
"""

from __future__ import annotations

from services.common.errors import Conflict, InvalidMessage, NotFound


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


class NothingToApprove(Conflict):
    """The version is accepted or refused already."""

    default_reason = "NOTHING_TO_APPROVE"


class NothingToRollBack(Conflict):
    """The model has no `previous` alias."""

    default_reason = "NOTHING_TO_ROLL_BACK"


class NothingToCompare(Conflict):
    """A rollout holds a version against another one, the champion."""

    default_reason = "NOTHING_TO_COMPARE"


class RolloutUnderWay(Conflict):
    """A model has one rollout; the one that is under way has to end first."""

    default_reason = "ROLLOUT_UNDER_WAY"


class NothingUnderWay(Conflict):
    """The model has no rollout that could end."""

    default_reason = "NOTHING_UNDER_WAY"


class RunRegistered(Conflict):
    """A run yields one version of a model."""

    default_reason = "RUN_REGISTERED"


class AliasReserved(InvalidMessage):
    """`champion` and `previous` say what was live and when: they are not set by hand."""

    default_reason = "ALIAS_RESERVED"
