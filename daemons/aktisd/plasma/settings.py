"""From the configuration to the arguments of the C++ store."""

from collections.abc import Callable
from typing import Any, Final

from aktis._common.config import AktisConfig
from aktis._common.errors import StartError

DEFAULT_SHARE: Final = 0.3
"""Part of the available memory that the store may take unless plasma.capacity_bytes says otherwise."""

MIN_CAPACITY_BYTES: Final = 2**20


def store_arguments(config: AktisConfig, token: str, available_bytes: Callable[[], int]) -> dict[str, Any]:
    """Return the keyword arguments of `aktis._core.PlasmaStore`.

    Raises:
        StartError: a setting that the store cannot work with; names the key.
    """
    plasma = config.plasma
    if not config.plasma_address.startswith("unix:"):
        raise StartError(
            f"plasma.listen_address: {config.plasma_address} is not a Unix socket: "
            "memory can only be shared on one host, use unix:/path"
        )
    capacity_bytes = plasma.capacity_bytes or int(available_bytes() * DEFAULT_SHARE)
    if capacity_bytes < MIN_CAPACITY_BYTES:
        raise StartError(f"plasma.capacity_bytes: {capacity_bytes} is too small: use at least 1 MiB")
    return {
        "address": config.plasma_address,
        "capacity_bytes": capacity_bytes,
        "token": token,
        "populate": plasma.populate,
        "huge_pages": plasma.huge_pages,
        "warm_reserve_bytes": plasma.warm_reserve_bytes,
        "idle_release_s": plasma.idle_release_s,
        "slab_min_bytes": plasma.slab_min_bytes,
        "slab_max_bytes": plasma.slab_max_bytes,
        "create_timeout_ms": plasma.create_timeout_ms,
        "allowed_uids": list(plasma.allowed_uids),
    }
