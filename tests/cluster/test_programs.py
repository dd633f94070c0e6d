"""Whole programs: how they begin, what surrounds them, what they print."""

import subprocess
import sys
from pathlib import Path

from tests.support.clients import output, run_program
from tests.support.commands import started_cluster
from tests.support.sandbox import Sandbox


def test_a_program_may_start_one_cluster_after_the_other(sandbox: Sandbox) -> None:
    program = """
import aktis
for number in range(2):
    with aktis.init(address="local", num_cpus=1) as context:
        @aktis.remote
        def f(): return number
        print(aktis.get(f.remote()), context["node_id"])
    assert not aktis.is_initialized()
aktis.shutdown()
"""
    lines = output(run_program(sandbox, program)).split()
    assert lines[0] == "0"
    assert lines[2] == "1"
    assert lines[1] != lines[3]


def test_the_first_use_starts_a_cluster(sandbox: Sandbox) -> None:
    program = "import aktis; print(aktis.get(aktis.put(5)))"
    assert output(run_program(sandbox, program)).strip() == "5"


def test_an_idle_worker_stays_as_long_as_its_objects_are_in_use(sandbox: Sandbox) -> None:
    program = """
import aktis, os, select
aktis.init(address="local", num_cpus=1, _system_config={
    "raylet.workers.idle_timeout_s": 0.2, "raylet.workers.prestart": 0})
@aktis.remote
def make():
    return aktis.put("kept"), os.getpid()
def gone(pid, timeout_s):
    return bool(select.select([os.pidfd_open(pid)], [], [], timeout_s)[0])
ref, pid = aktis.get(make.remote())
print(gone(pid, 5), aktis.get(ref, timeout=10))
del ref
print(gone(pid, 20))
"""
    finished = run_program(sandbox, program)
    assert output(finished).split() == ["False", "kept", "True"]
    assert finished.stderr.count("and stays: it owns 1 objects") == 1


def test_an_idle_worker_ends_although_a_failed_task_has_left_a_cycle(sandbox: Sandbox) -> None:
    program = """
import aktis, os, select
aktis.init(address="local", num_cpus=1, _system_config={
    "raylet.workers.idle_timeout_s": 0.2, "raylet.workers.prestart": 0})
class Carries(Exception):
    pass
@aktis.remote
def fail():
    error = Carries(aktis.put("referred to"), os.getpid())
    raise error     # refers to this frame, which refers to it
try:
    aktis.get(fail.remote())
except Carries as error:
    ref, pid = error.args
print(aktis.get(ref))
del ref
print(bool(select.select([os.pidfd_open(pid)], [], [], 20)[0]))
"""
    assert output(run_program(sandbox, program)).split() == ["referred", "to", "True"]


def test_workers_print_to_the_driver(sandbox: Sandbox) -> None:
    program = """
import aktis, sys, time
aktis.init(address="local", num_cpus=1)
@aktis.remote
def speak():
    print("hello from", "afar")
    print("and an error", file=sys.stderr)
aktis.get(speak.remote())
seen = aktis.remote(lambda: None)
deadline = time.monotonic() + 5
while time.monotonic() < deadline:
    aktis.get(seen.remote())
"""
    finished = run_program(sandbox, program)
    assert "hello from afar" in finished.stdout
    assert "pid=" in finished.stdout
    assert "and an error" in finished.stderr


def test_a_forked_child_is_told_so(sandbox: Sandbox) -> None:
    program = """
import aktis, os
aktis.init(address="local", num_cpus=1)
ref = aktis.put(1)
pid = os.fork()
if pid == 0:
    try:
        aktis.put(2)
    except RuntimeError as error:
        os._exit(7 if "forked from process" in str(error) else 8)
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(aktis.get(ref))
"""
    assert output(run_program(sandbox, program)).split() == ["7", "1"]


