"""Run programs that were written for another runtime with this interface: ``import ray`` gets Aktis.

`install_as_ray` makes ``import ray`` and its submodules resolve to our modules for the rest of the process
and for the workers of its jobs; ``python -m aktis.compat prog.py args...`` does so and runs a program.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections.abc import Sequence
from typing import Final

ALIAS: Final = "ray"
INSTALL_VARIABLE: Final = "AKTIS_COMPAT_RAY"
"""Set in the environment of workers whose driver has installed the alias."""

# Names that only exist under the alias, with what they are here.
_EXCEPTION_ALIASES: Final = {
    "RayError": "AktisError",
    "RayTaskError": "TaskError",
    "RayActorError": "ActorError",
}
_MODULE_HOMES: Final = {"remote_function": "aktis._runtime.remote_function"}


def install_as_ray() -> None:
    """Make ``import ray`` give Aktis in this process and in the workers of its jobs.

    A second call does nothing.

    Raises:
        ImportError: the real package has been imported already.

    Example:
        >>> import aktis.compat
        >>> aktis.compat.install_as_ray()
        >>> import ray
        >>> ray.get(ray.put(1))
        1
    """
    present = sys.modules.get(ALIAS)
    if present is not None and not isinstance(present, _Alias):
        raise ImportError(f"the package {ALIAS!r} has been imported already: install the alias before that")
    os.environ[INSTALL_VARIABLE] = "1"
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Alias(types.ModuleType):
    """A module that answers for one of ours, plus the names that only exist under the alias."""

    def __init__(self, name: str, home: types.ModuleType) -> None:
        super().__init__(name, home.__doc__)
        self.__dict__["_home"] = home
        self.__dict__["__all__"] = getattr(home, "__all__", [])

    def __getattr__(self, name: str) -> object:
        home: types.ModuleType = self.__dict__["_home"]
        if home.__name__ == "aktis.exceptions":
            name = _EXCEPTION_ALIASES.get(name, name)
        if name == "__path__" and not hasattr(home, "__path__"):
            raise AttributeError(name)
        value = getattr(home, name)
        if isinstance(value, types.ModuleType) and value.__name__.startswith("aktis."):
            return importlib.import_module(ALIAS + value.__name__.removeprefix("aktis"))
        return value

    def __reduce__(self) -> tuple[object, ...]:
        return (importlib.import_module, (self.__name__,))  # as other modules: by name

    def __dir__(self) -> list[str]:
        return dir(self.__dict__["_home"])


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``ray`` and ``ray.x.y`` where ``aktis`` and ``aktis.x.y`` are."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != ALIAS and not fullname.startswith(f"{ALIAS}."):
            return None
        try:
            home = importlib.import_module(_home_of(fullname))
        except ModuleNotFoundError:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=hasattr(home, "__path__"))

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Alias(spec.name, importlib.import_module(_home_of(spec.name)))

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to execute: the module answers for one that has been."""


def _home_of(name: str) -> str:
    below = name.removeprefix(ALIAS)
    return _MODULE_HOMES.get(below.removeprefix("."), "aktis" + below)
