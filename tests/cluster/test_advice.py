"""Programs that could do better are told so once, with the line."""

from tests.support.clients import output, run_program
from tests.support.sandbox import Sandbox

PROGRAM = """\
import aktis, numpy as np
aktis.init(address="local", num_cpus=1)
table = np.ones(2_000_000)
@aktis.remote
def captures():
    return table[0]
@aktis.remote
def takes(array, other=None):
    return len(array)
@aktis.remote
class Loop:
    async def waits(self, refs):
        aktis.wait(refs)
        return aktis.get(slow.remote())
    async def awaits(self, refs):
        return await refs[0]
@aktis.remote
def slow():
    import time
    time.sleep(0.2)
    return 1
for _ in range(5):
    aktis.get(captures.remote())     # line 23
for _ in range(5):
    aktis.get(takes.remote(table))   # line 25
loop = Loop.remote()
aktis.get(loop.__aktis_ready__.remote())
print(aktis.get([loop.waits.remote([slow.remote()]) for _ in range(2)]))
print(aktis.get(loop.awaits.remote([slow.remote()])))
aktis.get(takes.remote(aktis.put(table)))
"""


def test_each_piece_of_advice_comes_once_and_names_the_line(sandbox: Sandbox) -> None:
    finished = run_program(sandbox, PROGRAM)
    assert output(finished).splitlines() == ["[1, 1]", "1"]
    advice = [line for line in finished.stderr.splitlines() if "AktisWarning: " in line]
    captured, repeated, *loop = advice
    assert captured.startswith("<string>:23: ")
    assert "global 'table' that captures uses takes 15 MiB" in captured
    assert repeated.startswith("<string>:25: ")
    assert "the same ndarray of 15.3 MiB is argument 0 of 3 calls of takes" in repeated
    assert ["wait() in an async actor" in line for line in loop] == [True, False]
    assert ["get() in an async actor" in line for line in loop] == [False, True]
