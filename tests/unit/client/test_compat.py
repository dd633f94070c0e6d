"""The alias under which programs for another runtime find us."""

import subprocess
import sys

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
assert ray.actor.exit_actor is aktis.exit_actor
assert ray.exceptions.RayError is RayError
assert not hasattr(aktis.exceptions, "RayError")
assert "get" in dir(ray)
try:
    import ray.no_such_module
except ModuleNotFoundError as error:
    print("missing", error.name)
"""


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