def test_modules_beside_the_program_are_found_by_workers(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def answer():\n    return 42\n")
    (tmp_path / "data.txt").write_text("here")
    (tmp_path / "main.py").write_text(
        """
import aktis, beside
aktis.init(address="local", num_cpus=1, runtime_env={"env_vars": {"AKTIS_JOB_VALUE": "set"}})
@aktis.remote
def ask():
    import os
    return beside.answer(), open("data.txt").read(), os.environ["AKTIS_JOB_VALUE"]
print(aktis.get(ask.remote()), aktis.get(aktis.remote(beside.answer).remote()))
"""
    )
    finished = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, env=sandbox.env, capture_output=True, text=True, timeout=50
    )
    assert output(finished).strip() == "(42, 'here', 'set') 42"


def test_a_program_for_ray_runs_unchanged(sandbox: Sandbox, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import sys
import ray
from ray.exceptions import RayActorError, RayTaskError

ray.init(num_cpus=1)

@ray.remote
def fail():
    raise ValueError("x")

@ray.remote
class Actor:
    @ray.method(num_returns=2)
    def pair(self):
        return ray.get(ray.put(1)), 2

    def leave(self):
        ray.actor.exit_actor()

try:
    ray.get(fail.remote())
except RayTaskError as error:
    print("task error", isinstance(error, ValueError))
actor = Actor.remote()
print(ray.get(actor.pair.remote()), sys.argv[1:])
try:
    ray.get(actor.leave.remote())
except RayActorError as error:
    print("actor error")
"""
    )
    finished = subprocess.run(
        [sys.executable, "-m", "aktis.compat", str(program), "a", "b"],
        env=sandbox.env,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert output(finished).splitlines() == ["task error True", "[1, 2] ['a', 'b']", "actor error"]


def test_detached_actors_outlive_the_driver_of_a_running_cluster(sandbox: Sandbox) -> None:
    with started_cluster(sandbox):
        first = """
import aktis
aktis.init(namespace="shared")
@aktis.remote
class Kept:
    def __init__(self): self.value = 0
    def add(self):
        self.value += 1
        return self.value
kept = Kept.options(name="kept", lifetime="detached").remote()
gone = Kept.options(name="gone").remote()
print(aktis.get([kept.add.remote(), gone.add.remote()]))
"""
        second = """
import aktis
aktis.init(namespace="shared")
print(aktis.get(aktis.get_actor("kept").add.remote()))
try:
    aktis.get_actor("gone")
except ValueError as error:
    print("gone")
aktis.kill(aktis.get_actor("kept"))
"""
        assert output(run_program(sandbox, first)).strip() == "[1, 1]"
        assert output(run_program(sandbox, second)).split() == ["2", "gone"]


def test_functions_leave_the_cluster_with_the_last_job_that_needs_them(sandbox: Sandbox) -> None:
    with started_cluster(sandbox):
        keeper = """
import aktis
aktis.init(namespace="shared")
@aktis.remote
def double(x): return 2 * x
@aktis.remote(max_restarts=1, max_task_retries=-1)
class Kept:
    def pid(self):
        import os
        return os.getpid()
    def double(self, x): return aktis.get(double.remote(x))
kept = Kept.options(name="kept", lifetime="detached").remote()
print(aktis.get(kept.pid.remote()))
"""
        count = """
import aktis, sys
from aktis._proto import gcs_pb2
from aktis._runtime import current
aktis.init(namespace="shared")
request = gcs_pb2.KvListRequest(namespace="functions")
def functions(): return len(current.require().control.gcs("KvList", request, gcs_pb2.KvListReply).keys)
"""
        user = """
import os, signal
kept = aktis.get_actor("kept")
os.kill(int(sys.argv[1]), signal.SIGKILL)
print(aktis.get(kept.double.remote(2)), functions())
aktis.kill(kept)
"""
        wait = """
import time
deadline = time.monotonic() + 20  # a driver's end is heard of by and by
while functions() and time.monotonic() < deadline: pass
print(functions())
"""
        pid = output(run_program(sandbox, keeper)).strip()
        assert output(run_program(sandbox, count + user, pid)).split() == ["4", "2"]
        assert output(run_program(sandbox, count + wait)).split() == ["0"]
