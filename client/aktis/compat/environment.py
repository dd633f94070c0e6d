"""The alias for a whole virtual environment: a distribution on disk whose package hands over to Aktis.

pip and whoever reads an environment's metadata take it for installed, and every process that imports it gets
Aktis, child processes included. ``pip uninstall ray`` removes it as well.
"""

import importlib.metadata
import shutil
import sysconfig
from pathlib import Path
from typing import Final

from aktis.compat import COMPATIBLE_VERSION
from aktis.compat.alias import ALIAS, AliasDistribution, metadata

INSTALLER: Final = "aktis.compat"

_PACKAGE: Final = '''"""Aktis under this name; written by ``python -m aktis.compat --install``."""

import importlib
import sys

from aktis.compat import install_as_ray

del sys.modules[__name__]  # the alias takes its place
install_as_ray({version!r})
importlib.import_module(__name__)
'''

_WHEEL: Final = f"Wheel-Version: 1.0\nGenerator: {INSTALLER}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def install(version: str | None = None) -> str:
    """Write the distribution into the environment of this interpreter; return what was done.

    Raises:
        FileExistsError: the real package is installed there.
    """
    version = version or COMPATIBLE_VERSION
    _remove()
    site = _site_packages()
    info = f"{ALIAS}-{version}.dist-info"
    files = {
        f"{ALIAS}/__init__.py": _PACKAGE.format(version=version),
        f"{info}/METADATA": metadata(version),
        f"{info}/INSTALLER": f"{INSTALLER}\n",
        f"{info}/WHEEL": _WHEEL,
        f"{info}/top_level.txt": f"{ALIAS}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    for name, text in files.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)
    return f"{ALIAS} {version} in {site} is Aktis now"


def uninstall() -> str:
    """Remove what `install` has written; return what was done.

    Raises:
        FileExistsError: what is installed there is the real package.
    """
    removed = _remove()
    return f"removed {removed}" if removed else f"{ALIAS} is not installed in {_site_packages()}"


def _remove() -> Path | None:
    site = _site_packages()
    for found in importlib.metadata.distributions(name=ALIAS, path=[str(site)]):
        if isinstance(found, AliasDistribution):
            continue  # the alias of this process, which is on no disk
        if (found.read_text("INSTALLER") or "").strip() != INSTALLER:
            raise FileExistsError(
                f"{site} has {ALIAS} {found.version}, which is not ours: "
                f"run `pip uninstall {ALIAS}`, or use an environment of its own"
            )
        shutil.rmtree(site / ALIAS)
        shutil.rmtree(site / f"{ALIAS}-{found.version}.dist-info")
        return site / ALIAS
    return None


def _site_packages() -> Path:
    return Path(sysconfig.get_path("purelib"))
