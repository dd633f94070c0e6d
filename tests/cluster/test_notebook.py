"""Aktis in a notebook: a real kernel, spoken to as by a notebook's page."""

from pathlib import Path

import pytest

from tests.support.notebook import Notebook, kernel
from tests.support.sandbox import Sandbox, wait_for_exit

# Of the kernel's libraries, not of ours.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(180)]

BEGIN = """
import aktis, time
aktis.init(address="local", num_cpus=1)
@aktis.remote
def version():
    return 1
@aktis.remote
def slow(text):
    print(text)
    time.sleep(1000)
aktis.get(version.remote())
"""


def assert_clusters_end(sandbox: Sandbox) -> None:
    for process in sandbox.processes():
        if "ipykernel" not in process.command:
            assert wait_for_exit(process.pid, 20), process
    assert sandbox.sessions == []


def test_cells(sandbox: Sandbox, tmp_path: Path) -> None:
    with kernel(sandbox, tmp_path) as manager:
        notebook = Notebook(manager)
        assert notebook.run(BEGIN).result == "1"
        redefined = "@aktis.remote\ndef version():\n    return 2\naktis.get(version.remote())"
        assert notebook.run(redefined).result == "2"
        assert notebook.run("await version.remote()").result == "2"
        bar = notebook.run(
            "from aktis.util.progress import progress\n"
            "list(progress([version.remote() for _ in range(3)], 'versions'))"
        )
        assert bar.result == "[2, 2, 2]"
        assert "versions: 3 of 3" in bar.text

        waiting = notebook.begin("ref = slow.remote('waiting')\naktis.get(ref)")
        notebook.wait_for(waiting, "waiting")
        manager.interrupt_kernel()
        assert notebook.end(waiting).error == "KeyboardInterrupt"
        assert notebook.run("aktis.cancel(ref)").status == "ok"
        assert notebook.run("await version.remote()").result == "2"
        notebook.close()

        manager.restart_kernel(now=True)
        assert_clusters_end(sandbox)
        notebook = Notebook(manager)
        assert notebook.run(BEGIN).result == "1"
        notebook.close()
