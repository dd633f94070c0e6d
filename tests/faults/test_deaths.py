"""What dies, and what the program sees of it; what is left when the program itself dies."""

import json
import signal
import time
from typing import Any

from tests.support.clients import output, run_program, start_program
from tests.support.commands import aktis_command, started_cluster
from tests.support.metrics import scrape
from tests.support.sandbox import Sandbox, wait_for_exit

END_LIMIT_S = 5.0


def sealed_bytes(report: dict[str, Any]) -> float:
    return scrape(report["session_dir"], "plasma")["aktis_plasma_sealed_bytes"]


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


def test_what_a_killed_driver_had_in_a_cluster_that_stays_goes(sandbox: Sandbox) -> None:
    with started_cluster(sandbox) as report:
        driver = start_program(
            sandbox,
            """
import aktis, os, time
aktis.init(address="auto", namespace="shared")
@aktis.remote(num_cpus=0)
class Actor:
    def pid(self): return os.getpid()
@aktis.remote
def forever(path):
    with open(path, "w") as file: file.write(str(os.getpid()))
    time.sleep(1000)
actor = Actor.options(name="gone").remote()
kept = Actor.options(name="kept", lifetime="detached").remote()
stored = aktis.put(b"x" * 10_000_000)
pipe = os.path.join(os.environ["XDG_RUNTIME_DIR"], "pipe")
os.mkfifo(pipe)
running = forever.remote(pipe)
with open(pipe) as file: task = file.read()
os.unlink(pipe)
print(*aktis.get([kept.pid.remote(), actor.pid.remote()]), task, flush=True)
time.sleep(1000)
""",
        )
        assert driver.stdout is not None
        kept, *ending = [int(pid) for pid in driver.stdout.readline().split()]
        assert sealed_bytes(report) >= 10_000_000
        driver.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + END_LIMIT_S
        driver.communicate()
        assert all(wait_for_exit(pid, deadline - time.monotonic()) for pid in ending)
        while sealed_bytes(report) > 0:
            assert time.monotonic() < deadline
        status = json.loads(aktis_command(sandbox, "status", "--json"))
        assert status["actors"] == {"ALIVE": 1, "DEAD": 1}
        assert status["jobs"] == {"FINISHED": 1}
        after = """
import aktis
with aktis.init(address="auto", namespace="shared"):
    print(aktis.get(aktis.get_actor("kept").pid.remote()))
    aktis.kill(aktis.get_actor("kept"))
    try:
        aktis.get_actor("gone")
    except ValueError:
        print("gone")
"""
        assert output(run_program(sandbox, after)).split() == [str(kept), "gone"]
        assert wait_for_exit(kept, END_LIMIT_S)


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
    threads = Path("/proc", str(record["pid"]), "task")
    while any(") T " not in (thread / "stat").read_text() for thread in threads.iterdir()):
        os.sched_yield()                        # a signal takes effect when the kernel gets to it
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
