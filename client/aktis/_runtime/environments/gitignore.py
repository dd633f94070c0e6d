"""Which files patterns in the syntax of .gitignore leave out. Pure.

The rules are those that gitignore(5) describes: the last pattern that matches decides, ``!`` takes back, a
slash in the middle or at the start ties a pattern to the folder of its file, one at the end means folders
only. What is inside of a folder that is left out is never looked at.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    takes_back: bool
    folders_only: bool


class IgnoreRules:
    """The patterns of one file; paths are relative to its folder, with ``/`` between parts."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Read the lines."""
        self._rules = [rule for line in lines if (rule := _parse(line)) is not None]

    def decide(self, path: str, is_folder: bool) -> bool | None:
        """Return whether a path is left out; None when no pattern says anything about it."""
        for rule in reversed(self._rules):
            if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(path):
                return not rule.takes_back
        return None


def _parse(line: str) -> _Rule | None:
    text = line.rstrip("\r\n")
    while text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1]
    takes_back = text.startswith("!")
    text = text.removeprefix("!")
    if not text or (text.startswith("#") and not takes_back):
        return None
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    if not text:
        return None
    tied = "/" in text
    pattern = _translate(text.lstrip("/"))
    return _Rule(re.compile(pattern if tied else f"(?:.*/)?{pattern}"), takes_back, folders_only)


def _translate(text: str) -> str:
    """Return the regular expression of a pattern."""
    out: list[str] = []
    position = 0
    while position < len(text):
        rest = text[position:]
        if rest.startswith("**/") and (position == 0 or text[position - 1] == "/"):
            out.append("(?:.*/)?")
            position += 3
        elif rest == "**" and (position == 0 or text[position - 1] == "/"):
            out.append(".+")
            position += 2
        elif rest[0] == "*":
            out.append("[^/]*")
            position += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            out.append("[^/]")
            position += 1
        elif rest[0] == "[" and (end := _class_end(rest)):
            inside = rest[1:end].replace("\\", "\\\\")
            out.append(f"[{'^/' + inside[1:] if inside[0] in '!^' else inside}]")
            position += end + 1
        else:
            escaped = rest[0] == "\\" and len(rest) > 1
            out.append(re.escape(rest[1] if escaped else rest[0]))
            position += 2 if escaped else 1
    return "".join(out)


def _class_end(text: str) -> int:
    """Return where the character class that begins ``text`` ends; 0 when it does not."""
    start = 2 if text[1:2] in ("!", "^") else 1
    end = text.find("]", start + 1)
    return max(end, 0)
