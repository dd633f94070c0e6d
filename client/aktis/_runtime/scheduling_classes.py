"""Numbers for scheduling classes: one per (function, resources, strategy, environment) of this process."""

import itertools
import threading

from aktis._common.resources import ResourceSet
from aktis._runtime.leases import LeasePolicy, SchedulingClass
from aktis._runtime.strategies import Strategy


class SchedulingClasses:
    """Any thread. Numbers start at 1: 0 stands for calls of actors, which need no lease."""

    def __init__(self) -> None:
        """Know no class yet."""
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._known: dict[tuple[object, ...], int] = {}
        self._identities: dict[int, tuple[object, ...]] = {}

    def key(
        self,
        policy: LeasePolicy,
        function_id: bytes,
        function_name: str,
        resources: ResourceSet,
        strategy: Strategy,
        runtime_env_hash: str = "",
    ) -> int:
        """Return the number of a class, making it known to the policy when it is new."""
        amounts = tuple(sorted(resources.items()))
        identity = (function_id, amounts, strategy, runtime_env_hash)
        with self._lock:
            number = self._known.get(identity)
            if number is None:
                number = next(self._numbers)
                policy.add_class(SchedulingClass(number, function_name, amounts, strategy, runtime_env_hash))
                self._known[identity] = number
                self._identities[number] = identity
        return number

    def forget(self, number: int) -> None:
        """No task of a class can run any more: who asks for the same gets another number."""
        with self._lock:
            identity = self._identities.pop(number, None)
            if identity is not None:
                del self._known[identity]
