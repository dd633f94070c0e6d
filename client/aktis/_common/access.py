"""Which role each RPC needs, in one table, and the check of tokens.

A method without an entry is refused, and a test compares the table with every service of the contracts, so
that a new RPC cannot be forgotten.
"""

import enum
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class Role(enum.Enum):
    """What a token's holder may do."""

    READ = "read"
    """See the state of the cluster."""
    SUBMIT = "submit"
    """Run jobs: store functions, create and kill actors of its own."""
    ADMIN = "admin"
    """Everything that an operator does."""
    NODE = "node"
    """Be a part of the cluster; for daemons only."""


_GCS: Final = "/aktis.v1.Gcs/"
_RAYLET: Final = "/aktis.v1.Raylet/"
_PLASMA: Final = "/aktis.v1.Plasma/"

REQUIRED_ROLE: Final[Mapping[str, Role]] = {
    _GCS + "NodeStream": Role.NODE,
    _GCS + "GetClusterInfo": Role.READ,
    _GCS + "ListNodes": Role.READ,
    _GCS + "KvPut": Role.SUBMIT,
    _GCS + "KvGet": Role.SUBMIT,
    _GCS + "KvDelete": Role.SUBMIT,
    _GCS + "KvList": Role.SUBMIT,
    _GCS + "RegisterJob": Role.SUBMIT,
    _GCS + "FinishJob": Role.SUBMIT,
    _GCS + "ListJobs": Role.READ,
    _GCS + "CreateActors": Role.SUBMIT,
    _GCS + "GetActor": Role.SUBMIT,
    _GCS + "ListActors": Role.READ,
    _GCS + "KillActor": Role.SUBMIT,
    _GCS + "CreatePlacementGroups": Role.SUBMIT,
    _GCS + "RemovePlacementGroups": Role.SUBMIT,
    _GCS + "GetPlacementGroup": Role.SUBMIT,
    _GCS + "ListPlacementGroups": Role.READ,
    _GCS + "ListTaskEvents": Role.READ,
    _GCS + "TakeSnapshot": Role.READ,
    _GCS + "Subscribe": Role.READ,
    _RAYLET + "GetState": Role.READ,
    _PLASMA + "GetStatistics": Role.READ,
    _PLASMA + "ListObjects": Role.READ,
    _PLASMA + "FreeOwners": Role.NODE,
}

ALL_ROLES: Final = frozenset(Role)


@dataclass(frozen=True)
class TokenAuthority:
    """Knows the cluster's shared secret, whose holder has every role."""

    cluster_token: str

    def roles(self, presented: str | None) -> frozenset[Role]:
        """Return what the holder of a token may do; nothing when the token is wrong or missing.

        Takes the same time whichever byte differs.
        """
        given = (presented or "").encode("utf-8", "surrogateescape")
        if hmac.compare_digest(given, self.cluster_token.encode()):
            return ALL_ROLES
        return frozenset()
