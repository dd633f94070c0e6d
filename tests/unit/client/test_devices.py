"""What a grant means for the environment of a worker."""

from types import SimpleNamespace

from aktis._proto import common_pb2
from aktis._runtime import execution
from aktis._worker.devices import Devices


def resources(**amounts: float) -> common_pb2.Resources:
    return common_pb2.Resources(amounts={name: int(amount * 10_000) for name, amount in amounts.items()})


def test_gpus_are_those_granted_and_none_otherwise() -> None:
    environ: dict[str, str] = {}
    devices = Devices(environ)
    devices.apply(resources(CPU=1, GPU=2), {"GPU": SimpleNamespace(indexes=[1, 3])})
    assert environ["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert execution.assignment.devices == {"GPU": [1, 3]}
    devices.apply(resources(CPU=1), {})
    assert environ["CUDA_VISIBLE_DEVICES"] == ""


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
