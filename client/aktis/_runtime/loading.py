"""Why a value cannot be loaded in this process: which module is missing, for which class, and what to do."""

import os
import pickletools
import sys
from collections.abc import Iterator
from typing import Final

from aktis import _core
from aktis._runtime import current
from aktis.exceptions import AktisError, DeserializationError

_MAX_OPERATIONS: Final = 1_000_000


def loading_error(error: BaseException, pickled: bytes, what: str) -> BaseException:
    """Return what to raise instead of ``error``, which loading ``pickled`` has raised.

    Args:
        what: What was being loaded, for example ``"object 01ab..."``.
    """
    if isinstance(error, AktisError):
        return error
    culprit = _culprit(error, pickled)
    holds = f". It holds {culprit!r}" if culprit else ""
    explained = DeserializationError(
        f"{what} cannot be loaded in {_here()}: {type(error).__name__}: {error}{holds}. {_hint(error)}"
    )
    explained.__cause__ = error
    return explained


def _here() -> str:
    session = current.session
    if session is None:
        return f"process {os.getpid()}"
    role = "the driver" if session.role == _core.ROLE_DRIVER else "worker"
    return f"{role} {session.worker_id.hex()} (process {os.getpid()}, node {session.node.node_id.hex()})"


def _hint(error: BaseException) -> str:
    session = current.session
    in_driver = session is not None and session.role == _core.ROLE_DRIVER
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        top = error.name.partition(".")[0]
        if in_driver:
            return f"This program cannot import the module {error.name!r}: install it, or put it on sys.path"
        return (
            f"This process cannot import the module {error.name!r}: send it along with "
            f"runtime_env={{'py_modules': ['path/to/{top}']}} or 'working_dir', or install it with "
            f"runtime_env={{'pip': ['{top}']}}"
        )
    if isinstance(error, ImportError | AttributeError):
        return (
            "The module that this process has under this name is another one, or another version of it: "
            "give writer and reader the same by runtime_env"
        )
    return "What the class does when it is loaded (__setstate__, __reduce__, a deserializer) has raised this"


def _culprit(error: BaseException, pickled: bytes) -> str | None:
    """The class or function, by its full name, whose look-up has probably failed."""
    if not isinstance(error, ImportError | AttributeError):
        return None
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    for module, name in globals_of(pickled):
        if missing is not None and (module == missing or module.startswith(f"{missing}.")):
            return f"{module}.{name}"
    for module, name in globals_of(pickled):
        loaded = sys.modules.get(module)  # a module that could not be imported is not there
        if loaded is None or not hasattr(loaded, name.partition(".")[0]):
            return f"{module}.{name}"
    return None


def globals_of(pickled: bytes) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of what a pickle refers to by name, without loading anything."""
    strings: list[str] = []  # as they are pushed; names are the last two
    memo: list[str | None] = []
    last: str | None = None
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
            if number >= _MAX_OPERATIONS:
                return
            if operation.name in ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"):
                last = str(argument)
                strings.append(last)
            elif operation.name == "MEMOIZE":
                memo.append(last)
            elif operation.name in ("BINGET", "LONG_BINGET"):
                last = memo[argument] if isinstance(argument, int) and argument < len(memo) else None
                if last is not None:
                    strings.append(last)
            elif operation.name == "STACK_GLOBAL" and len(strings) >= 2:
                yield strings[-2], strings[-1]
                last = None
            elif operation.name != "FRAME":
                last = None
            del strings[:-2]
    except ValueError:  # a pickle that ends early: what was seen so far is all there is
        return
