"""The tidy rules for Python, on the syntax tree."""

import ast
from collections.abc import Callable, Iterator

from tools.tidy_source import Finding, Function, SourceFile, find_notes

SKIPS = frozenset(
    {
        "pytest.importorskip",
        "pytest.skip",
        "pytest.mark.skip",
        "pytest.mark.skipif",
        "pytest.mark.xfail",
        "unittest.skip",
    }
)
SLEEPS = frozenset({"time.sleep", "asyncio.sleep", "sleep"})
UNOWNED = (
    "asyncio.create_task",
    "asyncio.ensure_future",
    "loop.create_task",
    "get_running_loop().create_task",
)


def functions(source: SourceFile) -> list[Function]:
    """Return every function with its dotted name, e.g. ``Class.method``."""
    return list(walk_functions(source, ast.parse(source.text), ""))


def walk_functions(source: SourceFile, node: ast.AST, prefix: str) -> Iterator[Function]:
    """Yield the functions below ``node``; nested functions are counted inside their outer one as well."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            size_lines = (child.end_lineno or child.lineno) - child.lineno + 1
            name = prefix + child.name
            yield Function(source.path, source.language, name, child.lineno, size_lines)
            yield from walk_functions(source, child, f"{name}.")
        elif isinstance(child, ast.ClassDef):
            yield from walk_functions(source, child, f"{prefix}{child.name}.")
        else:
            yield from walk_functions(source, child, prefix)


def findings(source: SourceFile) -> list[Finding]:
    """Apply every rule of this module."""
    found = find_notes(source)
    for node in ast.walk(ast.parse(source.text)):
        if not isinstance(node, ast.Attribute | ast.Call):
            continue
        # Say "tidy: allow" with the reason on the line where a rule does not fit.
        if "tidy: allow" in source.lines[node.lineno - 1]:
            continue
        for rule in RULES:
            if message := rule(source, node):
                found.append(Finding(rule.__name__, source.path, node.lineno, 1, message))
    return found


def sleep_in_test(source: SourceFile, node: ast.AST) -> str:
    """A test waits for an event with a deadline; ``asyncio.sleep(0)``, which only yields, is fine."""
    if not source.is_test or not isinstance(node, ast.Call) or dotted(node.func) not in SLEEPS:
        return ""
    if node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0:
        return ""
    return "wait for an event with a deadline instead of sleeping"


def skipped_test(source: SourceFile, node: ast.AST) -> str:
    """Every test runs everywhere, or is not there."""
    if source.is_test and isinstance(node, ast.Attribute) and dotted(node) in SKIPS:
        return "a test that does not run proves nothing"
    return ""


def unowned_task(source: SourceFile, node: ast.AST) -> str:
    """A task without a TaskGroup loses its exception and outlives its owner."""
    if isinstance(node, ast.Call) and dotted(node.func).endswith(UNOWNED):
        return "spawn it in an asyncio.TaskGroup"
    return ""


def print_in_daemon(source: SourceFile, node: ast.AST) -> str:
    """Daemons log events with fields."""
    if source.path.startswith("daemons/") and isinstance(node, ast.Call) and dotted(node.func) == "print":
        return "log it"
    return ""


def dotted(node: ast.AST) -> str:
    """Return the dotted form of a name, attribute or call; empty parts for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{dotted(node.func)}()"
    return ""


RULES: tuple[Callable[[SourceFile, ast.AST], str], ...] = (
    sleep_in_test,
    skipped_test,
    unowned_task,
    print_in_daemon,
)
