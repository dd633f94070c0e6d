"""What workers print, at the driver: all of it, in order, also when the program ends at once."""

import re

from tests.support.clients import output, run_program
from tests.support.sandbox import Sandbox

PROGRAM = """
import aktis, sys
aktis.init(address="local", num_cpus=1, log_to_driver=sys.argv[1] == "shown")
@aktis.remote
def speak():
    for number in range(300):
        print("line", number)
    for number in range(3):
        print("again")
    print("\\r 1 of 2", end="\\r")
    print(" 2 of 2")
    print("no end", end="")
@aktis.remote
class Actor:
    def speak(self):
        print("from an actor")
        print("and its stderr", file=sys.stderr)
actor, named = Actor.remote(), Actor.options(name="bob").remote()
aktis.get([speak.remote(), actor.speak.remote()])
aktis.get(named.speak.remote())
print("the program's last line")
"""


def test_everything_is_shown_in_order_before_the_program_ends(sandbox: Sandbox) -> None:
    finished = run_program(sandbox, PROGRAM, "shown")
    lines = [re.sub(r"pid=\d+", "pid=N", line) for line in output(finished).splitlines()]
    of_task = [line.removeprefix("(speak pid=N) ") for line in lines if line.startswith("(speak ")]
    once = [text for text in of_task if not text.startswith(("again", " 1 of 2"))]
    assert once == [*(f"line {number}" for number in range(300)), " 2 of 2", "no end"]
    assert "(speak pid=N) again [repeated 2x across cluster]" in lines
    assert sum("from an actor" in line for line in lines) == 2
    assert "(bob pid=N) from an actor" in lines
    assert "(Actor pid=N) and its stderr" in re.sub(r"pid=\d+", "pid=N", finished.stderr).splitlines()
    assert "the program's last line" in lines


def test_nothing_is_shown_when_the_program_does_not_want_it(sandbox: Sandbox) -> None:
    finished = run_program(sandbox, PROGRAM, "hidden")
    assert output(finished) == "the program's last line\n"
    assert finished.stderr == ""
