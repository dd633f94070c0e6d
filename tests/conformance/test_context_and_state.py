"""What a program is told about itself and about the cluster."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.conformance.systems import running_cluster

DEADLINE_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Any]:
    with running_cluster(
        num_cpus=2, num_gpus=2, resources={"special": 3}, labels={"zone": "a"}, namespace="mine"
    ) as context:
        yield context


# ---- runtime context ----


def test_a_driver_has_ids_of_job_node_and_worker() -> None:
    context = ray.get_runtime_context()
    for value in (context.get_job_id(), context.get_node_id(), context.get_worker_id()):
        assert bytes.fromhex(value)
    assert context.get_actor_id() is None
    assert context.namespace == "mine"
    assert context.get_node_id() == ray.nodes()[0]["NodeID"]


def test_a_task_has_an_id_and_names() -> None:
    @ray.remote
    def own() -> Any:
        context = ray.get_runtime_context()
        return (
            context.get_task_id(),
            context.get_task_name(),
            context.get_task_function_name(),
            context.get_job_id(),
            context.get_node_id(),
            context.get_worker_id(),
            context.get_actor_id(),
        )

    task, name, function, job, node, worker, actor = ray.get(own.options(name="renamed").remote())
    here = ray.get_runtime_context()
    assert bytes.fromhex(task)
    assert name == "renamed"
    assert function.endswith("own")
    assert (job, node) == (here.get_job_id(), here.get_node_id())
    assert worker != here.get_worker_id()
    assert actor is None
    assert ray.get(own.remote())[1].endswith("own")


def test_a_task_knows_the_name_of_its_function() -> None:
    @ray.remote
    class A:
        def method(self) -> Any:
            return ray.get_runtime_context().get_task_function_name()

    assert ray.get(A.remote().method.remote()).endswith("method")


def test_an_actor_knows_itself() -> None:
    @ray.remote(num_cpus=0)
    class A:
        def own(self) -> Any:
            context = ray.get_runtime_context()
            return context.get_actor_id(), context.get_actor_name(), context.current_actor, context.namespace

    actor = A.options(name="known").remote()
    actor_id, name, handle, namespace = ray.get(actor.own.remote())
    assert handle == actor
    assert name == "known"
    assert namespace == "mine"
    assert actor_id in repr(actor)
    assert not ray.get(A.remote().own.remote())[1]


def test_there_is_no_current_actor_outside_of_actors() -> None:
    with pytest.raises(RuntimeError):
        _ = ray.get_runtime_context().current_actor


def test_assigned_resources() -> None:
    @ray.remote
    def own() -> Any:
        return ray.get_runtime_context().get_assigned_resources()

    assert ray.get(own.remote()) == {"CPU": 1}
    assert ray.get(own.options(num_cpus=0.5, resources={"special": 2}).remote()) == {"CPU": 0.5, "special": 2}


def test_accelerators() -> None:
    @ray.remote
    def own() -> Any:
        ids = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        return ids, ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    ids, gpus, visible = ray.get(own.options(num_gpus=1).remote())
    assert len(ids) == 1
    assert [str(gpu) for gpu in gpus] == ids
    assert visible == ids[0]
    two, _, visible = ray.get(own.options(num_gpus=2).remote())
    assert sorted(two) == ["0", "1"]
    assert sorted(visible.split(",")) == ["0", "1"]


def test_without_accelerators_there_are_none() -> None:
    @ray.remote
    def own() -> Any:
        return ray.get_gpu_ids(), ray.get_runtime_context().get_accelerator_ids().get("GPU", [])

    assert ray.get(own.remote()) == ([], [])
    assert ray.get_gpu_ids() == []


def test_a_part_of_an_accelerator_is_shared() -> None:
    @ray.remote(num_gpus=0.5, num_cpus=0)
    def own() -> Any:
        return ray.get_gpu_ids()

    assert all(len(ids) == 1 for ids in ray.get([own.remote() for _ in range(4)]))


def test_labels_of_the_node() -> None:
    assert ray.get_runtime_context().get_node_labels()["zone"] == "a"


def test_the_old_names_of_the_ids() -> None:
    context = ray.get_runtime_context()
    known = context.get()
    assert {"job_id", "node_id", "namespace"} <= set(known)
    assert context.gcs_address
    assert context.get_session_name()
    assert os.path.isdir(context.get_temp_dir())


# ---- the cluster ----


def test_init_returns_a_context(cluster: Any) -> None:
    assert cluster["node_id"] == ray.get_runtime_context().get_node_id()
    assert cluster["node_ip_address"]
    assert os.path.isdir(cluster["session_dir"])
    assert cluster.address_info["session_dir"] == cluster["session_dir"]
    assert cluster.python_version
    assert "gcs_address" in cluster.address_info


def test_nodes() -> None:
    (node,) = ray.nodes()
    assert node["Alive"] is True
    assert node["alive"] is True
    assert node["Resources"]["CPU"] == 2
    assert node["Resources"]["special"] == 3
    assert node["Labels"]["zone"] == "a"
    assert bytes.fromhex(node["NodeID"])
    for name in ("NodeManagerAddress", "NodeManagerHostname", "NodeName"):
        assert isinstance(node[name], str)
        assert node[name]


@pytest.mark.parametrize(
    "name",
    [
        "NodeManagerPort",
        "ObjectManagerPort",
        "ObjectStoreSocketName",
        "RayletSocketName",
        "MetricsExportPort",
        "DeathReason",
        "DeathReasonMessage",
    ],
)
def test_fields_of_nodes(name: str) -> None:
    assert name in ray.nodes()[0]


def test_cluster_resources() -> None:
    resources = ray.cluster_resources()
    assert resources["CPU"] == 2
    assert resources["GPU"] == 2
    assert resources["special"] == 3
    assert resources["memory"] > 0
    assert resources["object_store_memory"] > 0


def test_every_node_has_a_resource_of_its_own() -> None:
    address = ray.nodes()[0]["NodeManagerAddress"]
    assert ray.cluster_resources()[f"node:{address}"] == 1
    assert ray.cluster_resources()["node:__internal_head__"] == 1
    for name in (address, "__internal_head__"):
        ref = traced.options(resources={f"node:{name}": 0.001}).remote()
        assert ray.wait([ref], timeout=5)[0] == [ref]


def test_available_resources() -> None:
    @ray.remote(num_cpus=1, resources={"special": 3})
    class Holds:
        def hold(self) -> None: ...

    holds = Holds.remote()
    ray.get(holds.hold.remote())
    while ray.available_resources().get("special", 0) != 0:
        ray.get(holds.hold.remote())
    assert ray.available_resources()["CPU"] <= 1
    ray.kill(holds)
    while ray.available_resources().get("special", 0) != 3:
        ray.cluster_resources()


@ray.remote
def traced() -> None: ...


def test_timeline(tmp_path: Path) -> None:
    ray.get(traced.remote())
    while not (events := [e for e in ray.timeline() if "traced" in e["name"]]):
        ray.get(traced.remote())
    assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} <= set(events[0])
    assert events[0]["ph"] == "X"
    file = tmp_path / "trace.json"
    assert ray.timeline(str(file)) is None
    assert isinstance(json.loads(file.read_text()), list)


def test_what_no_node_can_give_waits() -> None:
    ref = traced.options(resources={"nobody has it": 1}).remote()
    assert ray.wait([ref], timeout=0.2) == ([], [ref])
    ray.cancel(ref)


def test_labels_choose_nodes() -> None:
    ray.get(traced.options(label_selector={"zone": "a"}).remote(), timeout=DEADLINE_S)
    ref = traced.options(label_selector={"zone": "b"}).remote()
    assert ray.wait([ref], timeout=0.2) == ([], [ref])
    ray.cancel(ref)


# ---- ids ----


@pytest.mark.parametrize("kind", ["NodeID", "WorkerID", "ActorID"])
def test_ids(kind: str) -> None:
    cls = getattr(ray, kind)
    one = cls.from_random()
    assert one != cls.from_random()
    assert cls.from_hex(one.hex()) == one
    assert cls.from_binary(one.binary()) == one
    assert hash(cls.from_binary(one.binary())) == hash(one)
    assert len(one.binary()) == cls.size()
    assert one.hex() in repr(one)
    assert not one.is_nil()
    assert cls.nil().is_nil()


def test_ids_of_jobs_are_numbers() -> None:
    assert ray.JobID.from_int(5).int() == 5
    assert ray.JobID.from_int(5) != ray.JobID.from_int(6)
    assert ray.JobID.from_hex(ray.get_runtime_context().get_job_id()).int() > 0


def test_ids_of_the_wrong_length() -> None:
    with pytest.raises(ValueError):
        ray.NodeID(b"short")
