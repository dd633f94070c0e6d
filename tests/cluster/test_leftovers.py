"""What a session leaves in the process that had it: nothing."""

from tests.support.clients import output, run_program
from tests.support.sandbox import ARENA, Sandbox

COUNTS = """
import aktis, gc, os, threading
import numpy

@aktis.remote
def double(x): return 2 * x

@aktis.remote
class Outside:
    def one(self): return 1

def arenas():
    return [line for line in open("/proc/self/maps") if ARENA in line]

def holds():
    gc.collect()
    names = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    descriptors = sorted(os.readlink(name) for name in names if os.path.exists(name))
    return {"descriptors": descriptors, "arenas": arenas(), "threads": sorted(os.listdir("/proc/self/task"))}

def session():
    with aktis.init(address="local", num_cpus=1):
        @aktis.remote
        def large(): return numpy.zeros(1 << 18)
        @aktis.remote
        class Actor:
            async def add(self, x): return x + 1
        actor = Actor.remote()
        array = aktis.get(large.remote())
        stored = aktis.put(numpy.ones(1 << 18))
        assert aktis.get(actor.add.remote(int(aktis.get(stored)[5] + array[5]))) == 2
        assert arenas()
        assert aktis.get(double.remote(aktis.get(Outside.remote().one.remote()))) == 2
        assert aktis.wait([large.remote()], timeout=30)[0]

session()       # what the first one imports stays
first = holds()
for _ in range(3):
    session()
last = holds()
print("same" if first == last else (first, last))
"""


def test_sessions_leave_no_descriptors_mappings_or_threads_in_the_driver(sandbox: Sandbox) -> None:
    program = f"ARENA = {ARENA!r}\n{COUNTS}"
    assert output(run_program(sandbox, program)) == "same\n"
