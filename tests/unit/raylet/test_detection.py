"""What the machine offers, from the texts of its files."""

import pytest
from aktisd.raylet.detection import (
    Machine,
    cpus_within,
    detect,
    gpu_type_of,
    gpus_visible,
    memory_within,
    naming,
    node_totals,
)

MEMINFO = "MemFree: 1 kB\nMemTotal:       16000000 kB\n"


@pytest.mark.parametrize(
    ("affinity", "cpu_max", "cpus"),
    [
        (8, None, 8),
        (8, "max 100000\n", 8),
        (8, "250000 100000\n", 2),
        (8, "50000 100000", 1),
        (2, "800000 100000", 2),
    ],
)
def test_cpus(affinity: int, cpu_max: str | None, cpus: int) -> None:
    assert cpus_within(affinity, cpu_max) == cpus


def test_memory() -> None:
    assert memory_within(MEMINFO, None) == 16_384_000_000
    assert memory_within(MEMINFO, "max\n") == 16_384_000_000
    assert memory_within(MEMINFO, "1000000\n") == 1_000_000
    with pytest.raises(ValueError, match="memory_bytes"):
        memory_within("", None)


@pytest.mark.parametrize(
    ("visible", "gpus"), [(None, 2), ("", 0), ("-1", 0), ("0,2,5", 3), ("0,-1,2", 1), ("GPU-ab12,1", 2)]
)
def test_gpus(visible: str | None, gpus: int) -> None:
    assert gpus_visible(visible, ["nvidia0", "nvidia1", "nvidiactl", "null"]) == gpus


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce", ""),
    ],
)
def test_the_type_of_gpus(model: str, name: str) -> None:
    assert gpu_type_of(f"Model: \t\t {model}\nIRQ:   \t\t 33\n") == name
    assert gpu_type_of("IRQ: A100") == ""


def test_the_type_of_gpus_is_a_resource_where_gpus_are_offered() -> None:
    def offered(num_gpus: float | None) -> dict[str, int]:
        found = Machine(cpus=1, memory_bytes=1, gpus=2, gpu_type="T4")
        return node_totals(found, num_cpus=None, num_gpus=num_gpus, memory_bytes=None, custom={})

    assert offered(None)["accelerator_type:T4"] == 10_000
    assert not any("accelerator_type" in name for name in offered(0))


def test_configuration_wins_over_detection() -> None:
    found = Machine(cpus=4, memory_bytes=1000, gpus=0)
    totals = node_totals(found, num_cpus=0, num_gpus=2, memory_bytes=None, custom={"x": 1.5})
    assert totals == {
        "CPU": 0,
        "GPU": 20_000,
        "x": 15_000,
        "memory": 7_000_000,
    }


def test_this_machine() -> None:
    machine = detect({})
    assert machine.cpus >= 1
    assert machine.memory_bytes > 0


def test_a_node_has_resources_that_name_it() -> None:
    assert naming("10.0.0.7", is_head=False) == {"node:10.0.0.7": 10_000}
    assert naming("10.0.0.7", is_head=True) == {"node:10.0.0.7": 10_000, "node:__internal_head__": 10_000}
