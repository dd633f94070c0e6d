"""The comparison of what became of the conformance tests on two systems."""

from pathlib import Path

from tools.conformance import EXPECTED, FAILED, PASSED, compare, outcomes

REPORT = """<testsuites><testsuite>
<testcase classname="conformance.test_a" name="test_one" />
<testcase classname="conformance.test_a" name="test_two[x]"><failure message="no">text</failure></testcase>
<testcase classname="conformance.test_a" name="test_three"><skipped message="why">text</skipped></testcase>
<testcase classname="conformance.test_b" name="test_one"><error message="at setup">text</error></testcase>
</testsuite></testsuites>"""


def test_outcomes_are_read_from_a_report(tmp_path: Path) -> None:
    file = tmp_path / "report.xml"
    file.write_text(REPORT)
    assert outcomes(file) == {
        "test_a::test_one": PASSED,
        "test_a::test_two[x]": FAILED,
        "test_a::test_three": f"{EXPECTED}: why",
        "test_b::test_one": FAILED,
    }


def test_what_the_markers_say_is_no_problem() -> None:
    assert compare({"a": PASSED, "b": PASSED}, {"a": PASSED, "b": f"{EXPECTED}: differs"}) == []


def test_problems_are_failures_and_tests_that_only_ran_on_one() -> None:
    problems = compare({"a": FAILED, "b": PASSED, "c": PASSED}, {"a": PASSED, "b": FAILED, "d": PASSED})
    assert problems == [
        "c: not run on the peer",
        "d: not run on Aktis",
        "a: failed on Aktis, passed on the peer",
        "b: passed on Aktis, failed on the peer",
    ]
