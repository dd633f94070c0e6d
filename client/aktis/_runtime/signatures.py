"""Checking the arguments of a remote call before it is sent: a wrong call fails where it is written."""

import inspect
from collections.abc import Callable
from typing import Any, Final

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class CallCheck:
    """Knows what a function accepts. The common case, positional arguments only, costs two comparisons."""

    __slots__ = ("_signature", "maximum", "minimum", "name")

    def __init__(self, function: Callable[..., Any], name: str, *, skip_first: bool = False) -> None:
        """Look at ``function``; ``skip_first``: its first parameter is self."""
        self.name = name
        self.minimum = 0
        self.maximum = 1 << 30
        self._signature = _signature(function, skip_first)
        if self._signature is None:
            return
        parameters = list(self._signature.parameters.values())
        required_keyword = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        # A missing keyword-only argument makes every call without keywords wrong.
        self.minimum = (1 << 31) if required_keyword else sum(p.default is p.empty for p in positional)
        if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            self.maximum = len(positional)

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise TypeError when the function could not be called like this."""
        if self._signature is not None:
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self.name}.remote(): {error}") from None
        elif not kwargs:
            raise TypeError(
                f"{self.name}.remote() takes {self.minimum} to {self.maximum} positional arguments, "
                f"got {len(args)}"
            )

    def __getstate__(self) -> tuple[str, int, int]:
        # Without the signature, whose defaults can be anything: the process that executes checks again.
        return (self.name, self.minimum, self.maximum)

    def __setstate__(self, state: tuple[str, int, int]) -> None:
        self.name, self.minimum, self.maximum = state
        self._signature = None


def _signature(function: Callable[..., Any], skip_first: bool) -> inspect.Signature | None:
    """The signature without self; None for what has none, such as some functions written in C."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if skip_first and parameters and parameters[0].kind in _POSITIONAL:
        return signature.replace(parameters=parameters[1:])
    return signature
