"""Functions and classes by the hash of their pickle: exported once per session, loaded once per worker.

The hash is the name, so a function redefined in a notebook gets another one, and two drivers that define the
same share it.
"""

import hashlib
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aktis._core import ObjectRef, collect_references
from aktis._runtime.advice import Advice, largest_member
from aktis._runtime.control import Control
from aktis._runtime.pickling import dumps, unpicklable
from aktis.exceptions import AktisError

KV_NAMESPACE: Final = "functions"
HASH_BYTES: Final = 16
MAX_SIZE_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Exported:
    """A function or class with what its executor must know of its options."""

    value: Any
    max_calls: int = 0
    """Calls after which the worker ends; 0: without limit."""


class FunctionStore:
    """Exports and loads. Any thread."""

    def __init__(
        self,
        control: Control,
        advice: Advice,
        before_first_export: Callable[[], None],
        job_id: Callable[[], bytes],
    ) -> None:
        """Use the cluster's key-value store; ``before_first_export`` runs once."""
        self._control = control
        self._advice = advice
        self._before_first_export = before_first_export
        self._job_id = job_id
        self._lock = threading.Lock()
        self._exported: set[bytes] = set()
        # References that the functions close over live as long as the functions can be called.
        self._captured: list[ObjectRef[Any]] = []
        self._loaded: dict[bytes, Exported] = {}

    def export(self, exported: Exported, what: str) -> bytes:
        """Make a function or class known to the cluster and return its id.

        Raises:
            TypeError: it cannot be pickled; names the variable at fault.
            ValueError: its pickle is larger than the cluster takes.
        """
        try:
            data, references = collect_references(lambda: dumps(exported))
        except Exception as error:
            raise unpicklable(what, exported.value, error) from error
        if len(data) > MAX_SIZE_BYTES:
            limit_mib = MAX_SIZE_BYTES >> 20
            raise ValueError(
                f"{what} is {len(data) >> 20} MiB when pickled, more than the {limit_mib} MiB that "
                f"fit{largest_member(exported.value)}: put() the data and pass the reference as an argument"
            )
        self._advice.exported(what, exported.value, len(data))
        function_id = hashlib.blake2b(data, digest_size=HASH_BYTES).digest()
        with self._lock:
            if function_id in self._exported:
                return function_id
            if not self._exported:
                self._before_first_export()
            self._control.kv_put(KV_NAMESPACE, function_id, data, overwrite=False, job_id=self._job_id())
            self._exported.add(function_id)
            self._captured.extend(references)
        return function_id

    def load(self, function_id: bytes) -> Exported:
        """Return what was exported under an id, fetching it when this process has not seen it yet.

        Raises:
            AktisError: the cluster does not have it.
            DeserializationError: it cannot be loaded, for example because a module is missing here.
        """
        known = self._loaded.get(function_id)
        if known is None:
            data = self._control.kv_get(KV_NAMESPACE, function_id)
            if data is None:
                raise AktisError(f"the cluster does not have the function {function_id.hex()}")
            known = self._loads(data, function_id)
            if not isinstance(known, Exported):
                raise AktisError(f"function {function_id.hex()} is a {type(known).__name__}")
            self._loaded[function_id] = known
        return known

    def _loads(self, data: bytes, function_id: bytes) -> Any:
        try:
            return pickle.loads(data)
        except Exception as error:
            from aktis._runtime.loading import loading_error

            explained = loading_error(error, data, f"the function or class {function_id.hex()} of a task")
            raise explained from explained.__cause__
