"""Uploaded files of programs that have ended: kept while there is room, then removed; those in use never."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.cli import status as cli
from click.testing import CliRunner

from tests.support.clients import embedded, output, run_program
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("package_removal")
PROGRAM = """
import sys, aktis
address, folder = sys.argv[1:]
with aktis.init(address=address, runtime_env={"working_dir": folder}):
    print(aktis.get(aktis.remote(lambda: open("text").read()).remote()))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[aktis.Context]:
    settings = {"gcs.package_cache_bytes": 1, "gcs.package_grace_ms": 1}
    with embedded(num_cpus=1, _system_config=settings) as context:
        yield context


def status(context: aktis.Context) -> dict[str, Any]:
    result = CliRunner().invoke(cli.command, ["--json", "--address", context["raylet_address"]])
    assert result.exit_code == 0, result.output
    shown: dict[str, Any] = json.loads(result.output)
    return shown


def folder(path: Path, text: str) -> str:
    path.mkdir()
    (path / "text").write_text(text)
    return str(path)


def test_packages_go_after_the_programs_that_needed_them(
    cluster: aktis.Context, sandbox: Sandbox, tmp_path: Path
) -> None:
    mine = folder(tmp_path / "mine", "mine")

    @aktis.remote(runtime_env={"working_dir": mine})
    def read() -> str:
        return Path("text").read_text()

    assert aktis.get(read.remote()) == "mine"
    (used,) = status(cluster)["environments"]
    assert used["jobs"] == [aktis.get_runtime_context().get_job_id()]
    (package,) = used["packages"]
    for text in ("first", "second"):
        program = run_program(sandbox, PROGRAM, cluster["raylet_address"], folder(tmp_path / text, text))
        assert output(program).split() == [text]
    shown = status(cluster)
    assert [one["packages"] for one in shown["environments"]] == [[package]]
    assert shown["packages"]["count"] == 1
    assert aktis.get(read.remote()) == "mine"
