"""What a grant means for the environment of a worker."""

from types import SimpleNamespace

import aktis
import pytest
from aktis._proto import common_pb2
from aktis._runtime import execution
from aktis._worker.devices import Devices


@pytest.fixture(autouse=True)
def own_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test assigns is not the whole process's."""
    monkeypatch.setattr(execution.assignment, "devices", {})
    monkeypatch.setattr(execution.assignment, "resources", {})


def resources(**amounts: float) -> common_pb2.Resources:
    return common_pb2.Resources(amounts={name: int(amount * 10_000) for name, amount in amounts.items()})


def test_gpus_are_those_granted_and_none_otherwise() -> None:
    environ: dict[str, str] = {}
    devices = Devices(environ)
    devices.apply(resources(CPU=1, GPU=2), {"GPU": SimpleNamespace(indexes=[1, 3])})
    assert environ["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert execution.assignment.devices == {"GPU": ["1", "3"]}
    devices.apply(resources(CPU=1), {})
    assert environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("node_has", "granted", "seen"),
    [("2,5,7", [0, 2], "2,7"), ("GPU-aa,GPU-bb", [1], "GPU-bb"), ("", [1], "1"), ("4", [0, 1], "4,1")],
)
def test_gpus_have_the_names_that_the_node_knows_them_by(
    node_has: str, granted: list[int], seen: str
) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": node_has}
    Devices(environ).apply(resources(GPU=len(granted)), {"GPU": SimpleNamespace(indexes=granted)})
    assert environ["CUDA_VISIBLE_DEVICES"] == seen
    numbers = [int(name) if name.isdigit() else name for name in seen.split(",")]
    assert aktis.get_gpu_ids() == numbers


def test_what_the_raylet_has_limited_is_not_the_users_choice() -> None:
    environ = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "7", "AKTIS_LIMITED_THREADS": "OMP_NUM_THREADS"}
    Devices(environ).apply(resources(CPU=4), {})
    assert environ["OMP_NUM_THREADS"] == "4"
    assert environ["MKL_NUM_THREADS"] == "7"
    assert "AKTIS_LIMITED_THREADS" not in environ


def test_libraries_get_as_many_threads_as_cpus() -> None:
    environ: dict[str, str] = {}
    devices = Devices(environ)
    devices.apply(resources(CPU=2.5), {})
    assert environ["OMP_NUM_THREADS"] == "2"
    devices.apply(resources(CPU=0.1), {})
    assert environ["OMP_NUM_THREADS"] == "1"
    assert execution.assignment.resources == {"CPU": 0.1}


def test_what_the_user_has_set_is_left_alone() -> None:
    environ = {"OMP_NUM_THREADS": "7"}
    Devices(environ).apply(resources(CPU=2), {})
    assert environ["OMP_NUM_THREADS"] == "7"
    assert environ["MKL_NUM_THREADS"] == "2"
