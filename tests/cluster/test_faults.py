"""What dies, and what the program sees of it; what is left when the program itself dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clients import run_program, start_program
from tests.support.sandbox import Sandbox

END_LIMIT_S = 5.0


def output(finished: subprocess.CompletedProcess[str]) -> str:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_a_worker_that_exits_is_the_cause(sandbox: Sandbox) -> None:
    text = output(
        run_program(
            sandbox,
            """
import aktis, os, sys
aktis.init(address="local", num_cpus=1)
@aktis.remote(max_retries=0)
def leave(how):
    print("last words", file=sys.stderr, flush=True)
    if how == "exit": os._exit(7)
    if how == "sys.exit": sys.exit(8)
    if how == "segfault":
        import ctypes
        ctypes.string_at(0)
for how in ("exit", "sys.exit", "segfault"):
    try:
        aktis.get(leave.remote(how))
    except aktis.exceptions.WorkerCrashedError as error:
        print(how, "->", str(error))
aktis.shutdown()
""",
        )
    )
    assert "exited with code 7" in text
    assert "exited with code 8" in text
    assert "SIGSEGV" in text
    assert "last words" in text


def test_nothing_is_left_after_an_exception_in_the_driver(sandbox: Sandbox) -> None:
    finished = run_program(
        sandbox,
        """
import aktis
aktis.init(address="local", num_cpus=1)
@aktis.remote
class Actor:
    def ready(self): return True
actor = Actor.remote()
aktis.get(actor.ready.remote())
raise RuntimeError("in the driver")
""",
    )
    assert finished.returncode == 1
    assert "in the driver" in finished.stderr
    sandbox.assert_clean(END_LIMIT_S)


def test_nothing_is_left_after_the_driver_was_killed(sandbox: Sandbox) -> None:
    driver = start_program(
        sandbox,
        """
import aktis, time
aktis.init(address="local", num_cpus=2)
@aktis.remote
class Actor:
    def ready(self): return True
@aktis.remote
def forever():
    time.sleep(1000)
actor = Actor.remote()
aktis.get(actor.ready.remote())
running = forever.remote()
stored = aktis.put(b"x" * 10_000_000)
print("ready", flush=True)
aktis.get(running)
""",
    )
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() == "ready"
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    sandbox.assert_clean(END_LIMIT_S)


def test_ctrl_c_ends_the_driver_and_everything_else(sandbox: Sandbox) -> None:
    driver = start_program(
        sandbox,
        """
import aktis, time
aktis.init(address="local", num_cpus=1)
@aktis.remote
def forever():
    time.sleep(1000)
ref = forever.remote()
print("ready", flush=True)
aktis.get(ref)
""",
    )
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() == "ready"
    driver.send_signal(signal.SIGINT)
    _, text = driver.communicate(timeout=30)
    assert "KeyboardInterrupt" in text
    sandbox.assert_clean(END_LIMIT_S)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("unix:/nowhere/raylet.sock", "nothing listens"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("auto", "aktis start --head"),
    ],
)
def test_an_address_where_nothing_listens(sandbox: Sandbox, address: str, text: str) -> None:
    program = f"""
import aktis
try:
    aktis.init(address={address!r})
except ConnectionError as error:
    print(error)
"""
    assert text in output(run_program(sandbox, program))


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
    command = [sys.executable, "-m", "aktis.cli.main", "start", "--head", "--num-cpus", "1"]
    subprocess.run(command, env=sandbox.env, check=True, capture_output=True, timeout=50)
    try:
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
    finally:
        subprocess.run(
            [sys.executable, "-m", "aktis.cli.main", "stop"],
            env=sandbox.env,
            check=True,
            capture_output=True,
            timeout=50,
        )
    assert os.path.isdir(sandbox.base)


def test_a_gcs_that_was_killed_comes_back_unnoticed(sandbox: Sandbox) -> None:
    """With what a driver subscribes to, which the new GCS tells the raylet together with its registration."""
    text = output(
        run_program(
            sandbox,
            """
import aktis, json, os, signal
from pathlib import Path
with aktis.init(address="local", num_cpus=1) as context:
    @aktis.remote(num_cpus=0)
    class Counter:
        value = 0
        def add(self):
            self.value += 1
            return self.value
    counter = Counter.remote()
    print("before", aktis.get(counter.add.remote()))
    record = json.loads(Path(context["session_dir"], "run", "gcs.json").read_text())
    descriptor = os.pidfd_open(record["pid"])
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    print("during", aktis.get(counter.add.remote()))
    @aktis.remote
    def twice(x): return 2 * x      # exported and started after the restart
    print("after", aktis.get(twice.remote(4)), aktis.get(Counter.remote().add.remote()))
""",
        )
    )
    assert text.split() == ["before", "1", "during", "2", "after", "8", "1"]


def test_tasks_fail_at_once_when_the_raylet_is_gone(sandbox: Sandbox) -> None:
    text = output(
        run_program(
            sandbox,
            """
import aktis, json, os, signal
from pathlib import Path
def use():
    with aktis.init(address="local", num_cpus=1) as context:
        @aktis.remote
        def one(): return 1
        print(aktis.get(one.remote()))
        record = json.loads(Path(context["session_dir"], "run", "raylet.json").read_text())
        os.kill(record["pid"], signal.SIGKILL)
        for attempt in range(2):         # what was there when it died, and what comes afterwards
            try:
                while True: aktis.get(one.remote())
            except aktis.exceptions.LocalRayletDiedError as error:
                print("lost" if "aktis.init()" in str(error) else error)
use()
use()   # a new session works
""",
        )
    )
    assert text.split() == ["1", "lost", "lost"] * 2


def test_the_socket_of_a_dead_process_goes_with_it(sandbox: Sandbox) -> None:
    text = output(
        run_program(
            sandbox,
            """
import aktis, os
from pathlib import Path
with aktis.init(address="local", num_cpus=1) as context:
    @aktis.remote(max_restarts=1, max_task_retries=1)
    class Actor:
        def name(self): return aktis.get_runtime_context().get_worker_id()
        def leave(self): os._exit(1)
    actor = Actor.remote()
    socket = Path(context["session_dir"], "sock", aktis.get(actor.name.remote()) + ".sock")
    print(socket.exists())
    actor.leave.options(max_task_retries=0).remote()
    aktis.get(actor.name.remote())      # answered by the next incarnation
    print(socket.exists())
""",
        )
    )
    assert text.split() == ["True", "False"]


def test_what_only_a_dead_store_had_is_lost_and_not_waited_for(sandbox: Sandbox) -> None:
    text = output(
        run_program(
            sandbox,
            """
import aktis, json, os, signal
from pathlib import Path
with aktis.init(address="local", num_cpus=1) as context:
    @aktis.remote(max_retries=0)
    def large(): return bytes(1 << 20)
    def loses(ref):
        try:
            aktis.get(ref, timeout=20)
        except aktis.exceptions.ObjectLostError:
            print("lost")
    unread = [large.remote() for _ in range(2)]
    aktis.wait(unread, num_returns=2, fetch_local=False)
    record = json.loads(Path(context["session_dir"], "run", "plasma.json").read_text())
    descriptor = os.pidfd_open(record["pid"])
    os.kill(record["pid"], signal.SIGSTOP)      # asked, and dies before it answers
    try:
        aktis.get(unread[0], timeout=0.2)
    except aktis.exceptions.GetTimeoutError:
        print("asked")
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    loses(unread[0])
    loses(unread[1])                            # asked only afterwards
""",
        )
    )
    assert text.split() == ["asked", "lost", "lost"]
