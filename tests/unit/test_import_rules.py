"""The import contract reads statements as Python does and closes everything that is not listed."""

import pytest
from grimp import ImportGraph

from tools import import_rules

SHARED = ["aktisd", "aktis._common", "aktis._core", "aktis._proto"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("from aktis import _core", ["aktis._core"]),
        ("from aktis import _core as core, get  # why", ["aktis._core", "aktis.get"]),
        ("import aktis._core", ["aktis._core"]),
        ("import aktis", ["aktis"]),
        ("from aktis import (", []),
    ],
)
def test_imported_names(line: str, names: list[str]) -> None:
    assert import_rules.imported_names(line) == names


@pytest.mark.parametrize(
    ("imported", "line", "allowed"),
    [
        ("aktis._common.ids", "from aktis._common import ids", True),
        ("aktis", "from aktis import _core", True),
        ("aktisd.raylet", "import aktisd.raylet", True),
        ("aktis.api", "from aktis import api", False),
        ("aktis._common_more", "from aktis import _common_more", False),
        ("aktis", "from aktis import get", False),
        ("aktis", "from aktis import (", False),
        ("aktis", "import aktis", False),
    ],
)
def test_leaving_imports(imported: str, line: str, allowed: bool) -> None:
    graph = ImportGraph()
    for module in ("aktisd.gcs", imported):
        graph.add_module(module)
    graph.add_import(importer="aktisd.gcs", imported=imported, line_number=1, line_contents=line)
    expected = [] if allowed else [(1, line)]
    assert import_rules.leaving_imports(graph, "aktisd.gcs", SHARED) == expected
