"""The errors of the one-machine deployment.

IrisloopError (services.common.errors)
`-- LocalError         something on this machine is in the way; the sentence says what and what to do about it
"""

from __future__ import annotations

from services.common.errors import IrisloopError


class LocalError(IrisloopError):
    """Something on this machine keeps a command from working; `str(error)` says what to do."""

    default_reason = "LOCAL"
