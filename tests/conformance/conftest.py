"""Which system the conformance tests meet as ``ray``: Aktis, or with ``--peer ray`` the real one.

A test states what programs may rely on, and must pass on both. Two markers say where that is not so:
``differs("entry")`` states what Aktis does on purpose, with an entry in docs/differences.md, and must fail
on Ray; ``pending("reason")`` states what Aktis does not do yet, and must fail on Aktis.
"""

import pytest

from tests.conformance import systems

HERE = "tests/conformance/"


def pytest_configure(config: pytest.Config) -> None:
    """Decide what ``import ray`` gives before the first test module is imported."""
    systems.choose(config.getoption("--peer"))
    config.addinivalue_line("markers", "differs(entry, run=True): what Aktis does on purpose; fails on Ray")
    config.addinivalue_line("markers", "pending(reason, run=True): what Aktis does not do yet; passes on Ray")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect what the markers say, and keep each module, which shares a cluster, in one process."""
    expected = "differs" if systems.is_ray() else "pending"
    for item in items:
        if not item.nodeid.startswith(HERE):
            continue
        item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
        for marker in item.iter_markers(expected):
            reason, run = str(marker.args[0]), bool(marker.kwargs.get("run", True))
            # tidy: a marker must hold on one system and fail on the other, so neither hides anything.
            expectation = pytest.mark.xfail(reason=reason, run=run, strict=True)  # tidy: allow  see above
            item.add_marker(expectation)
