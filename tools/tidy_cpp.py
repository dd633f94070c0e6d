"""The tidy rules for C++, on text without comments and literals: enough for clang-formatted sources."""

import re

from tools.tidy_source import Finding, Function, SourceFile, find_notes

# Comments, raw strings, strings and character literals; a quote inside a number (1'000) is not a literal.
OPAQUE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^(\s]*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'',
    re.DOTALL,
)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", re.MULTILINE)
SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")
# What may stand before a declaration: access specifiers and template parameters (which may contain "class").
PREFIX = re.compile(r"^(?:\s*(?:public|protected|private)\s*:(?!:)|\s*template\s*<(?:[^<>]|<[^<>]*>)*>)+")
INITIALIZER = " "  # truthless once stripped, so that it is no function
NAME = re.compile(r"(operator\s*(?:\(\)|[^\s\w(]+|\w+)|[\w:~]+)\s*\(")
SLEEP = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|sleep)\s*\(")
SKIP = re.compile(r"\bGTEST_SKIP\b|\bTEST\w*\([^)]*\bDISABLED_")


def blank(text: str) -> str:
    """Replace comments, literals and preprocessor lines by spaces, keeping every line where it was."""
    for pattern in (OPAQUE, DIRECTIVE):
        text = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return text


def functions(source: SourceFile) -> list[Function]:
    """Return every function with a body outside other functions (lambdas count with their function)."""
    text = blank(source.text)
    found: list[Function] = []
    open_braces: list[str] = []  # head of the function that the brace opens, else ""
    head_start = first_line = 0
    for match in re.finditer(r"[{};]", text):
        symbol, position = match[0], match.start()
        # clang-format puts a space before the brace of a block and none before an initializer, x_{0}.
        initializer = symbol == "{" and not text[position - 1 : position].isspace()
        if symbol == "{":
            head = PREFIX.sub("", text[head_start:position])
            opens = not initializer and not any(map(str.strip, open_braces)) and is_function(head)
            if opens:
                first_line = text.count("\n", 0, position - len(head.lstrip())) + 1
            open_braces.append(head if opens else INITIALIZER if initializer else "")
        elif symbol == "}" and open_braces:
            closed = open_braces.pop()
            initializer = closed == INITIALIZER
            if closed.strip():
                size_lines = text.count("\n", 0, position) + 2 - first_line
                found.append(
                    Function(source.path, source.language, function_name(closed), first_line, size_lines)
                )
        if not initializer:
            head_start = position + 1
    return found


def is_function(head: str) -> bool:
    """Tell whether the text between the last ``;``, ``{`` or ``}`` and a ``{`` opens a function."""
    before_parameters, parenthesis, _ = head.partition("(")
    return bool(parenthesis) and not SCOPE.search(before_parameters) and "=" not in before_parameters


def function_name(head: str) -> str:
    """Return the (qualified) name in a function's head; test macros are named with their arguments."""
    match = NAME.search(head)
    name = match[1] if match else "?"
    if name in ("TEST", "TEST_F", "TEST_P") and match:
        arguments = head[match.end() :].split(")")[0]
        return f"{name}({', '.join(part.strip() for part in arguments.split(','))})"
    return name


def findings(source: SourceFile) -> list[Finding]:
    """Apply the rules for tests, and the one about notes."""
    found = find_notes(source)
    if not source.is_test:
        return found
    for number, line in enumerate(blank(source.text).splitlines(), start=1):
        if "tidy: allow" in source.lines[number - 1]:
            continue
        if SLEEP.search(line):
            message = "wait for an event with a deadline instead of sleeping"
            found.append(Finding("sleep_in_test", source.path, number, 1, message))
        if SKIP.search(line):
            message = "a test that does not run proves nothing"
            found.append(Finding("skipped_test", source.path, number, 1, message))
    return found
