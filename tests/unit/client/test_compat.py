"""The alias under which programs for another runtime find us."""

import subprocess
import sys
import types
from pathlib import Path

from aktis.compat.alias import Alias

PROGRAM = """
import aktis, aktis.compat
aktis.compat.install_as_ray()
aktis.compat.install_as_ray()
import ray
import ray.util.profiling as profiling
from ray.exceptions import RayError, RayTaskError, RayActorError, GetTimeoutError
assert ray.get is aktis.get
assert ray.remote is aktis.remote
assert RayError is aktis.exceptions.AktisError
assert RayTaskError is aktis.exceptions.TaskError
assert RayActorError is aktis.exceptions.ActorError
assert GetTimeoutError is aktis.exceptions.GetTimeoutError
assert profiling.profile is __import__("aktis.util.profiling").util.profiling.profile
assert ray.profiling.profile is ray._private.profiling.profile is profiling.profile
from ray.internal import free
assert free is aktis.free
assert ray.actor.exit_actor is aktis.exit_actor
assert ray.exceptions.RayError is RayError
assert not hasattr(aktis.exceptions, "RayError")
assert "get" in dir(ray)
try:
    import ray.no_such_module
except ModuleNotFoundError as error:
    print("missing", error.name)
"""


UTIL_PROGRAM = """
import aktis.compat
aktis.compat.install_as_ray()
import importlib
import ray
import ray.dag, ray.util, ray.util.collective, ray.util.joblib, ray.util.metrics, ray.util.multiprocessing
from ray.dag import InputNode, MultiOutputNode
from ray.dag.input_node import InputNode as same
from ray.util import ActorPool, as_completed, inspect_serializability, list_named_actors, map_unordered
from ray.util import deregister_serializer, get_node_ip_address, log_once, register_serializer
from ray.util.actor_pool import ActorPool as pool
from ray.util.check_serialize import FailureTuple
from ray.util.joblib import register_ray
from ray.util.metrics import Counter, Gauge, Histogram
from ray.util.multiprocessing import JoinableQueue, Pool, TimeoutError
from ray.util.multiprocessing.pool import Pool as deeper
from ray.util.queue import Empty, Full, Queue
import ray.util.placement_group, ray.util.scheduling_strategies, ray.util.accelerators
from ray.util.placement_group import PlacementGroup, get_current_placement_group, placement_group
from ray.util.scheduling_strategies import In, NodeAffinitySchedulingStrategy
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from ray.util.accelerators import NVIDIA_TESLA_V100
assert ray.util.placement_group is placement_group and callable(ray.util.remove_placement_group)
assert ray.PlacementGroupID is __import__("aktis").PlacementGroupID
assert importlib.import_module("ray.util.placement_group").PlacementGroup is PlacementGroup
assert pool is ActorPool and same is InputNode and deeper is Pool
assert ray.util.queue.Queue is Queue and ray.util.multiprocessing.Pool is Pool
from ray.util.collective.types import Backend, ReduceOp
from ray.util.collective.collective import allreduce
names = ["queue", "actor_pool", "collective", "multiprocessing", "joblib", "metrics"]
names += ["placement_group", "scheduling_strategies", "state"]
for name in ("dag", *(f"util.{name}" for name in names)):
    ours, theirs = (importlib.import_module(f"{package}.{name}") for package in ("aktis", "ray"))
    for public in getattr(ours, "__all__", []):
        assert getattr(theirs, public) is getattr(ours, public), (name, public)
print("all there")
"""


def test_the_tools_are_where_programs_look_for_them() -> None:
    finished = run(UTIL_PROGRAM)
    assert finished.stdout.strip() == "all there", finished.stderr


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )


def test_names_and_modules_resolve_to_ours() -> None:
    finished = run(PROGRAM)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "missing ray.no_such_module"


def test_the_real_package_is_not_replaced_when_it_was_imported() -> None:
    program = (
        "import sys, types; sys.modules['ray'] = types.ModuleType('ray')\n"
        "import aktis.compat\n"
        "try: aktis.compat.install_as_ray()\n"
        "except ImportError as error: print(error)"
    )
    assert "imported already" in run(program).stdout


