"""What a program asks for and what a real node gives it: GPUs, memory, fractions, workers ahead of demand."""

import errno
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import aktis
import pytest

from tests.support import metrics
from tests.support.clients import ROOT, embedded

pytestmark = pytest.mark.xdist_group("resources")

MIB = 2**20
START_LIMIT_S = 30.0


@pytest.fixture(scope="module", autouse=True)
def context() -> Iterator[aktis.Context]:
    settings = {"raylet.memory_bytes": 100 * MIB, "raylet.workers.prestart": 3}
    with embedded(num_cpus=2, num_gpus=2, _system_config=settings) as context:
        yield context


def scrape(context: aktis.Context, daemon: str) -> dict[str, float]:
    return metrics.scrape(context["session_dir"], daemon)


class Gate:
    """A named pipe at which a task waits outside of the runtime: waiting in get() would lend its CPU out."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)

    def is_reached(self) -> bool:
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads
                return False
            raise
        return True

    def open_when_reached(self) -> int:
        """Wait for the task; it goes on when the returned descriptor is closed."""
        return os.open(self.path, os.O_WRONLY)


@aktis.remote
def hold(path: str) -> tuple[str, dict[str, float]]:
    with open(path) as gate:
        gate.read()
    return os.environ["CUDA_VISIBLE_DEVICES"], aktis.get_runtime_context().get_assigned_resources()


@aktis.remote(num_cpus=0)  # or each would hold a CPU beside its GPU
class Device:
    def visible(self) -> tuple[str, list[int] | list[str]]:
        return os.environ["CUDA_VISIBLE_DEVICES"], aktis.get_gpu_ids()


def test_workers_are_started_ahead_of_demand(context: aktis.Context) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while (now := scrape(context, "raylet"))["aktis_raylet_workers_started_total"] < 3:
        assert time.monotonic() < deadline, now
    assert now["aktis_raylet_workers_started_total"] == 3
    assert now["aktis_raylet_leases_granted_total"] == 0


def test_tasks_that_hold_gpus_see_different_ones(tmp_path: Path) -> None:
    gates = [Gate(tmp_path / str(number)) for number in range(3)]
    task = hold.options(num_cpus=0, num_gpus=1)
    refs = [task.remote(gate.path) for gate in gates[:2]]
    opened = [gate.open_when_reached() for gate in gates[:2]]
    waiting = task.remote(gates[2].path)
    assert aktis.wait([waiting], timeout=0.2) == ([], [waiting])
    assert not gates[2].is_reached()
    for descriptor in opened:
        os.close(descriptor)
    results = aktis.get(refs)
    assert sorted(devices for devices, _ in results) == ["0", "1"]
    assert [resources for _, resources in results] == [{"GPU": 1}] * 2
    os.close(gates[2].open_when_reached())
    assert aktis.get(waiting)[0] in ("0", "1")


def test_both_gpus_or_none(tmp_path: Path) -> None:
    both = Device.options(num_gpus=2).remote()
    assert aktis.get(both.visible.remote()) == ("0,1", [0, 1])
    aktis.kill(both)
    assert aktis.get(Device.remote().visible.remote()) == ("", [])


def test_fractions_of_a_gpu_share_it() -> None:
    halves = [Device.options(num_gpus=0.5).remote() for _ in range(4)]
    seen = aktis.get([half.visible.remote() for half in halves])
    assert sorted(devices for devices, _ in seen) == ["0", "0", "1", "1"]
    assert all(devices == str(ids[0]) for devices, ids in seen)
    more = Device.options(num_gpus=0.5).remote()
    call = more.visible.remote()
    assert aktis.wait([call], timeout=0.2) == ([], [call])
    aktis.kill(halves[0])
    assert aktis.get(call) == seen[0]


def test_fractions_of_a_cpu_run_side_by_side(tmp_path: Path) -> None:
    gates = [Gate(tmp_path / str(number)) for number in range(5)]
    refs = [hold.options(num_cpus=0.5).remote(gate.path) for gate in gates[:4]]
    opened = [gate.open_when_reached() for gate in gates[:4]]  # all four at once on two CPUs
    fifth = hold.options(num_cpus=0.5).remote(gates[4].path)
    assert aktis.wait([fifth], timeout=0.2) == ([], [fifth])
    assert not gates[4].is_reached()
    assert aktis.available_resources().get("CPU", 0) == 0
    for descriptor in opened:
        os.close(descriptor)
    assert [resources for _, resources in aktis.get(refs)] == [{"CPU": 0.5}] * 4
    os.close(gates[4].open_when_reached())
    aktis.get(fifth)


def test_memory_is_counted(tmp_path: Path) -> None:
    first, second = Gate(tmp_path / "first"), Gate(tmp_path / "second")
    task = hold.options(num_cpus=0, memory=60 * MIB)
    refs = [task.remote(first.path)]
    opened = first.open_when_reached()
    refs.append(task.remote(second.path))
    assert aktis.wait(refs, timeout=0.2) == ([], refs)
    assert not second.is_reached()
    os.close(opened)
    os.close(second.open_when_reached())
    assert [resources for _, resources in aktis.get(refs)] == [{"memory": 60 * MIB}] * 2
    assert aktis.cluster_resources()["memory"] == 100 * MIB


def test_metrics_say_what_is_held(context: aktis.Context) -> None:
    device = Device.options(num_gpus=0.5, num_cpus=1).remote()
    aktis.get(device.visible.remote())
    stored = aktis.put(bytes(3 * MIB))
    raylet = scrape(context, "raylet")
    assert raylet["aktis_raylet_resource_total{resource=GPU}"] == 2
    assert raylet["aktis_raylet_resource_available{resource=GPU}"] == 1.5
    assert raylet["aktis_raylet_resource_available{resource=CPU}"] == 1
    assert raylet["aktis_raylet_gcs_connected"] == 1
    gcs = scrape(context, "gcs")
    assert gcs["aktis_gcs_nodes{state=ALIVE}"] == 1
    assert gcs["aktis_gcs_jobs{state=RUNNING}"] == 1
    assert gcs["aktis_gcs_actors{state=ALIVE}"] >= 1
    plasma = scrape(context, "plasma")
    assert plasma["aktis_plasma_sealed_objects"] >= 1
    assert plasma["aktis_plasma_sealed_bytes"] >= 3 * MIB
    assert plasma["aktis_plasma_used_bytes"] <= plasma["aktis_plasma_capacity_bytes"]
    assert aktis.get(stored) == bytes(3 * MIB)


@pytest.mark.parametrize("daemon", ["gcs", "raylet", "plasma"])
def test_daemons_answer_to_health_checks(context: aktis.Context, daemon: str) -> None:
    shown = scrape(context, daemon)
    assert shown[f"aktis_{daemon}_epoch"] == 1
    assert shown["process_resident_memory_bytes"] > MIB
    address = metrics.metrics_address(context["session_dir"], daemon)
    with urllib.request.urlopen(f"http://{address}/healthz", timeout=10) as reply:
        assert reply.status == 200


@pytest.mark.parametrize("daemon", ["gcs", "raylet", "plasma"])
def test_the_metrics_that_the_page_names_exist(context: aktis.Context, daemon: str) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    rows = re.search(rf"^\| {daemon} \|.*\n(?:\| \|.*\n)*", page, re.MULTILINE)
    assert rows is not None
    named = {f"aktis_{daemon}{name}" for name in re.findall(rf"`(?:aktis_{daemon})?(_\w+)`", rows[0])}
    text = metrics.scrape_text(context["session_dir"], daemon)
    shown = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    assert len(named) > 10
    assert named <= shown
