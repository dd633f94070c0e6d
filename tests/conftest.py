"""Settings and fixtures for every test."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.sandbox import MARK, Sandbox, new_sandbox

# A shared machine stalls: pytest-timeout bounds a test, a deadline per example would only make it flaky.
settings.register_profile("aktis", deadline=None)
settings.load_profile("aktis")

# A shell starts what it runs in the background with the signal ignored, which every child would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the conformance tests run on the system that they are written for, in its own environment."""
    parser.addoption(
        "--peer", default="aktis", choices=("aktis", "ray"), help="what tests/conformance runs on"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Let go of what fixtures gave a test: a reference would keep a store mapped that its module ends."""
    if isinstance(item, pytest.Function):
        item.funcargs.clear()


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A private base directory and a mark on every process; the test fails when something is left at its end.

    It is also set in the environment of the test process, for clusters that the test starts itself.
    """
    with new_sandbox() as sandbox:
        for name, value in sandbox.added_env.items():
            monkeypatch.setenv(name, value)
        assert MARK in sandbox.env
        yield sandbox
