"""Report sizes and house conventions of the sources, and fail when they get worse.

Rules (see CONTRIBUTING.md): files over 600 lines without a reason, functions over 70 lines, unfinished
notes, sleeps and skips in tests, asyncio tasks without an owner, print in daemons, medians over the house
numbers. What was already there when a rule came is listed in tidy_baseline.json: an entry may shrink or go,
never grow.

Usage: ``python tools/tidy.py`` reports; ``--update`` rewrites the baseline, which a review must justify.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import tidy_cpp, tidy_python
from tools.tidy_source import Finding, Function, SourceFile

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "tools" / "tidy_baseline.json"
SOURCE_DIRS = ("client", "daemons", "cpp", "tests", "tools", "benchmarks", "examples", "deploy")
GENERATED_DIRS = frozenset({"_proto", "__pycache__", "corpus", "node_modules"})

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70
MAX_MEDIAN_LINES = {"Python": 170, "C++": 110}
LONG_FILE_REASON = "long because"


@dataclass(frozen=True)
class Report:
    """What one pass over the repository found."""

    files: list[SourceFile]
    functions: list[Function]
    findings: list[Finding]


def find_sources(root: Path) -> list[SourceFile]:
    """Read every hand-written source file below ``root``, sorted by path."""
    sources = []
    for directory in SOURCE_DIRS:
        for path in sorted((root / directory).rglob("*")):
            language = {".py": "Python", ".cc": "C++", ".h": "C++"}.get(path.suffix)
            if language and not GENERATED_DIRS.intersection(path.relative_to(root).parts):
                sources.append(SourceFile(path.relative_to(root).as_posix(), language, path.read_text()))
    return sources


def check_file_size(source: SourceFile) -> list[Finding]:
    """A long file says in its first comment why it is one: "Long because ..."."""
    lines = len(source.lines)
    if lines <= MAX_FILE_LINES or LONG_FILE_REASON in source.first_comment.lower():
        return []
    advice = f'split it, or begin its first comment\'s reason with "Long because"; limit {MAX_FILE_LINES}'
    return [Finding("long-file", source.path, 1, lines, f"{lines} lines: {advice}")]


def check_function_sizes(functions: list[Function]) -> list[Finding]:
    """A function fits one screen."""
    return [
        Finding(
            "long-function", f"{f.path}::{f.name}", f.line, f.size_lines, f"{f.size_lines} lines: split it"
        )
        for f in functions
        if f.size_lines > MAX_FUNCTION_LINES
    ]


def check_medians(files: list[SourceFile]) -> list[Finding]:
    """The typical file stays short; a median, so that one exception does not matter."""
    findings = []
    for language, limit in MAX_MEDIAN_LINES.items():
        value = median_lines(files, language)
        if value > limit:
            findings.append(
                Finding("median", language, 0, value, f"median file has {value} lines, over {limit}")
            )
    return findings


def median_lines(files: list[SourceFile], language: str) -> int:
    """Return the median length of the files of ``language``, 0 when there are none."""
    sizes = [len(source.lines) for source in files if source.language == language and source.lines]
    return round(median(sizes)) if sizes else 0


def inspect(root: Path) -> Report:
    """Run every rule over the sources below ``root``."""
    files = find_sources(root)
    functions: list[Function] = []
    findings: list[Finding] = []
    for source in files:
        rules = tidy_python if source.language == "Python" else tidy_cpp
        functions += rules.functions(source)
        findings += rules.findings(source) + check_file_size(source)
    findings += check_function_sizes(functions) + check_medians(files)
    return Report(files, functions, findings)


def worst_by_place(findings: list[Finding]) -> dict[str, int]:
    """Map "rule place" to its amount: the size of what is too large, else the number of occurrences."""
    amounts: Counter[str] = Counter()
    for finding in findings:
        amounts[f"{finding.rule} {finding.place}"] += finding.amount
    return dict(sorted(amounts.items()))


def new_findings(findings: list[Finding], baseline: dict[str, int]) -> list[Finding]:
    """Return the findings of every place whose amount is above what the baseline allows."""
    amounts = worst_by_place(findings)
    worse = {key for key, amount in amounts.items() if amount > baseline.get(key, 0)}
    return [finding for finding in findings if f"{finding.rule} {finding.place}" in worse]


def print_report(report: Report, baseline: dict[str, int]) -> None:
    """Print the numbers to steer by, and which entries of the baseline could go or shrink."""
    for language in MAX_MEDIAN_LINES:
        sizes = [len(source.lines) for source in report.files if source.language == language]
        lengths = [f.size_lines for f in report.functions if f.language == language]
        print(
            f"tidy: {language}: {len(sizes)} files, {sum(sizes)} lines, median "
            f"{median_lines(report.files, language)} (house {MAX_MEDIAN_LINES[language]}), "
            f"longest {max(sizes, default=0)}; {len(lengths)} functions, "
            f"median {round(median(lengths)) if lengths else 0}, longest {max(lengths, default=0)}"
        )
    amounts = worst_by_place(report.findings)
    for key, allowed in baseline.items():
        if amounts.get(key, 0) < allowed:
            print(f"tidy: {key} is better than its baseline: {amounts.get(key, 0)} < {allowed}; use --update")


def main() -> int:
    """Report on the repository; return 1 when something got worse."""
    parser = argparse.ArgumentParser(description="Check the house conventions of the sources.")
    parser.add_argument("--update", action="store_true", help="accept the present state as the baseline")
    options = parser.parse_args()
    report = inspect(ROOT)
    if options.update:
        BASELINE.write_text(json.dumps(worst_by_place(report.findings), indent=2) + "\n")
    baseline = json.loads(BASELINE.read_text())
    print_report(report, baseline)
    worse = new_findings(report.findings, baseline)
    for finding in worse:
        print(f"{finding.path}:{finding.line}: {finding.rule}: {finding.message}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
