"""What a lease or an actor's resources mean for the environment of the worker."""

import math
import os
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from aktis._proto import common_pb2
from aktis._runtime import execution

# Libraries that start as many threads as the machine has cores unless they are told how many they may.
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_STEPS_PER_UNIT: Final = 10_000


class Devices:
    """Sets the variables that the raylet's grants imply; leaves alone what the user has set."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Remember which variables the user has set."""
        self._environ = environ
        self._user_set = {name for name in _THREAD_VARIABLES if name in environ}

    def apply(self, resources: common_pb2.Resources, devices: Mapping[str, Any]) -> None:
        """Set the environment for what runs next in this process."""
        amounts = {name: steps / _STEPS_PER_UNIT for name, steps in resources.amounts.items()}
        indexes = {kind: list(granted.indexes) for kind, granted in devices.items()}
        execution.assignment.resources = amounts
        execution.assignment.devices = indexes
        # No GPU asked for: none may be seen, or two tasks would share one by accident.
        self._environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in indexes.get("GPU", []))
        threads = str(max(1, math.floor(amounts.get("CPU", 1))))
        for name in _THREAD_VARIABLES:
            if name not in self._user_set:
                self._environ[name] = threads
