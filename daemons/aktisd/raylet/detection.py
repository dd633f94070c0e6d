"""What this machine has: CPUs, memory and GPUs, within the limits of its cgroup and affinity.

The parsing is pure; ``detect`` reads the files.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aktisd.raylet.resources import CPU, GPU, UNIT

MEMORY_SHARE = 0.7
"""Of the node's memory, what tasks may reserve through ``memory=``; the rest is for the system."""

ACCELERATOR_TYPE = "accelerator_type:"
"""Begins the name of the resource that says what the GPUs are."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found."""

    cpus: int
    memory_bytes: int
    gpus: int
    gpu_type: str = ""
    """Short name of its GPUs' model, as "A100"; empty when there is none or it is not known."""


def cpus_within(affinity: int, cpu_max: str | None) -> int:
    """CPUs usable under an affinity mask and a cgroup v2 ``cpu.max`` ("quota period" or "max period")."""
    if cpu_max:
        quota, _, period = cpu_max.strip().partition(" ")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            return max(1, min(affinity, int(quota) // int(period)))
    return max(1, affinity)


def memory_within(meminfo: str, memory_max: str | None) -> int:
    """Bytes of memory under ``/proc/meminfo`` and a cgroup v2 ``memory.max``."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    if match is None:
        raise ValueError("no MemTotal in /proc/meminfo: set raylet.memory_bytes in the configuration")
    total = int(match[1]) * 1024
    if memory_max and memory_max.strip().isdigit():
        return min(total, int(memory_max))
    return total


def gpus_visible(cuda_visible_devices: str | None, device_names: list[str]) -> int:
    """GPUs that this process may use: CUDA_VISIBLE_DEVICES when it is set, else the devices present."""
    present = sum(1 for name in device_names if re.fullmatch(r"nvidia\d+", name))
    if cuda_visible_devices is None:
        return present
    listed = [part.strip() for part in cuda_visible_devices.split(",")]
    # As CUDA does: the list ends at the first invalid entry; "-1" and "" hide everything.
    count = 0
    for part in listed:
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", part):
            break
        count += 1
    return count


def gpu_type_of(information: str) -> str:
    """Short name of the model in what the driver says of a GPU (``/proc/driver/nvidia/gpus/*/information``).

    >>> gpu_type_of("Model: \\t\\t NVIDIA A100-SXM4-40GB\\nIRQ: 33"), gpu_type_of("Model: Tesla T4")
    ('A100', 'T4')
    """
    model = re.search(r"^Model:\s*(.*)$", information, re.MULTILINE)
    named = re.search(r"\b([A-Z]+\d+\w*)\b", model[1]) if model else None
    return named[1] if named else ""


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None


def _cgroup_file(name: str) -> str | None:
    line = next((li for li in (_read("/proc/self/cgroup") or "").splitlines() if li.startswith("0::")), None)
    return _read(f"/sys/fs/cgroup{line[3:]}/{name}") if line else None


def detect(environ: Mapping[str, str] = os.environ) -> Machine:
    """Look at this machine."""
    described = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return Machine(
        cpus=cpus_within(len(os.sched_getaffinity(0)), _cgroup_file("cpu.max")),
        memory_bytes=memory_within(_read("/proc/meminfo") or "", _cgroup_file("memory.max")),
        gpus=gpus_visible(environ.get("CUDA_VISIBLE_DEVICES"), os.listdir("/dev")),
        gpu_type=next(filter(None, (gpu_type_of(_read(str(path)) or "") for path in described)), ""),
    )


def node_totals(
    machine: Machine,
    *,
    num_cpus: float | None,
    num_gpus: float | None,
    memory_bytes: int | None,
    custom: Mapping[str, float],
) -> dict[str, int]:
    """The node's totals in 1/10000, the object store's excepted: as configured, else what was found."""
    memory = memory_bytes if memory_bytes is not None else int(machine.memory_bytes * MEMORY_SHARE)
    amounts: dict[str, float] = {
        CPU: machine.cpus if num_cpus is None else num_cpus,
        GPU: machine.gpus if num_gpus is None else num_gpus,
    }
    if machine.gpu_type and amounts[GPU]:
        amounts[ACCELERATOR_TYPE + machine.gpu_type] = 1
    amounts |= custom
    totals = {name: round(amount * UNIT) for name, amount in amounts.items()}
    totals["memory"] = memory * UNIT
    return {name: amount for name, amount in totals.items() if amount > 0 or name == CPU}


def naming(ip: str, is_head: bool) -> dict[str, int]:
    """The resources, in 1/10000, by which tasks ask for a node: a little of what only it has."""
    names = [f"node:{ip}", *(["node:__internal_head__"] if is_head else [])]
    return dict.fromkeys(names, UNIT)
