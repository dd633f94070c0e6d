"""Modules under another name: an import finder, and modules that answer for ours.

``ray.a.b`` stands for ``aktis.a.b`` and for ``aktis.compat.overlay.a.b`` together, where only one need exist:
the overlay has what programs look for there and what has no such place, or another name, in Aktis.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

ALIAS: Final = "ray"
_OURS: Final = "aktis"
_OVERLAY: Final = "aktis.compat.overlay"


class Alias(types.ModuleType):
    """A module that answers for those that it stands for; what it has found once it keeps."""

    def __init__(self, name: str, homes: Sequence[types.ModuleType]) -> None:
        super().__init__(name, homes[-1].__doc__)
        names = [public for home in homes for public in getattr(home, "__all__", ())]
        self.__dict__.update(_homes=tuple(homes), __all__=sorted(set(names)))

    def __getattr__(self, name: str) -> object:
        if name == "__path__":  # is set on packages, and never that of a home: its files are not ours to load
            raise AttributeError(name)
        for home in self.__dict__["_homes"]:
            try:
                value = getattr(home, name)
            except AttributeError:
                continue
            value = _under_alias(value)
            break
        else:
            value = self._submodule(name)
        # Otherwise each ray.get would pass through here.
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # The import system puts a submodule into its package; where ours has a function of the same name,
        # that is what programs mean (ray.util.placement_group).
        ours = (getattr(home, name, None) for home in self.__dict__["_homes"])
        meant = next((one for one in ours if one is not None), value)
        if not isinstance(value, Alias) or isinstance(meant, types.ModuleType):
            super().__setattr__(name, value)

    def _submodule(self, name: str) -> types.ModuleType:
        """Import what programs take for imported with its package."""
        full = f"{self.__name__}.{name}"
        if not name.startswith("__") and "__path__" in self.__dict__ and _homes_of(full):
            return importlib.import_module(full)
        raise AttributeError(f"module {self.__name__!r}, which is Aktis here, has no attribute {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        return (importlib.import_module, (self.__name__,))  # as other modules: by name

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *(name for home in self.__dict__["_homes"] for name in dir(home))})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``ray`` and what is below it, and the distribution that it would come with."""

    def __init__(self, version: Callable[[], str]) -> None:
        """Claim the version that ``version`` returns."""
        self._version = version

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != ALIAS and not fullname.startswith(f"{ALIAS}."):
            return None
        homes = _homes_of(fullname)
        if not homes:
            return None
        package = any(home.submodule_search_locations is not None for home in homes)
        return importlib.machinery.ModuleSpec(fullname, self, origin=homes[-1].origin, is_package=package)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Alias(spec.name, [importlib.import_module(home.name) for home in _homes_of(spec.name)])

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to execute: the module answers for ones that have been."""

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context
    ) -> Iterable[importlib.metadata.Distribution]:
        """Answer `importlib.metadata`."""
        if context.name is None or context.name.lower() == ALIAS:
            yield AliasDistribution(self._version())


class AliasDistribution(importlib.metadata.Distribution):
    """Metadata for programs that ask which release of the package is installed."""

    def __init__(self, version: str) -> None:
        """Claim a version."""
        self._texts = {"METADATA": metadata(version), "top_level.txt": f"{ALIAS}\n"}

    def read_text(self, filename: str) -> str | None:
        """Return the metadata; there are no other files."""
        return self._texts.get(filename)

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        """Return where a file of the distribution would be: beside our own package."""
        return Path(__file__).parents[2] / path


def metadata(version: str) -> str:
    """Return the METADATA file of the distribution that the alias stands for."""
    return (
        f"Metadata-Version: 2.1\nName: {ALIAS}\nVersion: {version}\n"
        "Summary: Answers for the package of this name; what runs is Aktis\nRequires-Dist: aktis\n"
        "Provides-Extra: default\nProvides-Extra: client\n"
    )


def _homes_of(name: str) -> list[importlib.machinery.ModuleSpec]:
    """Find the modules that ``name`` stands for, the overlay's first."""
    below = name.removeprefix(ALIAS)
    return [spec for root in (_OVERLAY, _OURS) for spec in _spec(root + below)]


def _spec(name: str) -> Iterator[importlib.machinery.ModuleSpec]:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a module above it exists and lacks something itself
        return  # there is no such package above it
    if spec is not None:
        yield spec


def _under_alias(value: Any) -> Any:
    """Return our own modules under the alias, all else as it is."""
    if isinstance(value, types.ModuleType):
        for root in (_OVERLAY, _OURS):
            if value.__name__ == root or value.__name__.startswith(f"{root}."):
                return importlib.import_module(ALIAS + value.__name__.removeprefix(root))
    return value
