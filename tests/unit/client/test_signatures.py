"""Wrong calls fail where they are written."""

import pickle

import pytest
from aktis._runtime.signatures import CallCheck


def accepts(check: CallCheck, *args: object, **kwargs: object) -> None:
    if kwargs or not check.minimum <= len(args) <= check.maximum:
        check.check(args, kwargs)


def two(a: int, b: int = 2) -> None: ...
def any_number(*args: int) -> None: ...
def keyword(*, key: int) -> None: ...


class Thing:
    def __init__(self, a: int) -> None: ...
    def method(self, a: int) -> None: ...


def test_calls_that_fit_pass() -> None:
    accepts(CallCheck(two, "two"), 1)
    accepts(CallCheck(two, "two"), 1, 2)
    accepts(CallCheck(two, "two"), a=1)
    accepts(CallCheck(any_number, "any"), *range(100))
    accepts(CallCheck(keyword, "keyword"), key=1)
    accepts(CallCheck(Thing, "Thing"), 1)
    accepts(CallCheck(Thing.method, "method", skip_first=True), 1)
    accepts(CallCheck(print, "print"), 1, 2, end="")


@pytest.mark.parametrize("args", [(), (1, 2, 3)])
def test_calls_that_do_not_fit_are_type_errors(args: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match=r"two\.remote\(\)"):
        accepts(CallCheck(two, "two"), *args)


def test_keywords_are_checked() -> None:
    with pytest.raises(TypeError, match="nope"):
        accepts(CallCheck(two, "two"), 1, nope=1)
    with pytest.raises(TypeError, match="key"):
        accepts(CallCheck(keyword, "keyword"))


def test_a_check_that_has_travelled_still_counts_arguments() -> None:
    check = pickle.loads(pickle.dumps(CallCheck(two, "two")))
    accepts(check, 1)
    accepts(check, a=1)
    with pytest.raises(TypeError, match="takes 1 to 2"):
        accepts(check, 1, 2, 3)
