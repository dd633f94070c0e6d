"""The one configuration of Aktis: a typed schema, filled from a TOML file, ``AKTIS_*`` variables and flags.

Importing this takes pydantic (80 ms and 10 MB), so only daemons and commands do it, never ``import aktis``.
"""

from aktis._common.config.load import ConfigError, LoadedConfig, load_config
from aktis._common.config.schema import AktisConfig

__all__ = ["AktisConfig", "ConfigError", "LoadedConfig", "load_config"]
