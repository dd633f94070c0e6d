"""Callbacks about tasks of the cluster: before and after they are submitted, around them in their workers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Final, Self

from dask.callbacks import Callback

import aktis
from aktis.util.dask.nodes import Extra

HOOKS: Final = ("presubmit", "postsubmit", "pretask", "posttask", "postsubmit_all", "finish")
_PREFIXES: Final = ("aktis", "ray")
_AROUND: Final = Extra("hooks around tasks")
# Of a computation that has them already. Others, in other threads, have their own.
_INSIDE: Final = ContextVar("inside hooks of Dask", default=False)


class AktisDaskCallback(Callback):
    """One of Dask's callbacks that also hears of what happens in the cluster, where it is used or registered.

    Give functions, by the names below, or override the methods of these names with an underscore in front.
    ``ray_`` instead of ``aktis_`` works as well.

    * ``aktis_presubmit(task, key, deps)``: a node is about to become a task; ``deps`` are the references that
      it needs, by key. What is returned is its value, and there is no task, unless it is None.
    * ``aktis_postsubmit(task, key, deps, object_ref)``: it has become one.
    * ``aktis_pretask(key, object_refs)``: in the worker, before the node is computed.
    * ``aktis_posttask(key, result, pre_state)``: in the worker, afterwards, with what ``aktis_pretask`` of
      the same callback returned.
    * ``aktis_postsubmit_all(object_refs, dsk)``: every node has been submitted; the references of the keys
      that were asked for, in lists as the keys are.
    * ``aktis_finish(result)``: everything has ended; what the scheduler returns.

    Example:
        >>> from aktis.util.dask import AktisDaskCallback
        >>> with AktisDaskCallback(aktis_finish=print):
        ...     pass
    """

    hooked: ClassVar[list["AktisDaskCallback"]] = []

    def __init__(self, **functions: Callable[..., Any] | None) -> None:
        """Keep functions, Dask's own hooks among them.

        Raises:
            TypeError: there is no hook of such a name.
        """
        for hook in HOOKS:
            for prefix in _PREFIXES:
                function = functions.pop(f"{prefix}_{hook}", None)
                if function is not None:
                    setattr(self, f"_{prefix}_{hook}", function)
        super().__init__(**functions)  # type: ignore[no-untyped-call]

    def hook(self, name: str) -> Callable[..., Any] | None:
        """Return what is called at a hook, named without a prefix; None for nothing."""
        found = (getattr(self, f"_{prefix}_{name}", None) for prefix in _PREFIXES)
        return next((function for function in found if function is not None), None)

    def __enter__(self) -> Self:
        AktisDaskCallback.hooked.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        AktisDaskCallback.hooked.remove(self)

    def register(self) -> None:
        """Hear of every computation from now on."""
        super().register()
        AktisDaskCallback.hooked.append(self)

    def unregister(self) -> None:
        """Hear of no more."""
        super().unregister()
        AktisDaskCallback.hooked.remove(self)


class Hooks:
    """The hooks of one computation, by when they are called."""

    def __init__(self, callbacks: Iterable[AktisDaskCallback]) -> None:
        """Ask callbacks for what they have."""
        table = {name: [callback.hook(name) for callback in callbacks] for name in HOOKS}
        around = [pair for pair in zip(table["pretask"], table["posttask"], strict=True) if any(pair)]
        self._calls = {name: [call for call in calls if call is not None] for name, calls in table.items()}
        self._around = aktis.put(around) if around else None

    def value_instead(self, node: Any, key: Any, needed: Mapping[Any, Any]) -> Any:
        """Return the value that a node gets without a task; None for a task."""
        answers = [call(node, key, dict(needed)) for call in self._calls["presubmit"]]
        return next((answer for answer in reversed(answers) if answer is not None), None)

    def surround(self, node: Any, key: Any, needed: dict[Any, aktis.ObjectRef[Any]]) -> Any:
        """Return a node with the hooks of its worker around it, which become something that it needs."""
        if self._around is None:
            return node
        surrounded = _Surrounded(node, key, tuple(needed.values()))
        needed[_AROUND] = self._around
        return surrounded

    def tell(self, hook: str, *arguments: Any) -> None:
        """Call whoever waits for something in this process."""
        for call in self._calls[hook]:
            call(*arguments)


class _Surrounded:
    """A node with hooks around it; is computed like one."""

    def __init__(self, node: Callable[[Any], Any], key: Any, references: tuple[Any, ...]) -> None:
        self._node = node
        self._key = key
        self._references = references

    def __call__(self, values: dict[Any, Any]) -> Any:
        around = values.pop(_AROUND)
        states = [before(self._key, self._references) if before else None for before, _ in around]
        result = self._node(values)
        for (_, after), state in zip(around, states, strict=True):
            if after:
                after(self._key, result, state)
        return result


@contextmanager
def hooking(callbacks: AktisDaskCallback | Iterable[AktisDaskCallback] | None) -> Iterator[Hooks]:
    """Run the block with the hooks of callbacks, by default of those in use; schedulers inside have none."""
    if callbacks is not None:
        yield Hooks([callbacks] if isinstance(callbacks, AktisDaskCallback) else list(callbacks))
        return
    active = [] if _INSIDE.get() else list(AktisDaskCallback.hooked)
    token = _INSIDE.set(True)
    try:
        yield Hooks(active)
    finally:
        _INSIDE.reset(token)
