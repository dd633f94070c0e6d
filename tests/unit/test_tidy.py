"""Each tidy rule finds what it is for, leaves alone what it should, and the repository satisfies them all."""

import json
from pathlib import Path

import pytest

from tools import tidy, tidy_cpp, tidy_python
from tools.tidy_source import Finding, SourceFile


def python(path: str, text: str) -> SourceFile:
    return SourceFile(path, "Python", text)


def cpp(path: str, text: str) -> SourceFile:
    return SourceFile(path, "C++", text)


def rules(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings]


def test_repository_is_tidy() -> None:
    baseline = json.loads(tidy.BASELINE.read_text())
    assert tidy.new_findings(tidy.inspect(tidy.ROOT).findings, baseline) == []


@pytest.mark.parametrize(
    ("path", "code", "rule"),
    [
        ("tests/unit/test_a.py", "import time\ntime.sleep(1)", "sleep_in_test"),
        ("tests/unit/test_a.py", "await asyncio.sleep(0.1)", "sleep_in_test"),
        ("tests/unit/test_a.py", "@pytest.mark.skip\ndef test_a(): ...", "skipped_test"),
        ("tests/unit/test_a.py", "pytest.skip('no redis')", "skipped_test"),
        ("client/aktis/a.py", "asyncio.create_task(work())", "unowned_task"),
        ("client/aktis/a.py", "self.loop.create_task(work())", "unowned_task"),
        ("client/aktis/a.py", "asyncio.get_running_loop().create_task(work())", "unowned_task"),
        ("daemons/aktisd/a.py", "print('started')", "print_in_daemon"),
        ("client/aktis/a.py", "x = 1  # FIX" + "ME later", "note"),
    ],
)
def test_python_rule_finds(path: str, code: str, rule: str) -> None:
    assert rules(tidy_python.findings(python(path, code))) == [rule]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("tests/unit/test_a.py", "await asyncio.sleep(0)"),
        ("client/aktis/a.py", "time.sleep(1)"),
        ("client/aktis/a.py", "group.create_task(work())"),
        ("client/aktis/cli.py", "print('hello')"),
        ("tests/unit/test_a.py", "time.sleep(1)  # tidy: allow, the victim must block"),
    ],
)
def test_python_rule_leaves_alone(path: str, code: str) -> None:
    assert tidy_python.findings(python(path, code)) == []


def test_python_functions_are_named_and_measured() -> None:
    source = python("client/aktis/a.py", "class A:\n    def b(\n        self,\n    ):\n        return 1\n")
    (function,) = tidy_python.functions(source)
    assert (function.name, function.line, function.size_lines) == ("A.b", 2, 4)


CPP = """
#include <vector>
#define BODY(x) { x }
namespace aktis {
// A comment with a brace {
template <class T>
T twice(T value) {
  return value * 2;
}

class Queue {
 public:
  explicit Queue(int size) : size_{size}, name_("a{b") {
    auto reset = [this]() {
      size_ = 1'000;
    };
    reset();
  }
  int size() const { return size_; }

 private:
  std::vector<int> items_{};
  int size_;
};

void Queue::push(int item) {
  if (item > 0) {
    items_ = {item};
  }
}
}  // namespace aktis
"""


def test_cpp_functions_are_named_and_measured() -> None:
    found = tidy_cpp.functions(cpp("cpp/core/a.cc", CPP))
    assert [(function.name, function.size_lines) for function in found] == [
        ("twice", 3),
        ("Queue", 6),
        ("size", 1),
        ("Queue::push", 5),
    ]


def test_cpp_functions_start_at_their_signature() -> None:
    found = tidy_cpp.functions(cpp("cpp/core/a.cc", CPP))
    assert CPP.splitlines()[found[1].line - 1].strip().startswith("explicit Queue")


def test_cpp_test_macro_is_named_with_its_arguments() -> None:
    (function,) = tidy_cpp.functions(cpp("cpp/tests/a_test.cc", "TEST(Queue, Pops) {\n}\n"))
    assert function.name == "TEST(Queue, Pops)"


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("std::this_thread::sleep_for(10ms);", "sleep_in_test"),
        ("GTEST_SKIP();", "skipped_test"),
        ("TEST(Queue, DISABLED_Pops) {}", "skipped_test"),
        ("// HA" + "CK around it", "note"),
    ],
)
def test_cpp_rule_finds(code: str, rule: str) -> None:
    assert rules(tidy_cpp.findings(cpp("cpp/tests/a_test.cc", code))) == [rule]


def test_cpp_rule_leaves_comments_and_sources_alone() -> None:
    assert tidy_cpp.findings(cpp("cpp/tests/a_test.cc", "// no sleep(1) here")) == []
    assert tidy_cpp.findings(cpp("cpp/wire/a.cc", "nanosleep(&pause, nullptr);")) == []


def test_long_file_needs_a_reason() -> None:
    body = "x = 1\n" * (tidy.MAX_FILE_LINES + 1)
    assert rules(tidy.check_file_size(python("client/aktis/a.py", '"""A."""\n' + body))) == ["long-file"]
    assert tidy.check_file_size(python("client/aktis/a.py", '"""A.\n\nLong because B."""\n' + body)) == []
    assert rules(tidy.check_file_size(cpp("cpp/core/a.cc", "// A.\n" + body))) == ["long-file"]
    assert tidy.check_file_size(cpp("cpp/core/a.cc", "// A. Long because B.\n" + body)) == []


def test_long_function_is_found() -> None:
    text = "def f():\n" + "    x = 1\n" * tidy.MAX_FUNCTION_LINES
    findings = tidy.check_function_sizes(tidy_python.functions(python("client/aktis/a.py", text)))
    assert [(finding.place, finding.amount) for finding in findings] == [("client/aktis/a.py::f", 71)]


def test_median_over_the_house_number_is_found() -> None:
    files = [cpp(f"cpp/core/{size}.cc", "\n" * size) for size in (1, 111, 500)]
    assert rules(tidy.check_medians(files)) == ["median"]
    assert tidy.check_medians(files[:2]) == []


def test_baseline_lets_a_violation_stay_or_shrink_but_not_grow() -> None:
    finding = Finding("long-function", "client/aktis/a.py::f", 1, 90, "90 lines")
    key = "long-function client/aktis/a.py::f"
    assert tidy.new_findings([finding], {key: 90}) == []
    assert tidy.new_findings([finding], {key: 100}) == []
    assert tidy.new_findings([finding], {key: 89}) == [finding]
    assert tidy.new_findings([finding], {}) == [finding]


def test_generated_files_are_not_read(tmp_path: Path) -> None:
    for name in ("client/aktis/_proto/gcs_pb2.py", "client/aktis/api.py", "cpp/fuzz/corpus/frame/seed.cc"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    assert [source.path for source in tidy.find_sources(tmp_path)] == ["client/aktis/api.py"]
