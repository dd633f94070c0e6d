"""Fixtures of the tests with real processes."""

from collections.abc import Iterator

import pytest

from tests.support.sandbox import MARK, Sandbox, new_sandbox


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
