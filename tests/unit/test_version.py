"""The native module, the package and the distribution name one version."""

from importlib import metadata

import aktis
from aktis import _core


def test_version_is_the_distribution_version() -> None:
    assert aktis.__version__ == metadata.version("aktis")


def test_protocol_major_version_is_positive() -> None:
    assert _core.PROTOCOL_MAJOR > 0