def test_the_command_says_how_it_is_used() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "aktis.compat"], capture_output=True, text=True, timeout=50, check=False
    )
    assert finished.returncode == 2
    assert "usage" in finished.stderr


PROBES = """
import aktis.compat
aktis.compat.install_as_ray()
import importlib.metadata as metadata, importlib.util, pickle
import ray
assert metadata.version("ray") == ray.__version__ == aktis.compat.COMPATIBLE_VERSION
assert [found.name for found in metadata.distributions(name="ray")] == ["ray"]
assert importlib.util.find_spec("ray").name == "ray"
assert importlib.util.find_spec("ray.util.no_such_module") is None
assert not hasattr(ray, "tune") and not hasattr(ray, "no_such_name")
assert ray.util.queue.Queue is aktis.util.queue.Queue, "modules are there without an import of their own"
assert ray.actor.ActorHandle is aktis.ActorHandle
assert ray.remote_function.RemoteFunction is aktis.RemoteFunction
assert ray._raylet.ObjectRef is ray.types.ObjectRef is aktis.ObjectRef
assert ray.cloudpickle.loads(ray.cloudpickle.dumps(lambda: 3))() == 3
assert ray.runtime_context.get_runtime_context is aktis.get_runtime_context
assert ray._private.services.get_node_ip_address is aktis.util.get_node_ip_address
assert ray._private.worker.global_worker.mode is None and not ray._private.worker.global_worker.connected
assert ray.util.client.ray.is_connected() is False
from ray.util.client.common import ClientObjectRef
from ray.util.annotations import Deprecated, DeveloperAPI, PublicAPI
@PublicAPI(stability="beta")
@DeveloperAPI
def marked(): return "as it was"
assert marked() == "as it was"
assert pickle.loads(pickle.dumps(ray.util)) is ray.util
assert ray.__path__ == [], "else our files would be loaded a second time under the other name"
aktis.compat.install_as_ray("2.55.1")
assert metadata.version("ray") == ray.__version__ == "2.55.1"
print("all there")
"""


def test_libraries_find_what_they_look_for() -> None:
    finished = run(PROBES)
    assert finished.stdout.strip() == "all there", finished.stderr


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "aktis.compat", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)


def test_the_command_runs_modules_and_code_as_python_does() -> None:
    code = "import ray, sys; print(ray.__version__, sys.argv, __name__)"
    assert command("-c", code, "-m", "--x").stdout.strip() == f"2.60.0 {['-c', '-m', '--x']} __main__"
    assert command("--ray-version", "2.9.3", "-c", code).stdout.startswith("2.9.3 ")
    assert "--sort-keys" in command("-m", "json.tool", "--help").stdout


def test_a_function_stays_when_the_submodule_of_its_name_is_imported() -> None:
    home, below = types.ModuleType("home"), types.ModuleType("home.placed")
    home.placed = placed = lambda: None  # type: ignore[attr-defined]
    home.other = below  # type: ignore[attr-defined]
    package = Alias("ray.util", [home])
    for name in ("placed", "other"):
        setattr(package, name, Alias(f"ray.util.{name}", [below]))  # as the import system does
    assert package.placed is placed
    assert isinstance(package.other, Alias)
    package.placed = "anything else"
    assert package.placed == "anything else"


def test_processes_that_the_program_starts_find_it_too(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import multiprocessing, subprocess, sys
import ray

def names(queue):
    import aktis
    queue.put((ray.get is aktis.get, ray.__version__))

if __name__ == "__main__":
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    child = multiprocessing.get_context("spawn").Process(target=names, args=[queue])
    child.start()
    print(queue.get(), flush=True)
    child.join()
    subprocess.run([sys.executable, "-c", "import ray.util; print(ray.__version__)"], check=True)
""")
    finished = command("--ray-version", "2.55.1", str(program))
    assert finished.stdout.splitlines() == ["(True, '2.55.1')", "2.55.1"], finished.stderr
