"""The calls of the API, run on the spot in this process: enough to drive every row without a cluster."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


class Ref:
    def __init__(self, value: Any) -> None:
        self.value = value


class Callee:
    """A remote function or method; a coroutine is run to its end."""

    def __init__(self, function: Callable[..., Any], num_returns: int = 1) -> None:
        self.function = function
        self.num_returns = num_returns

    def options(self, num_returns: int) -> Callee:
        return Callee(self.function, num_returns)

    def remote(self, *arguments: Any) -> Any:
        result = self.function(*(item.value if isinstance(item, Ref) else item for item in arguments))
        if isinstance(result, types.CoroutineType):
            try:
                result.send(None)
            except StopIteration as stop:
                result = stop.value
        if isinstance(result, types.GeneratorType):
            return (Ref(item) for item in result)
        return Ref(result) if self.num_returns == 1 else [Ref(item) for item in result]


class Handle:
    def __init__(self, instance: Any) -> None:
        self.instance = instance

    def __getattr__(self, name: str) -> Callee:
        return Callee(getattr(self.instance, name))


class ActorClass:
    def __init__(self, api: LocalApi, cls: type) -> None:
        self.api, self.cls = api, cls

    def options(self, **options: Any) -> ActorClass:
        return self

    def remote(self, *arguments: Any) -> Handle:
        handle = Handle(self.cls(*arguments))
        self.api.alive.append(handle)
        return handle


class LocalApi:
    """Has what ``aktis._microbenchmark.Api`` asks for; ``alive`` are the actors that nobody has killed."""

    __name__ = "local_api"

    def __init__(self) -> None:
        self.alive: list[Handle] = []

    def remote(self, *target: Any, **options: Any) -> Any:
        if options:
            return lambda item: self.remote(item)
        (item,) = target
        return ActorClass(self, item) if isinstance(item, type) else Callee(item)

    def get(self, refs: Any) -> Any:
        return [ref.value for ref in refs] if isinstance(refs, list) else refs.value

    def put(self, value: Any) -> Ref:
        return Ref(value)

    def wait(
        self, refs: list[Ref], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Ref], list[Ref]]:
        return refs[:num_returns], refs[num_returns:]

    def kill(self, actor: Handle) -> None:
        self.alive.remove(actor)
