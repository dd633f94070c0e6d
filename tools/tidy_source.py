"""What the tidy rules see: files, functions and findings."""

import re
from dataclasses import dataclass
from functools import cached_property

NOTE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")  # tidy: allow


@dataclass(frozen=True)
class SourceFile:
    """One hand-written file: its path relative to the root, its language ("Python" or "C++") and its text."""

    path: str
    language: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the file without line ends."""
        return self.text.splitlines()

    @cached_property
    def first_comment(self) -> str:
        """The module docstring, or the comment lines at the top."""
        if self.language == "Python" and self.text.startswith('"""'):
            return self.text[3:].split('"""', 1)[0]
        marker = "#" if self.language == "Python" else "//"
        comment = []
        for line in self.lines:
            if not line.startswith(marker):
                break
            comment.append(line.removeprefix(marker).strip())
        return " ".join(comment)

    @property
    def is_test(self) -> bool:
        """Whether the rules for tests apply."""
        return self.path.startswith(("tests/", "cpp/tests/"))


@dataclass(frozen=True)
class Function:
    """One function with a body: where it is and its length in lines, signature included."""

    path: str
    language: str
    name: str
    line: int
    size_lines: int


@dataclass(frozen=True)
class Finding:
    """One violation. ``place`` names it in the baseline independently of line numbers.

    ``amount`` is what must not grow: a size for the size rules, 1 for each occurrence of the others.
    """

    rule: str
    place: str
    line: int
    amount: int
    message: str

    @property
    def path(self) -> str:
        """The file, for an editor to jump to."""
        return self.place.split("::")[0]


def find_notes(source: SourceFile) -> list[Finding]:
    """Unfinished work is finished or becomes an issue; it is not left as a note."""
    return [
        Finding("note", source.path, number, 1, f"{match[0]}: finish it or open an issue")
        for number, line in enumerate(source.lines, start=1)
        if (match := NOTE.search(line)) and "tidy: allow" not in line
    ]
