"""The package itself: cheap to import, complete, typed."""

import subprocess
import sys

import aktis
import pytest

HEAVY = ("numpy", "grpc", "pydantic", "asyncio", "structlog", "cloudpickle", "google.protobuf")


def test_importing_it_imports_nothing_heavy() -> None:
    program = f"import aktis, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50
    )
    assert finished.stdout.strip() == "[]"


def test_decorating_needs_no_cluster() -> None:
    program = "import aktis\n@aktis.remote\ndef f(): ...\nprint(aktis.is_initialized())"
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50
    )
    assert finished.stdout.strip() == "False"


@pytest.mark.parametrize("name", aktis.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(aktis, name)
    assert name == "__version__" or value.__doc__


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'nope'"):
        _ = aktis.nope


def test_dir_lists_what_has_not_been_used_yet() -> None:
    assert set(aktis.__all__) <= set(dir(aktis))
