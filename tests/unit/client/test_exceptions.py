"""What the page of exceptions says about itself."""

import pickle
import re
from pathlib import Path

import aktis
import pytest
from aktis import exceptions

CLIENT = Path(aktis.__file__).parent
_, _, NAMED = (exceptions.__doc__ or "").partition("nothing raises them yet:")
NOT_RAISED = set(re.findall(r"\b[A-Z]\w+(?:Error|Removed)\b", NAMED))
SOURCES = [path for path in CLIENT.rglob("*.py") if path.name != "exceptions.py"]


def test_every_exception_is_listed_and_pickles() -> None:
    values = vars(exceptions).items()
    defined = {name for name, value in values if isinstance(value, type) and issubclass(value, Exception)}
    assert defined == set(exceptions.__all__)
    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        assert issubclass(kind, UserWarning if name == "AktisWarning" else exceptions.AktisError)
        assert type(pickle.loads(pickle.dumps(kind("said")))) is kind


@pytest.mark.parametrize("name", exceptions.__all__)
def test_those_that_nothing_raises_are_named(name: str) -> None:
    # Bases, of which the kinds are raised; and what warnings.warn() takes.
    raised_as = {"AktisError", "ActorError", "AktisWarning"}
    raised = any(re.search(rf"\b{name}\(", path.read_text()) for path in SOURCES)
    assert (name in NOT_RAISED) == (not raised and name not in raised_as)
