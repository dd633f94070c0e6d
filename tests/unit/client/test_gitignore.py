"""The syntax of .gitignore, against git itself."""

import subprocess
from pathlib import Path

import pytest
from aktis._runtime.environments.gitignore import IgnoreRules


@pytest.mark.parametrize(
    ("pattern", "left_out", "kept"),
    [
        ("*.pyc", ["a.pyc", "x/y/a.pyc"], ["a.py", "pyc"]),
        ("build/", ["build/", "x/build/"], ["build"]),
        ("/build", ["build", "build/"], ["x/build"]),
        ("a/b", ["a/b"], ["x/a/b"]),
        ("**/logs", ["logs/", "x/y/logs"], ["logs.txt"]),
        ("a/**", ["a/b", "a/b/c"], ["a/"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("?.txt", ["a.txt"], ["ab.txt", ".txt"]),
        ("[a-c].txt", ["b.txt"], ["d.txt"]),
        ("[!a-c].txt", ["d.txt"], ["b.txt"]),
        ("\\#x", ["#x"], ["\\#x"]),
        ("\\!x", ["!x"], ["x"]),
        ("# comment", [], ["# comment"]),
        ("", [], ["a"]),
        ("x  ", ["x"], ["x  "]),
        ("f(1)+.txt", ["f(1)+.txt"], ["f11.txt"]),
        ("a[", ["a["], ["a"]),
    ],
)
def test_a_pattern(pattern: str, left_out: list[str], kept: list[str]) -> None:
    rules = IgnoreRules([pattern])
    for path in left_out:
        assert rules.decide(path.rstrip("/"), path.endswith("/")) is True, path
    for path in kept:
        assert rules.decide(path.rstrip("/"), path.endswith("/")) is None, path


def test_the_last_pattern_that_matches_decides() -> None:
    rules = IgnoreRules(["*.txt", "!keep.txt", "x/keep.txt"])
    assert rules.decide("a.txt", False) is True
    assert rules.decide("keep.txt", False) is False
    assert rules.decide("x/keep.txt", False) is True


PATTERNS = ["*.log", "!important.log", "/top", "dir/", "deep/**/x", "**/mid/*.txt", "name[0-9]", "*~", "a/b/"]
PATHS = [
    "a.log",
    "important.log",
    "q/important.log",
    "top",
    "q/top",
    "dir",
    "q/dir/f",
    "deep/x",
    "deep/1/2/x",
    "deep/1/y",
    "mid/a.txt",
    "q/mid/a.txt",
    "q/mid/r/a.txt",
    "name1",
    "namex",
    "old~",
    "a/b/c",
    "q/a/b/c",
]


def test_git_agrees(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("\n".join(PATTERNS))
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    command = ["git", "-C", str(tmp_path), "check-ignore", *PATHS]
    ignored = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    rules = IgnoreRules(PATTERNS)

    def is_ignored(path: str) -> bool:
        parts = path.split("/")
        folders = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        return any(rules.decide(folder, True) for folder in folders) or bool(rules.decide(path, False))

    assert {path for path in PATHS if is_ignored(path)} == ignored
