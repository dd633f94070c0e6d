"""Every difference that a test shows is explained in docs/differences.md, and everything there is shown."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "differences.md"


def test_markers_and_entries_belong_together() -> None:
    entries = re.findall(r"^### (\S+)$", PAGE.read_text(), re.MULTILINE)
    sources = [path.read_text() for path in HERE.glob("test_*.py")]
    used = {name for text in sources for name in re.findall(r"mark\.differs\(\s*\"([\w-]+)\"", text)}
    used |= set(re.findall(r"\| differs ([\w-]+)$", (HERE / "signatures.txt").read_text(), re.MULTILINE))
    assert sorted(entries) == sorted(used)
