"""The books of the cache: what is shared, what is kept, what goes first."""

import json
import math

from aktis._common.environments import Environment, Requirements
from aktisd.raylet.environments.cache import CacheBooks, install_key, keys_of, source_key
from hypothesis import given
from hypothesis import strategies as st


def test_entries_are_named_by_what_is_in_them() -> None:
    assert source_key("package://a", is_module=False) != source_key("package://b", is_module=False)
    assert source_key("package://a", is_module=False) != source_key("package://a", is_module=True)
    one = Environment(pip=Requirements(("a",)))
    assert install_key(one) == install_key(Environment(pip=Requirements(("a",)), working_dir="package://d"))
    others = [
        Environment(uv=Requirements(("a",))),
        Environment(pip=Requirements(("b",))),
        Environment(pip=Requirements(("a",), options=("-v",))),
        Environment(pip=Requirements(("a",), check=True)),
        Environment(pip=Requirements(("a",), version="==1")),
        Environment(pip=Requirements(("a",), files={"/a": "0"})),
    ]
    assert len({install_key(one), *map(install_key, others)}) == 7
    assert install_key(Environment()) == ""


def test_requirements_in_the_working_directory_are_of_that_directory() -> None:
    line = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/a.whl"
    one = Environment(pip=Requirements((line,)), working_dir="package://1")
    two = Environment(pip=Requirements((line,)), working_dir="package://2")
    assert install_key(one) != install_key(two)


def test_an_environment_names_everything_that_it_uses() -> None:
    environment = Environment(
        working_dir="package://d", py_modules=("package://m",), pip=Requirements(("a",))
    )
    keys = keys_of(environment)
    assert [key.partition("-")[0] for key in keys] == ["dir", "module", "venv"]


def books(limit_bytes: int = 100) -> CacheBooks:
    return CacheBooks(limit_bytes)


def test_what_is_used_stays_whatever_its_size() -> None:
    cache = books()
    cache.hold("e1", ["a"])
    cache.found("a", 500)
    assert cache.evict() == []
    cache.release("e1")
    assert cache.evict() == ["a"]
    assert cache.total_bytes == 0
    cache.validate()


def test_what_was_unused_for_longest_goes_first_and_no_more_than_is_needed() -> None:
    cache = books()
    for user, key in (("e1", "a"), ("e2", "b"), ("e3", "c")):
        cache.hold(user, [key])
        cache.found(key, 40)
    for user in ("e2", "e1", "e3"):
        cache.release(user)
    assert cache.evict() == ["b"]
    assert "a" in cache
    assert cache.total_bytes == 80
    cache.validate()


def test_an_entry_of_two_environments_is_counted_once_and_kept_for_both() -> None:
    cache = books(limit_bytes=10)
    cache.hold("e1", ["a"])
    cache.found("a", 60)
    cache.hold("e2", ["a"])
    cache.found("a", 60)
    assert cache.total_bytes == 60
    cache.release("e1")
    assert cache.evict() == []
    cache.release("e2")
    assert cache.evict() == ["a"]


def test_what_never_came_to_be_leaves_nothing() -> None:
    cache = books()
    cache.hold("e1", ["a"])
    cache.release("e1")
    assert "a" not in cache
    cache.validate()


texts = st.one_of(st.sampled_from(["", "package://d", "a\0b", "\ud800", "\udcff"]), st.text(max_size=5))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(texts, inner, max_size=2)),
    max_leaves=6,
)
requirements = st.fixed_dictionaries(
    {
        "packages": st.lists(texts, max_size=2),
        "options": st.lists(texts, max_size=2),
        "check": st.booleans(),
        "version": texts,
        "files": st.dictionaries(texts, texts, max_size=2),
    }
)
FIELDS = {
    "env_vars": st.dictionaries(texts, texts, max_size=2),
    "working_dir": texts,
    "py_modules": st.lists(texts, max_size=2),
    "pip": requirements,
    "uv": requirements,
    "py_executable": texts,
    "hook": texts,
    "setup_timeout_s": st.floats(),
}
descriptions = st.fixed_dictionaries(
    {}, optional={name: st.one_of(kind, values) for name, kind in FIELDS.items()}
)


@given(description=st.one_of(descriptions, values))
def test_any_description_of_another_process_is_refused_or_has_names_in_the_cache(description: object) -> None:
    try:
        environment = Environment.decode(json.dumps(description).encode())
    except ValueError:
        return
    assert environment.encode()
    assert all(key.isprintable() for key in keys_of(environment))
    assert 0 <= environment.setup_timeout_s < math.inf
