"""Conditions on labels: what they match, and which texts are none."""

import pytest
from aktis._common import labels


@pytest.mark.parametrize(
    ("condition", "actual", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        ("", "", True),
        ("", None, False),
        ("!a", "b", True),
        ("!a", None, True),
        ("!a", "a", False),
        ("in(a,b)", "b", True),
        ("in(a, b)", "b", True),
        ("in(a,b)", "c", False),
        ("in(a,b)", None, False),
        ("!in(a,b)", "c", True),
        ("!in(a,b)", None, True),
        ("!in(a,b)", "a", False),
        ("exists()", "", True),
        ("exists()", None, False),
        ("!exists()", None, True),
    ],
)
def test_a_condition(condition: str, actual: str | None, expected: bool) -> None:
    assert labels.matches(condition, actual) is expected


def test_a_condition_of_another_process_may_be_turned_around_any_number_of_times() -> None:
    assert labels.matches("!" * 100_000 + "a", "a")
    assert not labels.matches("!" * 100_001 + "a", "a")


@pytest.mark.parametrize("condition", ["in()", "in(a", "in(a,)", "a b", "!!a", "-a", "exists()", "x" * 64])
def test_what_is_no_condition_of_users(condition: str) -> None:
    with pytest.raises(ValueError, match="'zone'"):
        labels.check_condition("zone", condition)


@pytest.mark.parametrize("key", ["", "a b", "-a", "x" * 64, "UPPER.io/a", "/a", "a/"])
def test_what_is_no_label(key: str) -> None:
    with pytest.raises(ValueError, match="label"):
        labels.check_key(key)


def test_what_is_one() -> None:
    labels.check_labels({"zone": "eu-west_1.a", "example.com/tier": ""})
    labels.check_selector({"zone": "!in(a, b)", "example.com/tier": "!gold", "empty": ""})


def test_every_violated_condition_is_named() -> None:
    wrong = labels.violated({"zone": "a"}, {"zone": "b", "gpu": "!h100", "tier": "gold"})
    assert wrong == ["its label tier is None, wanted 'gold'", "its label zone is 'a', wanted 'b'"]
