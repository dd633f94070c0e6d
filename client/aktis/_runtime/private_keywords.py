"""Keywords of ``init`` that begin with an underscore: libraries that start a cluster themselves pass them."""

import logging
from collections.abc import Mapping
from typing import Any, Final

TRACING_HOOK: Final = "_tracing_startup_hook"
_SETTINGS: Final = {"_memory": "raylet.memory_bytes"}
_WITHOUT_MEANING: Final = frozenset(
    {
        "_driver_object_store_memory",
        "_enable_object_reconstruction",
        "_metrics_export_port",
        "_node_ip_address",
        "_node_name",
        "_object_spilling_directory",
        "_plasma_directory",
        "_redis_password",
        "_redis_username",
        "_skip_env_hook",
        "_temp_dir",
    }
)
"""About parts of another runtime: here tokens protect a cluster, and AKTIS_* variables place its files."""


def settings_of(private: Mapping[str, Any]) -> dict[str, object]:
    """Return the settings of a new cluster's daemons that such keywords stand for.

    Raises:
        TypeError: there is no such keyword.
    """
    settings: dict[str, object] = {}
    for name, value in private.items():
        if name in _SETTINGS:
            if value is not None:
                settings[_SETTINGS[name]] = value
        elif name == TRACING_HOOK:
            continue  # no setting of a daemon
        elif name in _WITHOUT_MEANING:
            logging.getLogger("aktis").debug("init() ignores %s: it has no meaning here", name)
        else:
            raise TypeError(f"init() got an unexpected keyword argument {name!r}")
    return settings
