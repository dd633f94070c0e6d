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
LIMITED_VARIABLE: Final = "AKTIS_LIMITED_THREADS"
"""Those of them that the raylet has set for the template, not the user."""
_STEPS_PER_UNIT: Final = 10_000


class Devices:
    """Sets the variables that the raylet's grants imply; leaves alone what the user has set."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Remember which variables the user has set, and which GPUs the node may use at all."""
        self._environ = environ
        self._node_gpus = [name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
        ours = environ.pop(LIMITED_VARIABLE, "").split(",")
        self._user_set = {name for name in _THREAD_VARIABLES if name in environ and name not in ours}

    def _gpu_name(self, index: int) -> str:
        """The driver's name of a GPU of this node, which may have been given only some of the machine's."""
        named = self._node_gpus[index] if index < len(self._node_gpus) else ""
        return named or str(index)

    def apply(self, resources: common_pb2.Resources, devices: Mapping[str, Any]) -> None:
        """Set the environment for what runs next in this process."""
        amounts = {name: steps / _STEPS_PER_UNIT for name, steps in resources.amounts.items()}
        names = {kind: [str(index) for index in granted.indexes] for kind, granted in devices.items()}
        if "GPU" in names:
            names["GPU"] = [self._gpu_name(index) for index in devices["GPU"].indexes]
        execution.assignment.resources = amounts
        execution.assignment.devices = names
        # No GPU asked for: none may be seen, or two tasks would share one by accident.
        self._environ["CUDA_VISIBLE_DEVICES"] = ",".join(names.get("GPU", []))
        threads = str(max(1, math.floor(amounts.get("CPU", 1))))
        for name in _THREAD_VARIABLES:
            if name not in self._user_set:
                self._environ[name] = threads
