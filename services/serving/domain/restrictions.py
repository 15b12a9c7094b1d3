"""Which groups of calls need a secret header, as Triton's --grpc-restricted-protocol has it."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.serving.errors import BadRequest, Restricted

METHODS: Final[dict[str, str]] = {
    "ServerLive": "health",
    "ServerReady": "health",
    "ModelReady": "health",
    "ServerMetadata": "metadata",
    "ModelMetadata": "metadata",
    "ModelInfer": "inference",
    "ModelStreamInfer": "inference",
    "ModelConfig": "model-config",
    "ModelStatistics": "statistics",
    "RepositoryIndex": "model-repository",
    "RepositoryModelLoad": "model-repository",
    "RepositoryModelUnload": "model-repository",
    "SystemSharedMemoryStatus": "shared-memory",
    "SystemSharedMemoryRegister": "shared-memory",
    "SystemSharedMemoryUnregister": "shared-memory",
    "CudaSharedMemoryStatus": "shared-memory",
    "CudaSharedMemoryRegister": "shared-memory",
    "CudaSharedMemoryUnregister": "shared-memory",
    "TraceSetting": "trace",
    "LogSettings": "logging",
}
"""Method of the inference service to its group; HTTP's routes belong to the same groups."""
GROUPS: Final = frozenset(METHODS.values())
GRPC_PREFIX: Final = "triton-grpc-protocol-"


@dataclass(frozen=True, slots=True)
class Secret:
    """A header and what it must say."""

    header: str
    value: str


@dataclass(frozen=True, slots=True)
class Restrictions:
    """Group to its secret; groups that are not named are open."""

    secrets: Mapping[str, Secret] = field(default_factory=dict)

    @classmethod
    def parse(cls, entries: Iterable[str], prefix: str = GRPC_PREFIX) -> Restrictions:
        """From `group[,group]:header=value` entries, as the flags have them; gRPC headers get Triton's prefix.

        Raises `BadRequest` for an unknown group, or one that is named twice.
        """
        secrets: dict[str, Secret] = {}
        for entry in entries:
            groups, _, pair = entry.partition(":")
            header, _, value = pair.partition("=")
            if not header or not value:
                raise BadRequest(f"the restriction {entry[:80]!r} is not of the form <group,...>:<header>=<value>")
            for group in groups.split(","):
                if group not in GROUPS:
                    raise BadRequest(f"unknown protocol {group[:80]!r}; there are {', '.join(sorted(GROUPS))}")
                if group in secrets:
                    raise BadRequest(f"the protocol {group!r} is restricted twice")
                secrets[group] = Secret(f"{prefix}{header}".lower(), value)
        return cls(secrets)

    def __bool__(self) -> bool:
        return bool(self.secrets)

    def check_method(self, method: str, headers: Iterable[tuple[str, Any]]) -> None:
        """Raises `Restricted` unless the headers (lower-case names) hold what the method's group asks for."""
        if self.secrets:
            self.check(METHODS[method], headers)

    def check(self, group: str, headers: Iterable[tuple[str, Any]]) -> None:
        """Raises `Restricted` unless the headers (lower-case names) hold what the group asks for."""
        secret = self.secrets.get(group)
        if secret is None:
            return
        for name, value in headers:
            if name == secret.header and hmac.compare_digest(str(value).encode(), secret.value.encode()):
                return
        raise Restricted(f"This protocol is restricted, expecting header {secret.header!r}")
