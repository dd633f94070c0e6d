"""Ctrl-C on a terminal: KeyboardInterrupt at once, then a clean end, of which the sandbox makes sure."""

from pathlib import Path

import pytest

from tests.support.sandbox import Sandbox
from tests.support.terminal import INTERRUPTED, on_terminal

BEGIN = """
import aktis, time
def started():
    aktis.init(address="local", num_cpus=1)
@aktis.remote
def slow():
    print("a task runs")
    time.sleep(1000)
@aktis.remote
class Slow:
    def slow(self):
        print("a task runs")
        time.sleep(1000)
    async def awaited(self):
        return 1
"""

# A function that says that it is being called, and what goes on when it is.
SAYING = """
def saying(home, name, text):
    before = getattr(home, name)
    def instead(*args, **kwargs):
        print(text)
        return before(*args, **kwargs)
    setattr(home, name, instead)
"""


def assert_kind(text: str, tracebacks: int = 1) -> None:
    """One traceback, of the user's program, and nothing about what happened behind it."""
    assert text.count("Traceback (most recent call last)") == tracebacks, text
    assert text.count("KeyboardInterrupt") == tracebacks, text
    assert "Exception ignored" not in text
    assert "aktis:" not in text


@pytest.mark.parametrize(
    "program",
    [
        "started(); aktis.get(slow.remote())",
        "started(); aktis.wait([slow.remote()])",
        "started(); actor = Slow.remote(); aktis.get(actor.slow.remote())",
        "import asyncio; started(); asyncio.run(asyncio.wait_for(slow.remote(), 1000))",
    ],
    ids=["get", "wait", "actor", "await"],
)
def test_a_wait_is_interrupted_and_the_running_task_ends(sandbox: Sandbox, program: str) -> None:
    with on_terminal(sandbox, BEGIN + program) as terminal:
        terminal.wait_for("a task runs")
        terminal.press_ctrl_c()
        assert terminal.finish() == INTERRUPTED
        assert "KeyboardInterrupt" in terminal.text
        assert "Exception ignored" not in terminal.text


def test_a_loop_of_calls_is_interrupted(sandbox: Sandbox) -> None:
    program = "started(); slow.remote()\nprint('calls')\nwhile True: slow.remote()"
    with on_terminal(sandbox, BEGIN + program) as terminal:
        terminal.wait_for("calls")
        terminal.wait_for("a task runs")
        terminal.press_ctrl_c()
        assert terminal.finish() == INTERRUPTED
        assert_kind(terminal.text)


def test_the_start_is_interrupted(sandbox: Sandbox) -> None:
    program = """
import aktis._embedded
saying(aktis._embedded, "_wait_until_ready", "it starts")
saying(aktis._embedded, "_end_supervisor", "it ends")
started()
"""
    with on_terminal(sandbox, BEGIN + SAYING + program) as terminal:
        terminal.wait_for("it starts")
        terminal.press_ctrl_c()
        terminal.wait_for("it ends")
        terminal.press_ctrl_c()
        assert terminal.finish() == INTERRUPTED
        assert_kind(terminal.text)


def test_a_program_that_was_interrupted_while_it_started_may_start_again(sandbox: Sandbox) -> None:
    program = """
import aktis._embedded
saying(aktis._embedded, "_wait_until_ready", "it starts")
try:
    started()
except KeyboardInterrupt:
    print("interrupted", aktis.is_initialized())
started()
print("value", aktis.get(aktis.put(5)))
"""
    with on_terminal(sandbox, BEGIN + SAYING + program) as terminal:
        terminal.wait_for("it starts")
        terminal.press_ctrl_c()
        assert terminal.finish() == 0
        assert "interrupted False" in terminal.text
        assert "value 5" in terminal.text


def test_impatience_at_the_end_changes_nothing(sandbox: Sandbox) -> None:
    program = """
import aktis._embedded
saying(aktis._embedded, "_end_daemons", "it ends")
started()
aktis.get(slow.remote())
"""
    with on_terminal(sandbox, BEGIN + SAYING + program) as terminal:
        terminal.wait_for("a task runs")
        terminal.press_ctrl_c()
        terminal.wait_for("it ends")
        terminal.press_ctrl_c()
        terminal.press_ctrl_c()
        assert terminal.finish() == INTERRUPTED
        assert_kind(terminal.text)


def test_a_program_may_catch_it_and_go_on(sandbox: Sandbox) -> None:
    program = """
started()
ref = slow.remote()
try:
    aktis.get(ref)
except KeyboardInterrupt:
    print("caught")
aktis.cancel(ref)
try:
    aktis.get(ref)
except aktis.exceptions.TaskCancelledError:
    print("cancelled")
print("value", aktis.get(Slow.remote().awaited.remote()))
aktis.shutdown()
"""
    with on_terminal(sandbox, BEGIN + program) as terminal:
        terminal.wait_for("a task runs")
        terminal.press_ctrl_c()
        assert terminal.finish() == 0
        assert [word in terminal.text for word in ("caught", "cancelled", "value 1")] == [True] * 3
        assert "Traceback" not in terminal.text
        assert "\x1b[" in terminal.text, "what workers print is coloured on a terminal"


def test_an_interactive_shell_goes_on_after_it(sandbox: Sandbox, tmp_path: Path) -> None:
    shell = f"""
import os
os.environ["IPYTHONDIR"] = {str(tmp_path)!r}
import IPython
started()
IPython.start_ipython(["--simple-prompt", "--no-banner", "--no-confirm-exit"], user_ns=globals())
"""
    with on_terminal(sandbox, BEGIN + shell) as terminal:
        terminal.wait_for("In [1]:")
        terminal.type("ref = slow.remote(); aktis.get(ref)")
        terminal.wait_for("a task runs")
        terminal.press_ctrl_c()
        terminal.wait_for("In [2]:")
        assert "KeyboardInterrupt" in terminal.text
        terminal.type("aktis.cancel(ref); print('sum', aktis.get(aktis.put(1)) + 1)")
        terminal.wait_for("sum 2")
        terminal.type("exit")
        assert terminal.finish() == 0
        assert "Exception ignored" not in terminal.text
